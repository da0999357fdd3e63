//! natd killed in mid-air, at an exact moment, from outside: by a tracer, by a program that it runs, or while it waits
//! for the cloud's answer.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Lab;
use super::calls::Fault;
use super::daemon::Daemon;
use super::natd::{Nat, run};

/// What natd dies before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Its `nth` system call of that name, as `strace -e trace=` takes it, which is about one of these files. Calls of
    /// its main thread count.
    Call { name: &'static str, about: Vec<PathBuf>, nth: u32 },
    /// Its `nth` run of `nft`, `iptables` or `iptables-save`.
    Program { nth: u32 },
    /// Its hearing that the API has carried out the `nth` call of that action.
    Answer { action: &'static str, nth: usize },
}

impl Lab {
    /// Runs natd on a lab with a chosen back end, and kills it. Gives whether it came to that: else it ended by itself.
    pub fn natd_killed(&self, before: &Moment, arguments: &[&str]) -> Result<bool> {
        match before {
            Moment::Call { name, about, nth } => {
                self.nat.killed_by_tracer(name, about, *nth, arguments)
            }
            Moment::Program { nth } => self.nat.killed_by_program(*nth, arguments),
            Moment::Answer { action, nth } => self.killed_while_waiting(action, *nth, arguments),
        }
    }

    fn killed_while_waiting(&self, action: &str, nth: usize, arguments: &[&str]) -> Result<bool> {
        self.api_log_clear();
        self.fail(action, Fault::Delay(Duration::ZERO), nth - 1);
        self.fail(action, Fault::DelayAnswer(Duration::from_secs(4)), usize::MAX);
        let mut natd = Daemon::start(self.nat.command(arguments)?)?;
        let carried_out = || {
            let log = self.api_log();
            log.iter().filter(|call| call.action == action && call.status.is_some()).count()
        };
        let mut killed = false;
        while !killed && natd.is_running() {
            killed = carried_out() >= nth;
            thread::sleep(Duration::from_millis(2));
        }
        if killed {
            natd.kill()?;
            natd.wait(Duration::from_secs(10))?;
        }
        self.heal();
        Ok(killed)
    }
}

impl Nat {
    fn killed_by_tracer(
        &self,
        call: &str,
        about: &[PathBuf],
        nth: u32,
        arguments: &[&str],
    ) -> Result<bool> {
        let inject = format!("inject={call}:signal=KILL:when={nth}");
        let trace = format!("trace={call}");
        let mut wrapper = vec!["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        for path in about {
            wrapper.extend(["-P", path.to_str().context("a path in UTF-8")?]);
        }
        // strace ends as what it traces does.
        Ok(run(self.command_under(&wrapper, arguments)?)?.code.is_none())
    }

    fn killed_by_program(&self, nth: u32, arguments: &[&str]) -> Result<bool> {
        let programs = self.programs.as_ref().context("a lab with a chosen back end")?;
        let left = self.root.join("runs-left");
        for name in ["nft", "iptables", "iptables-save"] {
            arm(&programs.join(name), name, &left)?;
        }
        fs::write(&left, nth.to_string())?;
        let ended = run(self.command(arguments)?)?.code;
        // Whoever is not killed leaves the count behind.
        let _used_up = fs::remove_file(&left);
        Ok(ended.is_none())
    }
}

/// Puts a script in a program's place that counts down the runs of all of them and at the last kills who runs it.
fn arm(place: &Path, name: &str, left: &Path) -> Result<()> {
    let original = match fs::read_link(place) {
        Ok(target) => format!("{} {name}", target.display()),
        Err(_) if place.exists() => return Ok(()),
        Err(_) => format!("/usr/sbin/{name}"),
    };
    let left = left.display();
    let script = format!(
        "#!/bin/sh\n\
         if left=$(cat {left} 2>/dev/null); then\n\
         \tif [ \"$left\" = 1 ]; then rm {left}; kill -KILL $PPID; exit 1; fi\n\
         \techo $((left - 1)) >{left}\n\
         fi\n\
         exec {original} \"$@\"\n"
    );
    let _was_a_link = fs::remove_file(place);
    fs::write(place, script).with_context(|| format!("writing {}", place.display()))?;
    fs::set_permissions(place, Permissions::from_mode(0o755))?;
    Ok(())
}
