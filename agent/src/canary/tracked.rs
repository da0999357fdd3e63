//! The canary's own entries in the connection tracking table, by ctnetlink
//! (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`): read, and deleted, by their tuple.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use natd_core::canary::{Answer, Tracked};
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use super::wire::{Attributes, Dialogue, request};
use crate::conntrack::find;

/// `IPCTNL_MSG_CT_GET`, `IPCTNL_MSG_CT_DELETE` of `NFNL_SUBSYS_CTNETLINK`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const TCP: u8 = 6;
/// `CTA_…`: of an entry, and within a tuple and the state of a protocol.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const IP: u16 = 1;
const PROTO: u16 = 2;
const IP_V4_DST: u16 = 2;
const PROTOINFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
/// `IPS_SEEN_REPLY`.
const SEEN_REPLY: u32 = 2;
/// `TCP_CONNTRACK_CLOSE`.
const CLOSE: u8 = 8;

/// The connection that a canary would open.
pub(super) struct Connection {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
}

impl Connection {
    /// What the table says of it; `None` if it isn't there.
    pub(super) async fn look_up(&self) -> io::Result<Option<Tracked>> {
        Ok(self.ask(GET).await?.and_then(|answer| tracked(answer.get(4..)?)))
    }

    /// Has the kernel forget it.
    pub(super) async fn forget(&self) -> io::Result<()> {
        self.ask(DELETE).await.map(drop)
    }

    async fn ask(&self, kind: u16) -> io::Result<Option<Vec<u8>>> {
        let Self { from, to } = self;
        let ip = Attributes::new().put(1, &from.ip().octets()).put(2, &to.ip().octets());
        let ports = Attributes::new()
            .put(1, &[TCP])
            .put(2, &from.port().to_be_bytes())
            .put(3, &to.port().to_be_bytes());
        let tuple = Attributes::new().nest(IP, &ip).nest(PROTO, &ports);
        // `struct nfgenmsg`, of the family `AF_INET`.
        let header = [2, 0, 0, 0];
        let message = request(kind, 0, &header, &Attributes::new().nest(TUPLE_ORIG, &tuple));
        match Dialogue::open(NETLINK_NETFILTER)?.ask(&message, 1).await {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
            answer => answer,
        }
    }
}

fn tracked(attributes: &[u8]) -> Option<Tracked> {
    let reply = find(find(attributes, &[TUPLE_REPLY])?, &[IP])?;
    let translated: [u8; 4] = find(reply, &[IP_V4_DST])?.try_into().ok()?;
    let status = find(attributes, &[STATUS])?.try_into().ok().map(u32::from_be_bytes)?;
    let state = find(attributes, &[PROTOINFO])
        .and_then(|info| find(find(info, &[PROTOINFO_TCP])?, &[TCP_STATE])?.first().copied());
    let answer = (status & SEEN_REPLY != 0).then_some(match state {
        Some(CLOSE) => Answer::Reset,
        _ => Answer::Accepts,
    });
    Some(Tracked { translated: Ipv4Addr::from(translated), answer })
}
