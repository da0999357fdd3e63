//! The real Docker daemon beside natd: the policy of its FORWARD is DROP, and natd's traffic passes by its chain for
//! others, `DOCKER-USER`.

use anyhow::{Context, Result, ensure};
use natd_tests::boot::gateway::ADDRESS;
use natd_tests::boot::machine::Machine;
use natd_tests::boot::theirs::Theirs;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::on_every_back_end;
use natd_tests::wait::until;
use serde_json::Value;

on_every_back_end!(
    clients_pass_and_containers_keep_their_ways,
    what_docker_or_its_owner_does_is_made_good_at_once,
    what_is_in_the_way_is_named_with_what_to_type,
);

/// What is in Docker's table, without what it has counted.
const SAVED: &str = "iptables-save -t filter | grep -v '^#' | sed 's/ \\[.*//'";

fn configuration(back_end: BackEnd, neighbours: &str) -> String {
    let firewall = back_end.setting();
    // Longer than any test takes, so that only events bring ticks; of iptables-legacy there are none.
    let interval = if back_end == BackEnd::IptablesLegacy { "1s" } else { "10m" };
    format!(
        "provider = \"none\"
[nat]
sources = [\"10.10.2.0/24\"]
exclude = [\"10.10.0.0/16\"]
firewall = \"{firewall}\"
persist = \"none\"
neighbours = \"{neighbours}\"
[routes]
interface = \"eth1\"
[verify]
targets = [\"198.51.100.10:80\"]
interval = \"{interval}\"
[service]
interval = \"{interval}\"
"
    )
}

/// A machine with Docker, which is started when `started` says so.
fn machine(back_end: BackEnd, neighbours: &str, started: bool) -> Result<Machine> {
    let mut machine = Machine::with_neighbours()?;
    machine.install_natd(&configuration(back_end, neighbours))?;
    machine.boot()?;
    if back_end == BackEnd::IptablesLegacy {
        machine.sh("for f in iptables ip6tables; do update-alternatives --set $f /usr/sbin/$f-legacy; done")?;
    }
    if started {
        machine.sh("systemctl start docker")?;
        let forward = machine.sh("iptables -S FORWARD")?;
        ensure!(forward.contains("-P FORWARD DROP"), "Docker drops nothing:\n{forward}");
    }
    Ok(machine)
}

/// A container gets out, translated by Docker, since outside nobody knows the way to it; and to the metadata service.
fn container_keeps_its_ways(machine: &Machine) -> Result<()> {
    for address in ["198.51.100.10", "169.254.169.254"] {
        machine
            .sh(&format!("docker run --rm box /bin/busybox nc -w 5 {address} 80 </dev/null"))
            .with_context(|| format!("a container to {address}"))?;
    }
    Ok(())
}

fn clients_pass_and_containers_keep_their_ways(back_end: BackEnd) -> Result<()> {
    let machine = machine(back_end, "pass", true)?;
    machine.sh("tar -C /usr -c bin/busybox | docker import - box")?;
    container_keeps_its_ways(&machine)?;
    let (saved, theirs) = (machine.sh(SAVED)?, Theirs::on(&machine)?);

    let plan = machine.natd_ends(0, &["plan"])?;
    ensure!(plan.stdout.contains("have Docker let natd's traffic through"), "{plan:#?}");
    ensure!(!plan.stdout.contains("drops whatever"), "{plan:#?}");
    ensure!(machine.sh(SAVED)? == saved, "natd plan has changed something");
    machine.natd_ends(0, &["apply"])?;
    machine.serves()?;
    ensure!(!machine.wires().client_gets_at_metadata(), "a client gets at the metadata service");
    container_keeps_its_ways(&machine)?;
    let again = machine.natd_ends(0, &["apply"])?;
    ensure!(!again.stdout.contains('✓'), "the second run did something: {again:#?}");
    let status = machine.natd_ends(0, &["status"])?;
    ensure!(status.stdout.contains("Docker lets natd's traffic through"), "{status:#?}");
    theirs.are_untouched(&machine)?;

    machine.natd_ends(0, &["down"])?;
    ensure!(machine.sh(SAVED)? == saved, "left behind:\n{}", machine.sh(SAVED)?);
    theirs.are_untouched(&machine)?;
    container_keeps_its_ways(&machine)?;
    ensure!(!machine.wires().client_gets_out(), "it is still let through");
    Ok(())
}

fn what_docker_or_its_owner_does_is_made_good_at_once(back_end: BackEnd) -> Result<()> {
    let machine = machine(back_end, "pass", false)?;
    machine.sh("systemctl start natd")?;
    machine.serves()?;
    // It comes when natd is there already, and natd hears of it.
    machine.sh("systemctl start docker")?;
    let is_passed = || machine.sh(SAVED).is_ok_and(|rules| rules.contains("-j NATD_PASS"));
    until("Docker is asked", is_passed);
    machine.serves()?;

    let stream = machine.wires().stream()?;
    stream.goes_on(10)?;
    machine.sh("systemctl restart docker")?;
    stream.goes_on(10)?;
    machine.serves()?;
    // Docker's jump is first now, natd's own rules come after.
    ensure!(!machine.wires().client_gets_at_metadata(), "a client gets at the metadata service");

    for loss in [
        "iptables -F DOCKER-USER",
        "iptables -F && iptables -X && iptables -t nat -F && iptables -t nat -X && systemctl restart docker",
    ] {
        let (new, theirs) = machine.behind_natds_back(|| {
            machine.sh(loss)?;
            let new = machine.wires().stream()?;
            ensure!(new.goes_on_within_a_moment().is_err(), "nothing was lost by {loss}");
            Ok((new, Theirs::on(&machine)?))
        })?;
        new.goes_on(10).with_context(|| format!("a flow begun after {loss}"))?;
        stream.goes_on(10)?;
        theirs.are_untouched(&machine)?;
        ensure!(
            !machine.wires().client_gets_at_metadata(),
            "a client gets at the metadata service"
        );
    }
    ensure!(stream.sources() == [ADDRESS], "seen outside: {:?}", stream.sources());
    Ok(())
}

/// What is said of that check, and how it came out.
fn check(machine: &Machine, code: i32, name: &str) -> Result<String> {
    let run = machine.natd_ends(code, &["verify", "--output", "json"])?;
    let json: Value = serde_json::from_str(&run.stdout).with_context(|| format!("{run:#?}"))?;
    let checks = json["checks"].as_array().context("checks")?;
    let check = checks.iter().find(|check| check["name"] == name).context("the check")?;
    Ok(format!("{}: {}", check["state"], check["detail"].as_str().context("words")?))
}

fn what_is_in_the_way_is_named_with_what_to_type(back_end: BackEnd) -> Result<()> {
    let machine = machine(back_end, "report", true)?;
    let (saved, theirs) = (machine.sh(SAVED)?, Theirs::on(&machine)?);
    let plan = machine.natd_ends(0, &["plan"])?;
    ensure!(plan.stdout.contains("chain FORWARD in table ip filter drops whatever"), "{plan:#?}");
    ensure!(!plan.stdout.contains("have Docker"), "{plan:#?}");
    let (warning, to_type) = machine.in_the_way()?;
    ensure!(warning.contains("Docker"), "{warning}");

    machine.natd(&["apply"])?;
    let theirs_now = machine.sh(SAVED)?;
    ensure!(!theirs_now.contains("NATD_") && theirs_now.contains("DOCKER-USER"), "{theirs_now}");
    theirs.are_untouched(&machine)?;
    ensure!(!machine.wires().client_gets_out(), "nothing is in the way");
    let found = check(&machine, 1, "canary: firewalls")?;
    let status = machine.natd_ends(1, &["status"])?;
    for said in [&found, &status.stdout] {
        ensure!(said.contains(&format!("type: {to_type}")), "{said}");
        ensure!(said.contains("FORWARD"), "{said}");
    }

    machine.sh(&to_type)?;
    ensure!(machine.wires().client_gets_out(), "what was typed doesn't do");
    ensure!(!machine.wires().client_gets_at_metadata(), "a client gets at the metadata service");
    ensure!(check(&machine, 0, "canary: firewalls")?.starts_with("\"ok\""), "the canary is lost");
    for command in ["plan", "status"] {
        let run = machine.natd_ends(0, &[command])?;
        ensure!(!run.stdout.contains("type: "), "{run:#?}");
    }
    // What the operator has typed stays.
    machine.natd_ends(0, &["down"])?;
    let left = machine.sh(SAVED)?;
    ensure!(left.contains("natd-passage") && left.len() > saved.len(), "{left}");
    Ok(())
}

#[test]
fn what_others_have_in_that_chain_decides_first() -> Result<()> {
    let machine = machine(BackEnd::Nftables, "pass", true)?;
    machine.sh("iptables -I DOCKER-USER -s 10.10.2.101 -p tcp --dport 80 -j DROP")?;
    machine.natd_ends(0, &["apply"])?;
    machine.serves()?;
    ensure!(!machine.wires().client_gets_out(), "natd has passed by somebody's rule");
    machine.sh("iptables -D DOCKER-USER -s 10.10.2.101 -p tcp --dport 80 -j DROP")?;
    ensure!(machine.wires().client_gets_out(), "that rule wasn't it");
    // One that ends the chain for everybody takes nothing from natd.
    machine.sh("iptables -I DOCKER-USER -j RETURN")?;
    ensure!(!machine.wires().client_gets_out(), "it doesn't end the chain");
    let again = machine.natd_ends(0, &["apply"])?;
    ensure!(
        again.stdout.contains("replace what has Docker let natd's traffic through"),
        "{again:#?}"
    );
    ensure!(machine.wires().client_gets_out(), "it isn't made good");
    machine.natd_ends(0, &["down"])?;
    ensure!(
        machine.sh("iptables -S DOCKER-USER")?.matches("-j RETURN").count() == 2,
        "one is gone"
    );
    Ok(())
}

#[test]
fn ipv6_passes_where_docker_filters_it() -> Result<()> {
    let mut machine = Machine::with_neighbours()?;
    let configuration = configuration(BackEnd::Nftables, "pass").replace(
        "sources = [\"10.10.2.0/24\"]",
        "mode = \"masquerade\"\nsources = [\"10.10.2.0/24\", \"fd00:10:2::/64\"]",
    );
    machine.install_natd(&configuration)?;
    machine.write(
        "etc/docker/daemon.json",
        "{\"storage-driver\": \"vfs\", \"experimental\": true, \"ip6tables\": true}\n",
    )?;
    machine.boot()?;
    // Docker 20.10 (Debian 12) filters IPv6 without a chain for others; later ones have it there, too.
    machine.sh(
        "systemctl start docker && ip6tables -P FORWARD DROP
         ip6tables -L DOCKER-USER || { ip6tables -N DOCKER-USER; ip6tables -I FORWARD -j DOCKER-USER; }",
    )?;
    let saved = machine.sh("ip6tables-save -t filter | grep -v '^#' | sed 's/ \\[.*//'")?;
    machine.natd_ends(0, &["apply"])?;
    machine.serves()?;
    let stream = machine.wires().stream_ipv6()?;
    stream.goes_on(10)?;
    // IPv6 is no longer asked for.
    machine.sh("sed -i 's/, \"fd00:10:2::.64\"//' /etc/natd/natd.toml")?;
    machine.natd_ends(0, &["apply"])?;
    let now = machine.sh("ip6tables-save -t filter | grep -v '^#' | sed 's/ \\[.*//'")?;
    ensure!(now == saved, "{now}");
    machine.serves()
}

/// Whether packets get through decides, not whether Docker could be asked.
#[test]
fn docker_that_cannot_be_asked_is_told_of_and_no_more() -> Result<()> {
    let machine = machine(BackEnd::Nftables, "pass", true)?;
    machine.sh("iptables -P FORWARD ACCEPT; for f in iptables-nft-restore iptables-restore; do ln -sf /bin/false /usr/sbin/$f; done")?;
    let run = machine.natd(&["apply"])?;
    ensure!(run.stdout.contains("✗ could not have Docker let natd's traffic through"), "{run:#?}");
    machine.serves()?;
    let status = machine.natd_ends(0, &["status"])?;
    ensure!(status.stdout.starts_with("NAT works"), "{status:#?}");
    ensure!(
        status.stdout.contains("Docker is not told to let natd's traffic through"),
        "{status:#?}"
    );
    Ok(())
}
