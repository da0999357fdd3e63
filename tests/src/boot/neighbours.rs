//! A machine with other programs that have a firewall of their own: ufw, firewalld and Docker, none of which starts by
//! itself.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result};
use serde_json::Value;

use super::machine::Machine;

/// What `tests/setup/install.sh` has made.
const TREE: &str = "/var/cache/natd-neighbours";

/// What Docker's containers need, beside all capabilities.
const RIGHTS: [&str; 2] = ["--capability=all", "--system-call-filter=@keyring bpf"];

/// What Docker would choose by itself can't be stacked on the layer of a machine.
const DAEMON: &str = "{\"storage-driver\": \"vfs\"}\n";

/// Containers get control groups of the second version, which a machine may write to whatever version this one has.
const DOCKER_UNIT: &str = "[Unit]
StartLimitBurst=100
[Service]
ExecStart=
ExecStart=unshare -m sh -c \"mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
exec dockerd --exec-opt native.cgroupdriver=cgroupfs -H fd://\"
";

impl Machine {
    /// What `natd plan` says is in the way, and what it says to type against that.
    pub fn in_the_way(&self) -> Result<(String, String)> {
        let run = self.natd_ends(0, &["plan", "--output", "json"])?;
        let plan: Value = serde_json::from_str(&run.stdout)?;
        let warnings = plan["warnings"].as_array().context("warnings")?;
        let warning = warnings.iter().find(|warning| warning["code"] == "in-the-way");
        let warning = warning.and_then(|warning| warning["message"].as_str());
        let warning = warning.with_context(|| format!("nothing is in the way: {run:#?}"))?;
        let (_, to_type) = warning.split_once("type: ").context("what to type")?;
        Ok((warning.to_owned(), to_type.to_owned()))
    }

    /// Runs `work` while the daemon, which is there, stands still and sees nothing.
    pub fn behind_natds_back<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.sh("systemctl kill -s STOP natd")?;
        let done = work();
        self.sh("systemctl kill -s CONT natd")?;
        done
    }

    /// A machine with ufw, firewalld and Docker, off. It may do whatever they need.
    pub fn with_neighbours() -> Result<Self> {
        let machine = Self::of(TREE, &RIGHTS)?;
        machine.write("etc/docker/daemon.json", DAEMON)?;
        machine.write("etc/systemd/system/docker.service.d/lab.conf", DOCKER_UNIT)?;
        // Docker starts a containerd of its own, which so has the same control groups.
        let units = machine.layer().join("etc/systemd/system");
        fs::create_dir_all(&units)?;
        symlink("/dev/null", units.join("containerd.service"))?;
        Ok(machine)
    }
}
