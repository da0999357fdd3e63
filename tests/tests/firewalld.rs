//! natd beside the real firewalld, with packets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natd_tests::boot::gateway::configuration;
use natd_tests::boot::machine::Machine;
use natd_tests::boot::theirs::Theirs;

fn machine(firewall: &str, neighbours: &str) -> Result<Machine> {
    let mut machine = Machine::with_neighbours()?;
    machine.install_natd(&configuration(firewall, neighbours))?;
    machine.enable("firewalld.service", "multi-user.target")?;
    machine.boot()?;
    machine.sh("firewall-cmd --permanent --zone=dmz --add-rich-rule='rule family=ipv4 source address=192.0.2.0/24 drop'; firewall-cmd --reload")?;
    Ok(machine)
}

/// firewalld's files; copies that it keeps of what it has changed or removed are its own affair.
fn files_of_firewalld(machine: &Machine) -> Result<String> {
    machine.sh("cd /etc/firewalld; find . -type f -not -name '*.old' | sort | xargs sha256sum; find . -not -name '*.old' -printf '%p %m %u %g\n' | sort")
}

#[test]
fn traffic_passes_firewalld() -> Result<()> {
    let machine = machine("nftables", "pass")?;
    let (rules, files) = (Theirs::on(&machine)?, files_of_firewalld(&machine)?);
    let run = machine.natd_ends(0, &["apply"])?;
    ensure!(run.stdout.contains("have firewalld let natd's traffic through"), "{run:#?}");
    machine.serves_all()?;
    ensure!(machine.firewalls(0)?.contains("none drops it"));

    let before = (Theirs::on(&machine)?, files_of_firewalld(&machine)?);
    let again = machine.natd_ends(0, &["apply"])?;
    ensure!(!again.stdout.contains('✓'), "the second run did something: {again:#?}");
    before.0.are_all_there(&machine)?;
    ensure!(files_of_firewalld(&machine)? == before.1, "the second run has changed files");

    machine.natd_ends(0, &["down"])?;
    ensure!(files_of_firewalld(&machine)? == files, "firewalld's files are not as they were");
    ensure!(Theirs::on(&machine)?.texts() == rules.texts(), "its rules are not as they were");
    let policies =
        machine.sh("firewall-cmd --get-policies; firewall-cmd --permanent --get-policies")?;
    ensure!(!policies.contains("natd"), "{policies}");
    Ok(())
}

/// By a reload, firewalld removes all rules of iptables: natd's own, and anybody else's.
#[test]
fn with_rules_of_iptables_it_is_not_reloaded_by_natd() -> Result<()> {
    for (firewall, theirs) in
        [("nftables", "iptables -A INPUT -s 192.0.2.7 -j DROP"), ("iptables", "true")]
    {
        let machine = machine(firewall, "pass")?;
        machine.sh(theirs)?;
        let files = files_of_firewalld(&machine)?;
        let before = Theirs::on(&machine)?;
        let run = machine.natd_ends(1, &["apply"])?;
        ensure!(run.stdout.contains("rules of iptables, which a reload removes"), "{run:#?}");
        before.are_all_there(&machine)?;
        // As it says; natd's own come back by the next tick, which is this.
        machine.sh("firewall-cmd --reload")?;
        machine.natd_ends(0, &["apply"])?;
        machine.serves_all()?;
        machine.sh(theirs)?;
        let before = Theirs::on(&machine)?;
        machine.natd_ends(0, &["down"])?;
        before.are_all_there(&machine)?;
        ensure!(!machine.sh("nft list ruleset")?.contains("policy_natd"), "natd's rules are left");
        ensure!(files_of_firewalld(&machine)? == files, "firewalld's files are not as they were");
    }
    Ok(())
}

