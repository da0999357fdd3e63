//! The small sections: `[verify]`, `[conntrack]`, `[service]`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::schema;
use crate::host::SysctlKey;

/// `[verify]`: how natd proves that packets get out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// `host:port` on the internet. One that answers is proof. Empty: the way out is unproven.
    #[schemars(with = "Vec<schema::HostPort>")]
    pub targets: Vec<String>,
    /// How often they are tried again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "schema::Time")]
    pub interval: Duration,
    /// After that many failures in a row natd is not ready.
    pub fall: NonZeroU32,
    /// After that many successes in a row it is ready again.
    pub rise: NonZeroU32,
    /// Whether it gives the routes back meanwhile.
    pub withdraw: bool,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            interval: Duration::from_secs(30),
            fall: NonZeroU32::MIN.saturating_add(2),
            rise: NonZeroU32::MIN.saturating_add(1),
            withdraw: false,
        }
    }
}

/// `[conntrack]`: unset is the kernel's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Conntrack {
    /// The most connections that the kernel tracks (`net.netfilter.nf_conntrack_max`).
    pub max: Option<ConntrackMax>,
    /// For how long the kernel keeps a connection that is silent, by protocol and state.
    pub timeouts: BTreeMap<ConntrackTimeout, Seconds>,
}

/// Which timeout: the kernel's names (Documentation/networking/nf_conntrack-sysctl.rst), shortened.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are the kernel's own names")]
pub enum ConntrackTimeout {
    Generic,
    Icmp,
    Icmpv6,
    Udp,
    UdpStream,
    TcpSynSent,
    TcpSynRecv,
    TcpEstablished,
    TcpFinWait,
    TcpCloseWait,
    TcpLastAck,
    TcpTimeWait,
    TcpClose,
    TcpMaxRetrans,
    TcpUnacknowledged,
}

impl ConntrackTimeout {
    /// Its kernel parameter.
    #[must_use]
    pub fn key(self) -> SysctlKey {
        let name = match self {
            Self::Generic => "generic_timeout",
            Self::Icmp => "icmp_timeout",
            Self::Icmpv6 => "icmpv6_timeout",
            Self::Udp => "udp_timeout",
            Self::UdpStream => "udp_timeout_stream",
            Self::TcpSynSent => "tcp_timeout_syn_sent",
            Self::TcpSynRecv => "tcp_timeout_syn_recv",
            Self::TcpEstablished => "tcp_timeout_established",
            Self::TcpFinWait => "tcp_timeout_fin_wait",
            Self::TcpCloseWait => "tcp_timeout_close_wait",
            Self::TcpLastAck => "tcp_timeout_last_ack",
            Self::TcpTimeWait => "tcp_timeout_time_wait",
            Self::TcpClose => "tcp_timeout_close",
            Self::TcpMaxRetrans => "tcp_timeout_max_retrans",
            Self::TcpUnacknowledged => "tcp_timeout_unacknowledged",
        };
        SysctlKey::global(&format!("net/netfilter/nf_conntrack_{name}"))
    }
}

/// A time in whole seconds, written `"24h"`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Seconds(
    #[serde(with = "humantime_serde")]
    #[schemars(with = "schema::Time")]
    pub Duration,
);

/// How many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConntrackMax {
    /// By the memory of the machine.
    Auto,
    /// This many.
    #[serde(untagged)]
    Entries(u32),
}

impl<'de> Deserialize<'de> for ConntrackMax {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(String),
            Number(u32),
        }
        match Written::deserialize(deserializer)? {
            Written::Word(word) if word == "auto" => Ok(Self::Auto),
            Written::Number(entries) if entries > 0 => Ok(Self::Entries(entries)),
            _ => Err(de::Error::custom("\"auto\" or a number of connections above 0 is needed")),
        }
    }
}

/// `[service]`: the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// The slow tick; kernel events and signals bring earlier ones.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "schema::Time")]
    pub interval: Duration,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    #[schemars(with = "schema::Listen")]
    pub listen: SocketAddr,
    /// How many calls to the cloud may be under way at once.
    pub concurrency: NonZeroUsize,
    /// What a tick doesn't look at, since it would cost too much (a table that takes a call of its
    /// own, on some clouds), is looked at within this time.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "schema::Time")]
    pub audit: Duration,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            listen: SocketAddr::from(([127, 0, 0, 1], 9750)),
            concurrency: NonZeroUsize::MIN.saturating_add(7),
            audit: Duration::from_mins(10),
        }
    }
}
