//! Client and internet on both sides of a machine, and a stream of datagrams between them that misses nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;

use crate::lab::name::{LabName, reap_orphans};
use crate::lab::namespace::Namespace;
use crate::stream;

/// The host on the internet: answers every datagram on port 7, and takes TCP connections on port 80.
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The same host by IPv6.
pub const INTERNET_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10);
/// The machine's address on the client's side.
pub const CLIENT_SIDE: Ipv4Addr = Ipv4Addr::new(10, 10, 2, 10);
/// The same by IPv6.
pub const CLIENT_SIDE_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 2, 0, 0, 0, 0, 0x10);
/// The client knows it, and doesn't wait for an answer to ARP, or to a solicitation, with its first packet.
const CLIENT_SIDE_MAC: &str = "02:00:0a:0a:02:0a";
/// The private client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 2, 101);
/// The same by IPv6.
pub const CLIENT_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 2, 0, 0, 0, 0, 0x101);

const ECHO: SocketAddr = SocketAddr::new(IpAddr::V4(INTERNET), 7);
const ECHO_IPV6: SocketAddr = SocketAddr::new(IpAddr::V6(INTERNET_IPV6), 7);
/// What a machine has its credentials from.
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
const WEB: SocketAddr = SocketAddr::new(IpAddr::V4(INTERNET), 80);
/// Where the client takes TCP connections.
const SERVED_INSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443);
/// The machine's address outside, unless a test gives it another one.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 10);
/// How long a connection from outside may take.
const CONNECTING: Duration = Duration::from_secs(2);

/// How long a thread takes at most to notice that it should end.
const TURN: Duration = Duration::from_millis(20);

/// How long a connection may take to be made: longer than a lost packet takes to be sent again.
const CONNECT: Duration = Duration::from_secs(4);

/// Long enough for many datagrams and their answers.
const MOMENT: Duration = Duration::from_secs(1);

/// Every source that a datagram was seen to come from outside, in order.
type Seen = Arc<Mutex<Vec<IpAddr>>>;

/// Client and internet.
#[derive(Debug)]
pub struct Wires {
    client: Namespace,
    internet: Namespace,
    /// That of the machine's present boot.
    machine: Option<Namespace>,
    seen: Seen,
    seen_ipv6: Seen,
    listeners: [Arc<TcpListener>; 3],
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wires {
    pub(super) fn new(name: &LabName) -> Result<Self> {
        reap_orphans()?;
        let client = Namespace::create(name.namespace("client"))?;
        let internet = Namespace::create(name.namespace("internet"))?;
        // No time for the detection of duplicate addresses.
        for namespace in [&client, &internet] {
            namespace.set_sysctls(&[("net.ipv6.conf.default.accept_dad", "0")])?;
        }
        // An IPv6 address takes a moment until a socket may be bound to it.
        internet.set_sysctls(&[("net.ipv6.ip_nonlocal_bind", "1")])?;
        internet.ip(&format!(
            "addr add {INTERNET}/32 dev lo
             addr add {INTERNET_IPV6}/128 dev lo
             addr add {}/32 dev lo",
            METADATA.ip()
        ))?;
        // What comes untranslated is seen, too.
        internet.set_sysctls(&[
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ])?;
        let listeners = [
            Arc::new(internet.listen(WEB)?),
            Arc::new(internet.listen(METADATA)?),
            Arc::new(client.listen(SERVED_INSIDE)?),
        ];
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, seen_ipv6) = (Seen::default(), Seen::default());
        let accept = |listener: &Arc<TcpListener>| {
            let accepting = Arc::clone(listener);
            thread::spawn(move || while accepting.accept().is_ok() {})
        };
        let mut threads: Vec<_> = listeners.iter().map(accept).collect();
        for (address, seen) in [(ECHO, &seen), (ECHO_IPV6, &seen_ipv6)] {
            let echo = internet.run(|| UdpSocket::bind(address))?.context("the echo")?;
            echo.set_read_timeout(Some(TURN))?;
            let (stopped, noted) = (Arc::clone(&stop), Arc::clone(seen));
            threads.push(thread::spawn(move || answer(&echo, &noted, &stopped)));
        }
        Ok(Self { client, internet, machine: None, seen, seen_ipv6, listeners, stop, threads })
    }

