//! A Debian tree that is booted, driven and cut off from power.

use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::wires::Wires;
use crate::lab::name::LabName;
use crate::lab::natd::{Run, binary, run};
use crate::lab::run::{finish, succeeds};

/// What `tests/setup/install.sh` has made.
pub(super) const TREE: &str = "/var/cache/natd-tree";
/// A boot takes two seconds on an idle machine.
const LONGEST_BOOT: Duration = Duration::from_secs(90);
/// The address that the machine has outside by IPv6.
pub const ADDRESS_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// Where control groups are, whichever version of them this machine has.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified";
/// Made by the last unit of a boot.
const BOOTED: &str = "run/lab-booted";

/// Brings up both interfaces, with the addresses that they usually have.
pub(super) const NETWORK: &str = "set -e
ip link set lo up
ip link set eth0 up
ip link set eth1 up
ip addr add 10.10.1.10/24 dev eth0
ip addr add 10.10.2.10/24 dev eth1
ip route add default via 10.10.1.1
ip addr add 2001:db8:1::10/64 dev eth0 nodad
ip addr add fd00:10:2::10/64 dev eth1 nodad
ip route add default via 2001:db8:1::1
";
/// The one outside.
const ADDRESS: &str = "10.10.1.10";

/// The network comes up when the services that load rules have had their turn, as with ifupdown, networkd and
/// `NetworkManager` (`systemd.special(7)`, `network-pre.target`).
const NETWORK_UNIT: &str = "[Unit]
DefaultDependencies=no
Wants=network-pre.target network.target
After=network-pre.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/lab-network
[Install]
WantedBy=multi-user.target
";
const BOOTED_UNIT: &str = "[Unit]
After=multi-user.target rc-local.service
[Service]
Type=oneshot
ExecStart=/usr/bin/touch /run/lab-booted
[Install]
WantedBy=multi-user.target
";

/// A machine: what it has written, and its boot if it runs. All of it is gone when this is dropped.
#[derive(Debug)]
pub struct Machine {
    name: LabName,
    tree: &'static str,
    /// What its root may do.
    rights: &'static [&'static str],
    /// The layer over the tree: what differs from a fresh Debian.
    layer: PathBuf,
    wires: Wires,
    boots: u32,
    boot: Option<Boot>,
}

#[derive(Debug)]
struct Boot {
    nspawn: Child,
    /// The machine's first process, as this machine knows it.
    init: Pid,
}

impl Machine {
    /// A machine with a fresh Debian, off.
    pub fn new() -> Result<Self> {
        Self::of(TREE, &["--capability=CAP_NET_ADMIN,CAP_NET_RAW"])
    }

    /// A machine with that tree, off; `rights` are what systemd-nspawn is told of what it may do.
    pub(super) fn of(tree: &'static str, rights: &'static [&'static str]) -> Result<Self> {
        ensure!(Path::new(tree).is_dir(), "{tree} isn't there: make setup makes it");
        let name = LabName::unique()?;
        let layer = name.folder().join("layer");
        for folder in ["layer", "work", "root"] {
            fs::create_dir_all(name.folder().join(folder))?;
        }
        let wires = Wires::new(&name)?;
        let machine = Self { name, tree, rights, layer, wires, boots: 0, boot: None };
        machine.has_address(ADDRESS)?;
        machine.write("etc/systemd/system/lab-network.service", NETWORK_UNIT)?;
        machine.write("etc/systemd/system/lab-booted.service", BOOTED_UNIT)?;
        let wants = machine.layer.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants)?;
        for unit in ["lab-network.service", "lab-booted.service"] {
            symlink(format!("/etc/systemd/system/{unit}"), wants.join(unit))?;
        }
        Ok(machine)
    }

    /// Client and internet.
    pub fn wires(&self) -> &Wires {
        &self.wires
    }

    /// The layer over the tree, while the machine is off.
    pub fn layer(&self) -> &Path {
        &self.layer
    }

    /// The address that the machine has outside from its next boot on.
    pub fn has_address(&self, address: &str) -> Result<()> {
        self.is_wired("eth0", address)
    }

    /// The name and the address of the interface outside from the next boot on.
    pub fn is_wired(&self, outside: &str, address: &str) -> Result<()> {
        let script = NETWORK.replace("eth0", outside).replace(ADDRESS, address);
        self.write("etc/lab-network", &script)
    }

    /// Writes a file while the machine is off.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        ensure!(self.boot.is_none(), "the machine runs");
        let path = self.layer.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Writes a script while the machine is off.
    pub fn write_script(&self, path: &str, text: &str) -> Result<()> {
        self.write(path, text)?;
        Ok(fs::set_permissions(self.layer.join(path), fs::Permissions::from_mode(0o755))?)
    }

    /// Has a unit started at boot, while the machine is off.
    pub fn enable(&self, unit: &str, target: &str) -> Result<()> {
        let wants = self.layer.join(format!("etc/systemd/system/{target}.wants"));
        fs::create_dir_all(&wants)?;
        Ok(symlink(format!("/lib/systemd/system/{unit}"), wants.join(unit))?)
    }

    /// Boots, and returns when all that starts at boot has.
    pub fn boot(&mut self) -> Result<()> {
        self.boot_as("eth0")
    }

