//! natd as a service of a booted machine: installed, started, restarted, watched.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};
use natd_tests::boot::machine::Machine;
use natd_tests::lab::run::run;
use natd_tests::wait::until;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 10);

const CONFIGURATION: &str = "provider = \"none\"
[nat]
sources = [\"10.10.2.0/24\"]
exclude = [\"10.10.0.0/16\"]
[routes]
interface = \"eth1\"
[verify]
targets = [\"198.51.100.10:80\"]
";

/// A machine on which natd is installed.
fn machine() -> Result<Machine> {
    let machine = Machine::new()?;
    machine.install_natd(CONFIGURATION)?;
    Ok(machine)
}

fn property(machine: &Machine, name: &str) -> Result<String> {
    Ok(machine.sh(&format!("systemctl show --value -p {name} natd"))?.trim().to_owned())
}

#[test]
fn it_serves_and_a_restart_loses_no_packet() -> Result<()> {
    let mut machine = machine()?;
    machine.boot()?;
    ensure!(machine.sh("cat /etc/natd/natd.toml")? == CONFIGURATION, "it was overwritten");
    // Returns when natd is ready.
    machine.sh("systemctl enable --now natd")?;
    let status = property(&machine, "StatusText")?;
    ensure!(status.starts_with("NAT works"), "{status}");
    let stream = machine.wires().stream()?;
    stream.goes_on(20)?;
    let mark = stream.mark();
    machine.sh("systemctl restart natd")?;
    stream.goes_on(20)?;
    machine.sh("systemctl reload natd && systemctl is-active natd")?;
    stream.goes_on(20)?;
    ensure!(stream.sources() == [ADDRESS], "{:?}", stream.sources());
    ensure!(stream.lost_since(mark)? == 0, "datagrams were lost");
    let log = machine.sh("journalctl -u natd --no-pager -o cat")?;
    ensure!(log.contains("configuration reloaded") && !log.contains("ERROR"), "{log}");
    // Inside its sandbox it could send a canary, and see it come back.
    let status: serde_json::Value =
        serde_json::from_str(&machine.sh("natd status --output json")?)?;
    let checks = status["daemon"]["report"]["checks"].as_array().context("checks")?;
    let back = checks.iter().find(|check| check["name"] == "canary: way back");
    ensure!(back.is_some_and(|check| check["state"] == "ok"), "{checks:#?}");
    // Inside its sandbox it could write what brings NAT back after a reboot.
    ensure!(machine.sh("cat /etc/rc.local")?.contains("natd: begin"), "rc.local was not written");

    machine.cut_power()?;
    let stream = machine.wires().stream()?;
    machine.boot()?;
    stream.goes_on(20)?;
    ensure!(stream.sources() == [ADDRESS], "{:?}", stream.sources());
    until("natd says that NAT works", || {
        property(&machine, "StatusText").is_ok_and(|status| status.starts_with("NAT works"))
    });
    ensure!(property(&machine, "NRestarts")? == "0", "it was restarted");
    Ok(())
}

/// In its sandbox it runs iptables in the form that takes most, and has systemd enable a service.
#[test]
fn one_that_hangs_is_started_again() -> Result<()> {
    let mut machine = machine()?;
    machine.write("etc/natd/conf.d/iptables.toml", "[nat]\nfirewall = \"iptables\"\n")?;
    let links = machine.layer().join("etc/alternatives");
    std::fs::create_dir_all(&links)?;
    for family in ["iptables", "ip6tables"] {
        for part in ["", "-save", "-restore"] {
            let target = format!("/usr/sbin/{family}-legacy{part}");
            symlink(target, links.join(format!("{family}{part}")))?;
        }
    }
    machine.write("etc/systemd/system/natd.service.d/short.conf", "[Service]\nWatchdogSec=2\n")?;
    machine.boot()?;
    let is_enabled = "systemctl is-enabled netfilter-persistent || true";
    machine.sh("systemctl disable netfilter-persistent")?;
    machine.sh("systemctl start natd")?;
    let first = property(&machine, "MainPID")?;
    ensure!(machine.sh("iptables-legacy-save")?.contains("NATD-"), "no rules");
    let log = || machine.sh("journalctl -u natd --no-pager -o cat");
    ensure!(machine.sh(is_enabled)?.trim() == "enabled", "{}", log()?);
    // For longer than the watchdog waits it is well: ticks are 30 s apart.
    machine.sh("sleep 5")?;
    ensure!(property(&machine, "MainPID")? == first, "it was killed though it was well");
    machine.sh(&format!("kill -STOP {first}"))?;
    until("another natd runs", || {
        property(&machine, "MainPID").is_ok_and(|pid| pid != first && pid != "0")
            && property(&machine, "ActiveState").is_ok_and(|state| state == "active")
    });

    // What the unit has systemd make for it goes, too, and comes back with it.
    machine.sh("systemctl stop natd")?;
    machine.natd_ends(0, &["down"])?;
    let own = machine.sh("ls -d /run/natd /var/lib/natd 2>/dev/null || true")?;
    ensure!(own.is_empty(), "natd down has left {own}");
    ensure!(machine.sh(is_enabled)?.trim() == "disabled", "{}", log()?);
    machine
        .sh("systemctl start natd && test -e /run/natd/lock -a -e /var/lib/natd/journal.json")?;
    Ok(())
}

/// natd alone is told to stop, and what it has begun comes to its end.
#[test]
fn stopping_it_cuts_no_program_short() -> Result<()> {
    let mut machine = machine()?;
    let slow = "#!/bin/sh\ntouch /run/begun\nsleep 0.5\nexec /usr/sbin/nft \"$@\"\n";
    machine.write_script("usr/local/sbin/nft", slow)?;
    machine.boot()?;
    machine.sh("systemctl start natd")?;
    machine.sh("rm -f /run/begun; /usr/sbin/nft delete table inet natd")?;
    until("natd puts that right", || machine.sh("test -e /run/begun").is_ok());
    machine.sh("systemctl stop natd; /usr/sbin/nft list table inet natd")?;
    let log = machine.sh("journalctl -u natd --no-pager -o cat")?;
    ensure!(log.contains("stopped; the data path stays as it is"), "{log}");
    ensure!(!log.contains("signal") && !log.contains("ERROR"), "{log}");
    Ok(())
}

/// What the unit gives it is what it has, and nothing else.
#[test]
fn it_has_the_capabilities_of_its_unit_and_no_others() -> Result<()> {
    let mut machine = machine()?;
    machine.boot()?;
    machine.sh("systemctl start natd")?;
    let pid = property(&machine, "MainPID")?;
    let status = machine.sh(&format!("cat /proc/{pid}/status"))?;
    let capabilities = |of: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(of));
        line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok())
    };
    // CHOWN, DAC_OVERRIDE, FOWNER, NET_ADMIN, NET_RAW (capability.h).
    let expected = Some([0, 1, 3, 12, 13].iter().map(|number| 1 << number).sum());
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        ensure!(capabilities(set) == expected, "{set} {status}");
    }
    ensure!(status.contains("NoNewPrivs:\t1"), "{status}");
    Ok(())
}

#[test]
fn what_install_puts_there_uninstall_takes_away() -> Result<()> {
    let machine = Machine::new()?;
    machine.make("install")?;
    let layer = machine.layer();
    let configuration = std::fs::read_to_string(layer.join("etc/natd/natd.toml"))?;
    ensure!(configuration.contains("provider"), "{configuration}");
    let unit = std::fs::read_to_string(layer.join("etc/systemd/system/natd.service"))?;
    ensure!(unit.starts_with("[Unit]") && unit.contains("ExecStart=/usr/bin/natd run"), "{unit}");
    let plugins = layer.join("usr/lib/natd/plugins").display().to_string();
    let whole = "cd \"$1\" && test -x linux-router && python3 -B -c 'import natd_linux_router.conversation'";
    run("sh", ["-c", whole, "sh", &plugins])?;
    machine.make("uninstall")?;
    for (path, stays) in [
        ("usr/lib/natd/plugins/linux-router", false),
        ("usr/lib/natd/plugins/natd_linux_router", false),
        ("usr/bin/natd", false),
        ("etc/systemd/system/natd.service", false),
        ("etc/natd/natd.toml", true),
    ] {
        ensure!(layer.join(path).exists() == stays, "{path}");
    }
    Ok(())
}
