//! ICMP echo messages, which carry a number of their own: translation may change their identifier on the way.

use std::net::Ipv4Addr;

const REQUEST: u8 = 8;
const REPLY: u8 = 0;

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    pub reply: bool,
    pub identifier: u16,
    pub sequence: u16,
    /// The payload, unique to each request.
    pub number: u64,
}

impl Echo {
    /// The message, without an IP header.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![if self.reply { REPLY } else { REQUEST }, 0, 0, 0];
        bytes.extend_from_slice(&self.identifier.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        let checksum = checksum(&bytes).to_be_bytes();
        bytes[2..4].copy_from_slice(&checksum);
        bytes
    }

    /// The sender and the message of an IPv4 packet; `None` if it is something else.
    pub fn of_packet(packet: &[u8]) -> Option<(Ipv4Addr, Self)> {
        let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let message = packet.get(header..)?;
        let reply = match *message.first()? {
            REQUEST => false,
            REPLY => true,
            _ => return None,
        };
        let identifier = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
        let sequence = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
        let number = u64::from_be_bytes(message.get(8..16)?.try_into().ok()?);
        Some((source.into(), Self { reply, identifier, sequence, number }))
    }
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    // Adding the carry back in.
    !words.fold(0, |sum: u16, word| {
        let (sum, carried) = sum.overflowing_add(word);
        sum + u16::from(carried)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_sums_to_nothing() {
        let echo = Echo { reply: false, identifier: 7, sequence: 1, number: 0x0102_0304_0506_0708 };
        let bytes = echo.to_bytes();
        assert_eq!(checksum(&bytes), 0);
        let mut packet = vec![0x45; 20];
        packet[12..16].copy_from_slice(&[192, 0, 2, 1]);
        packet.extend_from_slice(&bytes);
        assert_eq!(Echo::of_packet(&packet), Some((Ipv4Addr::new(192, 0, 2, 1), echo)));
    }
}
