//! Names that are unique on this machine, and the reaper of what killed test runs left behind.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fmt, fs};

use anyhow::{Context, Result};

use super::run::{run, succeeds};

const PREFIX: &str = "natd-lab";
const NAMESPACES: &str = "/run/netns";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The name of one lab: its process, when that process started (process ids come round again), and a number.
#[derive(Clone, Debug)]
pub struct LabName {
    owner: Owner,
    number: u32,
}

impl LabName {
    /// A name that no other lab on this machine has.
    pub fn unique() -> Result<Self> {
        Ok(Self {
            owner: Owner::of(std::process::id()).context("this process has no start time")?,
            number: COUNTER.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The name of the namespace that plays `role` in this lab.
    pub fn namespace(&self, role: &str) -> String {
        format!("{self}.{role}")
    }

    /// The folder that holds this lab's files. It isn't made here.
    pub fn folder(&self) -> PathBuf {
        std::env::temp_dir().join(self.to_string())
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", self.owner.pid, self.owner.started, self.number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    /// In clock ticks since boot.
    started: u64,
}

impl Owner {
    /// `None` if there is no such process.
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, and may hold spaces: count behind it.
        let after_name = stat.rsplit_once(')')?.1;
        let started = after_name.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, started })
    }

    fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.strip_prefix('.')?.split('.');
        Some(Self { pid: parts.next()?.parse().ok()?, started: parts.next()?.parse().ok()? })
    }

    fn is_gone(self) -> bool {
        Self::of(self.pid) != Some(self)
    }
}

/// Deletes the namespaces, their processes, and the folders of labs whose test process is gone.
///
/// Several test processes may do this at once: that something is gone already is no failure.
pub fn reap_orphans() -> Result<()> {
    for name in orphans(Path::new(NAMESPACES)) {
        let pids = run("ip", ["netns", "pids", &name]).unwrap_or_default();
        for pid in pids.split_whitespace() {
            succeeds("kill", ["-KILL", pid]);
        }
        succeeds("ip", ["netns", "delete", &name]);
    }
    let folders = std::env::temp_dir();
    for name in orphans(&folders) {
        let _gone_already = fs::remove_dir_all(folders.join(name));
    }
    Ok(())
}

fn orphans(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Owner::of_name(name).is_some_and(Owner::is_gone))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        let name = LabName::unique().expect("a name");
        let owner = Owner::of_name(&name.namespace("router")).expect("an owner");
        assert_eq!(owner, name.owner);
        assert!(!owner.is_gone());
        assert!(Owner { started: owner.started + 1, ..owner }.is_gone());
    }
}
