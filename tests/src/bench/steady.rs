//! One UDP flow through a gateway at a steady rate, with every datagram counted at both ends.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::chain::{Chain, SERVER};

const PORT: u16 = 9600;

/// So many at once, so often.
const BURST: u32 = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// What is still on its way when the last is sent.
const LINGER: Duration = Duration::from_millis(500);

/// Room for a minute of datagrams: the receiver itself loses none.
const ROOM: usize = 256 << 20;

/// What came of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub sent: u64,
    pub received: u64,
    /// What the server saw as its source: more than one if the flow was broken off and began anew.
    pub sources: BTreeSet<SocketAddr>,
}

/// Has the flow run while something is done, and gives what came of both.
pub fn while_it_runs<T>(chain: &Chain, work: impl FnOnce() -> Result<T>) -> Result<(Counted, T)> {
    let server = chain.server.run(|| UdpSocket::bind((SERVER, PORT)))??;
    set_socket_recv_buffer_size_force(&server, ROOM).context("making room for datagrams")?;
    server.set_read_timeout(Some(Duration::from_millis(50)))?;
    let client = chain.client.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    client.connect((SERVER, PORT))?;
    // Neighbours are found, and the flow is translated, before anything counts.
    client.send(&[0])?;
    server.recv(&mut [0; 8]).context("the flow does not come through")?;

    let (done, is_all_sent) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(&client, &done));
        let counting = scope.spawn(|| receive(&server, &is_all_sent));
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        let count = sending.join().map_err(|_| anyhow!("the sender panicked"));
        thread::sleep(LINGER);
        is_all_sent.store(true, Ordering::Relaxed);
        let arrived = counting.join().map_err(|_| anyhow!("the receiver panicked"))??;
        let counted = Counted { sent: count?, ..arrived };
        ensure!(counted.sent > 0, "nothing was sent");
        Ok((counted, outcome?))
    })
}

fn send(client: &UdpSocket, done: &AtomicBool) -> u64 {
    let (started, mut ticks, mut sent) = (Instant::now(), 0, 0_u64);
    while !done.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            // One that can't be sent is one that doesn't arrive.
            let _refused = client.send(&sent.to_be_bytes());
            sent += 1;
        }
        ticks += 1;
        thread::sleep((PAUSE * ticks).saturating_sub(started.elapsed()));
    }
    sent
}

fn receive(server: &UdpSocket, is_all_sent: &AtomicBool) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut buffer = [0; 64];
    loop {
        match server.recv_from(&mut buffer) {
            Ok((_, source)) => {
                counted.received += 1;
                counted.sources.insert(source);
            }
            Err(_) if is_all_sent.load(Ordering::Relaxed) => return Ok(counted),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("receiving"),
        }
    }
}
