//! One life of a plugin's program: calls and their answers, until it ends or breaks the protocol.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use natd_core::error::{Error, Kind, Result};
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    process::{ChildStdin, ChildStdout},
    select,
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    Limits,
    envelope::{self, Answer, shown},
    lines::{self, Line},
    process::{Pipes, Process},
    words::{self, LastWords},
};

/// How long a program that has closed its standard output may take to end by itself.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// How long what it said on standard error may take to arrive once it has ended.
const ECHO: Duration = Duration::from_millis(200);

/// Why a life of the program is over.
#[derive(Debug, Clone)]
struct Fault {
    kind: Kind,
    cause: String,
    advice: Option<&'static str>,
}

/// How a life of the program comes to its end.
enum End {
    /// It closed its standard output, most likely since it has ended.
    ByItself,
    /// natd can't use it any more.
    Condemned(Fault),
    /// natd has no more to say.
    LetGo,
}

impl Fault {
    fn into_error(self, doing: &str) -> Error {
        let error = Error::new(self.kind, doing, self.cause);
        match self.advice {
            Some(advice) => error.with_advice(advice),
            None => error,
        }
    }
}

type Reply = oneshot::Sender<Result<Answer, Fault>>;

/// The calls that wait for an answer, by the ids of their requests.
enum Calls {
    Open { last: u64, waiting: BTreeMap<u64, Reply> },
    Over(Fault),
}

/// A running program. Dropped, the program is let go.
pub(super) struct Session {
    plugin: String,
    calls: Arc<Mutex<Calls>>,
    in_flight: Semaphore,
    outbox: mpsc::UnboundedSender<String>,
    verdicts: mpsc::UnboundedSender<Fault>,
    attendant: JoinHandle<()>,
    pub(super) since: Instant,
}

impl Session {
    /// Starts the program; nothing has been said to it yet. `plugin` is what logs call it.
    ///
    /// # Errors
    /// As for [`Process::start`].
    pub(super) fn start(plugin: &str, command: &[String], limits: &Limits) -> Result<Self> {
        let (process, pipes) = Process::start(command, limits.farewell)?;
        tracing::debug!(plugin, pid = process.id(), "started");
        let calls = Arc::new(Mutex::new(Calls::Open { last: 0, waiting: BTreeMap::new() }));
        let (outbox, requests) = mpsc::unbounded_channel();
        let (verdicts, orders) = mpsc::unbounded_channel();
        let attendant = Attendant {
            plugin: plugin.to_owned(),
            calls: Arc::clone(&calls),
            longest_line: limits.longest_line,
        };
        Ok(Self {
            plugin: plugin.to_owned(),
            calls,
            in_flight: Semaphore::new(1),
            outbox,
            verdicts,
            attendant: tokio::spawn(attendant.attend(process, pipes, requests, orders)),
            since: Instant::now(),
        })
    }

    /// Lets as many calls be under way at once.
    pub(super) fn widen(&self, concurrency: u16) {
        self.in_flight.add_permits(usize::from(concurrency.saturating_sub(1)));
    }

    /// Why its life is over; its process is gone then.
    pub(super) fn epitaph(&self) -> Option<String> {
        match &*locked(&self.calls) {
            Calls::Over(fault) => Some(fault.cause.clone()),
            Calls::Open { .. } => None,
        }
    }

    /// Ends a program that natd can't work with, and waits until it is gone.
    pub(super) async fn condemn(self, error: &Error) {
        let fault = Fault { kind: error.kind(), cause: error.to_string(), advice: None };
        let _ = self.verdicts.send(fault);
        let _ = self.attendant.await;
    }

    /// Sends one request and waits for its answer. Not to be cancelled: the request would stay.
    ///
    /// # Errors
    /// What the plugin says; `Unreachable` if it ends or takes longer than `patience`, for which
    /// it is killed; `Invalid` if it breaks the protocol, for which it is killed too.
    pub(super) async fn call(
        &self,
        doing: &str,
        method: &str,
        params: &Value,
        patience: Duration,
    ) -> Result<Value> {
        let _permit = self.in_flight.acquire().await;
        let mut answer = match &mut *locked(&self.calls) {
            Calls::Over(fault) => return Err(fault.clone().into_error(doing)),
            Calls::Open { last, waiting } => {
                *last += 1;
                let (reply, answer) = oneshot::channel();
                waiting.insert(*last, reply);
                // While locked, so that requests are sent in the order of their ids.
                let _ = self.outbox.send(envelope::request(*last, method, params));
                answer
            }
        };
        let answered = if let Ok(answered) = timeout(patience, &mut answer).await {
            answered
        } else {
            let _ = self.verdicts.send(Fault {
                kind: Kind::Unreachable,
                cause: format!(
                    "the plugin {} did not answer {method} within {} and was killed",
                    self.plugin,
                    in_words(patience)
                ),
                advice: Some("see what it logs, or raise plugin.timeout"),
            });
            answer.await
        };
        match answered {
            Ok(Ok(answer)) => answer.outcome.map_err(|error| error.into_error(doing)),
            Ok(Err(fault)) => Err(fault.into_error(doing)),
            Err(_) => Err(Error::new(Kind::Unreachable, doing, "natd is ending")),
        }
    }
}

