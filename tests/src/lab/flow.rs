//! Flows that stay the same flow: what they were when they began decides how the kernel treats them for life.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::host::{Dead, PATIENCE};
use super::icmp::Echo;
use super::internet::{ECHO, Pings};
use super::namespace::Namespace;
use super::topology::INTERNET_HOST;

/// How often something is sent again while its answer is awaited.
const AGAIN: Duration = Duration::from_millis(200);

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Unique on this machine, so that parallel labs don't mistake each other's packets, should those ever meet.
fn next_number() -> u64 {
    u64::from(std::process::id()) << 32 | NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Datagrams from one port.
#[derive(Debug)]
pub struct UdpFlow {
    socket: UdpSocket,
}

impl UdpFlow {
    pub(super) fn open(namespace: &Namespace) -> Result<Self, Dead> {
        let socket = namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        socket.set_read_timeout(Some(AGAIN))?;
        Ok(Self { socket })
    }

    /// Sends until an answer comes, and gives the source that the internet host saw.
    pub fn exchange(&mut self, within: Duration) -> Result<SocketAddrV4, Dead> {
        let deadline = Instant::now() + within;
        let mut buffer = [0; 2048];
        let mut trouble = "no answer".to_owned();
        while Instant::now() < deadline {
            let question = next_number().to_string();
            if let Err(error) = self.socket.send_to(question.as_bytes(), ECHO) {
                trouble = error.to_string();
                std::thread::sleep(AGAIN);
                continue;
            }
            while let Ok((length, _)) = self.socket.recv_from(&mut buffer) {
                let answer = String::from_utf8_lossy(&buffer[..length]);
                let source =
                    answer.strip_prefix(&question).and_then(|source| source.trim().parse().ok());
                if let Some(source) = source {
                    return Ok(source);
                }
            }
        }
        Err(Dead(format!("UDP: {trouble}")))
    }
}

/// Pings with one identifier.
#[derive(Debug)]
pub struct PingStream {
    socket: Socket,
    identifier: u16,
    sequence: u16,
    pings: Pings,
}

impl PingStream {
    pub(super) fn open(namespace: &Namespace, pings: Pings) -> Result<Self, Dead> {
        let socket =
            namespace.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))??;
        socket.set_read_timeout(Some(AGAIN))?;
        Ok(Self { socket, identifier: (next_number() & 0xffff) as u16, sequence: 0, pings })
    }

    /// Pings until a reply comes, and gives the source that the internet host saw.
    pub fn exchange(&mut self, within: Duration) -> Result<Ipv4Addr, Dead> {
        let deadline = Instant::now() + within;
        let mut trouble = "no reply".to_owned();
        while Instant::now() < deadline {
            self.sequence = self.sequence.wrapping_add(1);
            let echo = Echo {
                reply: false,
                identifier: self.identifier,
                sequence: self.sequence,
                number: next_number(),
            };
            let target = SocketAddr::from((INTERNET_HOST, 0)).into();
            if let Err(error) = self.socket.send_to(&echo.to_bytes(), &target) {
                trouble = error.to_string();
                std::thread::sleep(AGAIN);
                continue;
            }
            if self.hears_reply_to(echo, Instant::now() + AGAIN) {
                return self.source_of(echo.number);
            }
        }
        Err(Dead(format!("ping: {trouble}")))
    }

    /// A raw socket hears every ICMP message that its machine gets.
    fn hears_reply_to(&self, request: Echo, deadline: Instant) -> bool {
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            let Ok(length) = (&self.socket).read(&mut buffer) else {
                return false;
            };
            let heard = Echo::of_packet(&buffer[..length]);
            if heard.is_some_and(|(_, heard)| heard == Echo { reply: true, ..request }) {
                return true;
            }
        }
        false
    }

    /// The kernel's reply may be faster than the thread that takes the note.
    fn source_of(&self, number: u64) -> Result<Ipv4Addr, Dead> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(source) =
                self.pings.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
            {
                return Ok(source);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(Dead("ping: a reply that the internet host knows nothing of".to_owned()))
    }
}

/// A connection that stays open.
#[derive(Debug)]
pub struct TcpFlow {
    stream: BufReader<TcpStream>,
}

impl TcpFlow {
    pub(super) fn open(namespace: &Namespace) -> Result<Self, Dead> {
        Ok(Self { stream: BufReader::new(namespace.connect(ECHO, PATIENCE)?) })
    }

    /// Sends a line and gives the source that the internet host sees.
    pub fn exchange(&mut self, within: Duration) -> Result<SocketAddrV4, Dead> {
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(within))?;
        stream.write_all(b"who am I\n")?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        line.trim().parse().map_err(|_| Dead(format!("TCP: the echo said {line:?}")))
    }
}
