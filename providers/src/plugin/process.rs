//! The program of a plugin as a process: the leader of a group of its own, and never left behind.
//!
//! Its group is signalled only as long as the process itself has not been waited for, since only
//! until then its number can't be somebody else's.

use std::{io, num::NonZeroI32, path::Path, process::Stdio, time::Duration};

use natd_core::error::{Error, Kind, Result};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

/// How often to look whether a process has ended.
const GLANCE: Duration = Duration::from_millis(10);

/// How long a killed process may take to be gone; longer, and the kernel itself is stuck.
const BURIAL: Duration = Duration::from_secs(5);

/// natd's own configuration, which may hold secrets, is not the plugin's to read.
const PRIVATE: &str = "NATD_";

/// A running program.
pub(super) struct Process {
    child: Child,
    group: Pid,
    farewell: Duration,
    is_gone: bool,
}

/// The three pipes to it.
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// `NotFound` and `Denied` name `plugin.command`.
    pub(super) fn start(command: &[String], farewell: Duration) -> Result<(Self, Pipes)> {
        let doing = "start the plugin";
        let Some((program, args)) = command.split_first() else {
            return Err(Error::new(Kind::Invalid, doing, "plugin.command is empty"));
        };
        let mut command = Command::new(program);
        let private = std::env::vars_os()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(PRIVATE.as_bytes()));
        for (name, _) in private {
            command.env_remove(name);
        }
        let mut child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| not_started(doing, program, &error))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (Some(group), (Some(stdin), Some(stdout), Some(stderr))) = (id, pipes) else {
            return Err(Error::new(Kind::Invalid, doing, "it has no pipes"));
        };
        let process = Self { child, group, farewell, is_gone: false };
        Ok((process, Pipes { stdin, stdout, stderr }))
    }

    pub(super) fn id(&self) -> NonZeroI32 {
        self.group.as_raw_nonzero()
    }

    /// Waits for it to end by itself, for as long as given, and then kills what is left of its
    /// group. Tells how it ended, if it did so by itself.
    pub(super) async fn bury(mut self, patience: Duration) -> Option<String> {
        let by_itself = self.ends_within(patience).await;
        self.kill().await.filter(|_| by_itself)
    }

    /// Lets it end: its standard input has been closed. Who doesn't is told to, and then killed.
    pub(super) async fn dismiss(mut self) {
        if !self.ends_within(self.farewell).await {
            send(self.group, Signal::TERM);
            self.ends_within(self.farewell).await;
        }
        self.kill().await;
    }

    async fn ends_within(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        while !has_ended(self.group) {
            if begun.elapsed() >= patience {
                return false;
            }
            sleep(GLANCE).await;
        }
        true
    }

    async fn kill(&mut self) -> Option<String> {
        send(self.group, Signal::KILL);
        let status = timeout(BURIAL, self.child.wait()).await.ok()?;
        self.is_gone = true;
        status.ok().map(|status| status.to_string())
    }
}

/// natd itself is ending, and nobody is left to do this without blocking. The pipes are closed by now.
impl Drop for Process {
    #[expect(clippy::disallowed_methods, reason = "the runtime is being shut down")]
    fn drop(&mut self) {
        if self.is_gone {
            return;
        }
        let wait = || {
            let begun = std::time::Instant::now();
            while !has_ended(self.group) && begun.elapsed() < self.farewell {
                std::thread::sleep(GLANCE);
            }
        };
        wait();
        if !has_ended(self.group) {
            send(self.group, Signal::TERM);
            wait();
        }
        send(self.group, Signal::KILL);
        wait();
        let _ = self.child.try_wait();
    }
}

/// Whether a child of natd's that has not been waited for has ended: it is a zombie, the `Z` after
/// the name in `/proc/PID/stat` (proc(5)). The name is in parentheses and may hold anything.
fn has_ended(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero();
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

/// To the group, not one process. One that is empty by now has what it was to have.
fn send(group: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(group, signal)
        && error != Errno::SRCH
    {
        tracing::debug!(group = group.as_raw_nonzero(), ?signal, %error, "not signalled");
    }
}

fn not_started(doing: &str, program: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound if Path::new(program).exists() => Error::new(
            Kind::NotFound,
            doing,
            format!("the interpreter that {program} names in its first line is not on this host"),
        )
        .with_advice("install it, or name it in plugin.command before the program"),
        io::ErrorKind::NotFound => {
            Error::new(Kind::NotFound, doing, format!("there is no program {program}"))
                .with_advice("correct plugin.command; plugins live in /usr/lib/natd/plugins")
        }
        io::ErrorKind::PermissionDenied => {
            Error::new(Kind::Denied, doing, format!("{program} is not executable"))
                .with_advice(format!("correct plugin.command, or chmod +x {program}"))
        }
        _ => Error::new(Kind::Invalid, doing, format!("{program} can't be run: {error}"))
            .with_advice("correct plugin.command"),
    }
}
