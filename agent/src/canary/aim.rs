//! Where a canary flies to.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use natd_core::{
    canary::Flight,
    error::{Error, Kind, Result},
};

use super::DOING;

/// To so many addresses at most; names may have dozens.
const MOST: usize = 8;

/// Documentation addresses (RFC 5737), which nobody has. What is sent there is dropped by the first
/// router that doesn't send it on for ever; so it need not get further.
const NOBODY: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(203, 0, 113, 1)];

/// It is to leave this host, which counts one, and the next router is to drop it.
const TTL_TO_NOBODY: u8 = 2;
const TTL: u8 = 64;
const DISCARD: u16 = 9;

/// An address to fly to.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    /// As the operator wrote it; `None`: nobody is to answer.
    pub(super) target: Option<String>,
    pub(super) address: SocketAddrV4,
    pub(super) ttl: u8,
}

/// All of them.
///
/// # Errors
/// `Unsupported` if the rules are for IPv6 alone; `Invalid` if no target has an address that a
/// private host's packets are translated to.
pub(super) async fn aims(flight: &Flight<'_>, deadline: Duration) -> Result<Vec<Aim>> {
    if flight.ruleset.sources.v4().is_empty() {
        return Err(Error::new(
            Kind::Unsupported,
            DOING,
            "it is an IPv4 packet, and nat.sources has no IPv4 block",
        ));
    }
    let is_excluded = |address: Ipv4Addr| flight.ruleset.exclude.contains(IpAddr::V4(address));
    if flight.targets.is_empty() {
        let nobody = NOBODY.into_iter().find(|address| !is_excluded(*address));
        return nobody
            .map(|address| {
                let address = SocketAddrV4::new(address, DISCARD);
                vec![Aim { target: None, address, ttl: TTL_TO_NOBODY }]
            })
            .ok_or_else(|| {
                nowhere("nat.exclude has every address that it could fly to".to_owned())
            });
    }
    let mut aims: Vec<Aim> = Vec::new();
    let mut failures = Vec::new();
    for target in flight.targets {
        let looked_up = tokio::time::timeout(deadline, tokio::net::lookup_host(target)).await;
        let addresses = match looked_up {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                failures.push(format!("{target}: {error}"));
                continue;
            }
            Err(_) => {
                failures.push(format!("{target}: its name is not found within {deadline:?}"));
                continue;
            }
        };
        for address in addresses {
            match address {
                SocketAddr::V6(_) => {}
                SocketAddr::V4(address) if is_excluded(*address.ip()) => {
                    failures.push(format!("{target}: {} is in nat.exclude", address.ip()));
                }
                SocketAddr::V4(address) if aims.iter().any(|aim| aim.address == address) => {}
                SocketAddr::V4(address) => {
                    aims.push(Aim { target: Some(target.clone()), address, ttl: TTL });
                }
            }
        }
    }
    aims.truncate(MOST);
    if aims.is_empty() {
        failures.push("no target has an IPv4 address".to_owned());
        return Err(nowhere(failures.swap_remove(0)));
    }
    Ok(aims)
}

fn nowhere(why: String) -> Error {
    Error::new(Kind::Invalid, DOING, why)
        .with_advice("name targets on the internet in verify.targets")
}
