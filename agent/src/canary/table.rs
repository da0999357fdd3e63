//! The nftables table that the canary is watched with. It has marks at the beginning and the end of
//! its way, and at both ends of the forward hook; at its end it also drops what must not get out: the
//! canary untranslated, and answers to it.
//!
//! The socket that made it owns it (`NFT_TABLE_F_OWNER`, since Linux 5.12): the kernel removes it when
//! that is closed, however natd ends, and lets nobody else change it.

use std::io;

use natd_core::canary::{SOURCE, TABLE};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::wire::{Attributes, Dialogue, message, request};

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN` and `_END`.
const BATCH: [u16; 2] = [0x10, 0x11];
/// `NFT_MSG_NEWTABLE`, `NFT_MSG_NEWCHAIN`, `NFT_MSG_NEWRULE`.
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 2;
/// `NFPROTO_IPV4`: a table of the family `ip`.
const IPV4: u8 = 2;

/// Where the packet comes in.
pub(super) const IN: &str = "in";
/// Before all forward chains.
pub(super) const FORWARD: &str = "forward";
/// After all forward chains.
pub(super) const FORWARDED: &str = "forwarded";
/// At the end.
pub(super) const OUT: &str = "out";

/// Hook and priority: before and after everybody else.
const CHAINS: [(&str, u32, i32); 4] = [
    (IN, 0, i32::MIN + 1),
    (FORWARD, 2, i32::MIN + 1),
    (FORWARDED, 2, i32::MAX - 1),
    // Connection tracking confirms a connection at the very last.
    (OUT, 4, i32::MAX - 1),
];

/// Has the canary watched: what comes from it, and TCP segments that acknowledge that number. The
/// table is there until the dialogue is closed.
pub(super) async fn watch(acknowledged: u32) -> io::Result<Dialogue> {
    let mut kernel = Dialogue::open(NETLINK_NETFILTER)?;
    let create = |kind, flags, attributes: &Attributes| {
        request(kind, NLM_F_CREATE | flags, &nfgenmsg(IPV4, 0), attributes)
    };
    let mut requests = vec![create(NEW_TABLE, 0, &Attributes::new().text(1, TABLE).be32(2, OWNER))];
    for (name, hook, priority) in CHAINS {
        requests.push(create(NEW_CHAIN, 0, &chain(name, hook, priority)));
    }
    let drop = |side| [address(side), verdict_drop()].concat();
    for (chain, expressions) in [
        (IN, [address(Side::Source), trace()].concat()),
        (IN, [acknowledges(acknowledged), trace()].concat()),
        (OUT, drop(Side::Source)),
        (OUT, drop(Side::Destination)),
    ] {
        requests.push(create(NEW_RULE, NLM_F_APPEND, &rule(chain, &expressions)));
    }
    let [begin, end] =
        BATCH.map(|kind| message(kind, NLM_F_REQUEST, &nfgenmsg(0, NFTABLES), &Attributes::new()));
    let batch = [begin, requests.concat(), end].concat();
    kernel.ask(&batch, requests.len()).await?;
    Ok(kernel)
}

/// `struct nfgenmsg`: family, version, resource.
fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn chain(name: &str, hook: u32, priority: i32) -> Attributes {
    let hook = Attributes::new().be32(1, hook).put(2, &priority.to_be_bytes());
    Attributes::new().text(1, TABLE).text(3, name).nest(4, &hook).text(7, "filter")
}

/// An expression by its name and what it is told.
type Expression = (&'static str, Attributes);

fn rule(chain: &str, expressions: &[Expression]) -> Attributes {
    let list = expressions.iter().fold(Attributes::new(), |list, (name, data)| {
        list.nest(1, &Attributes::new().text(1, name).nest(2, data))
    });
    Attributes::new().text(1, TABLE).text(2, chain).nest(4, &list)
}

/// `NFT_REG_1`, the register that all of these use.
const REGISTER: u32 = 1;

/// Loads bytes of the packet: from the network header (1) or the transport header (2).
fn payload(base: u32, offset: u32, length: u32) -> Expression {
    let data = Attributes::new().be32(1, REGISTER).be32(2, base).be32(3, offset).be32(4, length);
    ("payload", data)
}

/// Goes on if the register is equal to that.
fn equals(value: &[u8]) -> Expression {
    let value = Attributes::new().put(1, value);
    ("cmp", Attributes::new().be32(1, REGISTER).be32(2, 0).nest(3, &value))
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// The canary's address on that side.
fn address(side: Side) -> Vec<Expression> {
    let offset = match side {
        Side::Source => 12,
        Side::Destination => 16,
    };
    vec![payload(1, offset, 4), equals(&SOURCE.octets())]
}

/// TCP that acknowledges that number: answers are known by it wherever they come from, whatever
/// translation has made of their ports.
fn acknowledges(number: u32) -> Vec<Expression> {
    const META_L4PROTO: u32 = 16;
    let protocol = ("meta", Attributes::new().be32(1, REGISTER).be32(2, META_L4PROTO));
    vec![protocol, equals(&[6]), payload(2, 8, 4), equals(&number.to_be_bytes())]
}

/// `meta nftrace set 1`.
fn trace() -> Vec<Expression> {
    const META_NFTRACE: u32 = 12;
    let one = Attributes::new().put(1, &[1]);
    let immediate = Attributes::new().be32(1, REGISTER).nest(2, &one);
    let meta = Attributes::new().be32(2, META_NFTRACE).be32(3, REGISTER);
    vec![("immediate", immediate), ("meta", meta)]
}

fn verdict_drop() -> Vec<Expression> {
    const NF_DROP: u32 = 0;
    const VERDICT_REGISTER: u32 = 0;
    let verdict = Attributes::new().nest(2, &Attributes::new().be32(1, NF_DROP));
    vec![("immediate", Attributes::new().be32(1, VERDICT_REGISTER).nest(2, &verdict))]
}