#[test]
fn it_comes_back_whatever_firewalld_does() -> Result<()> {
    let machine = machine("nftables", "pass")?;
    machine.sh("systemctl start natd")?;
    machine.comes_to_verify("firewalld")?;
    let stream = machine.wires().stream()?;
    for command in [
        "firewall-cmd --reload",
        "firewall-cmd --complete-reload",
        "systemctl restart firewalld",
        "systemctl stop firewalld; sleep 2; systemctl start firewalld",
        // Moved, its traffic is no more for the zones that the policy names.
        "firewall-cmd --zone=internal --change-interface=eth1; firewall-cmd --zone=external --change-interface=eth0",
        "firewall-cmd --reload",
    ] {
        machine.sh(command)?;
        machine.comes_to_verify("firewalld").with_context(|| format!("after {command}"))?;
        let theirs = Theirs::on(&machine)?;
        stream.goes_on(5).with_context(|| format!("after {command}"))?;
        machine.serves_all().with_context(|| format!("after {command}"))?;
        theirs.are_all_there(&machine).with_context(|| format!("after {command}"))?;
    }
    drop(stream);
    // natd's policy is gone, and a flow begins before natd has seen that.
    machine.sh("systemctl kill -s STOP natd; firewall-cmd --permanent --delete-policy=natd; firewall-cmd --complete-reload")?;
    let stream = machine.wires().stream()?;
    std::thread::sleep(Duration::from_millis(200));
    ensure!(stream.sources().is_empty(), "nothing is in its way: {:?}", stream.sources());
    machine.sh("systemctl kill -s CONT natd")?;
    machine.comes_to_verify("firewalld")?;
    stream.goes_on(5)?;
    machine.serves_all()
}

/// Both zones are named, and in one zone nothing has to be asked for.
#[test]
fn it_passes_between_the_zones_of_its_interfaces() -> Result<()> {
    let machine = machine("nftables", "pass")?;
    machine.sh("firewall-cmd --permanent --zone=internal --add-interface=eth1; firewall-cmd --permanent --zone=external --add-interface=eth0; firewall-cmd --permanent --zone=external --remove-masquerade; firewall-cmd --reload")?;
    let files = files_of_firewalld(&machine)?;
    machine.natd_ends(0, &["apply"])?;
    machine.serves_all()?;
    let policy = machine.sh("cat /etc/firewalld/policies/natd.xml")?;
    ensure!(
        policy.contains("<ingress-zone name=\"internal\"/>")
            && policy.contains("<egress-zone name=\"external\"/>"),
        "{policy}"
    );
    // Changed without a reload: nobody else's rules are loaded anew.
    machine.sh("firewall-cmd --zone=internal --change-interface=eth0; firewall-cmd --zone=external --change-interface=eth1; firewall-cmd --zone=dmz --add-service=http")?;
    let theirs = Theirs::on(&machine)?;
    machine.natd_ends(0, &["apply"])?;
    machine.serves_all()?;
    theirs.are_all_there(&machine)?;
    ensure!(machine.sh("firewall-cmd --zone=dmz --query-service=http")?.contains("yes"));
    machine.sh("firewall-cmd --reload")?;
    machine.natd_ends(0, &["apply"])?;
    machine.serves_all()?;
    machine.natd_ends(0, &["down"])?;
    ensure!(files_of_firewalld(&machine)? == files, "firewalld's files are not as they were");

    machine.sh("firewall-cmd --permanent --zone=external --remove-interface=eth0; firewall-cmd --permanent --zone=internal --add-interface=eth0; firewall-cmd --reload")?;
    let (files, theirs) = (files_of_firewalld(&machine)?, Theirs::on(&machine)?);
    machine.natd_ends(0, &["apply"])?;
    machine.serves_all()?;
    theirs.are_all_there(&machine)?;
    ensure!(files_of_firewalld(&machine)? == files, "natd has asked for what is given");
    ensure!(
        machine.natd_ends(0, &["verify"])?.stdout.contains("firewalld lets natd's traffic through")
    );
    machine.natd_ends(0, &["down"])?;
    theirs.are_all_there(&machine)
}

