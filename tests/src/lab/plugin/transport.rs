//! The way to the Linux router, in the place of ssh: with a log of every command and with faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fs, io};

use anyhow::{Context, Result};
use serde_json::json;
use socket2::SockRef;

use super::super::calls::{Call, Calls, Fault, Refusal};
use super::super::fabric::Nudge;
use super::super::namespace::Namespace;

/// With which ssh ends where it couldn't connect or lost the connection.
const NO_CONNECTION: i32 = 255;

/// The server behind `transport.py`. It stops when dropped.
#[derive(Debug)]
pub struct Transport {
    socket: PathBuf,
    program: PathBuf,
    far: Arc<Far>,
    server: Mutex<Option<Server>>,
}

/// The far end.
#[derive(Debug)]
struct Far {
    machine: Namespace,
    calls: Calls,
    changed: Nudge,
    /// The last answer of each action.
    answers: Mutex<BTreeMap<String, Ended>>,
}

impl Transport {
    /// Leads to `machine`; its files go to `folder`.
    pub fn start(machine: Namespace, folder: &Path, calls: &Calls, changed: Nudge) -> Result<Self> {
        let program = folder.join("transport.py");
        fs::write(&program, include_str!("transport.py")).context("writing transport.py")?;
        let far =
            Arc::new(Far { machine, calls: calls.clone(), changed, answers: Mutex::default() });
        let socket = folder.join("transport");
        let transport = Self { socket, program, far, server: Mutex::default() };
        transport.resume()?;
        Ok(transport)
    }

    /// What commands for the router are put behind.
    pub fn command(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        // Without what Python looks for at its start elsewhere, which is most of what it does.
        vec!["python3".to_owned(), "-IS".to_owned(), path(&self.program), path(&self.socket)]
    }

    /// Refuses connections from now on.
    pub fn interrupt(&self) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes connections again.
    pub fn resume(&self) -> Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            *server = Some(Server::start(&self.socket, &self.far)?);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Server {
    listener: Arc<UnixListener>,
    thread: Option<JoinHandle<()>>,
    socket: PathBuf,
}

impl Server {
    fn start(socket: &Path, far: &Arc<Far>) -> Result<Self> {
        let listener = UnixListener::bind(socket)
            .with_context(|| format!("listening on {}", socket.display()))?;
        let listener = Arc::new(listener);
        let (accepting, far) = (Arc::clone(&listener), Arc::clone(far));
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let far = Arc::clone(&far);
                thread::spawn(move || {
                    // Who goes away in mid-sentence is its own affair.
                    let _gone = far.serve(&stream);
                });
            }
        });
        Ok(Self { listener, thread: Some(thread), socket: socket.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = fs::remove_file(&self.socket);
        let _closed = SockRef::from(self.listener.as_ref()).shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn with(code: i32, stderr: &str) -> Self {
        Self { code, stdout: String::new(), stderr: format!("{stderr}\n") }
    }
}

impl Far {
    fn serve(&self, mut stream: &UnixStream) -> Result<()> {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let words: Vec<String> = serde_json::from_str(&line).context("a command")?;
        let call = call(&words);
        let (place, fault) = self.calls.come_in(&call);
        let ended = self.carry_out(&words, &call, fault.as_ref());
        let status = ended.as_ref().and_then(|ended| u16::try_from(ended.code).ok());
        self.calls.answer(place, status);
        if let Some(Fault::DelayAnswer(time)) = fault {
            thread::sleep(time);
        }
        if let Some(Ended { code, stdout, stderr }) = ended {
            let answer = json!({ "code": code, "stdout": stdout, "stderr": stderr });
            stream.write_all(answer.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// `None` where the connection is lost.
    fn carry_out(&self, words: &[String], call: &Call, fault: Option<&Fault>) -> Option<Ended> {
        match fault {
            Some(Fault::Refuse(refusal)) => return Some(refuse(refusal)),
            Some(Fault::DropBefore) => return None,
            Some(Fault::Delay(time)) => thread::sleep(*time),
            Some(Fault::Outdated) => {
                if let Some(outdated) = self.last(call) {
                    return Some(outdated);
                }
            }
            Some(Fault::Twice) => {
                let _first = self.run(words);
            }
            Some(Fault::DropAfter | Fault::DelayAnswer(_) | Fault::Altered { .. }) | None => {}
        }
        let ended = self.run(words);
        if call.is_write() {
            self.changed.nudge();
        }
        if matches!(fault, Some(Fault::DropAfter)) {
            return None;
        }
        let mut ended =
            ended.unwrap_or_else(|error| Ended::with(NO_CONNECTION, &error.to_string()));
        self.answers().insert(call.action.clone(), ended.clone());
        if let Some(Fault::Altered { what, by }) = fault {
            ended.stdout = ended.stdout.replace(what, by);
        }
        Some(ended)
    }

    fn last(&self, call: &Call) -> Option<Ended> {
        self.answers().get(&call.action).cloned()
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<String, Ended>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, words: &[String]) -> io::Result<Ended> {
        // Like ssh, which has the far end's shell make sense of the words.
        let output = self.machine.command("sh").args(["-c", &words.join(" ")]).output()?;
        Ok(Ended {
            code: output.status.code().unwrap_or(NO_CONNECTION),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// `ip -json route replace default via ...` is the action `ip route replace`.
fn call(words: &[String]) -> Call {
    let text = words.join(" ");
    let plain: Vec<_> =
        text.split_whitespace().filter(|word| !word.starts_with('-')).take(3).collect();
    let verbs = ["add", "append", "change", "prepend", "replace", "del", "delete", "flush"];
    let write = plain.iter().any(|word| verbs.contains(word));
    let shown = if write { plain.len() } else { plain.len().min(2) };
    let mut call = Call::new(plain[..shown].join(" "), write);
    call.parameters.insert("command".to_owned(), text);
    call
}

fn refuse(refusal: &Refusal) -> Ended {
    match refusal {
        Refusal::Throttled => Ended::with(
            NO_CONNECTION,
            "kex_exchange_identification: Connection closed by remote host",
        ),
        Refusal::Unauthorised => Ended::with(NO_CONNECTION, "Permission denied (publickey)."),
        Refusal::Denied => Ended::with(2, "RTNETLINK answers: Operation not permitted"),
        Refusal::As { status, message, .. } => Ended::with((*status).into(), message),
    }
}
