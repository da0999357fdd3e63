//! A machine with other programs that have a firewall of their own: ufw, firewalld and Docker, none of which starts by
//! itself; and what their rules are without natd's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::machine::Machine;
use crate::lab::natd::binary;
use crate::lab::run::run;

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
    /// Has natd on it as a service, with that configuration.
    pub fn install_natd(&self, configuration: &str) -> Result<()> {
        self.write("etc/natd/natd.toml", configuration)?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
        let (root, layer) = (root.display().to_string(), self.layer().display().to_string());
        let (layer, binary) =
            (format!("DESTDIR={layer}"), format!("BINARY={}", binary()?.display()));
        run("make", ["-C", &root, "install", &layer, "PREFIX=/usr", &binary]).map(drop)
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

/// The rules of everybody but natd, in order: each with its place and, where there is one, its handle, and how many
/// packets it has counted.
#[derive(Debug)]
pub struct Theirs(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// Table and chain.
    place: String,
    text: String,
    packets: Option<u64>,
}

impl Theirs {
    /// Those that there are now.
    pub fn of(machine: &Machine) -> Result<Self> {
        let listed = machine.sh("nft -a list ruleset")?;
        let (mut table, mut chain) = ("", "");
        let mut rules = Vec::new();
        for line in listed.lines().filter(|line| !["", "}"].contains(&line.trim())) {
            let text = line.trim_start();
            match line.len() - text.len() {
                0 => (table, chain) = (text, ""),
                1 => chain = text,
                _ => {}
            }
            let is_natds = table.starts_with("table inet natd")
                || chain.starts_with("chain NATD")
                || text.contains("jump NATD")
                || text.contains("comment \"natd");
            if !is_natds {
                let (text, packets) = without_counters(text);
                rules.push(Rule { place: format!("{table} {chain}"), text, packets });
            }
        }
        rules.extend(legacy(machine)?);
        Ok(Self(rules))
    }

    /// They are the same, and count on. What is in chains that were not there is not looked at: iptables makes its
    /// built-in ones when it is used.
    ///
    /// # Errors
    /// If one has been changed, made, moved, removed, or has lost count.
    pub fn are_untouched(&self, machine: &Machine) -> Result<()> {
        let mut now = Self::of(machine)?;
        now.0.retain(|now| self.0.iter().any(|before| before.place == now.place));
        let texts = |theirs: &Self| -> Vec<(String, String)> {
            theirs.0.iter().map(|rule| (rule.place.clone(), rule.text.clone())).collect()
        };
        ensure!(texts(self) == texts(&now), "before: {self:#?}\nnow: {now:#?}");
        for (before, now) in self.0.iter().zip(&now.0) {
            ensure!(now.packets >= before.packets, "it lost count: {before:?}, {now:?}");
        }
        Ok(())
    }
}

/// Those of iptables-legacy, which have no handles.
fn legacy(machine: &Machine) -> Result<Vec<Rule>> {
    let saved = machine.sh(
        "for table in $(cat /proc/net/ip_tables_names); do iptables-legacy-save -c -t $table; done 2>/dev/null",
    )?;
    let is_theirs =
        |line: &&str| !line.contains("NATD") && !line.contains("natd") && !line.starts_with('#');
    let rule = |line: &str| {
        let counted = line.strip_prefix('[').and_then(|line| line.split_once("] "));
        let (text, packets) = match counted {
            Some((counts, rule)) => {
                (rule, counts.split(':').next().and_then(|count| count.parse().ok()))
            }
            // A chain, with its policy's count.
            None => (line.split(" [").next().unwrap_or(line), None),
        };
        Rule { place: "legacy".to_owned(), text: text.to_owned(), packets }
    };
    Ok(saved.lines().filter(is_theirs).map(rule).collect())
}

/// The rule without what it has counted, and how many packets that were.
fn without_counters(rule: &str) -> (String, Option<u64>) {
    let Some((before, after)) = rule.split_once("counter packets ") else {
        return (rule.to_owned(), None);
    };
    let mut words = after.split(' ');
    let packets = words.next().and_then(|packets| packets.parse().ok());
    // And "bytes", and how many.
    let rest: Vec<&str> = words.skip(2).collect();
    (format!("{before}counter {}", rest.join(" ")), packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_told_from_what_it_has_counted() {
        let rule = "oifname \"docker0\" counter packets 7 bytes 420 jump DOCKER # handle 12";
        let without = "oifname \"docker0\" counter jump DOCKER # handle 12";
        assert_eq!(without_counters(rule), (without.to_owned(), Some(7)));
        assert_eq!(without_counters("accept # handle 2"), ("accept # handle 2".to_owned(), None));
    }
}
