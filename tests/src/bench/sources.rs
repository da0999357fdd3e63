//! Many sources: blocks that don't merge, one of them the client's.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::chain::CLIENT;

/// How many are looked at.
pub const SIZES: [usize; 5] = [1, 100, 1_000, 10_000, MANY];

/// How many cost no more than one.
pub const MANY: usize = 60_000;

/// What the blocks are in, and what is left untranslated.
pub const ALL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8);

/// Every second block of 16 addresses, so that there is one block's room between any two.
const PREFIX: u8 = 28;
const STEP: u32 = 32;

/// So many blocks in order, the client's among them: in their middle, of 60,000 it is the 20,532nd.
pub fn blocks(count: usize) -> Vec<Ipv4Net> {
    let clients = (u32::from(CLIENT) - u32::from(ALL.network())) / STEP;
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let first = clients.saturating_sub(count / 2);
    (first..first + count).map(block).collect()
}

/// The same blocks with the client's as the last.
pub fn client_last(count: usize) -> Vec<Ipv4Net> {
    let (clients, mut others): (Vec<_>, Vec<_>) =
        blocks(count).into_iter().partition(|block| block.contains(&CLIENT));
    others.extend(clients);
    others
}

/// As many blocks, with the client's among them still, and all others exchanged.
pub fn other_blocks(count: usize) -> Vec<Ipv4Net> {
    let other = |block: Ipv4Net| {
        if block.contains(&CLIENT) {
            return block;
        }
        // The blocks in between.
        Ipv4Net::new_assert(Ipv4Addr::from(u32::from(block.network()) + STEP / 2), PREFIX)
    };
    blocks(count).into_iter().map(other).collect()
}

fn block(number: u32) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from(u32::from(ALL.network()) + number * STEP), PREFIX)
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv4Net;

    use super::*;

    #[test]
    fn they_do_not_merge_and_one_is_the_clients() {
        for count in SIZES {
            for blocks in [blocks(count), client_last(count)] {
                assert_eq!(blocks.len(), count);
                assert_eq!(blocks.iter().filter(|block| block.contains(&CLIENT)).count(), 1);
                assert_eq!(Ipv4Net::aggregate(&blocks).len(), count);
                assert!(blocks.iter().all(|block| ALL.contains(block)));
            }
            assert!(client_last(count)[count - 1].contains(&CLIENT));
        }
    }

    #[test]
    fn the_other_blocks_are_others() {
        let (one, other) = (blocks(1_000), other_blocks(1_000));
        let same: Vec<_> = one.iter().filter(|block| other.contains(block)).collect();
        assert_eq!(same.len(), 1);
        assert!(same[0].contains(&CLIENT));
    }
}
