//! Which clients get which address of a pool.

use std::net::Ipv4Addr;

/// As many parts as the pool's addresses share out among themselves, at most.
const MOST_PARTS: u32 = 256;

/// Which clients get which address: by the last bits of their own. Neither `-m statistic` nor
/// `-m cluster` is needed for it, and clients of one subnet, which are numbered in a row, are
/// spread as evenly as can be. Each part is given as address and mask.
pub(super) fn spread(addresses: &[Ipv4Addr]) -> Vec<(Ipv4Addr, Ipv4Addr, Ipv4Addr)> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    // Where the parts can't be equal, there are so many that it hardly matters.
    let parts = if count.is_power_of_two() {
        count
    } else {
        count.saturating_mul(8).next_power_of_two().clamp(count, MOST_PARTS.max(count))
    };
    let parts = parts.next_power_of_two();
    (0..parts)
        .zip(addresses.iter().cycle())
        .map(|(part, address)| (part.into(), (parts - 1).into(), *address))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_client_has_one_address_and_all_addresses_have_clients() {
        for count in 1..=20_u8 {
            let addresses: Vec<Ipv4Addr> =
                (1..=count).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
            let parts = spread(&addresses);
            let mut clients: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
            for client in 0..4096_u32 {
                let given: Vec<_> = parts
                    .iter()
                    .filter(|(bits, mask, _)| client & u32::from(*mask) == u32::from(*bits))
                    .collect();
                assert_eq!(given.len(), 1, "{client}");
                *clients.entry(given[0].2).or_default() += 1;
            }
            assert_eq!(clients.len(), usize::from(count));
            let (least, most) =
                (clients.values().min().expect("one"), clients.values().max().expect("one"));
            assert!(most * 10 <= least * 12, "{count}: {least} to {most}");
        }
    }
}
