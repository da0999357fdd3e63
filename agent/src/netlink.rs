//! A question that the kernel answers with a list (a netlink dump), read datagram by datagram.

use std::{io, time::Duration};

use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, parse_i32,
};
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use rustix::io::Errno;

/// How long to wait before a torn dump is begun anew; callers give up by a deadline of their own.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Messages below this type are netlink's own, not an answer (`NLMSG_MIN_TYPE` in
/// `include/uapi/linux/netlink.h`).
const FIRST_ANSWER: u16 = 16;

/// The kernel makes its datagrams as large as the reader's buffer, up to this
/// (`netlink_recvmsg` in `net/netlink/af_netlink.c`).
pub(crate) const DATAGRAM: usize = 32 * 1024;

/// A netlink socket on which one dump is under way.
pub(crate) struct Dump {
    socket: TokioSocket,
    datagram: Vec<u8>,
    /// The list changed while the kernel walked it.
    torn: bool,
    done: bool,
}

impl Dump {
    /// Sends the request on a socket of its own, so that nothing of an earlier dump is in the way.
    pub(crate) fn ask(protocol: isize, request: &[u8]) -> io::Result<Self> {
        let socket = connect(protocol)?;
        socket.socket_ref().send(request, 0)?;
        Ok(Self { socket, datagram: Vec::with_capacity(DATAGRAM), torn: false, done: false })
    }

    /// The messages of the next datagram; `None` after the last.
    ///
    /// # Errors
    /// The kernel's own refusal; and one for which [`is_torn`] holds, if the list is not whole.
    pub(crate) async fn next(
        &mut self,
    ) -> io::Result<Option<impl Iterator<Item = NetlinkBuffer<&[u8]>>>> {
        if self.done {
            return if self.torn {
                Err(io::Error::new(
                    io::ErrorKind::Interrupted,
                    "the list kept changing while it was read",
                ))
            } else {
                Ok(None)
            };
        }
        receive(&self.socket, &mut self.datagram).await?;
        for message in messages(&self.datagram) {
            self.torn |= message.flags() & NLM_F_DUMP_INTR != 0;
            if matches!(message.message_type(), NLMSG_DONE | NLMSG_ERROR) {
                self.done = true;
                outcome(&message)?;
            }
        }
        Ok(Some(messages(&self.datagram).filter(|message| message.message_type() >= FIRST_ANSWER)))
    }
}

/// A socket that talks with the kernel and nobody else.
pub(crate) fn connect(protocol: isize) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_mut().connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Waits for one datagram and puts it in place of what is in the buffer.
pub(crate) async fn receive(socket: &TokioSocket, datagram: &mut Vec<u8>) -> io::Result<()> {
    datagram.clear();
    datagram.reserve(DATAGRAM);
    socket.recv(datagram).await?;
    // The kernel answers as fast as it is asked: without this a long list starves other tasks.
    tokio::task::yield_now().await;
    Ok(())
}

/// The messages in a datagram, up to the first that is malformed.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = usize::try_from(message.length()).ok()?;
        rest = rest.get(length.next_multiple_of(usize::from(NLMSG_ALIGNTO))..).unwrap_or_default();
        Some(message)
    })
}

/// What an acknowledgement, an error or the end of a dump says: they all begin with zero or a
/// negative error number.
pub(crate) fn outcome(message: &NetlinkBuffer<&[u8]>) -> io::Result<()> {
    match message.payload().get(..4).map(parse_i32) {
        Some(Ok(0)) | None => Ok(()),
        Some(Ok(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        Some(Err(malformed)) => Err(io::Error::other(malformed)),
    }
}

/// Whether the dump failed since things changed, or answers were lost, in the middle of it: then
/// it is worth doing again.
pub(crate) fn is_torn(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
        || error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}
