//! One network namespace: a machine of the lab, or a piece of its network.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::run::{feed, finish, run, succeeds};

/// A named network namespace, deleted when its last handle goes.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    file: File,
    deleted: AtomicBool,
}

impl Inner {
    fn delete(&self) {
        if !self.deleted.swap(true, Ordering::Relaxed) {
            succeeds("ip", ["netns", "delete", &self.name]);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.delete();
    }
}

impl Namespace {
    /// Makes the namespace, with its loopback interface up.
    pub fn create(name: String) -> Result<Self> {
        run("ip", ["netns", "add", &name])?;
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).with_context(|| format!("opening {path}"))?;
        let namespace = Self(Arc::new(Inner { name, file, deleted: AtomicBool::new(false) }));
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Takes its name away now, though somebody may still have a handle. It is gone with the last socket and process.
    pub fn delete(&self) {
        self.0.delete();
    }

    /// The name that `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Moves the calling thread, and the processes it starts from now on, into this namespace for good.
    pub fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.0.file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering the namespace {}", self.name()))
    }

    /// Does `work` inside this namespace: sockets made there stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().map(|()| work()));
            inside
                .join()
                .map_err(|_| anyhow!("a thread in the namespace {} panicked", self.name()))?
        })
    }

    /// Listens for TCP connections inside this namespace.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        self.run(|| TcpListener::bind(address))?
            .with_context(|| format!("listening on {address} in {}", self.name()))
    }

    /// Connects from inside this namespace.
    pub fn connect(&self, address: SocketAddr, within: Duration) -> Result<TcpStream> {
        self.run(|| TcpStream::connect_timeout(&address, within))?
            .with_context(|| format!("connecting to {address} from {}", self.name()))
    }

    /// A command that will run inside this namespace, as `ip netns exec` does: with its own `/sys`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name()]).arg(program);
        command
    }

    /// Runs a program inside and gives what it printed.
    ///
    /// # Errors
    /// If it fails; the error holds what it wrote to its standard error.
    pub fn exec<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        let mut words = words.into_iter();
        let program = words.next().context("exec needs a program")?;
        finish(self.command(program).args(words), "")
    }

    /// Runs `ip` commands, one a line, inside.
    pub fn ip(&self, lines: &str) -> Result<()> {
        feed("ip", ["-n", self.name(), "-batch", "-"], lines)
            .map(drop)
            .with_context(|| format!("ip commands were:\n{lines}"))
    }

    /// Loads a script of `nft` inside, in one transaction.
    pub fn nft(&self, script: &str) -> Result<()> {
        finish(self.command("nft").args(["-f", "-"]), script)
            .map(drop)
            .with_context(|| format!("nft script was:\n{script}"))
    }

    /// Reads a sysctl, given with dots: `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        let path = sysctl_path(key);
        let value =
            self.run(|| fs::read_to_string(&path))?.with_context(|| format!("reading {path}"))?;
        Ok(value.trim().to_owned())
    }

    /// Writes sysctls, given with dots.
    pub fn set_sysctls(&self, values: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in values {
                let path = sysctl_path(key);
                fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))?;
            }
            Ok(())
        })?
    }
}

/// `/proc/sys/net` shows the namespace of whoever opens it. A dot inside an interface's name is written as a slash.
fn sysctl_path(key: &str) -> String {
    let path: String = key
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    format!("/proc/sys/{path}")
}
