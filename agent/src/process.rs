//! Programs of the host that natd runs: with a deadline, off the async threads, and never left behind.

use std::{
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use natd_core::error::{Error, Kind, Result};
use rustix::{
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    thread::CapabilitySet,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

/// How long a killed program may take to be gone; longer, and the kernel itself is stuck.
pub(crate) const BURIAL: Duration = Duration::from_secs(1);

/// How much of what a program says about its failure goes into an error.
const COMPLAINT_CHARS: usize = 400;

/// A program that natd needs, and what to do if it is missing.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    package: &'static str,
    deadline: Duration,
}

/// What a program did before it ended.
#[derive(Debug, Clone)]
pub struct Output {
    program: String,
    status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said besides; for people, never to decide by.
    pub stderr: String,
}

impl Program {
    /// A path, or a name that is looked for in `PATH`; the package that brings it; and how long
    /// one run may take.
    pub fn new(path: impl Into<PathBuf>, package: &'static str, deadline: Duration) -> Self {
        Self { path: path.into(), package, deadline }
    }

    /// The same with another deadline.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// Runs it to its end. `doing` completes "could not …".
    ///
    /// # Errors
    /// `NotFound` with the package to install; `Denied` if it can't be executed; `Unreachable` if
    /// it is not done by the deadline: it is killed then. A program that fails is no error here,
    /// see [`Output::success`].
    pub async fn run(&self, doing: &str, args: &[&str], stdin: Option<&str>) -> Result<Output> {
        let mut child = Command::new(&self.path)
            .args(args)
            // What it prints is read: in the words that it was written with.
            .env("LC_ALL", "C")
            .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Who interrupts natd at a terminal, or kills its group, doesn't cut it short: ufw writes its
            // rules' files in place, and loses them if it is killed meanwhile.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| not_started(doing, &self.name(), self.package, &error))?;
        let (input, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let (Some(mut pipe), Some(text)) = (input, stdin) {
                // A program that ends without reading all of it says why by its exit status.
                let _ = pipe.write_all(text.as_bytes()).await;
            }
        };
        let work = async { tokio::join!(child.wait(), read(stdout), read(stderr), feed) };
        let Ok((status, stdout, stderr, ())) = timeout(self.deadline, work).await else {
            // Waited for, so that it can't do anything any more once this has returned.
            let _ = timeout(BURIAL, child.kill()).await;
            return Err(too_late(doing, &self.name(), self.deadline));
        };
        let unreadable = |error| Error::new(Kind::Invalid, doing, error);
        Ok(Output {
            program: self.name(),
            status: status.map_err(unreadable)?,
            stdout: stdout.map_err(unreadable)?,
            stderr: stderr.map_err(unreadable)?,
        })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl Output {
    /// What it printed, if it was successful.
    ///
    /// # Errors
    /// `Denied` if natd lacks `CAP_NET_ADMIN`; else `Invalid`, with what the program said.
    pub fn success(self, doing: &str) -> Result<String> {
        if self.status.success() {
            Ok(self.stdout)
        } else {
            Err(failed(doing, &self.program, self.status, &self.stderr))
        }
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn not_started(doing: &str, program: &str, package: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Error::new(Kind::NotFound, doing, format!("the program {program} is not on this host"))
                .with_advice(format!("install the package {package}"))
        }
        io::ErrorKind::PermissionDenied => {
            Error::new(Kind::Denied, doing, format!("the program {program} can't be executed"))
                .with_advice("run natd as root")
        }
        _ => Error::new(
            Kind::Invalid,
            doing,
            format!("the program {program} can't be started: {error}"),
        ),
    }
}

/// Programs tell a missing permission by words only; the kernel says for sure what this process,
/// and so its child, may do.
pub(crate) fn failed(doing: &str, program: &str, status: ExitStatus, stderr: &str) -> Error {
    if !may_administer_network() {
        return Error::new(
            Kind::Denied,
            doing,
            "not root: the capability CAP_NET_ADMIN is missing",
        )
        .with_advice("run natd as root, or give it CAP_NET_ADMIN");
    }
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let complaint: String = lines.join(" / ").chars().take(COMPLAINT_CHARS).collect();
    Error::new(Kind::Invalid, doing, format!("{program} failed ({status}): {complaint}"))
}

pub(crate) fn too_late(doing: &str, program: &str, deadline: Duration) -> Error {
    Error::new(Kind::Unreachable, doing, format!("{program} was not done after {deadline:?}"))
}

fn may_administer_network() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// Kills whatever that thread of this process has started and not waited for yet: the way to a
/// child of a library that keeps it to itself.
pub(crate) fn kill_children_of(thread: Pid) {
    let path = format!("/proc/self/task/{}/children", thread.as_raw_nonzero());
    let children = || -> Vec<Pid> {
        let list = std::fs::read_to_string(&path).unwrap_or_default();
        list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    };
    let handles: Vec<_> = children()
        .into_iter()
        .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
        .collect();
    // A process id that is a child's after the handle was made was the child's when it was made:
    // ids are not reused before the thread has waited for the child.
    let still = children();
    for (_, handle) in handles.into_iter().filter(|(pid, _)| still.contains(pid)) {
        // It may have ended by itself meanwhile.
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn program(name: &str) -> Program {
        Program::new(name, "coreutils", Duration::from_secs(10))
    }

    #[tokio::test]
    async fn more_than_a_pipe_holds_goes_in_and_comes_out() {
        let text = "0123456789abcdef".repeat(100_000);
        let output = program("cat").run("copy", &[], Some(&text)).await.expect("runs");
        assert_eq!(output.success("copy").expect("success"), text);
    }

    #[tokio::test]
    async fn a_program_that_does_not_read_is_no_trouble() {
        let text = "0123456789abcdef".repeat(100_000);
        let output = program("true").run("ignore", &[], Some(&text)).await.expect("runs");
        assert_eq!(output.success("ignore").expect("success"), "");
    }

    #[tokio::test]
    async fn a_failure_tells_what_the_program_said() {
        let output =
            program("sh").run("try", &["-c", "echo no >&2; exit 3"], None).await.expect("runs");
        let error = output.success("try").expect_err("a failure");
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(error.to_string(), "could not try: sh failed (exit status: 3): no");
    }

    #[tokio::test]
    async fn it_is_in_a_group_of_its_own() {
        let script = "echo $$ $(cut -d ' ' -f 5 /proc/$$/stat)";
        let output = program("sh").run("look", &["-c", script], None).await.expect("runs");
        let ids = output.success("look").expect("success");
        let (process, group) = ids.trim().split_once(' ').expect("two");
        assert_eq!(process, group);
    }

    #[tokio::test]
    async fn a_missing_program_names_its_package() {
        let nft = Program::new("/nowhere/nft", "nftables", Duration::from_secs(1));
        let error = nft.run("list tables", &[], None).await.expect_err("missing");
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.advice(), Some("install the package nftables"));
    }

    #[tokio::test]
    async fn a_program_past_its_deadline_is_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pid, late) = (folder.path().join("pid"), folder.path().join("late"));
        let script = format!("echo $$ > {}; sleep 1; touch {}", pid.display(), late.display());
        let slow = Program::new("sh", "dash", Duration::from_millis(300));
        let begun = Instant::now();
        let error = slow.run("wait", &["-c", &script], None).await.expect_err("too late");
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(begun.elapsed() < Duration::from_secs(1));
        let pid = std::fs::read_to_string(pid).expect("it ran");
        assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "still there");
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert!(!late.exists(), "it went on");
    }
}
