//! `[nat]`: whose packets are translated, to what, by which back end.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{schema, written};
use crate::{
    model::{InterfaceName, Malformed},
    ruleset::{Ports, Protocol},
};

/// The `[nat]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nat {
    /// Whose packets are translated.
    #[schemars(length(min = 1))]
    pub sources: Vec<NetworkSpec>,
    /// To the private address, or to whatever address the interface has.
    pub mode: Mode,
    /// The addresses for `mode = "snat"`, each client to one of them; empty: the egress interface's
    /// primary private address.
    #[serde(deserialize_with = "written::addresses")]
    #[schemars(with = "Vec<schema::Address>")]
    pub addresses: Vec<Ipv4Addr>,
    /// Destinations left untranslated.
    pub exclude: Vec<NetworkSpec>,
    /// The interface that translated packets leave by.
    pub interface: InterfaceChoice,
    /// The firewall back end.
    pub firewall: FirewallChoice,
    /// What brings the rules back after a reboot.
    pub persist: Persist,
    /// Source ports at random.
    pub random_fully: bool,
    /// TCP's maximum segment size is lowered to what the way takes.
    pub clamp_mss: bool,
    /// What is done about other firewalls of this host that drop what natd forwards: Docker, ufw,
    /// firewalld.
    pub neighbours: Neighbours,
    /// Port forwarding from outside to a private host.
    pub forward: Vec<Forward>,
}

impl Default for Nat {
    fn default() -> Self {
        Self {
            sources: vec![NetworkSpec::Vpc],
            mode: Mode::Snat,
            addresses: Vec::new(),
            exclude: vec![NetworkSpec::Vpc],
            interface: InterfaceChoice::Auto,
            firewall: FirewallChoice::Auto,
            persist: Persist::Auto,
            random_fully: true,
            clamp_mss: false,
            neighbours: Neighbours::Pass,
            forward: Vec::new(),
        }
    }
}

/// A block of addresses, or `"vpc"`: all blocks of the network that the cloud says this machine is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum NetworkSpec {
    /// All blocks of the instance's network. Never falls back to 0.0.0.0/0.
    Vpc,
    /// This block.
    Net(IpNet),
}

impl FromStr for NetworkSpec {
    type Err = Malformed;
    fn from_str(s: &str) -> Result<Self, Malformed> {
        if s == "vpc" {
            return Ok(Self::Vpc);
        }
        let net: IpNet = s.parse().map_err(|_| {
            Malformed::new(format!("{s:?} is neither \"vpc\" nor a CIDR such as \"10.10.0.0/16\""))
        })?;
        if net.addr() == net.network() {
            Ok(Self::Net(net))
        } else {
            Err(Malformed::new(format!(
                "{s:?} has bits set behind its prefix; the network is \"{}\"",
                net.trunc()
            )))
        }
    }
}

impl TryFrom<String> for NetworkSpec {
    type Error = Malformed;
    fn try_from(s: String) -> Result<Self, Malformed> {
        s.parse()
    }
}

impl From<NetworkSpec> for String {
    fn from(spec: NetworkSpec) -> String {
        spec.to_string()
    }
}

impl fmt::Display for NetworkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vpc => f.pad("vpc"),
            Self::Net(net) => write!(f, "{net}"),
        }
    }
}

/// How sources are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// To the instance's private address.
    Snat,
    /// To whatever address the egress interface has.
    Masquerade,
}

/// An interface by name, or found out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum InterfaceChoice {
    /// Found out: for `nat`, the one with the default route; for `routes`, the same as for `nat`.
    Auto,
    /// This one.
    Named(InterfaceName),
}

impl TryFrom<String> for InterfaceChoice {
    type Error = Malformed;
    fn try_from(s: String) -> Result<Self, Malformed> {
        if s == "auto" { Ok(Self::Auto) } else { Ok(Self::Named(s.parse()?)) }
    }
}

impl From<InterfaceChoice> for String {
    fn from(choice: InterfaceChoice) -> String {
        match choice {
            InterfaceChoice::Auto => "auto".to_owned(),
            InterfaceChoice::Named(name) => name.into(),
        }
    }
}

/// The firewall back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FirewallChoice {
    /// What this host uses.
    Auto,
    /// A table of natd's own.
    Nftables,
    /// Chains of natd's own, in whichever of the nft and legacy forms `iptables` is here.
    Iptables,
}

/// What brings the rules back after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Persist {
    /// Whatever of the following this host has, and goes with the firewall back end.
    Auto,
    /// A block in `/etc/rc.local`.
    RcLocal,
    /// The `iptables-services` package.
    IptablesServices,
    /// The `netfilter-persistent` package.
    NetfilterPersistent,
    /// An included file of `nftables.service`.
    Nftables,
    /// Nothing.
    None,
}

/// What is done about other firewalls of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Neighbours {
    /// They are asked, each in its own way, to let through what natd serves.
    Pass,
    /// They are left alone; natd says which rule is in the way, and what to type.
    Report,
}

/// One forwarded port, or a range of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Its protocol.
    pub protocol: Protocol,
    /// The port outside, or a range: `8443` or `"8000-8100"`.
    #[serde(deserialize_with = "written::ports")]
    pub port: Ports,
    /// The private host, with its port or, for a range, the first of its ports; without one, the
    /// port is the same.
    pub to: ForwardTarget,
    /// Who may come in. Empty: everyone.
    #[serde(default, deserialize_with = "written::blocks")]
    #[schemars(with = "Vec<schema::BlockV4>")]
    pub from: Vec<IpNet>,
}

/// Where a forwarded port goes: `10.10.2.101` or `10.10.2.101:443`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ForwardTarget {
    /// The host.
    pub address: Ipv4Addr,
    /// Its port; `None`: the same as outside.
    pub port: Option<u16>,
}

impl TryFrom<String> for ForwardTarget {
    type Error = Malformed;
    fn try_from(s: String) -> Result<Self, Malformed> {
        let parsed = match s.rsplit_once(':') {
            Some((address, port)) => address.parse().ok().zip(port.parse().ok().map(Some)),
            None => s.parse().ok().map(|address| (address, None)),
        };
        match parsed {
            Some((address, port)) if port != Some(0) => Ok(Self { address, port }),
            _ => Err(Malformed::new(format!(
                "{s:?} is neither an IPv4 address such as \"10.10.2.101\" nor one with a port such as \"10.10.2.101:443\""
            ))),
        }
    }
}

impl From<ForwardTarget> for String {
    fn from(target: ForwardTarget) -> Self {
        match target.port {
            Some(port) => format!("{}:{port}", target.address),
            None => target.address.to_string(),
        }
    }
}