/// What is set until the next reload only would be lost by one.
#[test]
fn what_is_not_saved_is_not_lost() -> Result<()> {
    let machine = machine("nftables", "pass")?;
    for unsaved in [
        "firewall-cmd --zone=dmz --add-service=http",
        "firewall-cmd --zone=dmz --change-interface=eth7",
        "firewall-cmd --direct --add-rule ipv4 filter INPUT 0 -p tcp --dport 9 -j ACCEPT",
        "firewall-cmd --permanent --zone=dmz --add-port=81/tcp",
        "firewall-cmd --permanent --new-ipset=mine --type=hash:net",
        "firewall-cmd --policy=allow-host-ipv6 --add-rich-rule='rule family=ipv6 source address=2001:db8::/32 accept'",
    ] {
        machine.sh(unsaved)?;
        let theirs = Theirs::on(&machine)?;
        let run = machine.natd_ends(1, &["apply"])?;
        let words = "what there is now would not be the same then: ";
        ensure!(run.stdout.contains(words), "{unsaved}: {run:#?}");
        theirs.are_all_there(&machine)?;
        let line = machine.firewalls(1)?;
        ensure!(line.contains("dropped by firewalld"), "{line}");
        // As it says.
        machine.sh("firewall-cmd --reload")?;
        machine.natd_ends(0, &["verify"])?;
        machine.serves_all()?;
        machine.natd_ends(0, &["down"])?;
        ensure!(!machine.sh("nft list ruleset")?.contains("policy_natd"), "natd's rules are left");
    }
    // natd goes without a reload then.
    machine.natd_ends(0, &["apply"])?;
    machine.sh("firewall-cmd --zone=dmz --add-service=http")?;
    let theirs = Theirs::on(&machine)?;
    machine.natd_ends(0, &["down"])?;
    ensure!(!machine.sh("nft list ruleset")?.contains("policy_natd"), "natd's rules are left");
    ensure!(machine.sh("firewall-cmd --zone=dmz --query-service=http")?.contains("yes"));
    theirs.are_all_there(&machine)?;
    machine.natd_ends(0, &["apply"])?;
    machine.serves_all()?;
    theirs.are_all_there(&machine)
}

#[test]
fn left_alone_it_is_named() -> Result<()> {
    let machine = machine("nftables", "report")?;
    let (rules, files) = (Theirs::on(&machine)?, files_of_firewalld(&machine)?);
    machine.natd_ends(0, &["apply"])?;
    let line = machine.firewalls(1)?;
    ensure!(
        line.contains("✗")
            && line.contains("dropped by firewalld: ")
            && line.contains("chain filter_FWD_public in table inet firewalld"),
        "{line}"
    );
    rules.are_all_there(&machine)?;
    ensure!(files_of_firewalld(&machine)? == files, "natd has changed firewalld's files");
    let (warning, to_type) = machine.in_the_way()?;
    ensure!(warning.contains("firewalld") && to_type.starts_with("firewall-cmd "), "{warning}");
    for command in ["verify", "status"] {
        let run = machine.natd_ends(1, &[command])?;
        ensure!(run.stdout.contains(&format!("type: {to_type}")), "{run:#?}");
    }

    machine.sh("firewall-cmd --panic-on")?;
    let line = machine.firewalls(1)?;
    ensure!(line.contains("dropped by firewalld: "), "{line}");
    machine.sh("firewall-cmd --panic-off")?;
    machine.sh(&to_type)?;
    ensure!(machine.firewalls(0)?.contains("✓"), "what was typed doesn't do");
    machine.serves_all()?;
    // It is the operator's, who takes it away again.
    machine.natd_ends(0, &["down"])?;
    let policies = machine.sh("firewall-cmd --get-policies")?;
    ensure!(policies.contains("nat-clients"), "it is gone: {policies}");
    machine.sh("firewall-cmd --permanent --delete-policy=nat-clients && firewall-cmd --reload")?;
    machine.natd_ends(0, &["apply"])?;
    // Nor is it the owner of what iptables has, but where it works with that.
    machine.sh("sed -i s/FirewallBackend=nftables/FirewallBackend=iptables/ /etc/firewalld/firewalld.conf; systemctl restart firewalld; until iptables -S FWD_public >/dev/null 2>&1; do sleep 0.1; done")?;
    let line = machine.firewalls(1)?;
    ensure!(
        line.contains("dropped by firewalld: ")
            && line.contains("chain FWD_public in table ip filter"),
        "{line}"
    );
    Ok(())
}
