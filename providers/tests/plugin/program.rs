//! Programs for tests: written to a folder, started as plugins, and looked after.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use natd_core::{config, error::Result};
use natd_providers::plugin::{Limits, Plugin};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Short waits.
pub const HASTY: Limits = Limits {
    first_backoff: Duration::from_millis(20),
    longest_backoff: Duration::from_mins(1),
    farewell: Duration::from_millis(500),
    longest_line: 1 << 20,
    attempts: 5,
    first_retry: Duration::from_millis(1),
};

/// What every plugin in shell says first.
pub const HELLO: &str =
    r#"read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"protocol":1,"name":"test"}}'"#;

/// A plugin in a folder of its own.
pub struct Program {
    pub folder: tempfile::TempDir,
    pub options: config::Plugin,
}

impl Program {
    /// In shell. `$DIR` is its folder, and `$DIR/pids` gets the id of each process that it is.
    pub fn shell(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().display().to_string();
        let path = folder.path().join("plugin");
        write(&path, &format!("#!/bin/sh\nDIR='{dir}'\necho $$ >> \"$DIR/pids\"\n{script}\n"));
        Self::of(folder, vec!["sh".to_owned(), path.display().to_string()])
    }

    /// In Python.
    pub fn python(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plugin.py");
        write(&path, script);
        let asked = format!("ASKED={}", folder.path().join("asked").display());
        let command =
            ["env".to_owned(), asked, "python3".to_owned(), path.display().to_string()].into();
        Self::of(folder, command)
    }

    fn of(folder: tempfile::TempDir, command: Vec<String>) -> Self {
        let settings = [("colour".to_owned(), json!("blue"))].into_iter().collect();
        // Generous: other tests keep the machine busy.
        let timeout = Duration::from_mins(1);
        Self { folder, options: config::Plugin { command, timeout, settings } }
    }

    pub fn patient_for(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    pub async fn connect(&self) -> Result<Plugin> {
        Plugin::connect_with(self.options.clone(), HASTY).await
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a file of its holds; nothing if there is none.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Requests that the good plugin wrote down, less the first one.
    pub fn asked(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).expect("JSON");
        self.file("asked").lines().skip(1).map(parse).collect()
    }

    /// The ids of the processes that it was, in their order.
    pub fn pids(&self) -> Vec<u32> {
        self.file("pids").lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// Waits until a file of its is there and whole.
    pub async fn awaits(&self, name: &str) -> String {
        until(&format!("the file {name}"), || self.file(name).ends_with('\n')).await;
        self.file(name)
    }

    /// What it has started itself and noted in `$DIR/children`.
    fn children(&self) -> Vec<u32> {
        self.file("children").lines().map(|line| line.parse().expect("a number")).collect()
    }

    pub fn children_are_alive(&self) -> bool {
        !self.children().is_empty() && self.children().into_iter().all(is_alive)
    }

    /// Waits until no process of its is left, not even as a zombie, and none that it has started.
    pub async fn leaves_nothing(&self) {
        for pid in self.pids() {
            until(&format!("the end of {pid}"), || !is_there(pid)).await;
        }
        for pid in self.children() {
            until(&format!("the end of the child {pid}"), || !is_alive(pid)).await;
        }
    }
}

/// Whether there is such a process, a zombie included.
pub fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether there is such a process and it is no zombie: who waits for orphans is the host's affair.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits for something that comes soon, and for a minute at most.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what} doesn't come");
        sleep(Duration::from_millis(10)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of a test")]
fn write(path: &Path, script: &str) {
    fs::write(path, script).expect("written");
}
