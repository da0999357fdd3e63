//! The host on the internet, which tells everybody the address that it saw them come from.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::http::{Response, Server};
use super::icmp::Echo;
use super::namespace::Namespace;
use super::topology::INTERNET_HOST;

/// HTTP: one request, whose answer is the source address.
pub const WEB: SocketAddr = SocketAddr::new(IpAddr::V4(INTERNET_HOST), 80);
/// TCP and UDP: every line, and every datagram, is answered with the source address and port.
pub const ECHO: SocketAddr = SocketAddr::new(IpAddr::V4(INTERNET_HOST), 7);

/// How long a thread takes at most to notice that it should end.
const TURN: Duration = Duration::from_millis(50);

/// Who pinged, by the number that the ping carried.
pub type Pings = Arc<Mutex<HashMap<u64, Ipv4Addr>>>;

/// The host's services. They stop when dropped.
#[derive(Debug)]
pub struct InternetHost {
    _web: Server,
    pings: Pings,
    stop: Arc<AtomicBool>,
    listener: Arc<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl InternetHost {
    pub fn start(internet: &Namespace) -> Result<Self> {
        let (stop, pings) = (Arc::new(AtomicBool::new(false)), Pings::default());
        let web = Server::start(internet, WEB, |request| {
            let source = request.source.map(|source| source.to_string());
            Some(Response::text(200, source.unwrap_or_default()))
        })?;
        let listener = Arc::new(internet.listen(ECHO)?);
        let datagrams = internet.run(|| UdpSocket::bind(ECHO))?.context("the UDP echo")?;
        let raw = internet.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))?;
        let raw = raw.context("a raw socket for pings")?;
        datagrams.set_read_timeout(Some(TURN))?;
        raw.set_read_timeout(Some(TURN))?;
        let (accepting, seen) = (Arc::clone(&listener), Arc::clone(&pings));
        let (stop_echo, stop_pings) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            thread::spawn(move || echo_lines(&accepting)),
            thread::spawn(move || echo_datagrams(&datagrams, &stop_echo)),
            thread::spawn(move || record_pings(&raw, &seen, &stop_pings)),
        ];
        Ok(Self { _web: web, pings, stop, listener, threads })
    }

    pub fn pings(&self) -> Pings {
        Arc::clone(&self.pings)
    }
}

impl Drop for InternetHost {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _closed = SockRef::from(self.listener.as_ref()).shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn echo_lines(listener: &TcpListener) {
    while let Ok((stream, peer)) = listener.accept() {
        thread::spawn(move || answer_lines(stream, peer));
    }
}

/// Until the peer is gone or silent for too long.
fn answer_lines(mut stream: TcpStream, peer: SocketAddr) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_mins(2)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        stream.write_all(format!("{peer}\n").as_bytes())?;
        line.clear();
    }
    Ok(())
}

fn echo_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            // The question goes back ahead of the answer, so that the asker knows which one it belongs to.
            let mut answer = buffer[..length].to_vec();
            answer.extend_from_slice(format!(" {peer}").as_bytes());
            let _unreachable = socket.send_to(&answer, peer);
        }
    }
}

/// The kernel answers; this only looks on.
fn record_pings(mut socket: &Socket, pings: &Mutex<HashMap<u64, Ipv4Addr>>, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.read(&mut buffer) else {
            continue;
        };
        if let Some((source, Echo { number, reply: false, .. })) =
            Echo::of_packet(&buffer[..length])
        {
            pings.lock().unwrap_or_else(PoisonError::into_inner).insert(number, source);
        }
    }
}
