//! One client and one server at work, both on one processor.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockRef;

use super::super::chain::{Chain, SERVER};

/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(5);

const BUFFER: usize = 256 * 1024;

/// Datagrams between two looks at the clock.
const BURST: u32 = 64;

/// What two threads have done.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Connections, bits or packets.
    pub done: f64,
    /// Of both threads and of the kernel's own on that processor, which takes over where packets are much work.
    pub processor_time: Duration,
}

/// Connections, one after the other.
pub fn connections(chain: &Chain, processor: usize, time: Duration) -> Result<Work> {
    let at = port(8000, processor)?;
    let serve = |listener: &TcpListener| {
        while let Ok((stream, _)) = listener.accept() {
            drop(stream);
        }
        Ok(())
    };
    let connect = || {
        let started = Instant::now();
        let mut count = 0_u32;
        while started.elapsed() < time {
            let mut stream = TcpStream::connect(at)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // Without it each port would be taken for a minute.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            stream.read_to_end(&mut Vec::new())?;
            count += 1;
        }
        Ok(f64::from(count))
    };
    both(chain, processor, at, serve, connect)
}

/// Bits, through one connection.
pub fn throughput(chain: &Chain, processor: usize, time: Duration) -> Result<Work> {
    let at = port(9000, processor)?;
    let receive = |listener: &TcpListener| {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; BUFFER];
        while stream.read(&mut buffer)? > 0 {}
        Ok(())
    };
    let send = || {
        let mut stream = TcpStream::connect(at)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let (buffer, started) = (vec![0; BUFFER], Instant::now());
        let mut bits = 0.0;
        while started.elapsed() < time {
            bits += f64::from(u32::try_from(stream.write(&buffer)?)?) * 8.0;
        }
        Ok(bits)
    };
    both(chain, processor, at, receive, send)
}

/// Datagrams of one flow. They come to a socket that nobody reads.
pub fn packets(chain: &Chain, processor: usize, time: Duration) -> Result<Work> {
    let at = port(9500, processor)?;
    let _open = chain.server.run(|| UdpSocket::bind(at))??;
    let account = SoftInterrupts::open(processor)?;
    chain.client.run(|| {
        bind(processor)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(at)?;
        let started = Instant::now();
        let mut count = 0;
        while started.elapsed() < time {
            for _ in 0..BURST {
                socket.send(&[0; 18])?;
            }
            count += BURST;
        }
        let processor_time = processor_time()? + account.used()?;
        Ok(Work { done: f64::from(count), processor_time })
    })?
}

/// A server until its client is done, each in a thread of its own.
fn both(
    chain: &Chain,
    processor: usize,
    at: SocketAddr,
    server: impl FnOnce(&TcpListener) -> Result<()> + Send,
    client: impl FnOnce() -> Result<f64> + Send,
) -> Result<Work> {
    let listener = chain.server.listen(at)?;
    let account = SoftInterrupts::open(processor)?;
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            bind(processor)?;
            server(&listener)?;
            processor_time()
        });
        let client = chain.client.run(|| {
            bind(processor)?;
            anyhow::Ok((client()?, processor_time()?))
        });
        SockRef::from(&listener).shutdown(Shutdown::Both)?;
        let server_time = serving.join().map_err(|_| anyhow!("the server panicked"))?;
        let (done, client_time) = client??;
        Ok(Work { done, processor_time: client_time + server_time? + account.used()? })
    })
}

/// The server's port for the pair on that processor.
fn port(first: u16, processor: usize) -> Result<SocketAddr> {
    Ok(SocketAddr::from((SERVER, first + u16::try_from(processor)?)))
}

/// Keeps the calling thread on that processor.
fn bind(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).context("binding a thread to a processor")
}

/// What the kernel's thread for soft interrupts uses on one processor: packets that come faster than their senders carry
/// them are carried by it.
struct SoftInterrupts {
    thread: Option<String>,
    before: Duration,
}

impl SoftInterrupts {
    fn open(processor: usize) -> Result<Self> {
        static THREADS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
        let threads = THREADS.get_or_init(|| {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            let named = |entry: fs::DirEntry| {
                let name = fs::read_to_string(entry.path().join("comm")).ok()?;
                let schedstat = entry.path().join("schedstat").to_str()?.to_owned();
                name.starts_with("ksoftirqd/").then(|| (name.trim().to_owned(), schedstat))
            };
            processes.filter_map(named).collect()
        });
        // In a container it isn't seen.
        let thread = threads.get(&format!("ksoftirqd/{processor}")).cloned();
        let before = thread.as_deref().map_or(Ok(Duration::ZERO), used_by)?;
        Ok(Self { thread, before })
    }

    fn used(&self) -> Result<Duration> {
        let now = self.thread.as_deref().map_or(Ok(Duration::ZERO), used_by)?;
        Ok(now.saturating_sub(self.before))
    }
}

/// What the calling thread has used so far.
fn processor_time() -> Result<Duration> {
    used_by("/proc/thread-self/schedstat")
}

/// By the scheduler's account.
fn used_by(schedstat: &str) -> Result<Duration> {
    let account = fs::read_to_string(schedstat).context("reading schedstat")?;
    let nanoseconds = account.split(' ').next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse().context("reading schedstat")?))
}
