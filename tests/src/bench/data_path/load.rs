//! Connections and bytes through a chain, counted.
//!
//! Each thread is bound to one processor, a client to that of its server or to the one beside it, so that the scheduler's
//! whims are not what is measured.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockRef;

use super::chain::{Chain, server};

/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(5);

const BUFFER: usize = 256 * 1024;

/// What is sent through a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    Connections,
    Bytes,
    Packets,
}

impl Load {
    pub const ALL: [Self; 3] = [Self::Connections, Self::Bytes, Self::Packets];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "new connections",
            Self::Bytes => "TCP throughput",
            Self::Packets => "UDP packets",
        }
    }

    /// What happens, in a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Connections => {
                "a client on each processor connects over TCP, reads the end that the server sends at once, resets the \
                 connection and begins again."
            }
            Self::Bytes => {
                "one TCP connection, as fast as it goes, in packets of up to 64 KiB as the kernel makes them."
            }
            Self::Packets => {
                "datagrams of 18 bytes, one flow for each processor, counted as they arrive at the server: what is done \
                 for each packet has the most weight here. No target is set for it."
            }
        }
    }

    /// A measurement, with its unit.
    pub fn in_words(self, value: f64) -> String {
        match self {
            Self::Connections | Self::Packets => format!("{value:.0} / s"),
            Self::Bytes => format!("{:.2} Gbit/s", value / 1e9),
        }
    }

    /// Sends for as long as that. Gives connections or bits a second.
    pub fn run(self, chain: &Chain, time: Duration) -> Result<f64> {
        let rate = match self {
            Self::Connections => on_every_processor(|number| connections(chain, number, time))?,
            Self::Bytes => on_every_processor(|number| throughput(chain, number, time))?,
            Self::Packets => on_every_processor(|number| packets(chain, number, time))?,
        };
        chain.forget_connections()?;
        Ok(rate)
    }
}

/// A client and a server on each processor; the sum of what they achieve.
fn on_every_processor(pair: impl Fn(usize) -> Result<f64> + Sync) -> Result<f64> {
    let pair = &pair;
    thread::scope(|scope| {
        let pairs: Vec<_> =
            (0..processors()?).map(|number| scope.spawn(move || pair(number))).collect();
        let joined = |pair: thread::ScopedJoinHandle<'_, Result<f64>>| {
            pair.join().map_err(|_| anyhow!("a client panicked"))?
        };
        pairs.into_iter().map(joined).sum()
    })
}

/// Connections a second.
fn connections(chain: &Chain, number: usize, time: Duration) -> Result<f64> {
    let at = server(8000 + u16::try_from(number)?);
    let listener = chain.server.listen(at)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            bind(number)?;
            while let Ok((stream, _)) = listener.accept() {
                drop(stream);
            }
            anyhow::Ok(())
        });
        let counted = chain.client.run(|| {
            bind(number)?;
            let started = Instant::now();
            let mut count = 0_u32;
            while started.elapsed() < time {
                let mut stream = TcpStream::connect(at)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                stream.read_to_end(&mut Vec::new())?;
                count += 1;
            }
            anyhow::Ok(f64::from(count) / started.elapsed().as_secs_f64())
        });
        SockRef::from(&listener).shutdown(Shutdown::Both)?;
        counted?
    })
}

/// Bits a second, as the server sees them come.
fn throughput(chain: &Chain, number: usize, time: Duration) -> Result<f64> {
    let at = server(9000 + u16::try_from(number)?);
    let listener = chain.server.listen(at)?;
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            bind(number)?;
            let (mut stream, _) = listener.accept()?;
            let started = Instant::now();
            let (mut buffer, mut kib) = (vec![0; BUFFER], 0.0);
            loop {
                match u32::try_from(stream.read(&mut buffer)?)? {
                    0 => break,
                    bytes => kib += f64::from(bytes) / 1024.0,
                }
            }
            anyhow::Ok(kib * 1024.0 * 8.0 / started.elapsed().as_secs_f64())
        });
        let sent = chain.client.run(|| {
            bind(number)?;
            let mut stream = TcpStream::connect(at)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let (buffer, started) = (vec![0; BUFFER], Instant::now());
            while started.elapsed() < time {
                stream.write_all(&buffer)?;
            }
            anyhow::Ok(())
        });
        SockRef::from(&listener).shutdown(Shutdown::Both)?;
        let received = receiver.join().map_err(|_| anyhow!("the server panicked"))?;
        sent??;
        received
    })
}

/// Datagrams a second that come to the server, where nobody reads them.
fn packets(chain: &Chain, number: usize, time: Duration) -> Result<f64> {
    let at = server(9500 + u16::try_from(number)?);
    let _open = chain.server.run(|| UdpSocket::bind(at))??;
    chain.client.run(|| {
        bind(number)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(at)?;
        let started = Instant::now();
        let mut count = 0_u32;
        while started.elapsed() < time {
            for _ in 0..64 {
                socket.send(&[0; 18])?;
            }
            count += 64;
        }
        anyhow::Ok(f64::from(count) / started.elapsed().as_secs_f64())
    })?
}

/// Keeps the calling thread on the processor of that number.
fn bind(number: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(number);
    sched_setaffinity(None, &set).context("binding a thread to a processor")
}

fn processors() -> Result<usize> {
    Ok(thread::available_parallelism().context("counting processors")?.get())
}
