//! What the steps are done with: `iptables-restore` for natd's own chains, and the `iptables` crate
//! for the single rules that lead there, off the async threads and under one deadline.
//!
//! The `iptables` crate waits without a bound: for the xtables lock if it passes `--wait`, and for
//! its child in any case; and iptables-legacy 1.8.9 (Debian 12) waits for the lock for ever without
//! `--wait`, too. So each command gets `--wait SECONDS`, no command starts after the deadline or
//! after the caller is gone, and a command that runs past it is killed.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

use iptables::IPTables;
use natd_core::error::{Error, Kind, Result};
use rustix::{
    fs::{FlockOperation, flock},
    thread::gettid,
};
use tokio::{task::spawn_blocking, time::timeout};

use super::steps::{Commit, Jump, Step};
use crate::process::{self, Program};

/// The exit status by which iptables says that it didn't get the lock, among other things
/// (`RESOURCE_PROBLEM` in its `xtables.h`).
const RESOURCE_PROBLEM: i32 = 4;

/// How often a command that outlived the deadline is killed until its thread has ended: the thread
/// may have been about to start it.
const KILL_INTERVAL: Duration = Duration::from_millis(100);

/// How long one line of a commit may take: iptables-nft takes seconds for tens of thousands.
const LINE: Duration = Duration::from_millis(1);

/// The programs, and what bounds them.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    pub program: &'static str,
    pub restore: Program,
    pub deadline: Duration,
    /// The file whose lock iptables-legacy takes for each command.
    pub lock: PathBuf,
}

impl Commands {
    /// Runs the steps up to the first that fails.
    pub(super) async fn run(&self, doing: &'static str, steps: Vec<Step>) -> Result<()> {
        let mut steps = steps.into_iter().peekable();
        while let Some(step) = steps.next() {
            match step {
                Step::Commit(commit) => self.commit(doing, &commit).await?,
                Step::Jump { table, jump } => {
                    let mut jumps = vec![(table, jump)];
                    while let Some(Step::Jump { table, jump }) =
                        steps.next_if(|step| matches!(step, Step::Jump { .. }))
                    {
                        jumps.push((table, jump));
                    }
                    self.jump(doing, jumps).await?;
                }
            }
        }
        Ok(())
    }

    async fn commit(&self, doing: &'static str, commit: &Commit) -> Result<()> {
        let lines = u32::try_from(commit.len()).unwrap_or(u32::MAX);
        let deadline = self.deadline + LINE.saturating_mul(lines);
        // A second less, so that the program tells itself that it didn't get the lock.
        let wait = self.deadline.as_secs().saturating_sub(1).max(1).to_string();
        let args = ["--noflush", "--wait", &wait];
        let run = self.restore.within(deadline).run(doing, &args, Some(&commit.to_string())).await;
        match run.and_then(|output| output.success(doing)) {
            Ok(_) => Ok(()),
            Err(_) if self.lock_is_held() => Err(self.too_late(doing)),
            Err(error) => Err(error),
        }
    }

    async fn jump(&self, doing: &'static str, jumps: Vec<(String, Jump)>) -> Result<()> {
        let (caller, gone) = mpsc::channel();
        let thread = Arc::new(OnceLock::new());
        let job = Job {
            commands: self.clone(),
            doing,
            until: Instant::now() + self.deadline,
            caller: gone,
        };
        let mut ended = spawn_blocking({
            let thread = Arc::clone(&thread);
            move || {
                let _ = thread.set(gettid());
                job.run(&jumps)
            }
        });
        if let Ok(ended) = timeout(self.deadline, &mut ended).await {
            return ended.unwrap_or_else(|error| Err(Error::new(Kind::Invalid, doing, error)));
        }
        drop(caller);
        let end = async {
            loop {
                if let Some(thread) = thread.get() {
                    process::kill_children_of(*thread);
                }
                if timeout(KILL_INTERVAL, &mut ended).await.is_ok() {
                    break;
                }
            }
        };
        let _ = timeout(process::BURIAL, end).await;
        Err(self.too_late(doing))
    }

    fn too_late(&self, doing: &str) -> Error {
        if self.lock_is_held() {
            let lock = self.lock.display();
            Error::new(
                Kind::Unreachable,
                doing,
                format!("another program holds the xtables lock {lock}"),
            )
            .with_advice("see who holds it with fuser, and end that program")
        } else {
            process::too_late(doing, self.program, self.deadline)
        }
    }

    /// Asks by taking it for an instant: only after a failure, since others may not wait for it.
    fn lock_is_held(&self) -> bool {
        File::open(&self.lock).is_ok_and(|file| {
            flock(file, FlockOperation::NonBlockingLockExclusive)
                == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }
}

/// What the blocking thread has.
struct Job {
    commands: Commands,
    doing: &'static str,
    until: Instant,
    /// Closed when nobody waits for the outcome any more.
    caller: Receiver<()>,
}

impl Job {
    fn run(&self, jumps: &[(String, Jump)]) -> Result<()> {
        let iptables = IPTables {
            cmd: self.commands.program,
            has_check: true,
            has_wait: false,
            is_numeric: false,
        };
        jumps.iter().try_for_each(|(table, jump)| self.step(&iptables, table, jump))
    }

    fn step(&self, iptables: &IPTables, table: &str, jump: &Jump) -> Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.caller.try_recv() != Err(TryRecvError::Empty) {
            return Err(self.commands.too_late(self.doing));
        }
        let command = format!("--wait {} {}", left.as_secs().max(1), jump);
        let output =
            iptables.execute(table, &command).map_err(|error| self.not_started(error.as_ref()))?;
        if output.status.success() {
            Ok(())
        } else if output.status.code() == Some(RESOURCE_PROBLEM) && self.commands.lock_is_held() {
            Err(self.commands.too_late(self.doing))
        } else {
            let program = format!("{} -t {table} {jump}", self.commands.program);
            Err(process::failed(
                self.doing,
                &program,
                output.status,
                &String::from_utf8_lossy(&output.stderr),
            ))
        }
    }

    fn not_started(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        match error.downcast_ref::<io::Error>() {
            Some(error) => {
                process::not_started(self.doing, self.commands.program, super::PACKAGE, error)
            }
            None => Error::new(Kind::Invalid, self.doing, error),
        }
    }
}
