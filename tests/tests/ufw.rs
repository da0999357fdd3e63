//! natd beside the real ufw, with packets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natd_tests::boot::gateway::configuration;
use natd_tests::boot::machine::Machine;
use natd_tests::boot::theirs::Theirs;

/// What the operator has among ufw's rules, one of which was deleted: ufw loads its others in another way then than
/// when it starts.
const MINE: &str = "ufw allow 22/tcp
ufw route allow in on eth5 out on eth6 from 10.77.0.0/16
ufw route deny from 10.10.2.200 comment 'mine'
ufw route allow from 10.88.0.0/16
ufw route delete allow from 10.88.0.0/16
ufw route allow from fd00:88::/32
ufw route delete allow from fd00:88::/32
";

fn machine(firewall: &str, neighbours: &str) -> Result<Machine> {
    let mut machine = Machine::with_neighbours()?;
    machine.install_natd(&configuration(firewall, neighbours))?;
    machine.enable("ufw.service", "multi-user.target")?;
    machine.boot()?;
    machine.sh("ufw --force enable")?;
    machine.sh(MINE)?;
    Ok(machine)
}

/// ufw's files, but for the lines that it writes for natd's rules.
fn files_of_ufw(machine: &Machine) -> Result<String> {
    machine.sh("cd /etc/ufw; grep -r '' . | sort; cat /etc/default/ufw; find . -printf '%p %m %u %g\n' | sort")
}

#[test]
fn traffic_passes_ufw_and_nothing_of_it_is_touched() -> Result<()> {
    for firewall in ["nftables", "iptables"] {
        let machine = machine(firewall, "pass")?;
        let (rules, files) = (Theirs::on(&machine)?, files_of_ufw(&machine)?);
        let run = machine.natd_ends(0, &["apply"])?;
        ensure!(run.stdout.contains("have ufw let natd's traffic through"), "{run:#?}");
        rules.are_all_there(&machine)?;
        machine.serves_all()?;
        rules.are_all_there(&machine)?;
        ensure!(machine.firewalls(0)?.contains("none drops it"));
        let added = machine.sh("ufw show added")?;
        ensure!(added.contains("from 10.10.2.0/24 comment 'natd:"), "{added}");

        let before = (Theirs::on(&machine)?, machine.files()?);
        let again = machine.natd_ends(0, &["apply"])?;
        ensure!(!again.stdout.contains('✓'), "the second run did something: {again:#?}");
        before.0.are_all_there(&machine)?;
        ensure!(machine.files()? == before.1, "the second run has changed files");

        machine.natd_ends(0, &["down"])?;
        ensure!(files_of_ufw(&machine)? == files, "ufw's files are not as they were");
        // Whenever a rule is deleted, ufw loads its own anew.
        let now = Theirs::on(&machine)?.texts();
        ensure!(now == rules.texts(), "ufw's rules were {:#?}\nand are {now:#?}", rules.texts());
    }
    Ok(())
}

#[test]
fn it_comes_back_whatever_ufw_does() -> Result<()> {
    let machine = machine("nftables", "pass")?;
    machine.sh("systemctl start natd")?;
    machine.comes_to_verify("ufw")?;
    let stream = machine.wires().stream()?;
    for command in ["ufw reload", "ufw disable; ufw --force enable", "systemctl restart ufw"] {
        machine.sh(command)?;
        stream.goes_on(5).with_context(|| format!("after {command}"))?;
        let theirs = Theirs::on(&machine)?;
        machine.comes_to_verify("ufw").with_context(|| format!("after {command}"))?;
        machine.serves_all().with_context(|| format!("after {command}"))?;
        theirs.are_all_there(&machine).with_context(|| format!("after {command}"))?;
    }
    drop(stream);
    // Everything that was added is gone, and a flow begins before natd has seen it.
    machine.sh("systemctl kill -s STOP natd; ufw --force reset; ufw --force enable")?;
    let stream = machine.wires().stream()?;
    std::thread::sleep(Duration::from_millis(200));
    ensure!(stream.sources().is_empty(), "nothing is in its way: {:?}", stream.sources());
    let theirs = Theirs::on(&machine)?;
    machine.sh("systemctl kill -s CONT natd")?;
    stream.goes_on(5)?;
    machine.comes_to_verify("ufw")?;
    theirs.are_all_there(&machine)?;
    machine.serves_all()
}

#[test]
fn a_disabled_ufw_is_left_alone() -> Result<()> {
    let mut machine = Machine::with_neighbours()?;
    machine.write("etc/natd/natd.toml", &configuration("nftables", "pass"))?;
    machine.boot()?;
    let files = files_of_ufw(&machine)?;
    machine.natd_ends(0, &["apply"])?;
    machine.serves_all()?;
    ensure!(files_of_ufw(&machine)? == files, "natd has changed ufw's files");
    ensure!(machine.sh("ufw status")?.contains("inactive"), "natd has enabled ufw");

    // Disabled again, it keeps natd's rules for when it is enabled; natd down takes them out.
    machine.sh("ufw --force enable; ufw --force disable")?;
    let files = files_of_ufw(&machine)?;
    machine.sh("ufw --force enable")?;
    machine.natd_ends(0, &["apply"])?;
    machine.sh("ufw --force disable")?;
    let kept = files_of_ufw(&machine)?;
    ensure!(kept.contains("comment=6e6174643a"), "ufw has lost natd's rules");
    let run = machine.natd_ends(0, &["apply"])?;
    ensure!(!run.stdout.contains('✓'), "{run:#?}");
    ensure!(files_of_ufw(&machine)? == kept, "natd has changed ufw's files");
    machine.natd_ends(0, &["down"])?;
    ensure!(files_of_ufw(&machine)? == files, "ufw's files are not as they were");
    Ok(())
}

