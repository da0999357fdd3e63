//! What natd has put there brings NAT back after a real reboot, without natd; and is gone after `natd down`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use natd_tests::boot::machine::{ADDRESS_IPV6, Machine};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 10);

/// What brings the rules back, and what there is of others.
struct Case {
    firewall: &'static str,
    persist: &'static str,
    /// The client's IPv6 is translated, too, until the configuration says otherwise.
    ipv6: bool,
    /// Services that are started at boot, and when.
    enabled: &'static [(&'static str, &'static str)],
    /// Files of others, which are scripts where their path says so.
    files: &'static [(&'static str, &'static str)],
    /// Shows that what is theirs is in force.
    theirs: &'static str,
}

/// What is there before natd's block takes its time: packets come in meanwhile.
const RC_LOCAL: (&str, &str) =
    ("etc/rc.local", "#!/bin/sh -e\n# mine\nsleep 1\ntouch /run/mine\n\nexit 0\n");
const RHEL_RC_LOCAL: (&str, &str) = ("etc/rc.d/rc.local", "#!/bin/bash\ntouch /run/mine\n");
const SAVED: &str = "# mine\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n-A FORWARD -j MINE\n-A MINE -s 192.0.2.0/24 -j DROP\nCOMMIT\n";

const THEIRS: &str =
    "iptables -C MINE -s 192.0.2.0/24 -j DROP && ip6tables -C MINE -s 2001:db8:bad::/48 -j DROP";
const SAVED_IPV6: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n-A FORWARD -j MINE\n-A MINE -s 2001:db8:bad::/48 -j DROP\nCOMMIT\n# mine";

/// As in the package iptables-services, which Debian lacks: what its script does at the start and at `save`. Both of
/// the services run the same one by two names.
const IPTABLES_INIT: &str = "#!/bin/sh
name=${0##*/}
name=${name%.init}
case $1 in
start) [ ! -s /etc/sysconfig/$name ] || $name-restore </etc/sysconfig/$name ;;
save) $name-save >/etc/sysconfig/$name ;;
esac
";
const IPTABLES_UNIT: &str = "[Unit]
Description=IPv4 firewall with iptables
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/libexec/iptables/iptables.init start
[Install]
WantedBy=basic.target
";
const IP6TABLES_UNIT: &str = "[Unit]
Description=IPv6 firewall with ip6tables
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/libexec/iptables/ip6tables.init start
[Install]
WantedBy=basic.target
";

const ONE: &str = "\"10.10.2.0/24\"";
const MORE: &str = "\"10.10.2.0/24\", \"10.20.0.0/16\"";

