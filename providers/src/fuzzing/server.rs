//! A server on loopback that answers as an input says.
//!
//! A piece of the input is an answer: what the request has to contain and the status on the first line, headers on the
//! next ones, an empty line, and the body. Those that fit a request are
//! given in turn, again and again.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{
    SECRET,
    shared::{head, pieces, text},
};

/// Longer bodies and more requests than any that natd makes are natd's own fault.
const MOST_BYTES: usize = 1 << 20;
const MOST_REQUESTS: usize = 20_000;

/// What becomes of a target that hangs: far more than all deadlines of `HASTY` together.
const HANGS: Duration = Duration::from_mins(1);

#[derive(Debug, Clone)]
struct Canned {
    needle: String,
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Canned {
    /// `%SECRET%` in it stands for the secret where keys are told and, if a cloud `echoes` what it was sent, in what it refuses.
    fn read(piece: &[u8], echoes: bool) -> Self {
        let (first, mut rest) = head(piece);
        let first = text(first);
        let (needle, status) = first.rsplit_once(' ').unwrap_or((&first, ""));
        let mut headers = Vec::new();
        loop {
            let (line, more) = head(rest);
            rest = more;
            if line.is_empty() {
                break;
            }
            // Not the server's own business, and nothing that would end the headers.
            let line: String = text(line).chars().filter(|c| (' '..='~').contains(c)).collect();
            let well_formed = line.split_once(": ").is_some_and(|(name, _)| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            });
            let framing = ["content-", "transfer-", "connection", "upgrade", "trailer"];
            let lower = line.to_ascii_lowercase();
            if well_formed && !framing.iter().any(|name| lower.starts_with(name)) {
                headers.push(line);
            }
        }
        // Below 200 more would have to follow.
        let status =
            status.parse().ok().filter(|status| (200..1000).contains(status)).unwrap_or(200);
        let holds_keys = ["securitykey", "security-credentials"].iter().any(|k| needle.contains(k));
        let mut body = rest.to_vec();
        if holds_keys || echoes && status >= 400 {
            body = text(rest).replace("%SECRET%", SECRET).into_bytes();
        }
        Self { needle: needle.to_owned(), status, headers, body }
    }
}

/// A request, and the body of its answer.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) sent: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) answered: Vec<u8>,
}

#[derive(Default)]
struct State {
    answers: Vec<(Canned, usize)>,
    exchanges: Vec<Exchange>,
}

impl State {
    fn answer(&mut self, asked: &str) -> Canned {
        let fitting = self.answers.iter_mut().filter(|(canned, _)| asked.contains(&canned.needle));
        // The one that was given least often, and of those the first.
        match fitting.min_by_key(|(_, given)| *given) {
            Some((canned, given)) => {
                *given += 1;
                canned.clone()
            }
            None => {
                Canned { needle: String::new(), status: 404, headers: [].into(), body: [].into() }
            }
        }
    }
}

/// The server, while its target asks.
pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// What was asked so far.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        locked(&self.state).exchanges.clone()
    }
}

/// Runs a target against a server that answers as the input says or, where that has nothing, as `usual` does.
pub(crate) fn serve<F: Future<Output = ()>>(
    input: &[u8],
    usual: &str,
    echoes: bool,
    target: impl FnOnce(Arc<Server>) -> F,
) {
    let input = pieces(input);
    let usual = pieces(usual.as_bytes());
    // The input's come first in order, and the usual ones last.
    let mut answers: Vec<(Canned, usize)> =
        input.into_iter().map(|piece| (Canned::read(piece, echoes), 0)).collect();
    answers.retain(|(canned, _)| !canned.needle.is_empty());
    let mut usual: Vec<Canned> =
        usual.into_iter().map(|piece| Canned::read(piece, false)).collect();
    usual.retain(|usual| !answers.iter().any(|(canned, _)| usual.needle.contains(&canned.needle)));
    answers.extend(usual.into_iter().map(|canned| (canned, 0)));
    let state = Arc::new(Mutex::new(State { answers, exchanges: Vec::new() }));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { unreachable!("there is no runtime: {runtime:?}") };
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let Ok(listener) = listener else { unreachable!("no server: {listener:?}") };
        let Ok(address) = listener.local_addr() else { unreachable!("no address") };
        let server =
            Arc::new(Server { url: format!("http://{address}"), state: Arc::clone(&state) });
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Closed by a reset: no connection is kept in mind that is over.
                let _ = stream.set_zero_linger();
                tokio::spawn(converse(stream, Arc::clone(&state)));
            }
        });
        let done = tokio::time::timeout(HANGS, target(server)).await;
        assert!(done.is_ok(), "it hangs");
        serving.abort();
    });
}

async fn converse(stream: TcpStream, state: Arc<Mutex<State>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut line, mut length) = (String::new(), String::new(), 0_usize);
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        while stream.read_line(&mut line).await? > 2 {
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
            line.clear();
        }
        assert!(length < MOST_BYTES, "natd sends {length} bytes");
        let mut sent = vec![0; length];
        stream.read_exact(&mut sent).await?;
        let answer = {
            let mut state = locked(&state);
            let asked = format!("{}\n{}", first.trim_end(), text(&sent));
            let answer = state.answer(&asked);
            let mut words = first.split(' ').map(str::to_owned);
            state.exchanges.push(Exchange {
                method: words.next().unwrap_or_default(),
                path: words.next().unwrap_or_default(),
                sent,
                status: answer.status,
                answered: answer.body.clone(),
            });
            assert!(state.exchanges.len() < MOST_REQUESTS, "natd asks without an end: {asked}");
            answer
        };
        let bodiless = matches!(answer.status, 204 | 205 | 304);
        let body = if bodiless { &[][..] } else { &answer.body };
        let first = format!("HTTP/1.1 {} Told", answer.status);
        let length = format!("Content-Length: {}", body.len());
        let head = [&[first][..], &answer.headers, &[length, String::new(), String::new()]]
            .concat()
            .join("\r\n");
        stream.get_mut().write_all(&[head.as_bytes(), body].concat()).await?;
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
