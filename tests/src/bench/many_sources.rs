//! A daemon with 60,000 sources: what it holds, and what a tick costs that finds nothing to do.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::plot::grouped;
use super::process::{kib, megabytes, processor};
use super::programs::{Programs, Ran};
use super::report::Section;
use super::sources::MANY;
use crate::expect::{after_a_quiet_tick, changes, full_ticks};
use crate::lab::Lab;
use crate::lab::daemon::Daemon;
use crate::wait::{PATIENCE, until};

/// 60 MB in KiB, which is what the kernel counts in.
const MOST_KIB: u64 = 60_000_000 / 1024;

/// How many ticks are looked at, one a second.
const TICKS: u64 = 20;

/// What a daemon uses.
struct Use {
    sources: String,
    resident_kib: u64,
    most_kib: u64,
    proportional_kib: u64,
    /// Of a tick.
    microseconds: u64,
    programs_milliseconds: u64,
    /// Of all ticks.
    runs: usize,
    whole_reads: usize,
}

/// Beside one with the lab's two blocks.
pub fn measure() -> Result<Section> {
    let few = serve("the VPC's 2", "")?;
    let mut sources = String::from("[nat]\nfirewall = \"nftables\"\nsources = [\"vpc\"");
    for number in 0..u32::try_from(MANY)? {
        // None merges, and none is among the clients' own.
        write!(sources, ", \"{}/32\"", Ipv4Addr::from(0x6440_0000 + number * 64))?;
    }
    sources.push_str("]\n");
    let many = serve(&format!("{} more", grouped(&MANY.to_string())), &sources)?;

    let columns = [
        "sources",
        "resident",
        "the most so far",
        "proportional",
        "natd, a tick",
        "its programs, a tick",
        "runs of nft, a tick",
        "reads of the whole set",
    ];
    let mut section = Section::new("The daemon with 60,000 sources", columns);
    section.note(format!(
        "In the lab's AWS, with nftables: the daemon has taken the routes and converged, with a tick each second instead of \
         each 30, and {TICKS} of them are looked at. Memory as for the idle daemon; *the most so far* has the loading in it \
         and the read back after it. Processor time of natd and of the programs that it runs (`nft`). natd finds an `nft` \
         that notes how it is called. A tick asks the kernel itself for rules and leaves out what sets hold: what the \
         60,000 still cost in it is natd's own rendering of them."
    ));
    for daemon in [&few, &many] {
        section.row([
            daemon.sources.clone(),
            megabytes(daemon.resident_kib),
            megabytes(daemon.most_kib),
            megabytes(daemon.proportional_kib),
            format!("{:.1} ms", milliseconds(daemon.microseconds)),
            format!("{} ms", daemon.programs_milliseconds),
            format!("{:.1}", a_tick(daemon.runs)),
            daemon.whole_reads.to_string(),
        ]);
    }
    section.target(
        "memory with 60,000 sources",
        "at most 60 MB",
        format!("{}, at most {} so far", megabytes(many.resident_kib), megabytes(many.most_kib)),
        many.most_kib.max(many.resident_kib) <= MOST_KIB,
    );
    section.target(
        &format!("reads of the whole set in {TICKS} steady ticks"),
        "none",
        many.whole_reads,
        many.whole_reads == 0,
    );
    Ok(section)
}

fn serve(sources: &str, configuration: &str) -> Result<Use> {
    let lab = Lab::aws().build()?;
    let interval = "[service]\ninterval = \"1s\"\n";
    lab.nat().write("etc/natd/conf.d/10-bench.toml", &format!("{interval}{configuration}"))?;
    let programs = Programs::lay(&lab.nat().root, None)?;
    let path = format!("PATH={}", programs.path().display());
    let daemon = Daemon::start(lab.nat().command_under(&["env", &path], ["run"])?)?;
    daemon.wait_for(PATIENCE, |line| line.contains("INFO NAT "))?;
    lab.sync()?;
    lab.client("client-a").tcp().context("the client is not served")?;
    after_a_quiet_tick(&lab, &daemon);

    let (pid, mark) = (daemon.pid(), daemon.mark());
    programs.forget();
    let (first, before) = (full_ticks(&lab), processor(pid)?);
    until("some ticks", || {
        full_ticks(&lab).zip(first).is_some_and(|(now, then)| now >= then + TICKS)
    });
    let (after, ran) = (processor(pid)?, programs.ran()?);
    let did = changes(&daemon, mark);
    anyhow::ensure!(did.is_empty(), "the daemon was not idle: {did:#?}");
    let nft = || ran.iter().filter(|ran| ran.command.starts_with("nft "));
    Ok(Use {
        sources: sources.to_owned(),
        resident_kib: kib(pid, "status", "VmRSS")?,
        most_kib: kib(pid, "status", "VmHWM")?,
        proportional_kib: kib(pid, "smaps_rollup", "Pss")?,
        microseconds: (after.nanoseconds - before.nanoseconds) / 1000 / TICKS,
        programs_milliseconds: (after.programs - before.programs) * 10 / TICKS,
        runs: nft().count(),
        whole_reads: nft().filter(|ran| is_whole(ran)).count(),
    })
}

/// Whether a run of `nft` asked for what sets hold.
fn is_whole(ran: &Ran) -> bool {
    let words: Vec<&str> = ran.command.split(' ').collect();
    words.contains(&"list")
        && !words.contains(&"-t")
        && (words.contains(&"table") || words.contains(&"ruleset") || words.contains(&"set"))
}

fn milliseconds(microseconds: u64) -> f64 {
    u32::try_from(microseconds).map_or(f64::INFINITY, f64::from) / 1000.0
}

fn a_tick(runs: usize) -> f64 {
    let ticks = u32::try_from(TICKS).map_or(f64::NAN, f64::from);
    u32::try_from(runs).map_or(f64::INFINITY, f64::from) / ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_of_a_set_is_told_from_one_of_rules() {
        let is = |command: &str| is_whole(&Ran { command: command.to_owned(), seconds: 0.0 });
        assert!(is("nft -j list table inet natd"));
        assert!(!is("nft -j -t list table inet natd"));
        assert!(!is("nft list tables"));
        assert!(!is("nft -f -"));
    }
}
