//! Which tracked connections rules make stale: a connection is what it was when its first packet
//! came, for as long as it lives, whatever the rules say by now.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{Forward, Ruleset, Translation};
use crate::{
    network::{Flow, Network},
    networks::Networks,
};

/// Whom rules serve that natd has loaded: what the journal keeps of them, so that connections of
/// whom the next rules no longer serve are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Served {
    /// Whose packets are translated.
    pub sources: Networks,
    /// Destinations left untranslated.
    pub exclude: Networks,
    /// To what they are translated.
    pub addresses: BTreeSet<IpAddr>,
    /// Where ports are forwarded from.
    pub front: BTreeSet<IpAddr>,
    /// Ports that are forwarded.
    pub forwards: Vec<Forward>,
}

impl Served {
    /// Whether that connection came to a forwarded port, and these rules sent it on.
    fn forwarded(&self, flow: &Flow) -> bool {
        self.front.contains(&flow.destination)
            && self.forwards.iter().any(|forward| forward.carries(flow))
    }

    /// Whether that connection's source is translated, and these rules did it.
    fn translated(&self, flow: &Flow) -> bool {
        flow.reply_destination != flow.source
            && self.addresses.contains(&flow.reply_destination)
            && self.sources.contains(flow.source)
            && !self.exclude.contains(flow.destination)
    }
}

impl Ruleset {
    /// Whom these rules serve on a host with that network.
    #[must_use]
    pub fn served(&self, network: &Network) -> Served {
        let addresses = match &self.translation {
            Translation::Snat(pool) => pool.addresses().iter().copied().map(IpAddr::V4).collect(),
            Translation::Masquerade => {
                let link = network.link(&self.egress);
                link.into_iter().flat_map(|link| &link.addresses).map(ipnet::IpNet::addr).collect()
            }
        };
        Served {
            sources: self.sources.clone(),
            exclude: self.exclude.clone(),
            addresses,
            front: self.front.iter().copied().map(IpAddr::V4).collect(),
            forwards: self.forwards.clone(),
        }
    }

    /// Whether a tracked connection began without these rules and so is not what they would make
    /// of it: untranslated, translated to an address that they don't give, forwarded to somebody
    /// else; or no longer served at all, though `earlier` rules of natd's did.
    ///
    /// What they would make of it alike goes on undisturbed.
    #[must_use]
    pub fn makes_stale(&self, flow: &Flow, network: &Network, earlier: Option<&Served>) -> bool {
        if self.fronts(flow.destination) {
            if self.forwards.iter().any(|forward| forward.carries(flow)) {
                // From inside, replies have to come back by this host.
                return self.sources.contains(flow.source)
                    && !network.is_local(flow.reply_destination);
            }
            if self.forwards.iter().any(|forward| forward.misses(flow, network)) {
                return true;
            }
        }
        if network.is_local(flow.source) {
            return false;
        }
        if earlier.is_some_and(|earlier| earlier.forwarded(flow)) {
            return true;
        }
        if self.covers(flow, network) {
            return !self.gives(flow.reply_destination, network);
        }
        earlier.is_some_and(|earlier| earlier.translated(flow))
    }

    /// Whether these rules decide over the source address of that connection: one of the sources,
    /// forwarded by this host, out by the egress interface, to a destination that is not excluded.
    #[must_use]
    pub fn covers(&self, flow: &Flow, network: &Network) -> bool {
        // Where a neighbour redirects (DNAT), replies come from the place that packets really go to.
        let target = flow.reply_source;
        self.sources.contains(flow.source)
            && !self.exclude.contains(flow.destination)
            && !network.is_local(flow.source)
            && !network.is_local(flow.destination)
            && !network.is_local(target)
            && network.leaves_by(target) == Some(&self.egress)
    }

    /// Whether translation can give that address now.
    fn gives(&self, address: IpAddr, network: &Network) -> bool {
        match &self.translation {
            Translation::Snat(pool) => {
                pool.addresses().iter().any(|given| IpAddr::V4(*given) == address)
            }
            Translation::Masquerade => network
                .link(&self.egress)
                .is_some_and(|link| link.addresses.iter().any(|net| net.addr() == address)),
        }
    }

    fn fronts(&self, destination: IpAddr) -> bool {
        matches!(destination, IpAddr::V4(address) if self.front.contains(&address))
    }
}
