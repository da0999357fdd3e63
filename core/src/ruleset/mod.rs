//! The firewall state that natd wants, as a value; and its one rendering per back end.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{canary, model::InterfaceName, networks::Networks};

mod forward;
mod iptables;
mod mark;
mod nftables;
mod stale;
mod translation;

pub use forward::{Forward, Ports, Protocol};
pub use iptables::{
    CHAIN_PREFIX as IPTABLES_CHAIN_PREFIX, Cost, DOCKER_USER, PASSAGE_PREFIX,
    chain_suffix as iptables_chain_suffix, in_docker_user,
};
pub use mark::{ElementsDigest, Mark};
pub use nftables::{
    BASE_CHAINS as NFTABLES_BASE_CHAINS, CHAINS as NFTABLES_CHAINS, TABLE as NFTABLES_TABLE,
};
pub use stale::Served;
pub use translation::{Pool, Translation};

const METADATA_SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Of AWS (docs: "Instance metadata service, IPv6"); the other clouds have none for IPv6.
const METADATA_SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);

/// A firewall back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirewallKind {
    /// A table of natd's own, replaced in one transaction.
    Nftables,
    /// Chains of natd's own, entered by jumps from built-in ones.
    Iptables,
}

impl fmt::Display for FirewallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        })
    }
}

/// What natd wants of the firewall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ruleset {
    /// The interface that translated packets leave by.
    pub egress: InterfaceName,
    /// The interfaces by which sources come in: all that natd serves, the egress interface too.
    pub ingress: BTreeSet<InterfaceName>,
    /// Whose packets are translated. Never empty.
    pub sources: Networks,
    /// Destinations left untranslated.
    pub exclude: Networks,
    /// To what.
    pub translation: Translation,
    /// Source ports at random, so that two flows rarely want the same one.
    pub random_fully: bool,
    /// Ports that go to private hosts.
    pub forwards: Vec<Forward>,
    /// The addresses at which they are forwarded: the egress interface's own, and the public ones
    /// that the cloud translates to them.
    pub front: BTreeSet<Ipv4Addr>,
    /// TCP's maximum segment size is lowered to what the way takes.
    pub clamp_mss: bool,
    /// The families of which whatever comes in by the ingress interfaces and isn't served is
    /// dropped: those that this host forwards for natd's sake alone.
    pub shut: BTreeSet<Family>,
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How the iptables back end holds many blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blocks {
    /// In chains of its own: one rule a block while they are few, a tree of chains when they are
    /// many. What is persisted is of this form, since it depends on nothing else.
    Chains,
    /// In sets of ipset's, when they are many.
    Ipset,
}

impl Ruleset {
    /// The text that is shown, loaded and persisted for that back end.
    #[must_use]
    pub fn render(&self, kind: FirewallKind) -> Rendering {
        self.render_with(kind, Blocks::Chains)
    }

    /// The text for that back end on a host that holds blocks so.
    #[must_use]
    pub fn render_with(&self, kind: FirewallKind, blocks: Blocks) -> Rendering {
        match kind {
            FirewallKind::Nftables => nftables::render(self),
            FirewallKind::Iptables => iptables::render(self, blocks),
        }
    }

    /// Whose packets are translated in that family, in order: the sources, and the canary, which the
    /// very rules that serve them are to serve.
    fn translated(&self, family: Family) -> Vec<IpNet> {
        let mut nets = family.of(&self.sources);
        let canary = IpNet::from(IpAddr::V4(canary::SOURCE));
        if family == Family::V4 && !nets.is_empty() && !self.sources.contains(canary.addr()) {
            nets.insert(nets.partition_point(|net| *net < canary), canary);
        }
        nets
    }

    /// The same rules such that they hold on whatever address the machine has: what is there after a
    /// reboot, before natd has seen which address that is.
    #[must_use]
    pub fn on_any_address(&self) -> Self {
        Self { translation: Translation::Masquerade, ..self.clone() }
    }

    /// The families that rules are made for: without IPv6 sources none is made for IPv6.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        let families = [Family::V4, Family::V6].into_iter();
        families.filter(|family| family.is_in(&self.sources)).collect()
    }
}

impl Family {
    /// Where every cloud of natd's has its metadata service, in that family. What private hosts
    /// would reach there through this host is this host's own: its identity and its credentials.
    #[must_use]
    pub fn metadata_service(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(METADATA_SERVICE),
            Self::V6 => IpAddr::V6(METADATA_SERVICE_V6),
        }
    }

    /// Whether one of the blocks is of it.
    #[must_use]
    pub fn is_in(self, networks: &Networks) -> bool {
        match self {
            Self::V4 => !networks.v4().is_empty(),
            Self::V6 => !networks.v6().is_empty(),
        }
    }

    pub(crate) fn of(self, networks: &Networks) -> Vec<IpNet> {
        match self {
            Self::V4 => networks.v4().iter().copied().map(IpNet::V4).collect(),
            Self::V6 => networks.v6().iter().copied().map(IpNet::V6).collect(),
        }
    }
}

