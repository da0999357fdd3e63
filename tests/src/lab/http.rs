//! The little HTTP/1.1 that the lab speaks: one request a connection, bodies with a length.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::SockRef;

use super::namespace::Namespace;

const PATIENCE: Duration = Duration::from_secs(30);

/// Names are lower case.
pub type Headers = Vec<(String, String)>;

/// What a client asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// Who asks, as the server's socket sees it.
    pub source: Option<Ipv4Addr>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a server answers.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Response {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.into() }
    }

    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/plain", body)
    }
}

/// A server in a namespace. It stops listening when dropped.
#[derive(Debug)]
pub struct Server {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves each connection in a thread of its own. A handler that gives `None` has the connection dropped unanswered.
    pub fn start<H>(namespace: &Namespace, address: SocketAddr, handler: H) -> Result<Self>
    where
        H: Fn(Request) -> Option<Response> + Send + Sync + 'static,
    {
        let listener = Arc::new(namespace.listen(address)?);
        let handler = Arc::new(handler);
        let accepting = Arc::clone(&listener);
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let handler = Arc::clone(&handler);
                thread::spawn(move || {
                    // A client that goes away in mid-sentence is its own affair.
                    let _gone = answer(&stream, handler.as_ref());
                });
            }
        });
        Ok(Self { listener, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // On Linux this wakes a thread that is blocked in accept().
        let _closed = SockRef::from(self.listener.as_ref()).shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn answer(
    stream: &TcpStream,
    handler: &(impl Fn(Request) -> Option<Response> + ?Sized),
) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader)?;
    let mut words = first.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        bail!("no request line")
    };
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        ..Request::default()
    };
    if let SocketAddr::V4(peer) = stream.peer_addr()? {
        request.source = Some(*peer.ip());
    }
    if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().context("content-length")?];
        reader.read_exact(&mut request.body)?;
    }
    let Some(response) = handler(request) else {
        return Ok(());
    };
    let first = format!("HTTP/1.1 {} {}", response.status, reason(response.status));
    write_message(stream, &first, &response.headers, &response.body)
}

/// Sends one request over a fresh connection and reads the whole answer. Waits `patience` for each piece of it.
/// A request that is passed on keeps the host that it was made for, which its signature may cover.
pub fn send(
    mut stream: TcpStream,
    host: SocketAddr,
    request: &Request,
    patience: Duration,
) -> Result<Response> {
    stream.set_read_timeout(Some(patience))?;
    let host = request.header("host").map_or_else(|| host.to_string(), ToOwned::to_owned);
    let first = format!("{} {} HTTP/1.1\r\nhost: {host}", request.method, request.target);
    write_message(&mut stream, &first, &request.headers, &request.body)?;
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader)?;
    let status =
        first.split_whitespace().nth(1).context("no status line")?.parse().context("status")?;
    let mut response = Response { status, headers, body: Vec::new() };
    let length = response.headers.iter().find(|(name, _)| name == "content-length");
    match length {
        Some((_, length)) => {
            response.body = vec![0; length.parse().context("content-length")?];
            reader.read_exact(&mut response.body)?;
        }
        None => {
            reader.read_to_end(&mut response.body)?;
        }
    }
    Ok(response)
}

fn read_head(reader: &mut impl BufRead) -> Result<(String, Headers)> {
    let first = read_line(reader)?;
    let mut headers = Headers::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((first, headers));
        }
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        bail!("the connection ended before the message did");
    }
    Ok(line.trim_end().to_owned())
}

/// Writes in one go, so that a message is one segment.
fn write_message(mut out: impl Write, first: &str, headers: &Headers, body: &[u8]) -> Result<()> {
    let mut message = Vec::new();
    write!(message, "{first}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len())?;
    let ours = ["host", "connection", "content-length", "transfer-encoding"];
    for (name, value) in headers.iter().filter(|(name, _)| !ours.contains(&name.as_str())) {
        write!(message, "{name}: {value}\r\n")?;
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(body);
    out.write_all(&message)?;
    out.flush()?;
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
