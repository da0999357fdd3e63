//! Hosts that lack something, refuse something, or let natd do no more than it needs: it serves all the same.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{assert_served, natd};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::natd::{Run, run};
use natd_tests::lab::state::State;
use natd_tests::on_every_back_end;

const TEST: &str = "etc/natd/conf.d/10-test.toml";

on_every_back_end!(the_capabilities_of_the_unit_are_enough_and_none_is_too_many);

/// Names the capabilities of the unit.
const CAPABILITIES: [&str; 5] = ["net_admin", "net_raw", "dac_override", "chown", "fowner"];

/// Runs natd as a root that has these capabilities and no others.
fn with(lab: &Lab, capabilities: &[&str], arguments: &[&str]) -> Result<Run> {
    let names = [&["-all"], capabilities].concat().join(",+");
    let (bounding, inherited) = (format!("--bounding-set={names}"), format!("--inh-caps={names}"));
    let outcome = run(lab.nat().command_under(&["setpriv", &bounding, &inherited], arguments)?)?;
    lab.sync()?;
    Ok(outcome)
}

/// A file that isn't root's, in a folder that root has no business in, as on images whose `/etc` somebody else fills.
fn somebodys_rc_local(lab: &Lab) -> Result<()> {
    lab.nat().write("etc/rc.local", "#!/bin/sh -e\nexit 0\n")?;
    let etc = lab.nat().root.join("etc");
    for (path, mode) in [(etc.join("rc.local"), 0o755), (etc, 0o755)] {
        chown(&path, Some(1234), Some(1234))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn the_capabilities_of_the_unit_are_enough_and_none_is_too_many(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    somebodys_rc_local(&lab)?;
    // Empty base chains of the iptables front end stay in the kernel.
    natd(&lab, 0, &["apply"])?;
    natd(&lab, 0, &["down"])?;
    let before = State::of(&lab)?;
    let rc_local = lab.nat().root.join("etc/rc.local");
    let seen = || -> Result<(u32, u32, String)> {
        let there = fs::metadata(&rc_local)?;
        Ok((there.uid(), there.mode(), fs::read_to_string(&rc_local)?))
    };
    let file = seen()?;
    let applied = with(&lab, &CAPABILITIES, &["apply"])?;
    ensure!(applied.code == Some(0), "{applied:#?}");
    assert_served(&lab);
    ensure!(seen()?.0 == 1234 && seen()?.2.contains("natd: begin"), "{:?}", seen()?);
    let down = with(&lab, &CAPABILITIES, &["down"])?;
    ensure!(down.code == Some(0) && seen()? == file, "{down:#?}");
    let now = State::of(&lab)?;
    ensure!(now == before, "{}", now.differences(&before));

    for missing in CAPABILITIES {
        // Only the iptables of old opens raw sockets.
        if missing == "net_raw" && back_end != BackEnd::IptablesLegacy {
            continue;
        }
        let left: Vec<&str> = CAPABILITIES.into_iter().filter(|name| *name != missing).collect();
        let outcome = with(&lab, &left, &["apply"])?;
        ensure!(outcome.code != Some(0), "{missing} is not needed: {outcome:#?}");
        natd(&lab, 0, &["down"])?;
    }
    Ok(())
}

/// The size of the table is the first namespace's affair; how long connections are kept is each one's own.
#[test]
fn what_the_kernel_refuses_of_connection_tracking_is_warned_of_and_the_rest_is_set() -> Result<()> {
    let lab = Lab::aws().build()?;
    let host = &lab.nat().namespace;
    let timeouts = [
        ("tcp_timeout_established", "86400"),
        ("udp_timeout", "40"),
        ("udp_timeout_stream", "180"),
        ("icmp_timeout", "7"),
    ];
    let key = |name: &str| format!("net.netfilter.nf_conntrack_{name}");
    let value = |name: &str| host.sysctl(&key(name));
    let before: Vec<String> =
        timeouts.iter().map(|(name, _)| value(name)).collect::<Result<_>>()?;
    let state = State::of(&lab)?;
    lab.nat().write(
        TEST,
        "[conntrack]\nmax = \"auto\"
[conntrack.timeouts]\ntcp_established = \"24h\"\nudp = \"40s\"\nudp_stream = \"3m\"\nicmp = \"7s\"\n",
    )?;
    let size = value("max")?;
    for command in ["apply", "apply"] {
        let run = natd(&lab, 0, &[command])?;
        let said = format!("{}{}", run.stdout, run.stderr);
        ensure!(said.contains("net.netfilter.nf_conntrack_max"), "no warning: {run:#?}");
        ensure!(run.stdout.contains("NAT works"), "{run:#?}");
    }
    ensure!(value("max")? == size, "a namespace has set it");
    for (name, expected) in timeouts {
        ensure!(value(name)? == expected, "{name} is {}", value(name)?);
    }
    assert_served(&lab);
    natd(&lab, 0, &["down"])?;
    for ((name, _), before) in timeouts.iter().zip(before) {
        ensure!(value(name)? == before, "{name} is {}", value(name)?);
    }
    let now = State::of(&lab)?;
    ensure!(now == state, "{}", now.differences(&state));
    Ok(())
}

/// As with `ipv6.disable=1`: the kernel has no parameters of it.
#[test]
fn without_ipv6_nothing_is_missed() -> Result<()> {
    let lab = Lab::aws().build()?;
    let without = "mount -t tmpfs natd /proc/sys/net/ipv6; exec \"$@\"";
    for (command, words) in
        [("apply", "NAT works"), ("apply", "NAT works"), ("status", "NAT works")]
    {
        let command = lab.nat().command_under(&["sh", "-c", without, "sh"], [command])?;
        let outcome = run(command)?;
        ensure!(outcome.code == Some(0) && outcome.stdout.contains(words), "{outcome:#?}");
        ensure!(!outcome.stdout.contains("ipv6"), "{outcome:#?}");
    }
    lab.sync()?;
    assert_served(&lab);
    Ok(())
}

/// All programs of this machine but one, in a folder.
fn programs_without(missing: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for from in ["/usr/sbin", "/usr/bin"] {
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            let name = path.file_name().context("a name")?;
            if name != missing && !folder.join(name).exists() {
                symlink(&path, folder.join(name))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_plan_tells_what_many_sources_cost_where_there_are_no_sets() -> Result<()> {
    let lab = Lab::aws().back_end(BackEnd::IptablesLegacy).build()?;
    let blocks: Vec<String> =
        (0..2000).map(|n| format!("\"10.{}.{}.1/32\"", 100 + n / 250, n % 250)).collect();
    let sources = format!("[nat]\nsources = [\"vpc\", {}]\n", blocks.join(", "));
    lab.nat().write(TEST, &sources)?;
    let plan = natd(&lab, 0, &["plan"])?;
    ensure!(!plan.stdout.contains("install ipset"), "{plan:#?}");

    let folder = lab.nat().root.join("without");
    programs_without("ipset", &folder)?;
    let iptables = lab.nat().root.join("bin");
    let path = format!("PATH={}:{}", iptables.display(), folder.display());
    let plan = run(lab.nat().command_under(&["env", &path], ["plan"])?)?;
    ensure!(plan.code == Some(0), "{plan:#?}");
    for words in ["iptables holds these 2004 blocks as", "rules in", "install ipset"] {
        ensure!(plan.stdout.contains(words), "nothing of {words:?} in {plan:#?}");
    }
    Ok(())
}
