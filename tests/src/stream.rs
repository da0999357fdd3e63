//! A stream of numbered datagrams between two namespaces, that tells of each whether it was answered.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::namespace::Namespace;

/// Between two datagrams.
const PACE: Duration = Duration::from_millis(5);
/// How long an answer may take. Everything happens on one machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what is under way at the end may take.
const LAST: Duration = Duration::from_secs(1);

/// Datagrams of one flow, one after the other: none is sent twice.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    traffic: Arc<Mutex<Traffic>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug, Default)]
struct Traffic {
    sent: u64,
    answered: BTreeSet<u64>,
    /// What the answers say besides the number, each once.
    remarks: BTreeSet<String>,
}

impl Stream {
    /// Begins to send from inside that namespace to an echo, whether or not anything carries the datagrams yet.
    pub fn begin(from: &Namespace, echo: SocketAddr) -> Result<Self> {
        let any: IpAddr = match echo {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = from.run(|| UdpSocket::bind((any, 0)))?.context("a socket")?;
        socket.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let traffic = Arc::new(Mutex::new(Traffic::default()));
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&traffic));
        let thread = thread::spawn(move || send(&socket, echo, &noted, &stopped));
        Ok(Self { stop, traffic, thread: Some(thread) })
    }

    fn traffic(&self) -> Traffic {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until that many more were answered.
    ///
    /// # Errors
    /// If they are not in good time.
    pub fn goes_on(&self, more: usize) -> Result<()> {
        self.goes_on_within(more, PATIENCE)
    }

    /// The same within that time.
    ///
    /// # Errors
    /// If they are not.
    pub fn goes_on_within(&self, more: usize, time: Duration) -> Result<()> {
        let before = self.traffic().answered.len();
        let deadline = Instant::now() + time;
        while self.traffic().answered.len() < before + more {
            ensure!(
                Instant::now() < deadline,
                "{more} answers did not come; sent {}, answered {before}",
                self.traffic().sent,
            );
            thread::sleep(PACE);
        }
        Ok(())
    }

    /// Ends it, and tells how many from number `first` on got no answer.
    pub fn lost_since(mut self, first: u64) -> Result<u64> {
        self.end();
        let traffic = self.traffic();
        ensure!(traffic.sent > first, "nothing was sent since");
        let lost = (first..traffic.sent).filter(|number| !traffic.answered.contains(number));
        Ok(lost.count() as u64)
    }

    /// The number of the next datagram.
    pub fn mark(&self) -> u64 {
        self.traffic().sent
    }

    /// What the answers so far have said besides the number: an echo that tells whom it saw names the flow's source.
    pub fn remarks(&self) -> BTreeSet<String> {
        self.traffic().remarks
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

fn send(socket: &UdpSocket, echo: SocketAddr, traffic: &Mutex<Traffic>, stop: &AtomicBool) {
    let traffic = || traffic.lock().unwrap_or_else(PoisonError::into_inner);
    let mut number = 0_u64;
    let mut last = None;
    loop {
        let mut buffer = [0; 64];
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let Some((answer, remark)) = buffer[..length].split_first_chunk::<8>() else {
                continue;
            };
            let mut traffic = traffic();
            traffic.answered.insert(u64::from_be_bytes(*answer));
            traffic.remarks.insert(String::from_utf8_lossy(remark).trim().to_owned());
        }
        let stopped = stop.load(Ordering::Relaxed);
        if stopped {
            let since = *last.get_or_insert_with(Instant::now);
            if since.elapsed() > LAST {
                return;
            }
        } else if socket.send_to(&number.to_be_bytes(), echo).is_ok() {
            // Only what left the sender can be lost: without a wire there is nothing to send on.
            number += 1;
            traffic().sent = number;
        }
        thread::sleep(PACE);
    }
}