    /// Gives a boot of the machine a namespace of its own between the two, and tells its name.
    pub(super) fn plug_in(&mut self, name: &LabName, boot: u32, outside: &str) -> Result<String> {
        let machine = Namespace::create(name.namespace(&format!("machine-{boot}")))?;
        let (client, internet) = (self.client.name(), self.internet.name());
        machine.ip(&format!(
            "link add {outside} type veth peer name eth0 netns {internet}
             link add eth1 address {CLIENT_SIDE_MAC} type veth peer name eth0 netns {client}"
        ))?;
        self.internet.ip("addr add 10.10.1.1/24 dev eth0
             addr add 2001:db8:1::1/64 dev eth0
             link set eth0 up
             route add 10.10.2.0/24 dev eth0
             route add fd00:10:2::/64 dev eth0")?;
        self.client.ip(&format!(
            "addr add {CLIENT}/24 dev eth0
             link set eth0 up
             neigh add {CLIENT_SIDE} lladdr {CLIENT_SIDE_MAC} dev eth0 nud permanent
             route add default via {CLIENT_SIDE}
             addr add {CLIENT_IPV6}/64 dev eth0
             neigh add {CLIENT_SIDE_IPV6} lladdr {CLIENT_SIDE_MAC} dev eth0 nud permanent
             route add default via {CLIENT_SIDE_IPV6}"
        ))?;
        let path = machine.name().to_owned();
        self.machine = Some(machine);
        Ok(path)
    }

    /// The namespace of a boot goes, and its wires with it.
    pub(super) fn unplug(&mut self) {
        // The kernel takes its time to clear a namespace away.
        let _gone_already = self.client.ip("link del eth0");
        let _gone_already = self.internet.ip("link del eth0");
        self.machine = None;
    }

    /// Whether the client can open a connection to the host on the internet.
    pub fn client_gets_out(&self) -> bool {
        self.client.connect(WEB, CONNECT).is_ok()
    }

    /// Whether it can to the metadata service, which tells the machine its credentials.
    pub fn client_gets_at_metadata(&self) -> bool {
        self.client.connect(METADATA, CONNECT).is_ok()
    }

    /// Whether somebody outside who connects to that port of the machine gets an answer: where it is forwarded, of the
    /// client's port 443.
    pub fn reaches_inside(&self, port: u16) -> Result<bool> {
        Ok(self
            .internet
            .run(|| TcpStream::connect_timeout(&(OUTSIDE, port).into(), CONNECTING))?
            .is_ok())
    }

    /// Forgets what was seen outside, and begins to send datagrams from the client, whether or not anything carries
    /// them yet.
    pub fn stream(&self) -> Result<Stream> {
        self.stream_to(ECHO, &self.seen)
    }

    /// The same by IPv6.
    pub fn stream_ipv6(&self) -> Result<Stream> {
        self.stream_to(ECHO_IPV6, &self.seen_ipv6)
    }

    fn stream_to(&self, echo: SocketAddr, seen: &Seen) -> Result<Stream> {
        seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let datagrams = stream::Stream::begin(&self.client, echo)?;
        Ok(Stream { datagrams, seen: Arc::clone(seen) })
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for listener in &self.listeners {
            let _closed = SockRef::from(listener.as_ref()).shutdown(std::net::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// Datagrams from the client to the internet, and whom the internet has seen meanwhile.
#[derive(Debug)]
pub struct Stream {
    datagrams: stream::Stream,
    seen: Seen,
}

impl Stream {
    /// Waits until that many more were answered.
    ///
    /// # Errors
    /// If they are not in good time.
    pub fn goes_on(&self, more: usize) -> Result<()> {
        let seen = || format!("seen outside: {:?}", self.sources());
        self.datagrams.goes_on(more).with_context(seen)
    }

    /// Whether one more is answered very soon.
    ///
    /// # Errors
    /// If none is.
    pub fn goes_on_within_a_moment(&self) -> Result<()> {
        self.datagrams.goes_on_within(1, MOMENT)
    }

    /// Ends it, and tells how many from number `first` on got no answer.
    pub fn lost_since(self, first: u64) -> Result<u64> {
        self.datagrams.lost_since(first)
    }

    /// The number of the next datagram.
    pub fn mark(&self) -> u64 {
        self.datagrams.mark()
    }

    /// Whom the internet has seen since the stream began, in order, each once in a row.
    pub fn sources(&self) -> Vec<IpAddr> {
        let mut sources = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sources.dedup();
        sources
    }
}

fn answer(socket: &UdpSocket, seen: &Mutex<Vec<IpAddr>>, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer.ip());
            let _unreachable = socket.send_to(&buffer[..length], peer);
        }
    }
}
