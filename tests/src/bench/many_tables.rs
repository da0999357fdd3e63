//! Two hundred route tables beside two, in each cloud: the first convergence, and a tick that finds nothing to do.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::report::Section;
use crate::expect::{after_a_quiet_tick, full_ticks, serving_daemon};
use crate::lab::Lab;
use crate::lab::calls::Call;
use crate::lab::cloud::CloudKind;
use crate::wait::until;

const MANY: usize = 200;

/// Of a cloud whose lists don't carry the routes, at most so many tables are read in a tick.
const TABLES_A_TICK: usize = 8;

/// How often `natd apply` is run until nothing is left undone, and how it says that something is.
const RUNS: usize = 4;
const PARTLY: i32 = 4;

/// How many ticks are looked at.
const TICKS: usize = 4;

/// The first convergence of some tables.
struct Convergence {
    seconds: f64,
    /// More than one where the cloud failed some of the calls for good.
    runs: usize,
    calls: Vec<Call>,
}

/// Each cloud by itself, with its own API server.
pub fn measure() -> Result<Section> {
    let mut section = Section::new(
        "Two hundred route tables",
        ["cloud", "tables", "first apply", "calls", "writes", "calls of a tick"],
    );
    section.note(
        "`natd apply` from nothing, with default concurrency (8 calls at once), and the busiest of some ticks of the \
         daemon that find nothing to do. The ratio says how much longer two hundred tables take than two. The API \
         servers run beside natd on the same machine. Where a run leaves something undone, natd is run again: Neutron \
         over SQLite, as the lab has it, answers some of many writes at once with 500; those count as calls and not as \
         writes.",
    );
    for cloud in CloudKind::ALL {
        if let Err(error) = of(cloud, &mut section) {
            section.target(
                &format!("{cloud}: {MANY} tables"),
                "served",
                format!("{error:#}"),
                false,
            );
        }
    }
    Ok(section)
}

fn of(cloud: CloudKind, section: &mut Section) -> Result<()> {
    let lab = Lab::of(cloud).build()?;
    lab.hold_network();
    let mut tables: Vec<String> =
        lab.ids.private_tables().iter().map(ToString::to_string).collect();
    let few = tables.len();
    let two = converge(&lab, &tables)?;
    let tick_of_two = busiest_tick(&lab)?;
    down(&lab)?;
    while tables.len() < MANY {
        tables.push(lab.new_table()?);
    }
    let many = converge(&lab, &tables)?;
    let tick_of_many = busiest_tick(&lab)?;
    down(&lab)?;

    for (count, convergence, tick) in [(few, &two, &tick_of_two), (MANY, &many, &tick_of_many)] {
        section.row([
            cloud.to_string(),
            count.to_string(),
            match convergence.runs {
                1 => format!("{:.2} s", convergence.seconds),
                runs => format!("{:.2} s in {runs} runs", convergence.seconds),
            },
            convergence.calls.len().to_string(),
            in_words(&writes(&convergence.calls)),
            tick.len().to_string(),
        ]);
    }
    let [written, of_two] = [&many, &two].map(|one| writes(&one.calls).values().sum::<usize>());
    section.target(
        &format!("{cloud}: one write a table"),
        &format!("{} more than of {few}", MANY - few),
        format!("{written} beside {of_two}; {:.1} times the time", many.seconds / two.seconds),
        written == of_two + MANY - few,
    );
    section.target(
        &format!("{cloud}: a tick of {MANY} tables"),
        &format!("at most {TABLES_A_TICK} calls more than of {few}, no write"),
        format!("{} beside {}", tick_of_many.len(), tick_of_two.len()),
        tick_of_many.len() <= tick_of_two.len() + TABLES_A_TICK
            && !tick_of_many.iter().any(Call::is_write),
    );
    Ok(())
}

fn converge(lab: &Lab, tables: &[String]) -> Result<Convergence> {
    lab.nat()
        .write("etc/natd/conf.d/10-tables.toml", &format!("[routes]\ntables = {tables:?}\n"))?;
    lab.api_log_clear();
    let mut seconds = 0.0;
    for runs in 1..=RUNS {
        let run = lab.nat().natd(["apply"])?;
        seconds += run.took.as_secs_f64();
        if run.code == Some(0) {
            return Ok(Convergence { seconds, runs, calls: lab.api_log() });
        }
        let failed: Vec<&str> = run.stdout.lines().filter(|line| line.contains('✗')).collect();
        ensure!(run.code == Some(PARTLY) && runs < RUNS, "natd apply: {failed:?} {}", run.stderr);
    }
    bail!("natd apply was not run")
}

fn down(lab: &Lab) -> Result<()> {
    let run = lab.nat().natd(["down"])?;
    ensure!(run.code == Some(0), "natd down failed: {run:#?}");
    Ok(())
}

/// The calls of the most talkative of some ticks that change nothing.
fn busiest_tick(lab: &Lab) -> Result<Vec<Call>> {
    let daemon = serving_daemon(lab, "")?;
    after_a_quiet_tick(lab, &daemon);
    let mut busiest = Vec::new();
    let mut seen = full_ticks(lab);
    for tick in 0..=TICKS {
        until("the next tick", || full_ticks(lab).is_some_and(|now| Some(now) > seen));
        seen = full_ticks(lab);
        let calls = lab.api_log();
        lab.api_log_clear();
        // The log before the first of them is that of many ticks.
        if tick > 0 && calls.len() > busiest.len() {
            busiest = calls;
        }
    }
    Ok(busiest)
}

/// How often each action was called that changes something: routes, and the source/destination check once.
fn writes(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut writes = BTreeMap::new();
    let is_done = |call: &&Call| call.is_write() && call.status.is_none_or(|status| status < 400);
    for call in calls.iter().filter(is_done) {
        *writes.entry(call.action.clone()).or_default() += 1;
    }
    writes
}

/// `200 CreateRoute`.
fn in_words(writes: &BTreeMap<String, usize>) -> String {
    let words: Vec<String> =
        writes.iter().map(|(action, times)| format!("{times} {action}")).collect();
    words.join(", ")
}