fn configuration(case: &Case, sources: &str, ipv6: bool) -> String {
    let ipv6 = if ipv6 { ", \"fd00:10:2::/64\"]\nmode = \"masquerade\"" } else { "]" };
    format!(
        "provider = \"none\"
[nat]
sources = [{sources}{ipv6}
exclude = [\"10.10.0.0/16\"]
firewall = \"{}\"
persist = \"{}\"
[routes]
interface = \"eth1\"
[conntrack.timeouts]
udp = \"47s\"
[verify]
targets = [\"198.51.100.10:80\"]
",
        case.firewall, case.persist
    )
}

fn machine(case: &Case) -> Result<Machine> {
    let machine = Machine::new()?;
    machine.write("etc/natd/natd.toml", &configuration(case, ONE, case.ipv6))?;
    for (path, text) in case.files {
        if *path == RHEL_RC_LOCAL.0 {
            // As the package has it: a link to a script that isn't run until somebody says so.
            machine.write(path, text)?;
            std::os::unix::fs::symlink("rc.d/rc.local", machine.layer().join("etc/rc.local"))?;
        } else if path.contains("rc.local") || path.contains("libexec") {
            machine.write_script(path, text)?;
        } else {
            machine.write(path, text)?;
        }
    }
    for (unit, target) in case.enabled {
        machine.enable(unit, target)?;
    }
    Ok(machine)
}

/// NAT works, by whom the internet saw, from the first packet on; and IPv6 that isn't asked for is not forwarded.
fn is_translated_from_the_first_packet(machine: &mut Machine, case: &Case) -> Result<()> {
    machine.cut_power()?;
    let (stream, ipv6) = (machine.wires().stream()?, machine.wires().stream_ipv6()?);
    machine.boot()?;
    ensure!(!machine.natd_has_run()?, "natd has run");
    stream.goes_on(20)?;
    ensure!(stream.sources() == [ADDRESS], "seen outside: {:?}", stream.sources());
    if case.ipv6 {
        ipv6.goes_on(20)?;
        ensure!(ipv6.sources() == [ADDRESS_IPV6], "seen outside: {:?}", ipv6.sources());
    } else {
        ensure!(ipv6.sources().is_empty(), "seen outside: {:?}", ipv6.sources());
    }
    Ok(())
}

fn survives(case: &Case) -> Result<()> {
    let mut machine = machine(case)?;
    machine.boot()?;
    let before = machine.files()?;
    let plan = machine.natd_ends(0, &["plan"])?;
    ensure!(plan.stdout.contains("after a reboot"), "{plan:#?}");
    ensure!(machine.files()? == before, "natd plan has changed files");

    machine.natd_ends(0, &["apply"])?;
    let run = machine.natd_ends(0, &["apply"])?;
    ensure!(!run.stdout.contains('✓'), "the second run did something: {run:#?}");
    let status = machine.natd_ends(0, &["status"])?;
    ensure!(
        status.stdout.contains("after a reboot") && !status.stdout.contains('✗'),
        "{status:#?}"
    );
    is_translated_from_the_first_packet(&mut machine, case)?;
    machine.sh(case.theirs)?;
    let timeout = machine.sh("cat /proc/sys/net/netfilter/nf_conntrack_udp_timeout")?;
    ensure!(timeout == "47\n", "connections are kept for {timeout}");

    // Upgraded in place: another source, in whatever was written before.
    let applied = machine.files()?;
    configure(&machine, &configuration(case, MORE, case.ipv6))?;
    machine.natd_ends(0, &["apply"])?;
    let names = |files: &str| -> Vec<String> {
        let paths = files.lines().filter_map(|line| line.split(' ').next());
        paths
            .take_while(|path| path.starts_with("etc") || path.starts_with("run"))
            .map(str::to_owned)
            .collect()
    };
    ensure!(names(&machine.files()?) == names(&applied), "other files after the upgrade");
    is_translated_from_the_first_packet(&mut machine, case)?;
    machine.sh(case.theirs)?;
    let rules = machine.sh(RULES)?;
    ensure!(rules.contains("10.20.0.0/16"), "the new source isn't in force: {rules}");
    is_there_once(case, &rules)?;

    if case.ipv6 {
        ipv6_goes_alone(&machine, case, &before)?;
    }

    // Removed: byte for byte as before, and another boot knows nothing of it.
    machine.natd_ends(0, &["down"])?;
    configure(&machine, &configuration(case, ONE, case.ipv6))?;
    let after = machine.files()?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    let own = machine.sh("ls -d /run/natd /var/lib/natd 2>/dev/null || true")?;
    ensure!(own.is_empty(), "natd down has left {own}");
    machine.reboot()?;
    machine.sh(case.theirs)?;
    let rules = machine.sh(RULES)?;
    ensure!(!rules.to_lowercase().contains("natd"), "{rules}");
    let forwards = machine.sh("cat /proc/sys/net/ipv[46]/conf/*/*forwarding | sort -u")?;
    ensure!(forwards == "0\n", "{forwards}");
    Ok(())
}

const RULES: &str = "nft list ruleset; iptables-save; ip6tables-save";

fn configure(machine: &Machine, text: &str) -> Result<()> {
    machine.sh(&format!("cat >/etc/natd/natd.toml <<'END'\n{text}END")).map(drop)
}

/// Without IPv6 sources nothing of natd's for IPv6 is left, in no file and not in the kernel.
fn ipv6_goes_alone(machine: &Machine, case: &Case, before: &str) -> Result<()> {
    configure(machine, &configuration(case, MORE, false))?;
    machine.natd_ends(0, &["apply"])?;
    let (files, rules) = (machine.files()?, machine.sh(RULES)?);
    ensure!(rules.contains("10.20.0.0/16") && !rules.contains("fd00:"), "{rules}");
    let of_ipv6 = |files: &str| -> Vec<String> {
        let is_theirs =
            |line: &&str| ["rules.v6", "ip6tables"].iter().any(|name| line.contains(name));
        files.lines().filter(is_theirs).map(str::to_owned).collect()
    };
    ensure!(of_ipv6(&files) == of_ipv6(before), "before:\n{before}\nafter:\n{files}");
    let left = machine.sh("grep -rlE 'fd00:|net/ipv6' /etc /run/sysctl.d 2>/dev/null || true")?;
    ensure!(left == "/etc/lab-network\n", "{left}");
    Ok(())
}

/// natd's rules are in force, and none of them twice.
fn is_there_once(case: &Case, rules: &str) -> Result<()> {
    if case.firewall == "nftables" {
        let once = 1 + usize::from(case.ipv6);
        ensure!(rules.matches("masquerade").count() == once, "not once: {rules}");
        return Ok(());
    }
    let own: Vec<&str> =
        rules.lines().filter(|line| line.starts_with("-A ") && line.contains("natd:")).collect();
    let distinct: BTreeSet<&&str> = own.iter().collect();
    ensure!(own.iter().any(|rule| rule.contains("MASQUERADE")), "no translation: {rules}");
    ensure!(own.len() == distinct.len(), "not once: {rules}");
    Ok(())
}

const NFTABLES: (&str, &str) = (
    "etc/nftables.conf",
    "#!/usr/sbin/nft -f\nflush ruleset\ntable inet mine {\n\tchain forward {\n\t\ttype filter hook forward priority 0;\n\t\tip saddr 192.0.2.0/24 drop\n\t}\n}",
);

#[test]
fn by_the_nftables_service_that_loads_rules_of_others() -> Result<()> {
    survives(&Case {
        firewall: "nftables",
        persist: "auto",
        ipv6: true,
        enabled: &[("nftables.service", "sysinit.target")],
        files: &[NFTABLES],
        theirs: "nft list table inet mine | grep -q 192.0.2.0/24",
    })
}

/// Which is disabled again with `natd down`.
#[test]
fn by_the_nftables_service_that_was_disabled() -> Result<()> {
    survives(&Case {
        firewall: "nftables",
        persist: "nftables",
        ipv6: false,
        enabled: &[],
        files: &[NFTABLES],
        theirs: "! systemctl -q is-enabled nftables || nft list table inet mine | grep -q 192.0.2.0/24",
    })
}

#[test]
fn by_rc_local_with_nftables() -> Result<()> {
    survives(&Case {
        firewall: "nftables",
        persist: "auto",
        ipv6: true,
        enabled: &[],
        files: &[RC_LOCAL],
        theirs: "test -e /run/mine && systemctl -q is-active rc-local",
    })
}

#[test]
fn by_rc_local_that_was_not_there_with_iptables() -> Result<()> {
    survives(&Case {
        firewall: "iptables",
        persist: "rc-local",
        ipv6: true,
        enabled: &[],
        files: &[("etc/iptables/rules.v4", SAVED), ("etc/iptables/rules.v6", SAVED_IPV6)],
        theirs: "iptables -C MINE -s 192.0.2.0/24 -j DROP
            ip6tables -C MINE -s 2001:db8:bad::/48 -j DROP
            [ ! -e /etc/rc.local ] || systemctl -q is-active rc-local",
    })
}

#[test]
fn by_rc_local_that_is_a_link_and_was_not_run() -> Result<()> {
    survives(&Case {
        firewall: "nftables",
        persist: "rc-local",
        ipv6: false,
        enabled: &[],
        files: &[RHEL_RC_LOCAL],
        theirs: "test -L /etc/rc.local
            [ ! -x /etc/rc.d/rc.local ] || { test -e /run/mine && systemctl -q is-active rc-local; }",
    })
}

#[test]
fn by_netfilter_persistent() -> Result<()> {
    survives(&Case {
        firewall: "iptables",
        persist: "auto",
        ipv6: true,
        enabled: &[],
        files: &[("etc/iptables/rules.v4", SAVED), ("etc/iptables/rules.v6", SAVED_IPV6)],
        theirs: THEIRS,
    })
}

#[test]
fn by_iptables_services() -> Result<()> {
    survives(&Case {
        firewall: "iptables",
        persist: "iptables-services",
        ipv6: true,
        enabled: &[],
        files: &[
            ("etc/sysconfig/iptables", SAVED),
            ("etc/sysconfig/ip6tables", SAVED_IPV6),
            ("usr/libexec/iptables/iptables.init", IPTABLES_INIT),
            ("usr/libexec/iptables/ip6tables.init", IPTABLES_INIT),
            // In place of the aliases that Debian has there.
            ("etc/systemd/system/iptables.service", IPTABLES_UNIT),
            ("etc/systemd/system/ip6tables.service", IP6TABLES_UNIT),
        ],
        // Before natd has it started at boot, it isn't.
        theirs: "! grep -q NATD /etc/sysconfig/iptables || { iptables -C MINE -s 192.0.2.0/24 -j DROP && ip6tables -C MINE -s 2001:db8:bad::/48 -j DROP; }",
    })
}

const PLAIN: Case = Case {
    firewall: "nftables",
    persist: "rc-local",
    ipv6: false,
    enabled: &[],
    files: &[RC_LOCAL],
    theirs: "",
};

/// An image of the machine is started with another address, or its interface has another name.
#[test]
fn a_clone_with_another_address_translates_to_that() -> Result<()> {
    let mut machine = machine(&PLAIN)?;
    machine.boot()?;
    machine.natd_ends(0, &["apply"])?;
    let rules = machine.sh("nft list ruleset")?;
    ensure!(rules.contains("snat ip to 10.10.1.10"), "{rules}");
    machine.cut_power()?;
    machine.has_address("10.10.1.77")?;
    let stream = machine.wires().stream()?;
    machine.boot()?;
    stream.goes_on(20)?;
    ensure!(stream.sources() == [Ipv4Addr::new(10, 10, 1, 77)], "{:?}", stream.sources());
    // natd then makes it the new address for good, and running connections go on.
    let mark = stream.mark();
    machine.natd_ends(0, &["apply"])?;
    let rules = machine.sh("nft list ruleset")?;
    ensure!(rules.contains("snat ip to 10.10.1.77"), "{rules}");
    stream.goes_on(20)?;
    ensure!(stream.lost_since(mark)? == 0, "datagrams were lost");
    Ok(())
}

#[test]
fn an_interface_with_another_name_lets_nothing_out_untranslated_until_natd_runs() -> Result<()> {
    let mut machine = machine(&PLAIN)?;
    machine.boot()?;
    machine.natd_ends(0, &["apply"])?;
    machine.cut_power()?;
    machine.is_wired("ens5", "10.10.1.10")?;
    let stream = machine.wires().stream()?;
    machine.boot_as("ens5")?;
    let there = machine.sh("nft list table inet natd")?;
    ensure!(there.contains("\"eth0\""), "{there}");
    ensure!(!stream.sources().contains(&ADDRESS.into()), "{:?}", stream.sources());
    machine.natd_ends(0, &["apply"])?;
    let now = machine.wires().stream()?;
    now.goes_on(20)?;
    ensure!(now.sources() == [ADDRESS], "{:?}", now.sources());
    let files = machine.sh("cat /etc/rc.local /etc/natd/boot.nft /etc/sysctl.d/90-natd.conf")?;
    ensure!(files.contains("ens5") && !files.contains("eth0"), "{files}");
    Ok(())
}

/// systemd's rule for network interfaces has systemd-sysctl apply what is written for one when it appears.
#[test]
fn an_interface_that_appears_late_gets_its_kernel_parameters() -> Result<()> {
    let mut machine = machine(&PLAIN)?;
    machine.boot()?;
    machine.natd_ends(0, &["apply"])?;
    machine.reboot()?;
    let rule =
        machine.sh("grep -h 'SUBSYSTEM==\"net\"' /lib/udev/rules.d/99-systemd.rules | grep RUN")?;
    ensure!(rule.contains("systemd-sysctl --prefix=/net/ipv4/conf/$name"), "{rule}");
    let keys = "cd /proc/sys/net/ipv4/conf/eth1; cat forwarding rp_filter send_redirects";
    let after_boot = machine.sh(keys)?;
    ensure!(after_boot == "1\n2\n0\n", "{after_boot}");
    machine.sh("ip link set eth1 down; ip link set eth1 name gone; ip link add eth1 type veth peer name eth2")?;
    ensure!(machine.sh(keys)? != after_boot, "the new interface has them already");
    // There is no udev in a container: what its rule does.
    machine.sh("/lib/systemd/systemd-sysctl --prefix=/net/ipv4/conf/eth1")?;
    ensure!(machine.sh(keys)? == after_boot, "{}", machine.sh(keys)?);
    Ok(())
}

#[test]
fn what_somebody_has_edited_is_shown_and_left_until_the_operator_says_so() -> Result<()> {
    let mut machine = machine(&PLAIN)?;
    machine.boot()?;
    let before = machine.files()?;
    machine.natd_ends(0, &["apply"])?;
    // Around natd's block anybody may write what they like.
    machine.sh("sed -i 's/^# mine/# mine, still/' /etc/rc.local")?;
    let run = machine.natd_ends(0, &["apply"])?;
    ensure!(!run.stdout.contains('✓'), "{run:#?}");
    machine.sh("sed -i 's/nft -f/nft --optimize -f/; s/^# mine, still/# mine/' /etc/rc.local")?;
    let edited = machine.files()?;
    for command in ["plan", "apply", "down"] {
        let run = machine.natd_ends(3, &[command])?;
        ensure!(run.stderr.contains("/etc/rc.local") && run.stderr.contains("--force"), "{run:#?}");
        ensure!(run.stderr.contains("nft --optimize -f"), "no diff: {run:#?}");
        ensure!(machine.files()? == edited, "{command} has changed files");
    }
    machine.natd_ends(0, &["apply", "--force"])?;
    ensure!(!machine.sh("cat /etc/rc.local")?.contains("--optimize"), "it is still edited");
    machine.sh("sed -i 's/nft -f/nft --optimize -f/' /etc/rc.local")?;
    machine.natd_ends(0, &["down", "--force"])?;
    ensure!(machine.files()? == before, "natd down --force has left something");
    Ok(())
}

#[test]
fn what_is_not_installed_names_its_package_and_nat_works_all_the_same() -> Result<()> {
    let case = Case { firewall: "iptables", persist: "iptables-services", ..PLAIN };
    let mut machine = machine(&case)?;
    machine.boot()?;
    let before = machine.files()?;
    let run = machine.natd_ends(1, &["apply"])?;
    ensure!(run.stdout.contains("install the package iptables-services"), "{run:#?}");
    ensure!(machine.files()? == before, "files were written");
    let stream = machine.wires().stream()?;
    stream.goes_on(20)?;
    ensure!(stream.sources() == [ADDRESS], "{:?}", stream.sources());
    Ok(())
}

/// Cut off from power in the middle of it, at any file.
#[test]
fn killed_before_any_write_the_next_run_makes_it_good() -> Result<()> {
    let mut machine = machine(&PLAIN)?;
    machine.boot()?;
    let before = machine.files()?;
    machine.natd_ends(0, &["apply"])?;
    let applied = machine.files()?;
    machine.natd_ends(0, &["down"])?;
    ensure!(machine.files()? == before, "natd down has left something");
    for rename in 1..=6 {
        machine.natd_killed_at_rename(rename, "apply")?;
        machine.natd_ends(0, &["apply"])?;
        ensure!(machine.files()? == applied, "killed at {rename} on the way up");
        machine.natd_killed_at_rename(rename, "down")?;
        machine.natd_ends(0, &["down"])?;
        ensure!(machine.files()? == before, "killed at {rename} on the way down");
    }
    Ok(())
}
