//! Other programs of this host that filter what it forwards, and what each of them is asked to let
//! through, in its own way.
//!
//! natd's rules can let nothing through that another firewall drops: a packet has to pass all of them.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use serde::Serialize;

use crate::{
    canary,
    model::InterfaceName,
    networks::Networks,
    ruleset::{Family, Ports, Protocol, Ruleset, RulesetDigest},
};

pub mod firewalld;
mod obstacle;
pub mod ufw;

pub use obstacle::{ADVISED, Obstacle, advice};

/// A program that filters what this host forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Neighbour {
    /// The Docker daemon.
    Docker,
    /// ufw.
    Ufw,
    /// firewalld.
    Firewalld,
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Docker => "Docker",
            Self::Ufw => "ufw",
            Self::Firewalld => "firewalld",
        })
    }
}

/// Raised whenever natd makes other entries of the same passage, so that those of an earlier version
/// of natd are replaced.
const EDITION: u32 = 1;

/// What a neighbour is to let through: what natd serves, and nothing else.
///
/// - What comes in by one of `interfaces`, leaves by one of them and is from one of `sources`.
/// - What belongs to a tracked connection, or is related to one, and goes to one of `sources`, between
///   the same interfaces.
/// - What was redirected (connection tracking's state `DNAT`) to one of `forwards`.
///
/// Never the metadata service ([`Family::metadata_service`]), nor what connection tracking calls INVALID:
/// where natd's own rules are iptables', a packet that a neighbour accepts before them does not get to
/// them any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// The interface that translated packets leave by.
    pub egress: InterfaceName,
    /// The interfaces that natd serves, the egress interface among them: packets go from each to each.
    pub interfaces: BTreeSet<InterfaceName>,
    /// The interfaces by which private hosts' packets come in as a rule: those that routes target.
    pub entrances: BTreeSet<InterfaceName>,
    /// Whose packets: the private hosts', and the canary's.
    pub sources: Networks,
    /// Ports of private hosts to which others may open connections.
    pub forwards: Vec<Opening>,
    /// TCP's maximum segment size is to be lowered to what the way takes.
    pub clamp_mss: bool,
}

/// Ports of a private host, as they are after translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// The protocol.
    pub protocol: Protocol,
    /// The private host.
    pub to: Ipv4Addr,
    /// Its ports.
    pub ports: Ports,
}

impl Passage {
    /// The passage that natd's traffic by these rules needs.
    #[must_use]
    pub fn of(ruleset: &Ruleset, entrances: &BTreeSet<InterfaceName>) -> Self {
        let canary =
            (!ruleset.sources.v4().is_empty()).then_some(IpAddr::V4(canary::SOURCE).into());
        let forwards = ruleset.forwards.iter().map(|forward| Opening {
            protocol: forward.protocol,
            to: forward.to,
            ports: forward.to_ports,
        });
        Self {
            egress: ruleset.egress.clone(),
            interfaces: ruleset.ingress.clone(),
            entrances: entrances.clone(),
            sources: ruleset.sources.iter().chain(canary).collect(),
            forwards: forwards.collect(),
            clamp_mss: ruleset.clamp_mss,
        }
    }

    /// Names it. The entries that a neighbour has for it carry that, so that they tell what they are
    /// for.
    #[must_use]
    pub fn digest(&self) -> RulesetDigest {
        // Whatever two passages differ in is in their debug form, which has no addresses of memory.
        RulesetDigest::of(&format!("{EDITION} {self:?}"))
    }

    /// The families that it has sources of.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        let families = [Family::V4, Family::V6].into_iter();
        families.filter(|family| family.is_in(&self.sources)).collect()
    }

    /// From which interface to which packets go.
    pub fn ways(&self) -> impl Iterator<Item = (&InterfaceName, &InterfaceName)> {
        self.interfaces.iter().flat_map(|by| self.interfaces.iter().map(move |out| (by, out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::tests::{nets, ruleset};

    fn of(ruleset: &Ruleset) -> Passage {
        Passage::of(ruleset, &ruleset.ingress)
    }

    #[test]
    fn the_canary_passes_where_private_hosts_do() {
        let passage = of(&ruleset());
        assert!(passage.sources.contains(canary::SOURCE.into()));
        assert!(passage.sources.contains([10, 10, 0, 1].into()));
        assert!(!passage.sources.contains([10, 30, 0, 1].into()));
        let only_ipv6 = Ruleset { sources: nets(&["fd00::/8"]), ..ruleset() };
        assert_eq!(of(&only_ipv6).families(), [Family::V6].into());
    }

    #[test]
    fn whatever_differs_makes_another_digest() {
        let base = of(&ruleset());
        let eth1: InterfaceName = "eth1".parse().expect("a name");
        let opening = Opening {
            protocol: Protocol::Tcp,
            to: Ipv4Addr::new(10, 10, 2, 101),
            ports: "443".parse().expect("ports"),
        };
        let different = [
            Passage { egress: eth1.clone(), ..base.clone() },
            Passage { interfaces: [eth1.clone()].into(), ..base.clone() },
            Passage { entrances: [eth1].into(), ..base.clone() },
            Passage { sources: nets(&["10.0.0.0/8"]), ..base.clone() },
            Passage { forwards: vec![opening], ..base.clone() },
            Passage { clamp_mss: true, ..base.clone() },
            base,
        ];
        let digests: BTreeSet<_> = different.iter().map(Passage::digest).collect();
        assert_eq!(digests.len(), different.len());
    }
}
