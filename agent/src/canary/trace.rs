//! What nftables tells of packets that are traced (`NFT_MSG_TRACE`,
//! `include/uapi/linux/netfilter/nf_tables.h`): every chain, rule and policy that they come by, of
//! nftables and of iptables over nftables alike.

use std::{io, net::SocketAddrV4, time::Duration};

use natd_core::canary::{Glimpse, Milestone, Rule, TABLE};
use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{AsyncSocket as _, TokioSocket, protocols::NETLINK_NETFILTER};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketType, netdevice::index_to_name, socket,
        sockopt::set_socket_recv_buffer_size_force,
    },
};

use super::{
    packet,
    table::{FORWARD, FORWARDED, IN, OUT},
};
use crate::{conntrack::find, netlink};

/// `NFT_MSG_TRACE` of `NFNL_SUBSYS_NFTABLES`.
const TRACE: u16 = 0x0a11;
/// `NFNLGRP_NFTRACE`.
const GROUP: u32 = 9;
/// Enough for some thousand events, which come all at once.
const BUFFER: usize = 4 << 20;

/// `NFTA_TRACE_…`.
const TABLE_NAME: u16 = 1;
const CHAIN_NAME: u16 = 2;
const RULE_HANDLE: u16 = 3;
const TYPE: u16 = 4;
const VERDICT: u16 = 5;
const ID: u16 = 6;
const NETWORK_HEADER: u16 = 8;
const TRANSPORT_HEADER: u16 = 9;
const OUTPUT_INTERFACE: u16 = 12;
const POLICY: u16 = 16;

/// `NFT_TRACETYPE_POLICY`, `NFT_TRACETYPE_RULE`.
const BY_POLICY: u32 = 1;
const BY_RULE: u32 = 3;

/// `NF_DROP`, `NF_STOLEN`, `NF_QUEUE`; above 16 bits a verdict has arguments.
const DROP: u32 = 0;
const STOLEN: u32 = 2;
const QUEUE: u32 = 3;

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    /// Which packet, as far as the kernel can tell packets apart.
    pub(super) id: u32,
    /// Source and destination; not all events of a packet have them.
    pub(super) ends: Option<(SocketAddrV4, SocketAddrV4)>,
    /// What is worth knowing of it.
    pub(super) glimpse: Option<Glimpse>,
}

/// All events of the network namespace that it was opened in.
pub(super) struct Events(TokioSocket);

impl Events {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        // In a container it may be refused: then events of a very long ruleset may be lost.
        set_socket_recv_buffer_size_force(socket.socket_ref(), BUFFER).ok();
        socket.socket_mut().add_membership(GROUP)?;
        Ok(Self(socket))
    }

    /// The next ones; none after that time.
    pub(super) async fn within(&self, time: Duration) -> io::Result<Vec<Event>> {
        let mut datagram = Vec::new();
        match tokio::time::timeout(time, netlink::receive(&self.0, &mut datagram)).await {
            Err(_) => Ok(Vec::new()),
            // Some are lost; what they would have told may come again with the next packet.
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                Ok(Vec::new())
            }
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Ok(netlink::messages(&datagram).filter_map(|m| event(&m)).collect()),
        }
    }
}

pub(crate) fn event(message: &NetlinkBuffer<&[u8]>) -> Option<Event> {
    if message.message_type() != TRACE {
        return None;
    }
    // `struct nfgenmsg`: the family is that of the table.
    let (header, attributes) = message.payload().split_at_checked(4)?;
    let family = family(*header.first()?);
    let shown = |kind| find(attributes, &[kind]).unwrap_or_default();
    let (ip, transport) = (shown(NETWORK_HEADER), shown(TRANSPORT_HEADER));
    let is_ipv4 = ip.first().is_some_and(|byte| byte >> 4 == 4);
    let ends = if is_ipv4 { packet::ends(ip, transport) } else { None };
    Some(Event {
        id: number(attributes, ID)?,
        ends,
        glimpse: glimpse(attributes, family, ends, packet::is_reset(transport)),
    })
}

fn glimpse(
    attributes: &[u8],
    family: &str,
    ends: Option<(SocketAddrV4, SocketAddrV4)>,
    reset: bool,
) -> Option<Glimpse> {
    let (table, chain) = (text(attributes, TABLE_NAME)?, text(attributes, CHAIN_NAME)?);
    if table == TABLE {
        return match chain.as_str() {
            IN => Some(Glimpse::At(Milestone::In)),
            FORWARD => Some(Glimpse::At(Milestone::Forward)),
            FORWARDED => Some(Glimpse::At(Milestone::Forwarded)),
            OUT => ends.map(|(from, _)| Glimpse::End {
                source: *from.ip(),
                by: number(attributes, OUTPUT_INTERFACE).and_then(name),
                reset,
            }),
            _ => None,
        };
    }
    let handle = find(attributes, &[RULE_HANDLE])
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes);
    let (verdict, handle) = match number(attributes, TYPE)? {
        BY_POLICY => (number(attributes, POLICY)?, None),
        BY_RULE => (number(find(attributes, &[VERDICT])?, 1)?, handle),
        _ => return None,
    };
    let rule = Rule { family: family.to_owned(), table, chain, handle, text: None, owner: None };
    // Jumps and their like are negative numbers.
    match verdict {
        DROP | STOLEN => Some(Glimpse::Dropped(rule)),
        verdict if verdict & 0xffff == QUEUE && verdict >> 31 == 0 => Some(Glimpse::Queued(rule)),
        _ => None,
    }
}

/// As `nft` calls it.
fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    }
}

fn name(index: u32) -> Option<natd_core::model::InterfaceName> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    index_to_name(&any, index).ok()?.parse().ok()
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    find(attributes, &[kind])?.try_into().ok().map(u32::from_be_bytes)
}

fn text(attributes: &[u8], kind: u16) -> Option<String> {
    let bytes = find(attributes, &[kind])?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    String::from_utf8(bytes.to_vec()).ok()
}
