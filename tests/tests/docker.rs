//! The real Docker daemon beside natd: its FORWARD policy is DROP, and natd's traffic passes by its chain for others.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use natd_tests::boot::machine::Machine;
use natd_tests::wait::until;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 10);

fn configuration(firewall: &str, further: &str) -> String {
    format!(
        "provider = \"none\"
[nat]
sources = [\"10.10.2.0/24\"]
exclude = [\"10.10.0.0/16\"]
firewall = \"{firewall}\"
persist = \"none\"
{further}
[routes]
interface = \"eth1\"
[verify]
targets = [\"198.51.100.10:80\"]
interval = \"1s\"
[service]
interval = \"1s\"
"
    )
}

/// A machine on which Docker runs, with its policy.
fn with_docker(firewall: &str, further: &str) -> Result<Machine> {
    let mut machine = Machine::with_neighbours()?;
    machine.write("etc/natd/natd.toml", &configuration(firewall, further))?;
    machine.boot()?;
    machine.sh("systemctl start docker")?;
    let forward = machine.sh("iptables -S FORWARD")?;
    ensure!(forward.contains("-P FORWARD DROP"), "Docker drops nothing:\n{forward}");
    Ok(machine)
}

#[test]
fn clients_pass() -> Result<()> {
    let machine = with_docker("nftables", "")?;
    let run = machine.natd_ends(0, &["apply"])?;
    ensure!(run.stdout.contains("have Docker let natd's traffic through"), "{run:#?}");
    let stream = machine.wires().stream()?;
    stream.goes_on(20)?;
    ensure!(stream.sources() == [ADDRESS], "seen outside: {:?}", stream.sources());
    println!("{}", machine.sh("iptables-save; nft list tables")?);
    until("x", || true);
    machine.natd_ends(0, &["down"])?;
    println!("{}", machine.sh("iptables-save -t filter; nft list tables")?);
    Ok(())
}
