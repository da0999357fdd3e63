//! Private IPv6 hosts reach the IPv6 internet through NAT66, and what was there before stays as it was.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Result, ensure};
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::ipv6::{CLIENT, GATEWAY, INTERNET, Ipv6Lab, PARTNER, STRANGER};
use natd_tests::on_every_back_end;

on_every_back_end!(
    a_private_host_is_seen_as_the_gateway,
    before_linux_6_17_router_advertisements_are_still_heard,
);

const V4_ALONE: &str = "mode = \"masquerade\"\nsources = [\"10.10.2.0/24\"]";
const BOTH: &str = "mode = \"masquerade\"
sources = [\"10.10.2.0/24\", \"fd00:10::/32\"]
exclude = [\"2001:db8:9::/48\"]";

/// A prefix that is announced later, and the address that the gateway makes of it.
const LATER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, 0);
const GATEWAY_LATER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0xaff, 0xfe0a, 0x10a);

fn of_ipv6(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("ipv6") || line.contains("ip6")).collect()
}

fn a_private_host_is_seen_as_the_gateway(back_end: BackEnd) -> Result<()> {
    let lab = Ipv6Lab::new(back_end)?;
    let before = lab.sysctls()?;

    // Without IPv6 sources natd has nothing to do with IPv6.
    lab.configure(V4_ALONE, "10-test")?;
    lab.natd(&["apply"])?;
    let (rules, sysctls) = (lab.rules()?, lab.sysctls()?);
    ensure!(of_ipv6(&rules).is_empty(), "{rules}");
    let all = lab.gateway.exec(["nft", "list", "ruleset"])?;
    ensure!(of_ipv6(&all).is_empty(), "{all}");
    ensure!(of_ipv6(&sysctls) == of_ipv6(&before), "{sysctls}");
    ensure!(lab.seen(CLIENT, INTERNET).is_err(), "it is forwarded");

    lab.configure(BOTH, "10-test")?;
    lab.natd(&["apply"])?;
    ensure!(lab.hears_of(GATEWAY)?, "the route or the address is gone");
    assert_eq!(lab.seen(CLIENT, INTERNET)?, IpAddr::V6(GATEWAY));
    assert_eq!(lab.seen(CLIENT, PARTNER)?, IpAddr::V6(CLIENT), "it is excluded");
    ensure!(lab.seen(STRANGER, INTERNET).is_err(), "it is none of the sources");
    let run = lab.natd(&["apply"])?;
    ensure!(!run.stdout.contains('✓'), "the second run did something: {run:#?}");
    lab.advertise(LATER, GATEWAY_LATER);

    // Back to IPv4 alone: what was for IPv6 goes.
    lab.configure(V4_ALONE, "10-test")?;
    lab.natd(&["apply"])?;
    ensure!(lab.rules()? == rules, "{}", lab.rules()?);
    ensure!(lab.sysctls()? == sysctls, "{}", lab.sysctls()?);
    ensure!(lab.seen(CLIENT, INTERNET).is_err(), "it is forwarded");

    lab.configure(BOTH, "10-test")?;
    lab.natd(&["apply"])?;
    lab.natd(&["down"])?;
    ensure!(lab.sysctls()? == before, "{}", lab.sysctls()?);
    ensure!(lab.rules()?.is_empty(), "{}", lab.rules()?);
    ensure!(lab.hears_of(GATEWAY)?, "the route or the address is gone");
    Ok(())
}

fn before_linux_6_17_router_advertisements_are_still_heard(back_end: BackEnd) -> Result<()> {
    let lab = Ipv6Lab::new(back_end)?.with_an_older_kernel()?;
    // Something else looks after what is advertised there.
    lab.gateway.set_sysctls(&[("net.ipv6.conf.eth1.accept_ra", "0")])?;
    fs::write(lab.root.join("etc/rc.local"), "#!/bin/sh\n")?;
    let before = lab.sysctls()?;
    let accepts =
        |interface: &str| lab.gateway.sysctl(&format!("net.ipv6.conf.{interface}.accept_ra"));

    lab.configure(BOTH, "10-test")?;
    lab.natd(&["apply"])?;
    assert_eq!(lab.gateway.sysctl("net.ipv6.conf.all.forwarding")?, "1");
    assert_eq!((accepts("eth0")?.as_str(), accepts("eth1")?.as_str()), ("2", "0"));
    ensure!(lab.hears_of(GATEWAY)?, "the route or the address is gone");
    assert_eq!(lab.seen(CLIENT, INTERNET)?, IpAddr::V6(GATEWAY));
    ensure!(lab.seen(STRANGER, INTERNET).is_err(), "it is none of the sources");
    lab.advertise(LATER, GATEWAY_LATER);
    let run = lab.natd(&["apply"])?;
    ensure!(!run.stdout.contains('✓'), "the second run did something: {run:#?}");

    // After a reboot, too, and there from before the first packet is forwarded.
    let at_boot = fs::read_to_string(lab.root.join("etc/sysctl.d/90-natd.conf"))?;
    ensure!(at_boot.contains("net/ipv6/conf/eth0/accept_ra = 2"), "{at_boot}");
    ensure!(!at_boot.contains("eth1/accept_ra") && !at_boot.contains("forwarding"), "{at_boot}");
    let block = fs::read_to_string(lab.root.join("etc/rc.local"))?;
    ensure!(block.contains("net/ipv6/conf/all/forwarding"), "{block}");

    lab.natd(&["down"])?;
    ensure!(lab.sysctls()? == before, "{}", lab.sysctls()?);
    ensure!(lab.hears_of(GATEWAY)?, "the route or the address is gone");

    // A machine that is made of an image of this one has the files, and a journal that is void there.
    lab.natd(&["apply"])?;
    fs::remove_file(lab.root.join("var/lib/natd/journal.json"))?;
    lab.natd(&["apply"])?;
    let still = fs::read_to_string(lab.root.join("etc/sysctl.d/90-natd.conf"))?;
    ensure!(still == at_boot, "{still}");
    ensure!(
        lab.seen(STRANGER, INTERNET).is_err(),
        "it is taken for one that this host forwards for"
    );
    Ok(())
}
