//! Netlink messages as bytes (netlink(7), `include/uapi/linux/netlink.h`): what the canary needs of
//! rtnetlink, traffic control, nftables and ctnetlink is too little of each for a crate of its own.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR};
use netlink_sys::{AsyncSocket as _, TokioSocket};

use crate::netlink;

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

/// Attributes in a row.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// With one more. A value is at most some hundred bytes long.
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A number in the byte order of the network.
    pub(super) fn be32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A text, as C has it.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.put(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Attributes within an attribute.
    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.put(kind | NESTED, &inner.0)
    }
}

/// A whole message: a request, to be acknowledged.
pub(super) fn request(kind: u16, flags: u16, header: &[u8], attributes: &Attributes) -> Vec<u8> {
    message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, header, attributes)
}

/// A whole message.
pub(super) fn message(kind: u16, flags: u16, header: &[u8], attributes: &Attributes) -> Vec<u8> {
    let length = 16 + header.len() + attributes.0.len();
    let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and port: one request at a time needs neither.
    bytes.extend([0; 8]);
    bytes.extend(header);
    bytes.extend(&attributes.0);
    bytes
}

/// A socket on which one request is made after the other.
pub(super) struct Dialogue {
    socket: TokioSocket,
    answers: Vec<u8>,
}

impl Dialogue {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        Ok(Self { socket: netlink::connect(protocol)?, answers: Vec::new() })
    }

    /// Sends requests and waits until as many are acknowledged; gives what else was answered.
    ///
    /// # Errors
    /// The first refusal.
    pub(super) async fn ask(
        &mut self,
        requests: &[u8],
        acknowledgements: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        self.socket.socket_ref().send(requests, 0)?;
        let mut pending = acknowledgements;
        let mut answer = None;
        while pending > 0 {
            netlink::receive(&self.socket, &mut self.answers).await?;
            for message in netlink::messages(&self.answers) {
                if message.message_type() == NLMSG_ERROR {
                    netlink::outcome(&message)?;
                    pending = pending.saturating_sub(1);
                } else {
                    answer = Some(message.payload().to_vec());
                }
            }
        }
        Ok(answer)
    }
}
