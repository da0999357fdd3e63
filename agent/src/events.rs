//! Word from the kernel that something has changed, so that natd need not wait for its next tick.

use std::{io, time::Duration};

use natd_core::{
    canary,
    error::{Error, Kind, Result},
    ruleset::NFTABLES_TABLE,
};
use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{
    AsyncSocket as _, AsyncSocketExt as _, TokioSocket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, netdevice::index_to_name, socket},
};

use crate::{
    canary::ANCHOR,
    conntrack::find,
    netlink::{self, DATAGRAM},
};

/// Groups of `include/uapi/linux/rtnetlink.h`: links, IPv4 addresses, IPv4 routes, and IPv4 sysctls
/// per interface (`forwarding`, `rp_filter`, `proxy_arp` and few others; not `send_redirects`).
const ROUTE_GROUPS: [u32; 4] = [1, 5, 7, 24];

/// `NFNLGRP_NFTABLES` of `include/uapi/linux/netfilter/nfnetlink.h`.
const NFTABLES_GROUP: u32 = 7;

/// `NFT_MSG_NEWSETELEM` and `NFT_MSG_DELSETELEM` of `NFNL_SUBSYS_NFTABLES`
/// (`include/uapi/linux/netfilter/nf_tables.h`, `nfnetlink.h`).
const ELEMENT_MESSAGES: [u16; 2] = [0x0a0c, 0x0a0e];

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
    /// What the sets of natd's own table hold; or more has changed than could be told.
    Elements,
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
        loop {
            tokio::select! {
                news = arrival(&self.network) => {
                    if let Some(change) = network_change(news.as_deref()) {
                        return change;
                    }
                }
                news = arrival_if_any(self.firewall.as_ref()) => {
                    if let Some(change) = firewall_change(news.as_deref()) {
                        return change;
                    }
                }
            }
        }
    }

    /// Forgets what has been reported up to now, and tells which changes were among it.
    pub fn drain(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut note = |change: Option<Change>| {
            if let Some(change) = change.filter(|change| !changes.contains(change)) {
                changes.push(change);
            }
        };
        pending(&self.network).for_each(|news| note(network_change(news.as_deref())));
        self.firewall
            .iter()
            .flat_map(pending)
            .for_each(|news| note(firewall_change(news.as_deref())));
        changes
    }
}

/// What a datagram of rtnetlink's tells of, `None` for what was lost; nothing if that is natd's own doing.
fn network_change(news: Option<&[u8]>) -> Option<Change> {
    (!news.is_some_and(is_of_the_canary)).then_some(Change::Network)
}

/// The same for one of nftables.
fn firewall_change(news: Option<&[u8]>) -> Option<Change> {
    match news {
        Some(datagram) if is_of_the_canary(datagram) => None,
        Some(datagram) if !tells_of_elements(datagram) => Some(Change::Firewall),
        _ => Some(Change::Elements),
    }
}

/// The datagrams that wait; `None` for those that were lost. Bounded, so that a storm of changes
/// doesn't hold us here.
fn pending(socket: &TokioSocket) -> impl Iterator<Item = Option<Vec<u8>>> {
    let next = move || {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        match socket.socket_ref().recv(&mut datagram, 0) {
            Ok(_) => Some(Some(datagram)),
            Err(error) if is_overflow(&error) => Some(None),
            Err(_) => None,
        }
    };
    std::iter::from_fn(next).take(MOST_PENDING)
}

/// Whether a datagram tells of elements of a set in natd's own table. The table's name is the first
/// attribute (`nf_tables_fill_setelem_info` in `net/netfilter/nf_tables_api.c`).
fn tells_of_elements(datagram: &[u8]) -> bool {
    let name = format!("{NFTABLES_TABLE}\0");
    netlink::messages(datagram).any(|message| {
        // After `struct nfgenmsg` (four bytes) and the attribute's own header (four more).
        let table = message.payload().get(8..);
        ELEMENT_MESSAGES.contains(&message.message_type())
            && table.is_some_and(|table| table.starts_with(name.as_bytes()))
    })
}

/// `NFT_MSG_NEWGEN` of `NFNL_SUBSYS_NFTABLES`: it ends what is told of a change.
const NEW_GENERATION: u16 = 0x0a0f;

/// Whether all that a datagram tells of is natd's own canary: its device, its address, the routes to
/// it, its table. They come and go at every proof.
fn is_of_the_canary(datagram: &[u8]) -> bool {
    let mut messages = netlink::messages(datagram).peekable();
    messages.peek().is_some() && messages.all(|message| is_about_the_canary(&message))
}

fn is_about_the_canary(message: &NetlinkBuffer<&[u8]>) -> bool {
    // The length of a message's header, and the attribute that tells what it is about.
    let about = |header: usize, kind: u16| {
        message.payload().get(header..).and_then(|attributes| find(attributes, &[kind]))
    };
    let is_text = |text: &str, value: Option<&[u8]>| {
        value.is_some_and(|value| value.strip_suffix(&[0]) == Some(text.as_bytes()))
    };
    let is_address = |value: Option<&[u8]>| {
        value.is_some_and(|value| [canary::SOURCE, ANCHOR].iter().any(|own| own.octets() == value))
    };
    match message.message_type() {
        // RTM_NEWLINK, RTM_DELLINK: IFLA_IFNAME.
        16 | 17 => is_text(canary::DEVICE, about(16, 3)),
        // RTM_NEWADDR, RTM_DELADDR: IFA_ADDRESS.
        20 | 21 => is_address(about(8, 1)),
        // RTM_NEWROUTE, RTM_DELROUTE: RTA_DST.
        24 | 25 => is_address(about(12, 1)),
        // RTM_NEWNETCONF, RTM_DELNETCONF: NETCONFA_IFINDEX. By the time that this is read the
        // canary's device is gone; that any other is gone is told besides, as a link.
        80 | 81 => {
            let index = about(4, 1).and_then(|index| index.try_into().ok()).map(i32::from_ne_bytes);
            index.is_some_and(|index| index > 0 && is_gone_or_the_canarys(index.unsigned_abs()))
        }
        NEW_GENERATION => true,
        // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE.
        kind if kind >> 8 == 0x0a => is_text(canary::TABLE, about(4, 1)),
        _ => false,
    }
}

fn is_gone_or_the_canarys(index: u32) -> bool {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None);
    any.is_ok_and(|any| match index_to_name(&any, index) {
        Ok(name) => name == canary::DEVICE,
        Err(error) => error == Errno::NODEV,
    })
}

fn subscribe(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    for group in groups {
        socket.socket_mut().add_membership(*group)?;
    }
    Ok(socket)
}

/// The next datagram; `None` if some were lost.
async fn arrival(socket: &TokioSocket) -> Option<Vec<u8>> {
    let mut datagram = Vec::with_capacity(DATAGRAM);
    match socket.recv(&mut datagram).await {
        Ok(()) => Some(datagram),
        Err(error) => {
            if !is_overflow(&error) {
                // Not known to happen; if it does, looking once a second is right and spinning is
                // not.
                tracing::warn!(%error, "netlink gives no news");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            None
        }
    }
}

async fn arrival_if_any(socket: Option<&TokioSocket>) -> Option<Vec<u8>> {
    match socket {
        Some(socket) => arrival(socket).await,
        None => std::future::pending().await,
    }
}

fn is_overflow(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}
