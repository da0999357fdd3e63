//! natd as a daemon, whose lines can be waited for.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// A running daemon. It is killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Output {
    /// Of both streams, in the order in which they came.
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Output {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads that stream to its end.
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let output = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                output.lines().push(line);
                output.more.notify_all();
            }
        })
    }
}

impl Daemon {
    /// Starts a command that stays.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let output = Arc::new(Output::default());
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|stdout| output.follow(stdout)));
        readers.extend(child.stderr.take().map(|stderr| output.follow(stderr)));
        Ok(Self { child, output, readers })
    }

    /// What it has said so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines().clone()
    }

    /// How many lines it has said so far; a mark for [`wait_for_after`](Self::wait_for_after).
    pub fn mark(&self) -> usize {
        self.output.lines().len()
    }

    /// Waits for a line, an earlier one or one to come.
    ///
    /// # Errors
    /// If none comes in time; the error holds all that was said.
    pub fn wait_for(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.wait_for_after(0, within, wanted)
    }

    /// Waits for a line among those behind the first `mark`.
    pub fn wait_for_after(
        &self,
        mark: usize,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + within;
        let mut lines = self.output.lines();
        loop {
            if let Some(line) = lines.iter().skip(mark).find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the line did not come within {within:?}; it said:\n{}", lines.join("\n"));
            }
            lines = self
                .output
                .more
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The process itself: `ip netns exec` becomes what it runs.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it has started and that are still there, by their ids.
    pub fn children(&self) -> Vec<u32> {
        let is_child = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The second field is the program's name in parentheses, and may hold spaces.
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
            parent.and_then(|parent| parent.parse().ok()) == Some(self.pid())
        };
        let processes = fs::read_dir("/proc").into_iter().flatten();
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(is_child).collect()
    }

    /// Asks it to stop.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Asks it to read its configuration again.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// Ends it at once.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Holds it still, so that something can happen behind its back.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        send(self.child.id(), signal)
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, and until all that it has said was read.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            let ended = self.child.try_wait()?;
            if let Some(status) = ended.filter(|_| self.readers.iter().all(JoinHandle::is_finished))
            {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("it did not end within {within:?}; it said:\n{}", self.lines().join("\n"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The signal that ended it, if one did.
    pub fn ended_by(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.signal())
    }
}

/// Sends a signal to a process.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id")?;
    kill_process(pid, signal).with_context(|| format!("signalling {pid:?}"))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}
