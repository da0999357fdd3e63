//! natd on the NAT instance: its files, its environment, and one run of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::back_end::BackEnd;
use super::daemon::Daemon;
use super::host::{Host, PATIENCE};
use super::http::{Request, send};

/// A run that takes longer hangs. `natd provider check` makes hundreds of calls, on a busy machine too.
const LONGEST_RUN: Duration = Duration::from_mins(4);

/// Where natd serves health and metrics, unless told otherwise.
const HEALTH: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9750));

/// How the names of variables begin that natd, or a cloud's own tool, would read.
const CLOUDS_AND_NATD: [&str; 4] = ["AWS_", "HUAWEICLOUD_", "OS_", "NATD_"];

/// The NAT instance.
#[derive(Debug)]
pub struct Nat {
    pub(super) host: Host,
    /// What natd is given as `--root`.
    pub root: PathBuf,
    /// What natd finds in its environment of the cloud.
    environment: Vec<(&'static str, String)>,
    /// Where programs are looked for ahead of the usual places.
    pub(super) programs: Option<PathBuf>,
}

impl Deref for Nat {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Nat {
    pub(super) fn new(host: Host, root: PathBuf, environment: Vec<(&'static str, String)>) -> Self {
        Self { host, root, environment, programs: None }
    }

    /// Writes `/etc/natd/natd.toml`.
    pub fn configure(&self, toml: &str) -> Result<()> {
        self.write("etc/natd/natd.toml", toml)
    }

    /// Has natd put its rules there from now on. It is a file of `conf.d`, which a new `natd.toml` leaves in force.
    pub(super) fn use_back_end(&mut self, back_end: BackEnd) -> Result<()> {
        self.programs = Some(back_end.programs(&self.root)?);
        let firewall = back_end.setting();
        self.write("etc/natd/conf.d/00-lab.toml", &format!("[nat]\nfirewall = {firewall:?}\n"))
    }

    /// Writes a file below natd's root.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a file below natd's root; `None` if there is no such file.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// All files and folders below natd's root, with the files' contents.
    pub fn files(&self) -> Result<BTreeMap<PathBuf, Option<Vec<u8>>>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let (path, kind) =
                    entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
                let content = if kind.is_file() { Some(fs::read(&path)?) } else { None };
                if kind.is_dir() {
                    folders.push(path.clone());
                }
                found.insert(path, content);
            }
        }
        Ok(found)
    }

    /// natd with these arguments, ready to run in the instance. Of the cloud it is told what the cloud's
    /// [`environment`](super::cloud::Cloud::environment) says, and nothing of the tests' own.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Command> {
        self.command_under(&[], arguments)
    }

    /// natd started by another program: `["strace", "-f"]`.
    pub fn command_under<S: AsRef<OsStr>>(
        &self,
        wrapper: &[&str],
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Command> {
        let binary = binary()?;
        let mut command = match wrapper {
            [] => self.namespace.command(&binary),
            [program, rest @ ..] => {
                let mut command = self.namespace.command(program);
                command.args(rest).arg(&binary);
                command
            }
        };
        command.arg("--root").arg(&self.root).args(arguments);
        forget_environment(&mut command);
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("HOME", &self.root)
            .stdin(Stdio::null());
        if let Some(programs) = &self.programs {
            look_first_in(&mut command, programs)?;
        }
        Ok(command)
    }

    /// Runs natd to its end.
    pub fn natd<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Run> {
        run(self.command(arguments)?)
    }

    /// What the daemon answers to a health check or a scrape: status and text.
    pub fn health(&self, path: &str) -> Result<(u16, String)> {
        let stream = self.namespace.connect(HEALTH, PATIENCE)?;
        let request =
            Request { method: "GET".to_owned(), target: path.to_owned(), ..Request::default() };
        let response = send(stream, HEALTH, &request, PATIENCE)?;
        Ok((response.status, String::from_utf8_lossy(&response.body).into_owned()))
    }

    /// Starts the daemon, `natd run` with these further arguments.
    pub fn daemon<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Daemon> {
        let mut command = self.command(["run"])?;
        command.args(arguments);
        Daemon::start(command)
    }
}

/// Keeps from natd, or another program of the cloud's, what the tests' own environment would tell it.
pub fn forget_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if CLOUDS_AND_NATD.iter().any(|prefix| name_text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// Has a command find programs in this folder ahead of the usual places.
pub fn look_first_in(command: &mut Command, folder: &Path) -> Result<()> {
    command.env("PATH", first_in(folder)?);
    Ok(())
}

/// The `PATH` by which programs are found in this folder ahead of the usual places.
pub fn first_in(folder: &Path) -> Result<OsString> {
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let path = iter::once(folder.to_owned()).chain(std::env::split_paths(&usual));
    std::env::join_paths(path).context("PATH")
}

/// Runs a command to its end, with its output read as it comes.
pub fn run(mut command: Command) -> Result<Run> {
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let stdout = child.stdout.take().map(|pipe| thread::spawn(|| read_all(pipe)));
    let stderr = child.stderr.take().map(|pipe| thread::spawn(|| read_all(pipe)));
    let code = wait(&mut child, started + LONGEST_RUN).with_context(|| format!("{command:?}"))?;
    let took = started.elapsed();
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader.and_then(|r| r.join().ok()).unwrap_or_default()
    };
    Ok(Run { code, stdout: text(stdout), stderr: text(stderr), took })
}

fn wait(child: &mut Child, deadline: Instant) -> Result<Option<i32>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {LONGEST_RUN:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn read_all(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    let _cut_short = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `NATD_BIN`, or the one that cargo built beside this program.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NATD_BIN") {
        return Ok(path.into());
    }
    let me = std::env::current_exe().context("where is this program?")?;
    let beside = |folder: &Path| Some(folder.join("natd")).filter(|path| path.is_file());
    // Tests are in target/debug/deps, other programs in target/debug.
    me.ancestors().skip(1).take(2).find_map(beside).with_context(|| {
        format!(
            "no natd beside {}: `cargo build -p natd` makes it, or NATD_BIN says where it is",
            me.display()
        )
    })
}
