//! Many blocks as a set of ipset's, which rules can ask as one.

use ipnet::IpNet;

use super::CHAIN_PREFIX;
use crate::ruleset::{Blocks, ElementsDigest, Family};

/// As many blocks are rules even if there could be a set.
const FEW: usize = 8;

/// A set of ipset's.
pub(super) struct Set {
    pub(super) name: String,
    family: Family,
    nets: Vec<IpNet>,
}

impl Set {
    pub(super) fn of(
        purpose: &str,
        family: Family,
        nets: &[IpNet],
        blocks: Blocks,
    ) -> Option<Self> {
        let family_digit = if family == Family::V4 { "4" } else { "6" };
        // Names have at most 31 bytes.
        let name =
            format!("{CHAIN_PREFIX}{purpose}{family_digit}-{}", ElementsDigest::of_nets(nets));
        let is_wanted = blocks == Blocks::Ipset && nets.len() > FEW;
        is_wanted.then(|| Self { name, family, nets: nets.to_vec() })
    }

    /// `hash:net` takes no block of length 0: two halves are the same.
    pub(super) fn text(&self) -> String {
        let Self { name, family, nets } = self;
        let family = if *family == Family::V4 { "inet" } else { "inet6" };
        let most = (nets.len() + 2).next_power_of_two().max(65_536);
        let create = format!("create {name} hash:net family {family} maxelem {most}\n");
        let elements = nets.iter().map(|net| format!("add {name} {net}\n"));
        [create].into_iter().chain(elements).collect()
    }
}
