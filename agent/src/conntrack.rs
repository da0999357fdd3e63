//! The connection tracking table, by ctnetlink (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`).

use std::{io, net::IpAddr, time::Duration};

use async_trait::async_trait;
use natd_core::{
    error::{Error, Kind, Result},
    host::Conntrack,
    network::Flow,
};
use netlink_packet_core::{
    DefaultNla, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_ERROR, NetlinkHeader,
    NetlinkMessage, NlasIterator, Parseable as _, parse_ip,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily, conntrack::ConntrackMessage,
};
use netlink_sys::{AsyncSocket as _, TokioSocket, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;

use crate::{
    netlink::{self, Dump},
    process::Program,
};

const IPCTNL_MSG_CT_DELETE: u8 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
/// Inside a tuple.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
/// Inside `CTA_TUPLE_PROTO`.
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Inside `CTA_TUPLE_IP`: source and destination, for IPv4 and for IPv6.
const CTA_IP_SRC: [u16; 2] = [1, 3];
const CTA_IP_DST: [u16; 2] = [2, 4];

/// Deletions asked for before their answers are read: those of more wouldn't fit a socket's default
/// receive buffer (212,992 bytes, at about 800 an answer).
const BATCH: usize = 64;

/// The table of the calling thread's network namespace.
///
/// Entries are looked at as the kernel lists them and the stale ones deleted at once, so memory
/// doesn't grow with the table. What the predicate doesn't see: entries made while the kernel
/// lists, which are born under the rules of now; and those of packets that are on their way
/// through the host at this very moment, which are not in the table yet.
#[derive(Debug, Clone)]
pub struct Ctnetlink {
    deadline: Duration,
}

impl Ctnetlink {
    /// Gives up on the kernel after that time.
    #[must_use]
    pub fn new(deadline: Duration) -> Self {
        Self { deadline }
    }
}

impl Default for Ctnetlink {
    /// Thirty seconds: enough for millions of entries.
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

#[async_trait]
impl Conntrack for Ctnetlink {
    async fn load(&self) -> Result<()> {
        let doing = "load the kernel module nf_conntrack";
        let modprobe = Program::new("modprobe", "kmod", self.deadline);
        modprobe.run(doing, &["nf_conntrack"], None).await?.success(doing).map(drop)
    }

    async fn delete_where(
        &self,
        stale: &(dyn for<'a> Fn(&'a Flow) -> bool + Send + Sync),
    ) -> Result<usize> {
        tokio::time::timeout(self.deadline, sweep(stale))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|cause| failed(&cause))
    }
}

/// Goes through the table until no part of it was missed.
async fn sweep(stale: &(dyn for<'a> Fn(&'a Flow) -> bool + Send + Sync)) -> io::Result<usize> {
    let mut deleted = 0;
    loop {
        match pass(stale, &mut deleted).await {
            Err(error) if netlink::is_torn(&error) => tokio::time::sleep(netlink::PAUSE).await,
            outcome => return outcome.map(|()| deleted),
        }
    }
}

async fn pass(
    stale: &(dyn for<'a> Fn(&'a Flow) -> bool + Send + Sync),
    deleted: &mut usize,
) -> io::Result<()> {
    let list = message(
        NetfilterProtoFamily::Unspec,
        NLM_F_REQUEST | NLM_F_DUMP,
        ConntrackMessage::Get(Vec::new()),
    );
    let mut dump = Dump::ask(NETLINK_NETFILTER, &list)?;
    let mut eraser = Eraser::new()?;
    while let Some(entries) = dump.next().await? {
        let deletions: Vec<Vec<u8>> = entries
            .filter_map(|entry| {
                let (family, attributes) = split_header(entry.payload())?;
                flow(attributes).filter(stale)?;
                deletion(family, attributes)
            })
            .collect();
        for batch in deletions.chunks(BATCH) {
            *deleted += eraser.erase(batch).await?;
        }
    }
    Ok(())
}

/// A second socket, on which entries are deleted while the first still lists.
struct Eraser {
    socket: TokioSocket,
    answers: Vec<u8>,
}

impl Eraser {
    fn new() -> io::Result<Self> {
        Ok(Self { socket: netlink::connect(NETLINK_NETFILTER)?, answers: Vec::new() })
    }

