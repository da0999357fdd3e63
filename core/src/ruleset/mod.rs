//! The firewall state that natd wants, as a value; and its one rendering per back end.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    model::InterfaceName,
    network::{Flow, Network},
};

mod iptables;
mod mark;
mod nftables;

pub use iptables::{CHAIN_PREFIX as IPTABLES_CHAIN_PREFIX, chain_suffix as iptables_chain_suffix};
pub use mark::{ElementsDigest, Mark};
pub use nftables::TABLE as NFTABLES_TABLE;

/// Where every cloud of natd's has its metadata service. What private hosts would reach there
/// through this host is this host's own: its identity and its credentials.
const METADATA_SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

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

/// How sources are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Translation {
    /// To this address of the egress interface.
    Snat(Ipv4Addr),
    /// To whatever address the egress interface has at the moment of the first packet.
    Masquerade,
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snat(address) => write!(f, "snat to {address}"),
            Self::Masquerade => f.write_str("masquerade"),
        }
    }
}

/// What natd wants of the firewall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ruleset {
    /// The interface that translated packets leave by.
    pub egress: InterfaceName,
    /// The interfaces by which sources come in.
    pub ingress: BTreeSet<InterfaceName>,
    /// Whose packets are translated. Disjoint, never empty.
    pub sources: BTreeSet<Ipv4Net>,
    /// Destinations left untranslated. Disjoint.
    pub exclude: BTreeSet<Ipv4Net>,
    /// To what.
    pub translation: Translation,
    /// Source ports at random, so that two flows rarely want the same one.
    pub random_fully: bool,
}

impl Ruleset {
    /// The text that is shown, loaded and persisted for that back end.
    #[must_use]
    pub fn render(&self, kind: FirewallKind) -> Rendering {
        match kind {
            FirewallKind::Nftables => nftables::render(self),
            FirewallKind::Iptables => iptables::render(self),
        }
    }

    /// The same rules such that they hold on whatever address the machine has: what is there after a
    /// reboot, before natd has seen which address that is.
    #[must_use]
    pub fn on_any_address(&self) -> Self {
        Self { translation: Translation::Masquerade, ..self.clone() }
    }

    /// Whether a tracked connection began before these rules and so stays untranslated, or
    /// translated to a wrong address, for as long as it lives (the nat hook sees only a
    /// connection's first packet).
    ///
    /// `egress_address` is the address that masquerading gives now.
    #[must_use]
    pub fn makes_stale(&self, flow: &Flow, network: &Network, egress_address: IpAddr) -> bool {
        let wanted = match self.translation {
            Translation::Snat(address) => IpAddr::V4(address),
            Translation::Masquerade => egress_address,
        };
        self.covers(flow, network) && flow.reply_destination != wanted
    }

    /// Whether these rules decide over the source address of that connection: one of the sources,
    /// forwarded by this host, out by the egress interface, to a destination that is not excluded.
    #[must_use]
    pub fn covers(&self, flow: &Flow, network: &Network) -> bool {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (flow.source, flow.destination) else {
            return false;
        };
        // Where a neighbour redirects (DNAT), replies come from the place that packets really go to.
        let target = flow.reply_source;
        self.sources.iter().any(|net| net.contains(&source))
            && !self.exclude.iter().any(|net| net.contains(&destination))
            && !network.is_local(flow.source)
            && !network.is_local(flow.destination)
            && !network.is_local(target)
            && network.leaves_by(target) == Some(&self.egress)
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
    /// Its name; every rule of the text carries it in its comment.
    pub digest: RulesetDigest,
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn ruleset() -> Ruleset {
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().expect("a prefix")).collect();
        let eth0: InterfaceName = "eth0".parse().expect("a name");
        Ruleset {
            egress: eth0.clone(),
            ingress: [eth0].into(),
            sources: nets(&["10.10.0.0/16", "10.20.0.0/16"]),
            exclude: nets(&["10.10.0.0/16", "192.168.0.0/24"]),
            translation: Translation::Snat(Ipv4Addr::new(10, 10, 1, 5)),
            random_fully: true,
        }
    }

    #[test]
    fn whatever_differs_makes_another_digest() {
        let base = ruleset();
        let eth1: InterfaceName = "eth1".parse().expect("a name");
        let one_net: BTreeSet<Ipv4Net> = base.sources.iter().take(1).copied().collect();
        let different = [
            Ruleset { egress: eth1.clone(), ..base.clone() },
            Ruleset { ingress: [eth1].into(), ..base.clone() },
            Ruleset { sources: one_net.clone(), ..base.clone() },
            Ruleset { exclude: one_net, ..base.clone() },
            Ruleset { exclude: BTreeSet::new(), ..base.clone() },
            Ruleset { translation: Translation::Snat(Ipv4Addr::new(10, 10, 1, 6)), ..base.clone() },
            Ruleset { translation: Translation::Masquerade, ..base.clone() },
            Ruleset { random_fully: false, ..base.clone() },
            base,
        ];
        for kind in [FirewallKind::Nftables, FirewallKind::Iptables] {
            let digests: BTreeSet<RulesetDigest> =
                different.iter().map(|ruleset| ruleset.render(kind).digest).collect();
            assert_eq!(digests.len(), different.len(), "{kind}");
        }
    }
}
