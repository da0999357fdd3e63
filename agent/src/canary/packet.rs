//! The canary's packets: IPv4 (RFC 791) with TCP (RFC 9293), without options.

use std::net::{Ipv4Addr, SocketAddrV4};

const TCP: u8 = 6;
const HEADER: u16 = 20;
/// Don't fragment.
const DF: u16 = 0x4000;
const WINDOW: u16 = 64240;

/// What a segment is for: TCP's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    /// Opens a connection.
    Syn = 0x02,
    /// Has the other side forget it.
    Reset = 0x04,
}

/// A segment of a connection that never comes to be.
pub(super) struct Segment {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) sequence: u32,
    pub(super) flag: Flag,
    /// After so many routers, this host counted, it is given up.
    pub(super) ttl: u8,
}

impl Segment {
    /// As it is on the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Self { from, to, sequence, flag, ttl } = self;
        let addresses = [from.ip().octets(), to.ip().octets()].concat();
        let mut ip = [0x45, 0].to_vec();
        ip.extend((2 * HEADER).to_be_bytes());
        // Its identification: none, since it is never fragmented (RFC 6864).
        ip.extend(0_u16.to_be_bytes());
        ip.extend(DF.to_be_bytes());
        ip.extend([*ttl, TCP]);
        ip.extend(0_u16.to_be_bytes());
        ip.extend(&addresses);
        let ip = with_checksum(ip, 10, &[]);

        let mut tcp = from.port().to_be_bytes().to_vec();
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(sequence.to_be_bytes());
        tcp.extend(0_u32.to_be_bytes());
        // Five words of header.
        tcp.extend([5 << 4, *flag as u8]);
        tcp.extend(WINDOW.to_be_bytes());
        tcp.extend([0; 4]);
        let mut pseudo = addresses;
        pseudo.extend([0, TCP]);
        pseudo.extend(HEADER.to_be_bytes());
        [ip, with_checksum(tcp, 16, &pseudo)].concat()
    }
}

/// With the Internet checksum (RFC 1071) over it and what is counted besides, at that place.
fn with_checksum(mut header: Vec<u8>, place: usize, besides: &[u8]) -> Vec<u8> {
    let words = besides.chunks(2).chain(header.chunks(2));
    let mut sum: u32 = words
        .map(|word| {
            let high = word.first().copied().unwrap_or(0);
            let low = word.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([high, low]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap_or(0);
    if let Some(at) = header.get_mut(place..place + 2) {
        at.copy_from_slice(&checksum.to_be_bytes());
    }
    header
}

/// Addresses and ports of a packet as the kernel shows it; ports are 0 where it shows none.
pub(super) fn ends(ip: &[u8], tcp: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let address = |at: usize| -> Option<Ipv4Addr> {
        Some(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?.into())
    };
    let port = |at: usize| {
        let bytes = tcp.get(at..at + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
        bytes.map_or(0, u16::from_be_bytes)
    };
    Some((SocketAddrV4::new(address(12)?, port(0)), SocketAddrV4::new(address(16)?, port(2))))
}

/// Whether a TCP header says reset.
pub(super) fn is_reset(tcp: &[u8]) -> bool {
    tcp.get(13).is_some_and(|flags| flags & Flag::Reset as u8 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums up to nothing but ones, as a receiver checks it.
    fn is_sound(bytes: &[u8]) -> bool {
        let words = bytes.chunks(2).map(|word| u64::from(word[0]) * 256 + u64::from(word[1]));
        let sum: u64 = words.sum();
        sum.is_multiple_of(0xffff) && sum > 0
    }

    #[test]
    fn checksums_are_right_and_addresses_in_place() {
        let segment = Segment {
            from: SocketAddrV4::new([192, 0, 0, 8].into(), 40000),
            to: SocketAddrV4::new([198, 51, 100, 10].into(), 443),
            sequence: 0xfffe_0102,
            flag: Flag::Syn,
            ttl: 64,
        };
        let bytes = segment.bytes();
        assert_eq!(bytes.len(), 40);
        let (ip, tcp) = bytes.split_at(20);
        assert!(is_sound(ip));
        assert!(is_sound(&[&ip[12..20], &[0, 6, 0, 20], tcp].concat()));
        assert_eq!(ends(ip, tcp), Some((segment.from, segment.to)));
        assert!(
            !is_reset(tcp) && is_reset(&Segment { flag: Flag::Reset, ..segment }.bytes()[20..])
        );
    }
}
