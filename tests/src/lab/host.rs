//! A machine of the lab: commands in it, and whether it reaches the internet.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use std::{error, fmt};

use anyhow::Result;

use super::flow::{PingStream, TcpFlow, UdpFlow};
use super::http::{Request, send};
use super::internet::{ECHO, Pings, WEB};
use super::namespace::Namespace;
use super::network::PortWire;
use crate::stream::Stream;

/// How long a packet may take before it counts as lost. Everything happens on one machine.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Nothing came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead(pub String);

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Dead {}

impl From<anyhow::Error> for Dead {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Dead {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The source address that the internet saw, by protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub tcp: Result<Ipv4Addr, Dead>,
    pub udp: Result<Ipv4Addr, Dead>,
    pub ping: Result<Ipv4Addr, Dead>,
}

impl Reach {
    /// Whether everything arrived, and as this address.
    pub fn is_all(&self, source: Ipv4Addr) -> bool {
        [&self.tcp, &self.udp, &self.ping].into_iter().all(|seen| *seen == Ok(source))
    }

    /// Whether nothing arrived.
    pub fn is_none(&self) -> bool {
        [&self.tcp, &self.udp, &self.ping].into_iter().all(Result::is_err)
    }
}

/// A virtual machine.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub namespace: Namespace,
    /// The primary private address.
    pub address: Ipv4Addr,
    /// `eth0`'s port.
    pub port: PortWire,
    pub(super) pings: Pings,
}

impl Host {
    /// Asks the internet host over HTTP who this is.
    pub fn tcp(&self) -> Result<Ipv4Addr, Dead> {
        let body = self.get(WEB)?;
        body.parse().map_err(|_| Dead(format!("the web server said {body:?}")))
    }

    /// The body of an HTTP answer from anywhere.
    pub fn get(&self, address: SocketAddr) -> Result<String, Dead> {
        let stream = self.namespace.connect(address, PATIENCE)?;
        let request =
            Request { method: "GET".to_owned(), target: "/".to_owned(), ..Request::default() };
        let response = send(stream, address, &request, PATIENCE)?;
        Ok(String::from_utf8_lossy(&response.body).into_owned())
    }

    /// Asks the internet host with a datagram who this is.
    pub fn udp(&self) -> Result<Ipv4Addr, Dead> {
        Ok(*self.udp_flow()?.exchange(PATIENCE)?.ip())
    }

    /// Pings the internet host, which remembers who did.
    pub fn ping(&self) -> Result<Ipv4Addr, Dead> {
        self.ping_stream()?.exchange(PATIENCE)
    }

    /// All of them, at once.
    pub fn reach(&self) -> Reach {
        std::thread::scope(|scope| {
            let tcp = scope.spawn(|| self.tcp());
            let udp = scope.spawn(|| self.udp());
            let ping = self.ping();
            let panicked = |_| Err(Dead("the probe panicked".to_owned()));
            Reach {
                tcp: tcp.join().unwrap_or_else(panicked),
                udp: udp.join().unwrap_or_else(panicked),
                ping,
            }
        })
    }

    /// A connection to the internet host's echo that stays open.
    pub fn tcp_flow(&self) -> Result<TcpFlow, Dead> {
        TcpFlow::open(&self.namespace)
    }

    /// Datagrams from one port to the internet host's echo.
    pub fn udp_flow(&self) -> Result<UdpFlow, Dead> {
        UdpFlow::open(&self.namespace)
    }

    /// Datagrams from one port to the internet host's echo, none of them sent twice. Its remarks are the sources that
    /// the internet host saw.
    pub fn stream(&self) -> Result<Stream> {
        Stream::begin(&self.namespace, ECHO)
    }

    /// Pings with one identifier.
    pub fn ping_stream(&self) -> Result<PingStream, Dead> {
        PingStream::open(&self.namespace, self.pings.clone())
    }

    /// Runs a program and gives what it printed.
    pub fn exec<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<String> {
        self.namespace.exec(words)
    }

    /// Runs a program given as one line of words.
    pub fn sh(&self, line: &str) -> Result<String> {
        self.namespace.exec(["sh", "-ec", line])
    }
}
