//! Somebody's own rules beside natd, which drop what they don't know: natd names the rule and what to type, and what was
//! typed does; whatever is reloaded, natd's rules are back at once.

use anyhow::{Context, Result, ensure};
use natd_tests::boot::gateway::ADDRESS;
use natd_tests::boot::machine::Machine;
use natd_tests::boot::theirs::Theirs;

/// As it is often written: it takes everybody's rules away, and drops in `forward`.
const RULESET: &str = "#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    chain input {
        type filter hook input priority 0; policy accept;
        counter
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ip saddr 192.0.2.0/24 counter accept
        # HERE
    }
}
";

fn configuration(firewall: &str) -> String {
    format!(
        "provider = \"none\"
[nat]
sources = [\"10.10.2.0/24\"]
exclude = [\"10.10.0.0/16\"]
firewall = \"{firewall}\"
persist = \"none\"
[routes]
interface = \"eth1\"
[verify]
targets = [\"198.51.100.10:80\"]
interval = \"10m\"
[service]
interval = \"10m\"
"
    )
}

/// A machine with these rules, which are loaded by that command.
fn machine(firewall: &str, ruleset: &str, load: &str) -> Result<Machine> {
    let mut machine = Machine::with_neighbours()?;
    machine.install_natd(&configuration(firewall))?;
    machine.write("etc/nftables.conf", ruleset)?;
    machine.boot()?;
    machine.sh(load)?;
    Ok(machine)
}

/// natd names that rule before and after it has done all that it can, and what it says to type helps.
fn is_named_and_what_is_typed_helps(machine: &Machine, rule: &str, lost: &str) -> Result<()> {
    let (warning, to_type) = machine.in_the_way()?;
    ensure!(warning.contains(rule), "{warning}");
    let theirs = Theirs::on(machine)?;
    machine.natd(&["apply"])?;
    ensure!(!machine.wires().client_gets_out(), "nothing is in the way");
    for command in ["verify", "status"] {
        let run = machine.natd_ends(1, &[command])?;
        ensure!(run.stdout.contains("canary: firewalls"), "{run:#?}");
        ensure!(run.stdout.contains(lost), "{run:#?}");
        ensure!(run.stdout.contains(&format!("type: {to_type}")), "{to_type} isn't in {run:#?}");
    }
    theirs.are_untouched(machine)?;
    machine.sh(&to_type)?;
    machine.serves()?;
    for command in ["verify", "status", "plan"] {
        let run = machine.natd_ends(0, &[command])?;
        ensure!(!run.stdout.contains("type: "), "{run:#?}");
    }
    ensure!(!machine.wires().client_gets_at_metadata(), "a client gets at the metadata service");
    Ok(())
}

#[test]
fn a_policy_of_nftables_is_named() -> Result<()> {
    let machine = machine("nftables", RULESET, "nft -f /etc/nftables.conf")?;
    let rule = "the policy of chain forward in table inet filter";
    is_named_and_what_is_typed_helps(&machine, rule, &format!("dropped by {rule}"))?;
    machine.natd_ends(0, &["down"])?;
    ensure!(machine.sh("nft list ruleset")?.matches("natd-passage").count() == 2, "it is gone");
    Ok(())
}

#[test]
fn a_last_rule_of_nftables_is_named() -> Result<()> {
    let ruleset =
        RULESET.replace("policy drop", "policy accept").replace("# HERE", "counter reject");
    let machine = machine("iptables", &ruleset, "nft -f /etc/nftables.conf")?;
    let rule = "of chain forward in table inet filter";
    is_named_and_what_is_typed_helps(&machine, rule, rule)
}

#[test]
fn a_policy_of_iptables_legacy_beside_iptables_nft_is_named() -> Result<()> {
    let mine =
        "iptables-legacy -A FORWARD -s 192.0.2.0/24 -j ACCEPT; iptables-legacy -P FORWARD DROP
                iptables-nft -A FORWARD -s 192.0.2.0/24 -j DROP";
    let machine = machine("iptables", "", mine)?;
    let rule = "iptables-legacy: the policy of chain FORWARD in table ip filter";
    is_named_and_what_is_typed_helps(&machine, rule, "filter: the policy of FORWARD")?;
    let legacy = machine.sh("iptables-legacy-save")?;
    ensure!(!legacy.contains("NATD"), "natd has put its rules beside: {legacy}");
    machine.natd_ends(0, &["down"])?;
    let nft = machine.sh("iptables-nft -S FORWARD")?;
    ensure!(nft.trim() == "-P FORWARD ACCEPT\n-A FORWARD -s 192.0.2.0/24 -j DROP", "{nft}");
    Ok(())
}

#[test]
fn a_reload_that_flushes_everything_is_made_good_at_once() -> Result<()> {
    for firewall in ["nftables", "iptables"] {
        // With what natd says to type among them.
        let passage =
            "iifname { eth0, eth1 } oifname { eth0, eth1 } accept comment \"natd-passage\"";
        let machine = machine(
            firewall,
            &RULESET.replace("# HERE", passage),
            "nft -f /etc/nftables.conf && systemctl start natd",
        )?;
        let steady = machine.wires().stream()?;
        steady.goes_on(10)?;
        // Seen by natd: at once, without a tick.
        machine.sh("nft -f /etc/nftables.conf")?;
        steady.goes_on(10)?;
        ensure!(steady.sources().last() == Some(&ADDRESS.into()), "{:?}", steady.sources());
        // And unseen for a while, in which flows begin that nobody translates.
        let (new, theirs) = machine.behind_natds_back(|| {
            machine.sh("nft -f /etc/nftables.conf")?;
            let new = machine.wires().stream()?;
            let _unanswered = new.goes_on_within_a_moment();
            let seen = new.sources();
            ensure!(seen.iter().any(|source| *source != ADDRESS), "not untranslated: {seen:?}");
            Ok((new, Theirs::on(&machine)?))
        })?;
        steady.goes_on(10)?;
        drop(steady);
        new.goes_on(10).context("a flow begun in the gap")?;
        ensure!(new.sources().last().is_some_and(|last| *last == ADDRESS), "{:?}", new.sources());
        theirs.are_untouched(&machine)?;
        drop(new);
        machine.serves()?;
    }
    Ok(())
}
