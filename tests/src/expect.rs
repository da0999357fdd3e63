//! What tests of natd expect again and again, in a line each.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::lab::calls::Call;
use crate::lab::daemon::Daemon;
use crate::lab::host::{Host, Reach};
use crate::lab::natd::Run;
use crate::lab::topology::NAT_PUBLIC;
use crate::wait::{PATIENCE, until};

/// Runs `natd` to its end, which must be with that exit code, and waits for the network to follow.
pub fn natd(lab: &Lab, code: i32, arguments: &[&str]) -> Result<Run> {
    let run = lab.nat().natd(arguments)?;
    ensure!(run.code == Some(code), "natd {arguments:?} is to end with {code}: {run:#?}");
    lab.sync()?;
    Ok(run)
}

/// The run said all of that, on either stream, and didn't panic.
pub fn says(run: &Run, words: &[&str]) -> Result<()> {
    let said = format!("{}{}", run.stdout, run.stderr);
    for words in words {
        ensure!(said.contains(words), "nothing of {words:?} in:\n{said}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

/// Starts the daemon, with these further lines of configuration and a tick every second, and waits until it serves.
pub fn serving_daemon(lab: &Lab, configuration: &str) -> Result<Daemon> {
    let interval = "[service]\ninterval = \"1s\"\n";
    lab.nat().write("etc/natd/conf.d/10-test.toml", &format!("{interval}{configuration}"))?;
    let daemon = lab.nat().daemon::<&str>([])?;
    daemon.wait_for(PATIENCE, |line| line.contains("INFO NAT "))?;
    lab.sync()?;
    Ok(daemon)
}

/// How every client fares.
pub fn reaches(lab: &Lab) -> Vec<(String, Reach)> {
    let probe = |client: &Host| (client.name.clone(), client.reach());
    thread::scope(|scope| {
        let probes: Vec<_> =
            lab.clients().map(|client| scope.spawn(move || probe(client))).collect();
        probes.into_iter().filter_map(|probe| probe.join().ok()).collect()
    })
}

/// Every client gets through over TCP, UDP and ICMP, as the NAT instance's public address.
///
/// # Panics
/// If one doesn't.
#[track_caller]
pub fn assert_served(lab: &Lab) {
    for (client, reach) in reaches(lab) {
        assert!(reach.is_all(NAT_PUBLIC), "{client}: {reach:#?}");
    }
}

/// No client gets anything through.
///
/// # Panics
/// If one does.
#[track_caller]
pub fn assert_unserved(lab: &Lab) {
    for (client, reach) in reaches(lab) {
        assert!(reach.is_none(), "{client}: {reach:#?}");
    }
}

/// The actions that natd has called so far.
pub fn actions(lab: &Lab) -> Vec<String> {
    lab.api_log().into_iter().map(|call| call.action).collect()
}

/// Those of them that change the cloud.
pub fn writes(lab: &Lab) -> Vec<String> {
    lab.api_log().into_iter().filter(Call::is_write).map(|call| call.action).collect()
}

/// Waits until the daemon has looked at cloud and host once from beginning to end, and found nothing to do.
///
/// # Panics
/// If it doesn't.
pub fn after_a_quiet_tick(lab: &Lab, daemon: &Daemon) {
    let (mut said, mut ticks) = (daemon.mark(), full_ticks(lab));
    until("a tick that changes nothing", || {
        let now = (daemon.mark(), full_ticks(lab));
        if now.0 != said {
            (said, ticks) = now;
        }
        // The first may have begun before what was said last.
        matches!((ticks, now.1), (Some(then), Some(now)) if now >= then + 2)
    });
}

/// How many looks at cloud and host the daemon has finished; `None` as long as it doesn't tell.
pub fn full_ticks(lab: &Lab) -> Option<u64> {
    let (_, metrics) = lab.nat().health("/metrics").ok()?;
    metrics
        .lines()
        .find_map(|line| line.strip_prefix("natd_full_ticks_total "))?
        .trim()
        .parse()
        .ok()
}

/// What the daemon has said behind the first `mark` lines of changes that it made or failed to make.
pub fn changes(daemon: &Daemon, mark: usize) -> Vec<String> {
    let is_change = |line: &String| {
        ["done: ", "failed: ", "skipped: ", "not done: "].iter().any(|sort| line.contains(sort))
    };
    daemon.lines().into_iter().skip(mark).filter(is_change).collect()
}

/// Exactly these lines were said, in that order: each holds all of its words.
///
/// # Panics
/// If not.
#[track_caller]
pub fn tells(said: &[String], expected: &[&[&str]]) {
    let fits = |(line, words): (&String, &&[&str])| words.iter().all(|word| line.contains(word));
    let all = said.len() == expected.len() && said.iter().zip(expected).all(fits);
    assert!(all, "it said {said:#?}, and not {expected:#?}");
}

/// How long a packet may take that waits for natd.
pub const HEALING: Duration = PATIENCE;
