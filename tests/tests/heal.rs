//! The daemon puts right what drifts, in one tick, and tells of each change in one line.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use natd_tests::expect::{HEALING, after_a_quiet_tick, assert_served, changes, serving_daemon};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::host::PATIENCE;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::NAT_PUBLIC;
use natd_tests::{on_every_back_end, on_every_cloud};

on_every_back_end!(
    rules_that_are_flushed_come_back,
    flows_that_begin_while_the_rules_are_gone_recover,
    a_changed_private_address_is_followed,
);

/// Does the damage while the daemon is held still, and sees it put right in one line that holds `told`.
#[track_caller]
fn heals(
    lab: &Lab,
    daemon: &Daemon,
    told: &str,
    damage: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mark = daemon.mark();
    daemon.freeze()?;
    damage()?;
    daemon.thaw()?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: ") && line.contains(told))?;
    lab.sync()?;
    assert_served(lab);
    after_a_quiet_tick(lab, daemon);
    // Held still in the middle of a question, natd finds it unanswered for too long.
    let of_the_freeze = |line: &String| {
        line.contains("going by what the cloud said last")
            || line.contains("the cloud answers again")
    };
    let lines: Vec<_> =
        daemon.lines().into_iter().skip(mark).filter(|line| !of_the_freeze(line)).collect();
    ensure!(lines.len() == 1, "{told} is to be told of in one line: {lines:#?}");
    Ok(())
}

fn rules_that_are_flushed_come_back(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let daemon = serving_daemon(&lab, "")?;
    let nat = lab.nat();
    let dies = || -> Result<()> {
        let reach = lab.client("client-a").reach();
        ensure!(reach.is_none(), "nothing was damaged: {reach:#?}");
        Ok(())
    };
    heals(&lab, &daemon, "natd's", || nat.flush_natds_rules(back_end).and_then(|()| dies()))?;
    heals(&lab, &daemon, "load natd's", || nat.flush_all_rules().and_then(|()| dies()))?;
    assert_eq!(nat.tables()?, back_end.tables());
    assert_eq!(nat.back_ends()?, [back_end].into());
    Ok(())
}

/// As most hosts have it. Without any such rule of somebody else's the kernel would track no connections while natd's
/// rules are gone, and so remember nothing of them afterwards.
const NEIGHBOUR: &str = "table inet neighbour {
    chain in {
        type filter hook input priority filter; policy accept;
        ct state established accept
    }
}
";

/// A flow is what it was when its first packet came: natd must make the kernel forget these.
fn flows_that_begin_while_the_rules_are_gone_recover(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    lab.nat().namespace.nft(NEIGHBOUR)?;
    let daemon = serving_daemon(&lab, "")?;
    let client = lab.client("client-b");
    for mode in ["snat", "masquerade"] {
        let mark = daemon.mark();
        let mode = format!("[nat]\nmode = \"{mode}\"\n");
        lab.nat().write("etc/natd/conf.d/20-mode.toml", &mode)?;
        daemon.hang_up()?;
        daemon.wait_for_after(mark, HEALING, |line| line.contains("configuration reloaded"))?;
        after_a_quiet_tick(&lab, &daemon);

        daemon.freeze()?;
        lab.nat().flush_natds_rules(back_end)?;
        let (mut udp, mut ping) = (client.udp_flow()?, client.ping_stream()?);
        let died = (udp.exchange(PATIENCE), ping.exchange(PATIENCE));
        ensure!(died.0.is_err() && died.1.is_err(), "{mode}: the rules are gone: {died:?}");
        daemon.thaw()?;
        assert_eq!(*udp.exchange(HEALING)?.ip(), NAT_PUBLIC, "{mode}");
        assert_eq!(ping.exchange(HEALING)?, NAT_PUBLIC, "{mode}");
    }
    Ok(())
}

fn a_changed_private_address_is_followed(back_end: BackEnd) -> Result<()> {
    let other = Ipv4Addr::new(10, 10, 1, 11);
    let lab = Lab::aws().secondary_address(other).back_end(back_end).build()?;
    let daemon = serving_daemon(&lab, "")?;
    assert_served(&lab);
    let client = lab.client("client-a");
    let (mut udp, mut ping) = (client.udp_flow()?, client.ping_stream()?);
    udp.exchange(PATIENCE)?;
    ping.exchange(PATIENCE)?;

    let mark = daemon.mark();
    daemon.freeze()?;
    lab.nat().namespace.ip(&format!(
        "addr del 10.10.1.10/24 dev eth0\naddr add {other}/24 dev eth0\nroute replace default via 10.10.1.1 dev eth0"
    ))?;
    lab.associate_public_address(other)?;
    ensure!(client.udp().is_err(), "the old address serves no longer");
    daemon.thaw()?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("snat to 10.10.1.11"))?;
    assert_served(&lab);
    assert_eq!(*udp.exchange(HEALING)?.ip(), NAT_PUBLIC);
    assert_eq!(ping.exchange(HEALING)?, NAT_PUBLIC);
    after_a_quiet_tick(&lab, &daemon);
    let told = changes(&daemon, mark);
    assert!(told.len() == 1 && told[0].contains("replace natd's"), "{told:#?}");
    Ok(())
}

/// What isn't the firewall's heals alike over all back ends.
#[test]
fn forwarding_is_put_right() -> Result<()> {
    let lab = Lab::aws().build()?;
    let daemon = serving_daemon(&lab, "")?;
    let set = |key, value| lab.nat().namespace.set_sysctls(&[(key, value)]);

    let forwarding = "net.ipv4.conf.eth0.forwarding";
    heals(&lab, &daemon, &format!("set {forwarding} = 1 (was 0)"), || set(forwarding, "0"))?;
    // The global key reaches every interface when it changes, and natd had left it at 0.
    heals(&lab, &daemon, &format!("set {forwarding} = 1 (was 0)"), || {
        set("net.ipv4.ip_forward", "1").and_then(|()| set("net.ipv4.ip_forward", "0"))
    })
}

on_every_cloud!(check_and_routes_are_put_right);

fn check_and_routes_are_put_right(cloud: CloudKind) -> Result<()> {
    let lab = Lab::of(cloud).build()?;
    let daemon = serving_daemon(&lab, "")?;
    let (interface, table) = (lab.cloud().target(), lab.ids.table("private-a"));
    if lab.has_check()? {
        let check = format!("switch off the source/destination check of {interface}");
        heals(&lab, &daemon, &check, || lab.set_check(interface, true))?;
        assert!(!lab.checks(interface)?);
    }

    let elsewhere = lab.ids.interface("client-b/eth0");
    let back = format!("point route 0.0.0.0/0 in {table} at {interface}");
    let taken = format!("{back} (was {})", lab.cloud().told(elsewhere));
    heals(&lab, &daemon, &taken, || lab.point_route(table, DEFAULT, elsewhere))?;
    heals(&lab, &daemon, &back, || lab.remove_route(table, DEFAULT))?;
    assert_eq!(lab.route(table, DEFAULT)?.as_deref(), Some(interface));
    Ok(())
}
