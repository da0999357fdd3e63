//! The TCP ports at which programs of this host listen, from `/proc/net/tcp`.

use std::{collections::BTreeSet, fs, io};

use natd_core::error::{Error, Kind, Result};

/// Of the network namespace of the calling thread; without IPv6 there is no second file.
const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: &str = "0A";

/// The ports at which somebody listens on an address that others can reach.
pub(crate) fn listening() -> Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for path in TABLES {
        match fs::read_to_string(path) {
            Ok(table) => ports.extend(table.lines().filter_map(listener)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let doing = format!("read the listening sockets from {path}");
                return Err(Error::new(Kind::Unreachable, doing, error));
            }
        }
    }
    Ok(ports)
}

/// The port of a line about a listening socket. The address is in hexadecimal, in words of the
/// machine's byte order.
fn listener(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let last_word = address.get(address.len().saturating_sub(8)..)?;
    let word = u32::from_str_radix(last_word, 16).ok()?.to_ne_bytes();
    let is_v6 = address.len() > 8;
    let upper = address.get(..address.len().saturating_sub(8))?;
    let is_loopback = if is_v6 {
        let is_one = upper.chars().all(|digit| digit == '0') && word == [0, 0, 0, 1];
        let is_mapped =
            upper.to_ascii_uppercase().ends_with("FFFF0000") && word.starts_with(&[127]);
        is_one || is_mapped
    } else {
        word.starts_with(&[127])
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == LISTEN && !is_loopback).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_that_others_can_reach_are_found() {
        for (line, port) in [
            ("  0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00", Some(8080)),
            ("  1: 0100007F:2616 00000000:0000 0A 00000000:00000000 00", None),
            ("  2: 0A010A0A:0016 0B010A0A:C350 01 00000000:00000000 00", None),
            ("  3: 00000000000000000000000000000000:0016 0000:0000 0A 0:0 00", Some(22)),
            ("  4: 00000000000000000000000001000000:0019 0000:0000 0A 0:0 00", None),
            ("  5: 0000000000000000FFFF00000100007F:0050 0000:0000 0A 0:0 00", None),
            ("  sl  local_address rem_address   st tx_queue rx_queue", None),
        ] {
            assert_eq!(listener(line), port, "{line}");
        }
    }
}
