//! natd behind a Linux router, by the plugin that it comes with: what the lab itself promises of such a network, and what
//! becomes of natd when its plugin dies or hangs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{
    HEALING, after_a_quiet_tick, assert_served, assert_unserved, natd, serving_daemon, tells,
};
use natd_tests::lab::Lab;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::daemon::{Daemon, Signal, send};
use natd_tests::lab::host::{Host, PATIENCE};
use natd_tests::lab::owner::DEFAULT;
use natd_tests::wait::until;

/// By hand, without natd: so it was each of the pieces.
#[test]
fn the_routers_tables_lead_the_packets() -> Result<()> {
    let lab = Lab::plugin().clients(3).build()?;
    assert_unserved(&lab);
    let nat = lab.nat();
    nat.namespace.set_sysctls(&[("net.ipv4.ip_forward", "1")])?;
    nat.namespace.nft(
        "table ip byhand {\n chain post {\n type nat hook postrouting priority srcnat;\n oifname eth0 masquerade\n }\n}\n",
    )?;
    assert_unserved(&lab);
    assert_eq!(lab.untranslated()?, 0);
    for table in lab.ids.private_tables() {
        lab.point_route(table, DEFAULT, lab.ids.interface("nat/eth0"))?;
    }
    assert_served(&lab);
    assert_eq!(
        lab.route(lab.ids.table("private-a"), DEFAULT)?.as_deref(),
        Some(lab.ids.interface("nat/eth0"))
    );
    // Neighbours are reached past the NAT.
    lab.client("client-a").exec(["ping", "-c1", "-W1", "10.20.3.101"])?;
    for table in lab.ids.private_tables() {
        lab.remove_route(table, DEFAULT)?;
    }
    assert_unserved(&lab);
    Ok(())
}

/// natd's plugin, among whatever else it has started.
fn plugin_of(daemon: &Daemon) -> Result<u32> {
    let is_plugin = |pid: &u32| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').any(|word| word.ends_with("/linux-router"))
    };
    let plugins: Vec<u32> = daemon.children().into_iter().filter(is_plugin).collect();
    let [plugin] = plugins[..] else { anyhow::bail!("natd's plugins are {plugins:?}") };
    Ok(plugin)
}

fn is_there(process: u32) -> bool {
    std::path::Path::new("/proc").join(process.to_string()).exists()
}

/// Pings until that holds, and longer; every ping is to be answered.
fn pings_through(client: &Host, mut holds: impl FnMut() -> bool) -> Result<()> {
    let mut ping = client.ping_stream()?;
    let mut lost = Vec::new();
    until("all is well again", || {
        lost.extend(ping.exchange(PATIENCE).err());
        holds()
    });
    ensure!(lost.is_empty(), "{lost:?}");
    Ok(())
}

/// What natd says when its plugin is gone: why, and that all is well again.
#[track_caller]
fn says_so_once(daemon: &Daemon, mark: usize, why: &str) {
    let begins = ["WARN going by what the cloud said last", why];
    tells(&daemon.lines().split_off(mark), &[&begins, &["INFO the cloud answers again"]]);
}

#[test]
fn a_killed_plugin_is_started_again_and_no_packet_is_lost() -> Result<()> {
    let lab = Lab::plugin().build()?;
    let daemon = serving_daemon(&lab, "")?;
    let (plugin, mark) = (plugin_of(&daemon)?, daemon.mark());
    send(plugin, Signal::KILL)?;
    pings_through(lab.client("client-a"), || plugin_of(&daemon).is_ok_and(|now| now != plugin))?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("the cloud answers again"))?;
    after_a_quiet_tick(&lab, &daemon);
    says_so_once(&daemon, mark, "the plugin linux-router ended");

    let mark = daemon.mark();
    lab.remove_route(lab.ids.table("private-a"), DEFAULT)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: point route"))?;
    lab.sync()?;
    assert_served(&lab);
    Ok(())
}

#[test]
fn a_plugin_that_hangs_is_replaced_and_no_packet_is_lost() -> Result<()> {
    let lab = Lab::plugin().build()?;
    let mut daemon = serving_daemon(&lab, "")?;
    let (plugin, mark) = (plugin_of(&daemon)?, daemon.mark());
    send(plugin, Signal::STOP)?;
    pings_through(lab.client("client-a"), || plugin_of(&daemon).is_ok_and(|now| now != plugin))?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("the cloud answers again"))?;
    ensure!(!is_there(plugin), "the plugin that hung is still there");
    after_a_quiet_tick(&lab, &daemon);
    says_so_once(&daemon, mark, "the plugin linux-router did not answer");

    let plugin = plugin_of(&daemon)?;
    daemon.terminate()?;
    ensure!(daemon.wait(Duration::from_secs(20))?.success());
    until("natd's plugin ends as natd does", || !is_there(plugin));
    assert_served(&lab);
    Ok(())
}

/// Before the router has heard of the change, and after it.
#[test]
fn a_plugin_that_dies_in_the_middle_of_a_change_leaves_nothing_half_done() -> Result<()> {
    let lab = Lab::plugin().build()?;
    let daemon = serving_daemon(&lab, "")?;
    let table = lab.ids.table("private-b");
    let long = Duration::from_secs(3);
    for fault in [Fault::Delay(long), Fault::DelayAnswer(long)] {
        let (plugin, mark) = (plugin_of(&daemon)?, daemon.mark());
        lab.fail("ip route replace", fault, 1);
        lab.api_log_clear();
        lab.remove_route(table, DEFAULT)?;
        until("natd changes the route", || {
            lab.api_log().iter().any(|call| call.action == "ip route replace")
        });
        send(plugin, Signal::KILL)?;
        pings_through(lab.client("client-a"), || {
            let target = lab.route(table, DEFAULT).ok().flatten();
            target.as_deref() == Some(lab.ids.interface("nat/eth0"))
        })?;
        lab.sync()?;
        assert_served(&lab);
        // Ticks are quiet, too, while the plugin is down.
        daemon.wait_for_after(mark, HEALING, |line| line.contains("INFO NAT works"))?;
        after_a_quiet_tick(&lab, &daemon);
        let said = daemon.lines().split_off(mark);
        // The verdict tells why, and that it is over; in between is the change, if it had not been made yet.
        // That the plugin is not there for a while is no further news.
        let (last, before) = said.split_last().context("nothing was said")?;
        let (first, between) = before.split_first().context("one line was said")?;
        ensure!(
            first.contains("ERROR NAT works in part")
                && first.contains("the plugin linux-router ended")
                && between.iter().all(|line| line.contains("INFO done: point route"))
                && between.len() <= 1
                && last.contains("INFO NAT works"),
            "{said:#?}"
        );
    }
    Ok(())
}

#[test]
fn a_router_that_refuses_is_quoted() -> Result<()> {
    let lab = Lab::plugin().build()?;
    lab.fail("ip route replace", Fault::denied(), usize::MAX);
    let run = natd(&lab, 1, &["apply"])?;
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(said.contains("Operation not permitted"), "{said}");
    lab.heal();
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    natd(&lab, 0, &["down"])?;
    let left = lab.nat().read("var/lib/natd/journal.json");
    left.is_none().then_some(()).context("the journal is left")
}