    /// Deletes entries, and tells how many of them were still there.
    async fn erase(&mut self, batch: &[Vec<u8>]) -> io::Result<usize> {
        // Messages are whole multiples of four bytes long, so they need no padding in between.
        self.socket.socket_ref().send(&batch.concat(), 0)?;
        let mut deleted = 0;
        let mut pending = batch.len();
        while pending > 0 {
            netlink::receive(&self.socket, &mut self.answers).await?;
            for answer in netlink::messages(&self.answers) {
                if answer.message_type() != NLMSG_ERROR {
                    continue;
                }
                pending = pending.saturating_sub(1);
                match netlink::outcome(&answer) {
                    Ok(()) => deleted += 1,
                    // It has ended by itself.
                    Err(error) if is(&error, Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(deleted)
    }
}

fn message(family: NetfilterProtoFamily, flags: u16, inner: ConntrackMessage) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let body = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner);
    let mut message = NetlinkMessage::new(header, body.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Family and attributes of an entry: `struct nfgenmsg` is four bytes, the first is the family.
pub(crate) fn split_header(payload: &[u8]) -> Option<(NetfilterProtoFamily, &[u8])> {
    let (header, attributes) = payload.split_at_checked(4)?;
    Some(((*header.first()?).into(), attributes))
}

/// The message that deletes this very entry: its original tuple as the kernel gave it, whatever
/// the protocol; its zone; and its id, so that an entry that has taken its place in the meantime
/// stays. (Unless the kernel put it where the old one was, since that is what the id is made of:
/// `nf_ct_get_id`. It is then made anew once more.)
///
/// `None` without a tuple: the kernel takes a deletion that names no tuple for one of the whole
/// table (`ctnetlink_del_conntrack` in `net/netfilter/nf_conntrack_netlink.c`).
pub(crate) fn deletion(family: NetfilterProtoFamily, attributes: &[u8]) -> Option<Vec<u8>> {
    let identity: Vec<DefaultNla> = NlasIterator::new(attributes)
        .flatten()
        .filter(|attribute| matches!(attribute.kind(), CTA_TUPLE_ORIG | CTA_ID | CTA_ZONE))
        .map(|attribute| DefaultNla::parse(&attribute))
        .collect::<std::result::Result<_, _>>()
        .ok()?;
    find(attributes, &[CTA_TUPLE_ORIG])?;
    Some(message(
        family,
        NLM_F_REQUEST | NLM_F_ACK,
        ConntrackMessage::Other { message_type: IPCTNL_MSG_CT_DELETE, attributes: identity },
    ))
}

/// The entry's addresses; `None` if it doesn't have all four.
pub(crate) fn flow(attributes: &[u8]) -> Option<Flow> {
    let (original, reply) =
        (find(attributes, &[CTA_TUPLE_ORIG])?, find(attributes, &[CTA_TUPLE_REPLY])?);
    let (source, destination) = addresses(original)?;
    let (reply_source, reply_destination) = addresses(reply)?;
    let protocol = find(original, &[CTA_TUPLE_PROTO])
        .and_then(|protocol| find(protocol, &[CTA_PROTO_NUM])?.first().copied())
        .unwrap_or_default();
    Some(Flow {
        protocol,
        source,
        destination,
        reply_source,
        reply_destination,
        destination_port: port(original, CTA_PROTO_DST_PORT),
        reply_source_port: port(reply, CTA_PROTO_SRC_PORT),
    })
}

/// In network byte order; 0 where there is none.
fn port(tuple: &[u8], kind: u16) -> u16 {
    find(tuple, &[CTA_TUPLE_PROTO])
        .and_then(|protocol| find(protocol, &[kind])?.try_into().ok())
        .map_or(0, u16::from_be_bytes)
}

fn addresses(tuple: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let ip = find(tuple, &[CTA_TUPLE_IP])?;
    let address = |kinds| parse_ip(find(ip, kinds)?).ok();
    Some((address(&CTA_IP_SRC)?, address(&CTA_IP_DST)?))
}

/// The value of the first attribute of one of these kinds.
pub(crate) fn find<'a>(attributes: &'a [u8], kinds: &[u16]) -> Option<&'a [u8]> {
    NlasIterator::new(attributes)
        .flatten()
        .find(|attribute| kinds.contains(&attribute.kind()))
        .and_then(|attribute| {
            let length = usize::from(attribute.length());
            attribute.into_inner().get(NLA_HEADER_SIZE..length)
        })
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn failed(cause: &io::Error) -> Error {
    let doing = "delete stale entries of the connection tracking table";
    match cause.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            Error::new(Kind::Denied, doing, cause).with_advice("run as root with CAP_NET_ADMIN")
        }
        // nfnetlink answers EINVAL for a subsystem that is neither there nor can be loaded.
        Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT) => {
            Error::new(Kind::Unsupported, doing, cause)
                .with_advice("load the kernel's module: modprobe nf_conntrack_netlink")
        }
        _ => Error::new(Kind::Unreachable, doing, cause),
    }
}
