//! Somebody holds the xtables lock for as long as they like: natd says so, goes on with what needs no lock, and puts
//! its rules right when it is free.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{HEALING, after_a_quiet_tick, assert_served, full_ticks};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::wait::until;
use rustix::fs::{FlockOperation, flock};

/// A daemon whose lock is a file of its own: the machine's is everybody's.
fn daemon_with_lock(lab: &Lab) -> Result<(Daemon, File)> {
    let lock = lab.nat().root.join("xtables.lock");
    let file = File::create(&lock)?;
    lab.nat().write("etc/natd/conf.d/10-test.toml", "[service]\ninterval = \"1s\"\n")?;
    let mount = format!(
        "[ -e /run/xtables.lock ] || : >/run/xtables.lock
         mount --bind {} /run/xtables.lock; exec \"$@\"",
        lock.display()
    );
    let command = lab.nat().command_under(&["sh", "-c", &mount, "sh"], ["run"])?;
    let daemon = Daemon::start(command)?;
    daemon.wait_for(HEALING, |line| line.contains("INFO NAT "))?;
    lab.sync()?;
    Ok((daemon, file))
}

#[test]
fn while_the_lock_is_held_what_works_goes_on_and_what_waits_is_told_and_done_after() -> Result<()> {
    let lab = Lab::aws().back_end(BackEnd::IptablesLegacy).build()?;
    let (daemon, lock) = daemon_with_lock(&lab)?;
    assert_served(&lab);
    let (nat, client) = (lab.nat(), lab.client("client-a"));
    let (mut udp, mut tcp) = (client.udp_flow()?, client.tcp_flow()?);
    udp.exchange(HEALING)?;
    tcp.exchange(HEALING)?;
    after_a_quiet_tick(&lab, &daemon);

    // Rules are as they should be: routes are looked after as ever, and nothing is told.
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let mark = daemon.mark();
    lab.remove_route(lab.ids.table("private-b"), DEFAULT)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: point route"))?;
    lab.sync()?;
    assert_served(&lab);
    let now = full_ticks(&lab).context("it tells")?;
    until("further ticks", || full_ticks(&lab).is_some_and(|then| then >= now + 2));
    ensure!(nat.health("/readyz")?.0 == 200, "{:?}", nat.health("/readyz")?);
    ensure!(daemon.mark() == mark + 1, "{:#?}", daemon.lines().split_off(mark));

    // Somebody empties natd's chains, by a lock of their own.
    let mark = daemon.mark();
    nat.flush_natds_rules(BackEnd::IptablesLegacy)?;
    let told = daemon.wait_for_after(mark, HEALING, |line| line.contains("xtables lock"))?;
    ensure!(
        told.contains("another program holds the xtables lock") && told.contains("fuser"),
        "{told}"
    );
    // What is translated already needs no rule.
    udp.exchange(HEALING)?;
    tcp.exchange(HEALING)?;
    let (code, text) = nat.health("/readyz")?;
    ensure!(code == 503 && text.contains("xtables lock"), "{code} {text}");
    ensure!(nat.health("/livez")?.0 == 200);
    ensure!(nat.health("/metrics")?.0 == 200);

    flock(&lock, FlockOperation::Unlock)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("INFO NAT works"))?;
    assert_served(&lab);
    udp.exchange(HEALING)?;
    after_a_quiet_tick(&lab, &daemon);
    ensure!(nat.health("/readyz")?.0 == 200, "{:?}", nat.health("/readyz")?);
    let lines = daemon.lines().split_off(mark);
    let alarms = lines.iter().filter(|line| line.contains("ERROR")).count();
    ensure!(alarms == 1, "told more than once: {lines:#?}");
    Ok(())
}