/// Who looks after the program: writes to it, reads from it, and buries it.
struct Attendant {
    plugin: String,
    calls: Arc<Mutex<Calls>>,
    longest_line: usize,
}

impl Attendant {
    async fn attend(
        self,
        process: Process,
        pipes: Pipes,
        requests: mpsc::UnboundedReceiver<String>,
        mut orders: mpsc::UnboundedReceiver<Fault>,
    ) {
        // Made before the futures that own the other pipes, so that it is dropped after them.
        let process = process;
        let last_words = LastWords::default();
        let mut echo =
            tokio::spawn(words::log(self.plugin.clone(), pipes.stderr, last_words.clone()));
        let end = {
            let reading = self.read(BufReader::new(pipes.stdout));
            let writing = write(pipes.stdin, requests);
            select! {
                biased;
                end = reading => end,
                Some(fault) = orders.recv() => End::Condemned(fault),
                () = writing => End::LetGo,
            }
        };
        let mut fault = match end {
            End::LetGo => {
                process.dismiss().await;
                echo.abort();
                return;
            }
            End::Condemned(fault) => {
                process.bury(Duration::ZERO).await;
                fault
            }
            End::ByItself => {
                let how = process.bury(LAST_BREATH).await.map_or_else(
                    || "closed its standard output".to_owned(),
                    |status| format!("ended ({status})"),
                );
                Fault {
                    kind: Kind::Unreachable,
                    cause: format!("the plugin {} {how}", self.plugin),
                    advice: Some("see what it logs; it is started again"),
                }
            }
        };
        if timeout(ECHO, &mut echo).await.is_err() {
            echo.abort();
        }
        if let Some(words) = last_words.get() {
            fault.cause = format!("{}; it last said: {words}", fault.cause);
        }
        // Whoever calls it next tells why it can't.
        tracing::debug!(plugin = self.plugin, "{}", fault.cause);
        self.close(&fault);
    }

    /// Hands answers to those who wait for them, until there are no more, or one is no answer.
    async fn read(&self, mut stdout: BufReader<ChildStdout>) -> End {
        loop {
            let nonsense = match lines::next(&mut stdout, self.longest_line).await {
                Ok(Line::Whole(line)) => match self.deliver(&line) {
                    Ok(()) => continue,
                    Err(why) => format!("{why}: {}", shown(&line)),
                },
                Ok(Line::Begun(line)) => {
                    let limit = self.longest_line;
                    format!("a line of more than {limit} bytes: {}", shown(&line))
                }
                Ok(Line::End) | Err(_) => return End::ByItself,
            };
            return End::Condemned(Fault {
                kind: Kind::Invalid,
                cause: format!("the plugin {} sent {nonsense}", self.plugin),
                advice: Some("the plugin is at fault; it is started again"),
            });
        }
    }

    fn deliver(&self, line: &[u8]) -> Result<(), String> {
        let answer = Answer::read(line)?;
        if let Calls::Open { waiting, .. } = &mut *locked(&self.calls) {
            let reply = waiting.remove(&answer.id).ok_or("an answer that nobody waits for")?;
            // Who asked may be gone with natd.
            let _ = reply.send(Ok(answer));
        }
        Ok(())
    }

    fn close(&self, fault: &Fault) {
        let calls = std::mem::replace(&mut *locked(&self.calls), Calls::Over(fault.clone()));
        if let Calls::Open { waiting, .. } = calls {
            for reply in waiting.into_values() {
                let _ = reply.send(Err(fault.clone()));
            }
        }
    }
}

/// Writes until natd has no more to say, and closes the pipe. Who doesn't read is found out by not
/// answering.
async fn write(mut stdin: ChildStdin, mut requests: mpsc::UnboundedReceiver<String>) {
    while let Some(request) = requests.recv().await {
        let _ = stdin.write_all(request.as_bytes()).await;
    }
}

fn locked(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `10 s`, `300 ms`.
pub(super) fn in_words(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}
