//! Clients by the hundred, with thousands of flows each: UDP packets from raw sockets, so that no flow takes a socket.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::super::chain::{CLIENT, Chain, SERVER};
use super::server::PORT;

/// The block of the clients' addresses.
pub const BLOCK: &str = "10.10.64.0/22";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 10, 64, 1);

/// Their flows' first port.
const FIRST_PORT: u16 = 2000;

/// An answer that takes longer doesn't come.
const PATIENCE: Duration = Duration::from_millis(10);

const RECEIVE_BUFFER: usize = 64 << 20;

const UDP: u8 = 17;
const HEADERS: usize = 20 + 8;

/// All of them: they live in the chain's client, which takes every packet to one of their addresses for its own.
#[derive(Debug)]
pub struct Clients {
    sender: Socket,
    receiver: Socket,
}

/// What the server has answered to a flow's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The flow's number.
    pub flow: u32,
    /// As what the server saw it.
    pub seen: SocketAddrV4,
}

impl Clients {
    pub fn settle(chain: &Chain) -> Result<Self> {
        chain.client.ip(&format!("route add local {BLOCK} dev lo\n"))?;
        chain.gateway.ip(&format!("route add {BLOCK} via {CLIENT} dev inside\n"))?;
        // No socket has the ports, which the kernel would tell the server with every answer.
        chain.client.nft(
            "table ip quiet {\n chain output {\n  type filter hook output priority 0; policy accept;\n  \
             ip protocol icmp drop\n }\n}\n",
        )?;
        let raw =
            |protocol| chain.client.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(protocol)));
        // Of this protocol, the sender brings the IP header.
        let sender = raw(Protocol::from(255))?.context("a raw socket")?;
        let receiver = raw(Protocol::UDP)?.context("a raw socket")?;
        set_socket_recv_buffer_size_force(&receiver, RECEIVE_BUFFER)?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { sender, receiver })
    }

    /// Sends the packet of a flow.
    pub fn send(&self, flow: u32, from: SocketAddrV4) -> Result<()> {
        let to = SocketAddrV4::new(SERVER, PORT);
        let sent = self.sender.send_to(&packet(flow, from, to), &SockAddr::from(to));
        match sent {
            // As if it were lost on the way.
            Err(error)
                if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(105) =>
            {
                Ok(())
            }
            sent => sent.map(drop).context("sending"),
        }
    }

    /// The next answer; `None` if none comes any more.
    pub fn answer(&self) -> Result<Option<Answer>> {
        let mut packet = [0; 128];
        loop {
            match (&self.receiver).read(&mut packet) {
                Ok(length) => {
                    if let Some(answer) = packet.get(..length).and_then(answer) {
                        return Ok(Some(answer));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("receiving"),
            }
        }
    }
}

/// The address of a client.
pub fn address(client: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(FIRST) + client)
}

/// The port of a client's flow.
pub fn port(flow: u32) -> Result<u16> {
    let port = u32::from(FIRST_PORT) + flow;
    u16::try_from(port).context("a client has no more ports")
}

/// IPv4 and UDP. What is 0 of the lengths and checksums the kernel fills in (raw(7)); UDP can do without.
fn packet(flow: u32, from: SocketAddrV4, to: SocketAddrV4) -> [u8; HEADERS + 4] {
    let [f0, f1, f2, f3] = from.ip().octets();
    let [t0, t1, t2, t3] = to.ip().octets();
    let [fp0, fp1] = from.port().to_be_bytes();
    let [tp0, tp1] = to.port().to_be_bytes();
    let [n0, n1, n2, n3] = flow.to_be_bytes();
    [
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, UDP, 0, 0, f0, f1, f2, f3, t0, t1, t2, t3, // IPv4
        fp0, fp1, tp0, tp1, 0, 12, 0, 0, // UDP
        n0, n1, n2, n3,
    ]
}

/// As [`Server`](super::server::Server) makes them.
fn answer(packet: &[u8]) -> Option<Answer> {
    let [version, ..] = packet else { return None };
    let (ip, rest) = packet.split_at_checked(usize::from(version & 0xf) * 4)?;
    let (udp, payload) = rest.split_at_checked(8)?;
    if ip.get(12..16)? != SERVER.octets() || udp.get(..2)? != PORT.to_be_bytes() {
        return None;
    }
    let flow = u32::from_be_bytes(payload.get(..4)?.try_into().ok()?);
    let address: [u8; 4] = payload.get(4..8)?.try_into().ok()?;
    let port = u16::from_be_bytes(payload.get(8..10)?.try_into().ok()?);
    Some(Answer { flow, seen: SocketAddrV4::new(address.into(), port) })
}
