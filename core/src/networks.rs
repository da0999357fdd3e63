//! Blocks of addresses as one set: merged, in order, and quick to search, be they one or 60,000.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Disjoint blocks of both families, as few as can be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub struct Networks {
    v4: BTreeSet<Ipv4Net>,
    v6: BTreeSet<Ipv6Net>,
}

impl Networks {
    /// The IPv4 blocks.
    #[must_use]
    pub fn v4(&self) -> &BTreeSet<Ipv4Net> {
        &self.v4
    }

    /// The IPv6 blocks.
    #[must_use]
    pub fn v6(&self) -> &BTreeSet<Ipv6Net> {
        &self.v6
    }

    /// All blocks, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.v4.iter().copied().map(IpNet::V4);
        v4.chain(self.v6.iter().copied().map(IpNet::V6))
    }

    /// How many blocks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether one of the blocks holds that address; in logarithmic time.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // Blocks are ordered by their first address: only the last that begins at or before the
        // address can hold it.
        match address {
            IpAddr::V4(address) => {
                let whole = Ipv4Net::from(address);
                let last = self.v4.range(..=whole).next_back();
                last.is_some_and(|net| net.contains(&address))
            }
            IpAddr::V6(address) => {
                let whole = Ipv6Net::from(address);
                let last = self.v6.range(..=whole).next_back();
                last.is_some_and(|net| net.contains(&address))
            }
        }
    }

    /// Whether every IPv4 address is in it.
    #[must_use]
    pub fn is_all_v4(&self) -> bool {
        self.v4.contains(&Ipv4Net::default())
    }

    /// Whether every IPv6 address is in it.
    #[must_use]
    pub fn is_all_v6(&self) -> bool {
        self.v6.contains(&Ipv6Net::default())
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => v6.push(net),
            }
        }
        Self {
            v4: Ipv4Net::aggregate(&v4).into_iter().collect(),
            v6: Ipv6Net::aggregate(&v6).into_iter().collect(),
        }
    }
}

impl From<Vec<IpNet>> for Networks {
    fn from(nets: Vec<IpNet>) -> Self {
        nets.into_iter().collect()
    }
}

impl From<Networks> for Vec<IpNet> {
    fn from(networks: Networks) -> Self {
        networks.iter().collect()
    }
}

/// First and last address of a block.
#[must_use]
pub fn ends(net: IpNet) -> (IpAddr, IpAddr) {
    (net.network(), net.broadcast())
}

/// An address as a number that orders as addresses do.
#[must_use]
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn low_v4(low: u16) -> IpAddr {
        let [high, low] = low.to_be_bytes();
        IpAddr::from([10, 7, high, low])
    }

    fn nets() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 = (any::<u16>(), 16..=32_u8)
            .prop_map(|(low, length)| IpNet::new(low_v4(low), length).expect("a block"));
        let v6 = (any::<u16>(), 100..=128_u8).prop_map(|(low, length)| {
            IpNet::new(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, low]), length).expect("a block")
        });
        proptest::collection::vec(prop_oneof![v4, v6], 0..40)
    }

    proptest! {
        #[test]
        fn merged_blocks_hold_the_same_addresses(nets in nets(), low: u16) {
            let networks: Networks = nets.iter().copied().collect();
            for address in [
                low_v4(low),
                IpAddr::from([10, 8, 0, 1]),
                IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, low]),
            ] {
                prop_assert_eq!(
                    networks.contains(address),
                    nets.iter().any(|net| net.contains(&address))
                );
            }
            let blocks: Vec<IpNet> = networks.iter().collect();
            for (index, one) in blocks.iter().enumerate() {
                for other in blocks.iter().skip(index + 1) {
                    prop_assert!(!one.contains(other) && !other.contains(one));
                }
            }
        }
    }

    #[test]
    fn all_is_all_however_it_is_cut() {
        let halves: Networks = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]
            .map(|net| net.parse().expect("a block"))
            .into_iter()
            .collect();
        assert!(halves.is_all_v4() && halves.is_all_v6());
        let one: Networks = ["0.0.0.0/1".parse().expect("a block")].into_iter().collect();
        assert!(!one.is_all_v4() && !one.is_all_v6());
    }
}
