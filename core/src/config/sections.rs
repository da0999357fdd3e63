//! The small sections: `[verify]`, `[conntrack]`, `[service]`, `[aws]`.

use std::{net::SocketAddr, time::Duration};

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::written;
use crate::model::{InstanceId, NetworkId};

/// `[verify]`: how natd proves that packets get out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// `host:port` on the internet. One that answers is proof. Empty: the way out is unproven.
    pub targets: Vec<String>,
    /// How often they are tried again.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for Verify {
    fn default() -> Self {
        Self { targets: Vec::new(), interval: Duration::from_secs(30) }
    }
}

/// `[conntrack]`: unset is the kernel's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conntrack {
    /// The most connections that the kernel tracks (`net.netfilter.nf_conntrack_max`).
    pub max: Option<ConntrackMax>,
}

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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// The slow tick; kernel events and signals bring earlier ones.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub listen: SocketAddr,
}

impl Default for Service {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), listen: SocketAddr::from(([127, 0, 0, 1], 9750)) }
    }
}

/// `[aws]`: all unset on an ordinary EC2 instance, where the metadata service and the SDK's own
/// environment and profiles give everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Aws {
    /// The URL of the EC2 API.
    pub endpoint: Option<String>,
    /// The URL of the metadata service.
    pub metadata_endpoint: Option<String>,
    /// A profile of the SDK's shared configuration.
    pub profile: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The availability zone.
    pub availability_zone: Option<String>,
    /// This instance.
    pub instance_id: Option<InstanceId>,
    /// Its VPC.
    pub vpc_id: Option<NetworkId>,
    /// The VPC's address blocks.
    #[serde(deserialize_with = "written::blocks")]
    pub vpc_cidrs: Vec<Ipv4Net>,
}
