//! Word from the kernel that something has changed, so that natd need not wait for its next tick.

use std::{io, time::Duration};

use natd_core::error::{Error, Kind, Result};
use netlink_sys::{
    AsyncSocket as _, AsyncSocketExt as _, TokioSocket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use rustix::io::Errno;

/// Groups of `include/uapi/linux/rtnetlink.h`: links, IPv4 addresses, IPv4 routes, and IPv4 sysctls
/// per interface (`forwarding`, `rp_filter`, `proxy_arp` and few others; not `send_redirects`).
const ROUTE_GROUPS: [u32; 4] = [1, 5, 7, 24];

/// `NFNLGRP_NFTABLES` of `include/uapi/linux/netfilter/nfnetlink.h`.
const NFTABLES_GROUP: u32 = 7;

/// More messages than a socket's default receive buffer holds.
const MOST_PENDING: usize = 1024;

/// What sort of thing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A link, an address, a route, or forwarding on an interface.
    Network,
    /// The nftables ruleset, by whomever; iptables on nftables counts too. iptables-legacy tells
    /// nobody, so its rules need the tick.
    Firewall,
}

/// A source of changes in the network namespace that it was opened in.
///
/// A change says that it is worth looking, not what has changed. Where the kernel had more to say
/// than the socket holds (`ENOBUFS`, netlink(7)), that is one change too, so none goes unseen.
pub struct Events {
    network: TokioSocket,
    firewall: Option<TokioSocket>,
}

impl Events {
    /// Subscribes. Without nftables in the kernel there are no [`Change::Firewall`].
    ///
    /// # Errors
    /// `Unreachable` if there is no rtnetlink.
    pub fn open() -> Result<Self> {
        let network = subscribe(NETLINK_ROUTE, &ROUTE_GROUPS).map_err(|cause| {
            Error::new(Kind::Unreachable, "listen to the kernel's news of the network", cause)
        })?;
        let firewall = subscribe(NETLINK_NETFILTER, &[NFTABLES_GROUP])
            .inspect_err(|cause| tracing::warn!(%cause, "no news of nftables: ticks will do"))
            .ok();
        Ok(Self { network, firewall })
    }

    /// Waits for the next change. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Change {
        tokio::select! {
            () = arrival(&self.network) => Change::Network,
            () = arrival_if_any(self.firewall.as_ref()) => Change::Firewall,
        }
    }

    /// Forgets what has been reported up to now: for the changes that natd has just made itself.
    pub fn drain(&mut self) {
        for socket in std::iter::once(&self.network).chain(&self.firewall) {
            // Bounded, so that a storm of changes doesn't hold us here.
            for _ in 0..MOST_PENDING {
                match socket.socket_ref().recv(&mut [0; 64].as_mut_slice(), 0) {
                    Ok(_) => {}
                    Err(error) if is_overflow(&error) => {}
                    Err(_) => break,
                }
            }
        }
    }
}

fn subscribe(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    for group in groups {
        socket.socket_mut().add_membership(*group)?;
    }
    Ok(socket)
}

async fn arrival(socket: &TokioSocket) {
    // That it came is all we need: the rest of the message is cut off.
    if let Err(error) = socket.recv(&mut [0; 64].as_mut_slice()).await
        && !is_overflow(&error)
    {
        // Not known to happen; if it does, looking once a second is right and spinning is not.
        tracing::warn!(%error, "netlink gives no news");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn arrival_if_any(socket: Option<&TokioSocket>) {
    match socket {
        Some(socket) => arrival(socket).await,
        None => std::future::pending().await,
    }
}

fn is_overflow(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}
