//! The clock is set back, and forward: natd measures time by one that nobody sets. Ticks, proofs and pauses go on, and
//! credentials are had.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{HEALING, after_a_quiet_tick, assert_served, full_ticks};
use natd_tests::lab::Lab;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::wait::until;

/// Shows a program another time of day than there is.
const FAKE_TIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

struct Scene {
    lab: Lab,
    daemon: Daemon,
    clock: PathBuf,
}

impl Scene {
    /// A daemon that serves, whose clock is `ahead` by so much: `+0`, `-1d`, `+2y`.
    fn new(cloud: CloudKind, ahead: &str) -> Result<Self> {
        let lab = Lab::of(cloud).build()?;
        let nat = lab.nat();
        let seconds = "[service]\ninterval = \"1s\"\n[verify]\ninterval = \"1s\"\n";
        nat.write("etc/natd/conf.d/10-test.toml", seconds)?;
        let clock = nat.root.join("clock");
        fs::write(&clock, format!("{ahead}\n"))?;
        let mut command = nat.command(["run"])?;
        command
            .env("LD_PRELOAD", FAKE_TIME)
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            // Only CLOCK_REALTIME can be set on a real machine.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let daemon = Daemon::start(command)?;
        daemon.wait_for(HEALING, |line| line.contains("INFO NAT works"))?;
        lab.sync()?;
        assert_served(&lab);
        Ok(Self { lab, daemon, clock })
    }

    fn set(&self, ahead: &str) -> Result<()> {
        // Whoever reads it meanwhile finds the one or the other.
        let new = self.clock.with_extension("new");
        fs::write(&new, format!("{ahead}\n"))?;
        Ok(fs::rename(new, &self.clock)?)
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let (_, text) = self.lab.nat().health("/metrics").ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("natd_{name} ")))?
            .trim()
            .parse()
            .ok()
    }

    /// Ticks and proofs go on, and what drifts is healed.
    fn goes_on(&self) -> Result<()> {
        let (lab, mark) = (&self.lab, self.daemon.mark());
        let (ticks, canaries) = (full_ticks(lab), self.metric("canaries_returned_total"));
        let (ticks, canaries) = (ticks.context("ticks")?, canaries.context("canaries")?);
        until("further ticks", || full_ticks(lab).is_some_and(|now| now >= ticks + 4));
        until("further proofs", || {
            self.metric("canaries_returned_total").is_some_and(|now| now >= canaries + 3)
        });
        lab.remove_route(lab.ids.table("private-b"), DEFAULT)?;
        self.daemon.wait_for_after(mark, HEALING, |line| line.contains("done: point route"))?;
        lab.sync()?;
        assert_served(lab);
        let (code, text) = lab.nat().health("/readyz")?;
        ensure!(code == 200, "{code} {text}");
        ensure!(lab.nat().health("/livez")?.0 == 200);
        after_a_quiet_tick(lab, &self.daemon);
        Ok(())
    }
}

#[test]
fn a_clock_that_is_set_back_and_forward_stops_nothing() -> Result<()> {
    let scene = Scene::new(CloudKind::Aws, "+0")?;
    let right = scene.metric("last_tick_timestamp_seconds").context("a time")?;
    let mark = scene.daemon.mark();
    // A day back, and to before natd was started by years; then far forward, and back to what it is.
    for (ahead, shift) in
        [("-1d", -86_400_i64), ("-3y", -3 * 31_536_000), ("+1d", 86_400), ("+2y", 2 * 31_536_000)]
    {
        scene.set(ahead)?;
        scene.goes_on()?;
        // The daemon has seen that clock, and no other.
        let now = scene.metric("last_tick_timestamp_seconds").context("a time")?;
        let seen = i64::try_from(now)? - i64::try_from(right)?;
        ensure!((seen - shift).abs() < 3600, "{ahead}: it sees a clock that is off by {seen} s");
    }
    scene.set("+0")?;
    scene.goes_on()?;
    let lines = scene.daemon.lines().split_off(mark);
    let other = lines.iter().filter(|line| !line.contains("done: point route")).count();
    ensure!(other == 0, "it had something to say: {lines:#?}");
    Ok(())
}

/// Huawei's API refuses requests that are signed at a wrong time, and its agency's keys end at a time of day: while the
/// clock is wrong that is told, packets flow, and all goes on when it is right again, whichever way it was wrong.
#[test]
fn keys_that_end_at_a_time_of_day_outlive_a_clock_that_was_wrong() -> Result<()> {
    let scene = Scene::new(CloudKind::Huawei, "+0")?;
    let mut ping = scene.lab.client("client-a").ping_stream()?;
    for ahead in ["-1d", "+1d", "-3y"] {
        let mark = scene.daemon.mark();
        scene.set(ahead)?;
        let told = scene.daemon.wait_for_after(mark, HEALING, |line| line.contains("clock"))?;
        ensure!(told.contains("going by what the cloud said last"), "{told}");
        ping.exchange(HEALING)?;
        let mark = scene.daemon.mark();
        scene.set("+0")?;
        scene
            .daemon
            .wait_for_after(mark, HEALING, |line| line.contains("the cloud answers again"))?;
        scene.goes_on()?;
        ping.exchange(HEALING)?;
    }
    Ok(())
}

/// The clock of a machine without a battery begins anywhere: natd begins with it, and goes on when it is set.
#[test]
fn natd_that_began_with_a_wrong_clock_goes_on_when_it_is_set() -> Result<()> {
    for (cloud, ahead) in [(CloudKind::Aws, "+1y"), (CloudKind::Openstack, "-20y")] {
        let scene = Scene::new(cloud, ahead)?;
        scene.goes_on()?;
        scene.set("+0")?;
        scene.goes_on()?;
    }
    Ok(())
}
