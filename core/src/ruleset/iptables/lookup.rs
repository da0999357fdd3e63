//! Whether a packet's address is in one of many blocks, asked by rules: one a block while they are
//! few; a set of ipset's, or a tree of chains, when they are many.
//!
//! The tree is one of prefixes. A chain that would have more than [`LEAF`] blocks hands them on to
//! up to 16 further chains, by the next four bits of the prefix that they all have in common. So
//! 60,000 scattered addresses are four chains deep, and a packet passes some 30 rules.
//!
//! Chains are entered for good (`-g`): what an outcome returns to is the chain before all of them.

use ipnet::IpNet;

use super::text::{Chain, Table, Target};
use crate::networks::number;

/// As many blocks are rules of one chain. Fewer would be quicker to pass; but iptables-nft takes
/// time with the square of the number of chains to load them.
const LEAF: usize = 32;

/// How many bits a chain decides by.
const BITS: u8 = 4;

/// Which address of a packet is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    fn option(self) -> &'static str {
        match self {
            Self::Source => "-s",
            Self::Destination => "-d",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Source => "src",
            Self::Destination => "dst",
        }
    }
}

/// A question and what follows from its answers.
pub(super) struct Lookup<'a> {
    /// The chain in which it is asked.
    pub chain: &'a Chain,
    pub side: Side,
    pub nets: &'a [IpNet],
    /// The set with these blocks, if there is one.
    pub set: Option<&'a str>,
    /// Outcome if one of the blocks has the address.
    pub found: Target,
    /// Outcome if none has it: the rest of each of the chains.
    pub otherwise: Vec<(String, Target)>,
}

impl Lookup<'_> {
    pub(super) fn write(&self, table: &mut Table) {
        if let Some(set) = self.set {
            let matches = format!(" -m set --match-set {set} {}", self.side.word());
            table.add(self.chain, matches, self.found.clone());
            self.end(self.chain, table);
        } else {
            self.branch(self.chain, &mut 0, self.nets, table);
        }
    }

    /// Writes one chain, and those that it hands on to.
    fn branch(&self, chain: &Chain, number: &mut usize, nets: &[IpNet], table: &mut Table) {
        let option = self.side.option();
        if nets.len() <= LEAF {
            for net in nets {
                table.add(chain, net_match(option, *net), self.found.clone());
            }
            return self.end(chain, table);
        }
        let mut below = Vec::new();
        for (prefix, part) in parts(nets) {
            if part == [prefix] {
                table.add(chain, net_match(option, prefix), self.found.clone());
                continue;
            }
            *number += 1;
            let further = self.child(*number);
            table.add(chain, net_match(option, prefix), Target::Goto(further.clone()));
            below.push((further, part));
        }
        self.end(chain, table);
        for (further, part) in below {
            self.branch(&further, number, part, table);
        }
    }

    fn child(&self, number: usize) -> Chain {
        let root = match self.chain {
            Chain::Own(purpose) => purpose.as_str(),
            Chain::BuiltIn(name) => name,
        };
        Chain::own(format!("{root}.{number:x}"))
    }

    fn end(&self, chain: &Chain, table: &mut Table) {
        for (matches, target) in &self.otherwise {
            table.add(chain, matches.clone(), target.clone());
        }
    }
}

/// A match on one side's address; on every address none is needed.
fn net_match(option: &str, net: IpNet) -> String {
    if net.prefix_len() == 0 { String::new() } else { format!(" {option} {net}") }
}

/// The blocks by the four bits behind what all of them have in common. The blocks are in order,
/// disjoint and more than one.
fn parts(nets: &[IpNet]) -> Vec<(IpNet, &[IpNet])> {
    let (Some(first), Some(last)) = (nets.first(), nets.last()) else { return Vec::new() };
    let width = first.max_prefix_len();
    let differing = number(first.network()) ^ number(last.network());
    let common =
        u8::try_from(differing.leading_zeros()).unwrap_or(u8::MAX).saturating_sub(128 - width);
    let length = common.saturating_add(BITS).min(width);
    let prefix = |net: &IpNet| {
        let length = length.min(net.prefix_len());
        IpNet::new(net.network(), length).map_or(*net, |prefix| prefix.trunc())
    };
    nets.chunk_by(|one, other| prefix(one) == prefix(other))
        .filter_map(|part| Some((prefix(part.first()?), part)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::networks::Networks;

    /// Whether a packet with that address is found, and how many rules it passes: what the kernel
    /// would do.
    fn walk(table: &Table, chain: &Chain, address: IpAddr) -> (bool, usize) {
        let (mut chain, mut passed) = (chain.clone(), 0);
        'chains: loop {
            for rule in table.rules.iter().filter(|rule| rule.chain == chain) {
                passed += 1;
                let net: Option<IpNet> =
                    rule.matches.split(' ').nth(2).map(|net| net.parse().expect("a net"));
                if net.is_none_or(|net| net.contains(&address)) {
                    match &rule.target {
                        Target::Goto(further) => {
                            chain = further.clone();
                            continue 'chains;
                        }
                        Target::Action(action) => return (action == "FOUND", passed),
                        Target::Jump(_) => panic!("a look-up jumps nowhere"),
                    }
                }
            }
            return (false, passed);
        }
    }

    fn written(networks: &Networks) -> (Table, Chain) {
        let nets: Vec<IpNet> = networks.iter().collect();
        let (mut table, chain) = (Table::named("nat"), Chain::own("SRC"));
        let lookup = Lookup {
            chain: &chain,
            side: Side::Source,
            nets: &nets,
            set: None,
            found: Target::act("FOUND"),
            otherwise: vec![(String::new(), Target::act("LOST"))],
        };
        lookup.write(&mut table);
        (table, chain)
    }

    fn v4(bits: u32, length: u8) -> IpNet {
        IpNet::new(std::net::Ipv4Addr::from(bits).into(), length).expect("a net").trunc()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_tree_finds_what_is_there_and_nothing_else(
            // Close together, so that there are neighbours and holes.
            nets in proptest::collection::vec((0..4096_u32, 20..=32_u8), 0..400),
            probes in proptest::collection::vec(0..8192_u32, 50),
        ) {
            let base = 0x0a07_0000;
            let networks: Networks =
                nets.iter().map(|(low, length)| v4(base + low, *length)).collect();
            let (table, chain) = written(&networks);
            for probe in probes {
                let address = IpAddr::V4((base + probe).into());
                prop_assert_eq!(walk(&table, &chain, address).0, networks.contains(address));
            }
        }
    }

    #[test]
    fn many_blocks_are_not_passed_one_by_one() {
        // Every second address, so that none merge.
        let networks: Networks = (0..60_000_u32).map(|n| v4(0x0a00_0000 + n * 6, 32)).collect();
        assert_eq!(networks.len(), 60_000);
        let (table, chain) = written(&networks);
        let chains: std::collections::BTreeSet<String> =
            table.rules.iter().map(|rule| format!("{:?}", rule.chain)).collect();
        assert!(chains.len() < 10_000, "{}", chains.len());
        for number in [0, 1, 29_999, 59_999] {
            let address = IpAddr::V4((0x0a00_0000 + number * 6).into());
            let (found, passed) = walk(&table, &chain, address);
            assert!(found && passed <= 16 * 8 + LEAF, "{address}: {found} {passed}");
        }
        assert!(!walk(&table, &chain, IpAddr::from([10, 0, 0, 1])).0);
    }
}
