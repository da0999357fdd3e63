//! Who answers every packet, and tells in the answer whom it saw.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::super::chain::{Chain, SERVER};

pub const PORT: u16 = 9700;

const RECEIVE_BUFFER: usize = 64 << 20;

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(chain: &Chain) -> Result<Self> {
        let socket = chain.server.run(|| UdpSocket::bind((SERVER, PORT)))??;
        set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).context("the receive buffer")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let done = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let done = Arc::clone(&done);
            move || serve(&socket, &done)
        });
        Ok(Self { done, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// The answer: the question's first four bytes, then address and port of who asked.
fn serve(socket: &UdpSocket, done: &AtomicBool) {
    let mut question = [0; 64];
    while !done.load(Ordering::Relaxed) {
        let Ok((_, SocketAddr::V4(from))) = socket.recv_from(&mut question) else { continue };
        let number = question.iter().take(4).copied();
        let answer: Vec<u8> =
            number.chain(from.ip().octets()).chain(from.port().to_be_bytes()).collect();
        // One that can't be sent is one that doesn't arrive.
        let _refused = socket.send_to(&answer, from);
    }
}