/// Names a rendering, so that rules in the kernel tell which one they come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RulesetDigest(pub String);

impl RulesetDigest {
    /// Sixteen hexadecimal digits of SHA-256.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let hash = Sha256::digest(text.as_bytes());
        Self(hex::encode(hash).chars().take(16).collect())
    }
}

impl fmt::Display for RulesetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A ruleset as text for one back end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rendering {
    /// The back end that it is for.
    pub kind: FirewallKind,
    /// The text: an `nft -f` script, or `iptables-restore` format.
    pub text: String,
    /// The part for IPv6 in `ip6tables-restore` format; `None` where there is none, or where `text`
    /// has it.
    pub text6: Option<String>,
    /// The sets that the text refers to, in `ipset restore` format. Never in what is persisted: a
    /// set that is missing when rules are loaded fails all of them.
    pub ipsets: Option<String>,
    /// Its name; every rule of the text carries it in its comment.
    pub digest: RulesetDigest,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn nets(nets: &[&str]) -> Networks {
        nets.iter().map(|net| net.parse().expect("a block")).collect()
    }

    pub(crate) fn ruleset() -> Ruleset {
        let eth0: InterfaceName = "eth0".parse().expect("a name");
        Ruleset {
            egress: eth0.clone(),
            ingress: [eth0].into(),
            sources: nets(&["10.10.0.0/16", "10.20.0.0/16"]),
            exclude: nets(&["10.10.0.0/16", "192.168.0.0/24"]),
            translation: Translation::to(Ipv4Addr::new(10, 10, 1, 5)),
            random_fully: true,
            forwards: Vec::new(),
            front: BTreeSet::new(),
            clamp_mss: false,
            shut: BTreeSet::new(),
        }
    }

    pub(super) fn forwarding() -> Ruleset {
        let forward = |protocol, ports: &str, to_ports: &str, from: Option<&[&str]>| Forward {
            protocol,
            ports: ports.parse().expect("ports"),
            to: Ipv4Addr::new(10, 10, 2, 101),
            to_ports: to_ports.parse().expect("ports"),
            from: from.map(nets),
        };
        Ruleset {
            forwards: vec![
                forward(Protocol::Tcp, "8443", "443", None),
                forward(Protocol::Udp, "53", "53", Some(&["198.51.100.0/24"])),
                forward(Protocol::Tcp, "8000-8002", "9000-9002", None),
            ],
            front: ["10.10.1.5", "203.0.113.10"].map(|front| front.parse().expect("front")).into(),
            ..ruleset()
        }
    }

    #[test]
    fn whatever_differs_makes_another_digest() {
        let base = ruleset();
        let eth1: InterfaceName = "eth1".parse().expect("a name");
        let one_net = nets(&["10.10.0.0/16"]);
        let (five, six) = (Ipv4Addr::new(10, 10, 1, 5), Ipv4Addr::new(10, 10, 1, 6));
        let mut narrower = forwarding();
        narrower.forwards.pop();
        let different = [
            Ruleset { egress: eth1.clone(), ..base.clone() },
            Ruleset { ingress: [eth1].into(), ..base.clone() },
            Ruleset { sources: one_net.clone(), ..base.clone() },
            Ruleset {
                sources: nets(&["10.10.0.0/16", "10.20.0.0/16", "fd00::/8"]),
                ..base.clone()
            },
            Ruleset { exclude: one_net, ..base.clone() },
            Ruleset { exclude: Networks::default(), ..base.clone() },
            Ruleset { translation: Translation::to(six), ..base.clone() },
            Ruleset { translation: Translation::Snat(Pool::new(five, [six])), ..base.clone() },
            Ruleset { translation: Translation::Masquerade, ..base.clone() },
            Ruleset { random_fully: false, ..base.clone() },
            Ruleset { clamp_mss: true, ..base.clone() },
            Ruleset { shut: [Family::V4].into(), ..base.clone() },
            forwarding(),
            narrower,
            base,
        ];
        for kind in [FirewallKind::Nftables, FirewallKind::Iptables] {
            let digests: BTreeSet<RulesetDigest> =
                different.iter().map(|ruleset| ruleset.render(kind).digest).collect();
            assert_eq!(digests.len(), different.len(), "{kind}");
        }
    }
}