    /// Boots with an interface of that name outside.
    pub fn boot_as(&mut self, outside: &str) -> Result<()> {
        ensure!(self.boot.is_none(), "the machine runs");
        self.boots += 1;
        let namespace = self.wires.plug_in(&self.name, self.boots, outside)?;
        let folder = self.name.folder();
        let log = fs::File::create(folder.join("boot.log"))?;
        // The layer is mounted where only this boot sees it, so that nothing is left mounted. And machines that
        // shared a control group would take each other's processes for their own.
        let script = format!(
            "set -e; cd {}
             mount -t overlay overlay -o lowerdir={tree},upperdir=layer,workdir=work root
             for groups in {CONTROL_GROUPS}; do
                 [ -e $groups/cgroup.procs ] || continue
                 mkdir -p $groups/{name}; echo $$ >$groups/{name}/cgroup.procs
             done
             exec \"$@\"",
            folder.display(),
            tree = self.tree,
            name = self.name,
        );
        let mut nspawn = Command::new("unshare")
            .args(["-m", "sh", "-c", &script, "sh", "systemd-nspawn", "-b", "-D", "root"])
            .arg(format!("--machine=natd-{}-{}", std::process::id(), self.boots))
            .arg(format!("--network-namespace-path=/run/netns/{namespace}"))
            .args(self.rights)
            .args(["--register=no", "--keep-unit"])
            .arg(format!("--bind-ro={}:/usr/local/bin/natd", binary()?.display()))
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting systemd-nspawn")?;
        let deadline = Instant::now() + LONGEST_BOOT;
        loop {
            if let Some(init) = booted_child(nspawn.id()) {
                self.boot = Some(Boot { nspawn, init });
                return Ok(());
            }
            if Instant::now() > deadline || nspawn.try_wait()?.is_some() {
                let log = fs::read_to_string(folder.join("boot.log")).unwrap_or_default();
                let _ended = nspawn.kill();
                let _status = nspawn.wait();
                bail!("it did not boot:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Cuts the power: no process gets to end what it was at.
    pub fn cut_power(&mut self) -> Result<()> {
        let Boot { mut nspawn, init } = self.boot.take().context("the machine is off")?;
        kill_process(init, Signal::KILL)?;
        nspawn.wait()?;
        let groups = format!(
            "for groups in {CONTROL_GROUPS}; do find $groups/{} -depth -type d -exec rmdir {{}} +; done",
            self.name
        );
        succeeds("sh", ["-c", &groups]);
        self.wires.unplug();
        Ok(())
    }

    /// Cuts the power and boots again, with a kernel that knows nothing.
    pub fn reboot(&mut self) -> Result<()> {
        self.cut_power()?;
        self.boot()
    }

    fn command(&self, program: &str) -> Result<Command> {
        let boot = self.boot.as_ref().context("the machine is off")?;
        let mut command = Command::new("nsenter");
        let init = boot.init.as_raw_nonzero().to_string();
        command.args(["--target", &init, "--all", "--", "env", "-i"]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(program);
        Ok(command)
    }

    /// Runs a shell script on the machine and gives what it printed.
    pub fn sh(&self, script: &str) -> Result<String> {
        finish(self.command("sh")?.args(["-ec", script]), "")
    }

    /// Runs natd on the machine, for real: its root is the machine's.
    pub fn natd(&self, arguments: &[&str]) -> Result<Run> {
        let mut command = self.command("natd")?;
        command.args(arguments).stdin(Stdio::null());
        run(command)
    }

    /// Runs natd and has it end with that code.
    pub fn natd_ends(&self, code: i32, arguments: &[&str]) -> Result<Run> {
        let run = self.natd(arguments)?;
        ensure!(run.code == Some(code), "natd {arguments:?} did not end with {code}: {run:#?}");
        Ok(run)
    }

    /// Runs natd and kills it before it renames a file for the `number`th time, which is how every file of
    /// its is written; it may have ended before.
    pub fn natd_killed_at_rename(&self, number: u32, command: &str) -> Result<()> {
        let boot = self.boot.as_ref().context("the machine is off")?;
        let init = boot.init.as_raw_nonzero().to_string();
        let inject = format!("inject=rename,renameat,renameat2:signal=KILL:when={number}");
        // strace is this machine's, and so stays outside.
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename,renameat,renameat2"]);
        traced.args(["-e", &inject, "nsenter", "--target", &init, "--all", "--"]);
        traced.args(["/usr/local/bin/natd", command]).stdin(Stdio::null());
        traced.stdout(Stdio::null()).stderr(Stdio::null());
        traced.status().context("running strace")?;
        Ok(())
    }

    /// Whether natd has run since the machine was booted: every run takes the lock there.
    pub fn natd_has_run(&self) -> Result<bool> {
        Ok(self.sh("[ ! -e /run/natd ] || echo yes")?.contains("yes"))
    }

    /// All files that natd could have changed, with their owners, modes, targets and contents.
    pub fn files(&self) -> Result<String> {
        self.sh(
            "cd /; find etc run/sysctl.d -not -path etc/lab-network -printf '%p %y %m %u %g %l\n' 2>/dev/null | sort || true
             find etc run/sysctl.d -type f -not -path etc/lab-network 2>/dev/null | sort | xargs sha256sum",
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.boot.is_some() {
            let _off_already = self.cut_power();
        }
        let _gone_already = fs::remove_dir_all(self.name.folder());
    }
}

/// The first process of a machine that has come up.
fn booted_child(nspawn: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let is_up = |pid: &&str| Path::new(&format!("/proc/{pid}/root/{BOOTED}")).exists();
    let init = children.split_whitespace().find(is_up)?;
    Pid::from_raw(init.parse().ok()?)
}
