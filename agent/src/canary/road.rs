//! The canary's road: what is written to its device comes in by the interface that private hosts'
//! packets come in by, and what is for it would leave by that interface.
//!
//! All of it goes with the device, however natd ends: a redirection on the device, an address on the
//! device, and a route that has that address as its source, which the kernel removes with the address
//! (`fib_sync_down_addr` in `net/ipv4/fib_semantics.c`). Nothing of the entrance's own is changed. So
//! the kernel takes the packets for those of a neighbour at the entrance: forwarding, reverse-path
//! filters and rules by interface decide as they would on a private host's.

use std::{io, net::Ipv4Addr};

use natd_core::canary::SOURCE;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::wire::{Attributes, Dialogue, request};

/// The device's address. It is of the block that hosts may use within themselves (RFC 7335), and is
/// never on a wire.
pub(crate) const ANCHOR: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 6);

const AF_INET: u8 = 2;
/// `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWROUTE`, `RTM_NEWQDISC`, `RTM_NEWTFILTER`
/// (`include/uapi/linux/rtnetlink.h`).
const NEW_LINK: u16 = 16;
const NEW_ADDR: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;

/// Lays it, up to and including the device being up. `index` is the device's, `entrance` the index of
/// the interface to come in by.
///
/// # Errors
/// `AlreadyExists` if another canary flies.
pub(super) async fn lay(index: u32, entrance: u32) -> io::Result<()> {
    let mut kernel = Dialogue::open(NETLINK_ROUTE)?;
    for message in [up(index), address(index), route(entrance), ingress(index)] {
        kernel.ask(&message, 1).await?;
    }
    kernel.ask(&redirect(index, entrance), 1).await.map(drop)
}

fn up(index: u32) -> Vec<u8> {
    const IFF_UP: u32 = 1;
    // `struct ifinfomsg`: family, type, index, flags, which of them.
    let parts = [[0; 4], index.to_ne_bytes(), IFF_UP.to_ne_bytes(), IFF_UP.to_ne_bytes()];
    request(NEW_LINK, 0, &parts.concat(), &Attributes::new())
}

fn address(index: u32) -> Vec<u8> {
    // `struct ifaddrmsg`: family, prefix length, flags, scope, index.
    let header = [[AF_INET, 32, 0, 0], index.to_ne_bytes()].concat();
    let [ifa_address, ifa_local] = [1, 2];
    let octets = ANCHOR.octets();
    let attributes = Attributes::new().put(ifa_local, &octets).put(ifa_address, &octets);
    request(NEW_ADDR, NLM_F_CREATE | NLM_F_EXCL, &header, &attributes)
}

fn route(entrance: u32) -> Vec<u8> {
    // `struct rtmsg`: family, lengths of destination and source, TOS; the main table, made by an
    // administrator, on the link, unicast; flags.
    let header = [[AF_INET, 32, 0, 0], [254, 4, 253, 1], [0; 4]].concat();
    let [destination, oif, preferred_source] = [1, 4, 7];
    let attributes = Attributes::new()
        .put(destination, &SOURCE.octets())
        .put(oif, &entrance.to_ne_bytes())
        .put(preferred_source, &ANCHOR.octets());
    request(NEW_ROUTE, NLM_F_CREATE | NLM_F_EXCL, &header, &attributes)
}

/// `TC_H_INGRESS` and the handle that it has (`include/uapi/linux/pkt_sched.h`).
const PARENT: u32 = 0xffff_fff1;
const HANDLE: u32 = 0xffff_0000;
/// `TCA_KIND`, `TCA_OPTIONS`; those of an action have the same numbers.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;

/// `struct tcmsg`: family, interface, handle, parent, info.
fn tcmsg(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, index, handle, parent, info].map(u32::to_ne_bytes).concat()
}

fn ingress(index: u32) -> Vec<u8> {
    let header = tcmsg(index, HANDLE, PARENT, 0);
    request(NEW_QDISC, NLM_F_CREATE | NLM_F_EXCL, &header, &Attributes::new().text(KIND, "ingress"))
}

/// Everything, by `u32`, to the other interface, as received there (`mirred`).
fn redirect(index: u32, entrance: u32) -> Vec<u8> {
    const PRIORITY: u32 = 1 << 16;
    let ipv4 = u32::from(0x0800_u16.to_be());
    let header = tcmsg(index, 0, HANDLE, PRIORITY | ipv4);
    // `struct tc_u32_sel`: that it ends here, and one key, which masks everything out.
    let mut selector = vec![0; 32];
    for (place, value) in [(0, 1), (2, 1)] {
        if let Some(byte) = selector.get_mut(place) {
            *byte = value;
        }
    }
    // `struct tc_mirred`: index, capabilities, action (stolen), two counts; what to do (ingress
    // redirection), interface.
    let mirred = [0, 0, 4, 0, 0, 3, entrance].map(u32::to_ne_bytes).concat();
    let parameters = Attributes::new().put(2, &mirred);
    let action = Attributes::new().text(KIND, "mirred").nest(OPTIONS, &parameters);
    let [u32_selector, u32_actions, first] = [5, 7, 1];
    let options = Attributes::new()
        .put(u32_selector, &selector)
        .nest(u32_actions, &Attributes::new().nest(first, &action));
    let attributes = Attributes::new().text(KIND, "u32").nest(OPTIONS, &options);
    request(NEW_FILTER, NLM_F_CREATE | NLM_F_EXCL, &header, &attributes)
}