/// To ufw, a rule of the same match is the same rule, whatever its action and its comment.
#[test]
fn rules_of_the_operator_are_neither_changed_nor_taken_for_natds() -> Result<()> {
    let machine = machine("nftables", "pass")?;
    machine.sh("ufw route deny in on eth1 out on eth0 from 10.10.2.0/24 comment 'not now'")?;
    let files = files_of_ufw(&machine)?;
    let run = machine.natd_ends(1, &["apply"])?;
    let words = "somebody's rule \"ufw route deny in on eth1 out on eth0 from 10.10.2.0/24 comment 'not now'\" has the same match";
    ensure!(run.stdout.contains(words), "{run:#?}");
    ensure!(machine.sh("ufw show added")?.contains("comment 'not now'"));
    machine.natd_ends(0, &["down"])?;
    ensure!(files_of_ufw(&machine)? == files, "ufw's files are not as they were");

    machine.sh("ufw route allow in on eth1 out on eth0 from 10.10.2.0/24 comment 'now'")?;
    let files = files_of_ufw(&machine)?;
    machine.natd_ends(0, &["apply"])?;
    machine.serves_all()?;
    ensure!(machine.sh("ufw show added")?.contains("from 10.10.2.0/24 comment 'now'"));
    machine.natd_ends(0, &["down"])?;
    ensure!(files_of_ufw(&machine)? == files, "ufw's files are not as they were");
    Ok(())
}

/// Has natd begin, and ufw end some time after it began; not while it writes its files: that it does in place, and what they held
/// is gone if it is killed meanwhile, whoever has called it.
const KILL_UFW: &str = "natd apply >/dev/null 2>&1 &
until pgrep -x ufw >/dev/null; do sleep 0.01; done
sleep $SECONDS
while [ -e /proc/$!/exe ]; do
    if pkill -STOP -x ufw; then
        if [ \"$(tail -n 1 /etc/ufw/user.rules)$(tail -n 1 /etc/ufw/user6.rules)\" = COMMITCOMMIT ]; then
            pkill -KILL -x ufw
            echo killed
            break
        fi
        pkill -CONT -x ufw
    fi
    sleep 0.01
done
wait";

#[test]
fn nothing_is_left_when_natd_or_ufw_is_killed_or_the_power_goes() -> Result<()> {
    let mut machine = machine("nftables", "pass")?;
    let files = files_of_ufw(&machine)?;
    for seconds in ["0.4", "0.9", "1.6"] {
        // The kill reaches natd's whole group.
        machine.sh(&format!("timeout -s KILL {seconds} natd apply >/dev/null 2>&1 || true"))?;
        let _its_own = machine.sh("while pgrep -x ufw; do sleep 0.1; done")?;
        machine.natd_ends(0, &["apply"])?;
        machine.serves_all()?;
        machine.sh(&format!("timeout -s KILL {seconds} natd down >/dev/null 2>&1 || true"))?;
        let _its_own = machine.sh("while pgrep -x ufw; do sleep 0.1; done")?;
        machine.natd_ends(0, &["down"])?;
        let now = files_of_ufw(&machine)?;
        ensure!(now == files, "after {seconds} s, ufw's files were {files}\nand are {now}");
    }
    for seconds in ["0.3", "0.8"] {
        let killed = machine.sh(&KILL_UFW.replace("$SECONDS", seconds))?;
        ensure!(killed.contains("killed"), "ufw was never there");
        machine.natd_ends(0, &["apply"])?;
        machine.serves_all()?;
        machine.natd_ends(0, &["down"])?;
        let now = files_of_ufw(&machine)?;
        ensure!(
            now == files,
            "ufw killed after {seconds} s: its files were {files}\nand are {now}"
        );
    }
    machine.natd_ends(0, &["apply"])?;
    machine.sh("sync")?;
    machine.reboot()?;
    ensure!(!machine.natd_has_run()?, "natd has run");
    ensure!(
        machine.sh("iptables -S ufw-user-forward")?.contains("-s 10.10.2.0/24 -i eth1 -o eth0")
    );
    machine.natd_ends(0, &["down"])?;
    ensure!(files_of_ufw(&machine)? == files, "ufw's files are not as they were after a reboot");
    Ok(())
}

#[test]
fn left_alone_it_is_named() -> Result<()> {
    let machine = machine("nftables", "report")?;
    let (rules, files) = (Theirs::on(&machine)?, files_of_ufw(&machine)?);
    machine.natd_ends(0, &["apply"])?;
    let line = machine.firewalls(1)?;
    ensure!(
        line.contains("✗")
            && line.contains("dropped by iptables, probably ufw: the policy of chain FORWARD"),
        "{line}"
    );
    rules.are_all_there(&machine)?;
    ensure!(files_of_ufw(&machine)? == files, "natd has changed ufw's files");

    let (warning, to_type) = machine.in_the_way()?;
    ensure!(warning.contains("ufw") && to_type.starts_with("ufw route allow "), "{warning}");
    for command in ["verify", "status"] {
        let run = machine.natd_ends(1, &[command])?;
        ensure!(run.stdout.contains(&format!("type: {to_type}")), "{run:#?}");
    }
    machine.sh(&to_type)?;
    ensure!(machine.firewalls(0)?.contains("✓"), "what was typed doesn't do");
    machine.serves_all()?;
    // It is the operator's.
    machine.natd_ends(0, &["down"])?;
    ensure!(machine.sh("ufw show added")?.contains("ufw route allow in on"), "it is gone");
    Ok(())
}
