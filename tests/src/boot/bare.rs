//! A Debian tree from which systemd is taken away, and whose scripts are run as an init of old would.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::machine::{NETWORK, TREE};
use super::wires::Wires;
use crate::lab::name::LabName;
use crate::lab::natd::{Run, binary, run};
use crate::lab::run::finish;

/// A machine whose kernel is a namespace, and whose root is a tree. Nothing of it runs on its own.
#[derive(Debug)]
pub struct Bare {
    name: LabName,
    wires: Wires,
    namespace: String,
    boots: u32,
}

impl Bare {
    /// A tree without systemd, at work, with its network up.
    pub fn new() -> Result<Self> {
        ensure!(std::path::Path::new(TREE).is_dir(), "{TREE} isn't there: make setup makes it");
        let name = LabName::unique()?;
        for folder in ["layer", "work", "root"] {
            fs::create_dir_all(name.folder().join(folder))?;
        }
        let mut wires = Wires::new(&name)?;
        let namespace = wires.plug_in(&name, 0, "eth0")?;
        let bare = Self { name, wires, namespace, boots: 0 };
        bare.sh("rm -rf /usr/lib/systemd /etc/systemd /usr/bin/systemctl /run/systemd")?;
        bare.sh(NETWORK)?;
        Ok(bare)
    }

    /// Client and internet.
    pub fn wires(&self) -> &Wires {
        &self.wires
    }

    /// A kernel that knows nothing, in which these scripts are run before the network comes up.
    pub fn reboot(&mut self, scripts: &str) -> Result<()> {
        self.boots += 1;
        self.wires.unplug();
        self.namespace = self.wires.plug_in(&self.name, self.boots, "eth0")?;
        self.sh(&format!("{scripts}\n{NETWORK}")).map(drop)
    }

    /// Each command has the tree mounted where only it sees it, so that nothing is left mounted.
    fn command(&self, program: &str) -> Result<Command> {
        let script = format!(
            "cd {}
             mount -t overlay overlay -o lowerdir={TREE},upperdir=layer,workdir=work root
             for shared in proc dev; do mount --rbind /$shared root/$shared; done
             [ -e root/usr/local/bin/natd ] || : >root/usr/local/bin/natd
             mount --bind {} root/usr/local/bin/natd
             exec chroot root env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \"$@\"",
            self.name.folder().display(),
            binary()?.display(),
        );
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "unshare", "-m", "sh", "-ec", &script]);
        command.args(["sh", program]).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a shell script and gives what it printed.
    pub fn sh(&self, script: &str) -> Result<String> {
        finish(self.command("sh")?.args(["-ec", script]), "")
    }

    /// Runs natd, for real, and has it end with that code.
    pub fn natd_ends(&self, code: i32, arguments: &[&str]) -> Result<Run> {
        let mut command = self.command("natd")?;
        command.args(arguments);
        let run = run(command)?;
        ensure!(run.code == Some(code), "natd {arguments:?} did not end with {code}: {run:#?}");
        Ok(run)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _gone_already = fs::remove_dir_all(self.name.folder());
    }
}
