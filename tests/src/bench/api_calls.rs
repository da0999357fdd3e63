//! Calls of the EC2 API: how many a command makes, which of them side by side, and how many a tick.

use std::time::Duration;

use anyhow::Result;

use super::report::Section;
use crate::expect::{after_a_quiet_tick, full_ticks, natd, serving_daemon};
use crate::lab::Lab;
use crate::lab::calls::{Call, Fault};
use crate::wait::until;

/// Every call is answered this late, so that who waits for an answer can be told from who doesn't.
const DELAY: Duration = Duration::from_millis(250);

/// All that natd may do to the cloud.
const ACTIONS: [&str; 7] = [
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeRouteTables",
    "DescribeSubnets",
    "ModifyNetworkInterfaceAttribute",
    "CreateRoute",
    "ReplaceRoute",
];

/// How many ticks are looked at.
const TICKS: u32 = 3;

const MANY: usize = 50;

const BY_TAG: &str = "[routes]\ntables = { tag = \"natd=managed\" }\n";

/// Two tables at first, then fifty.
pub fn measure() -> Result<Section> {
    let lab = Lab::aws().build()?;
    delay(&lab);
    let first = calls_of_apply(&lab)?;
    let second = calls_of_apply(&lab)?;
    lab.heal();
    let tick_of_two = calls_of_a_tick(&lab, "")?;
    for table in lab.ids.private_tables() {
        manage(&lab, table)?;
    }
    for _ in lab.ids.private_tables().len()..MANY {
        manage(&lab, &lab.new_table()?)?;
    }
    let tick_of_many = calls_of_a_tick(&lab, BY_TAG)?;

    let mut section =
        Section::new("Calls of the EC2 API", ["of", "calls", "writes", "one after the other"]);
    section.note(format!(
        "Counted by the lab's endpoint, with one interface. There each call is answered {} ms late: \
         calls that come in before the first of them is answered were made side by side, and are joined by +. The \
         daemon's ticks are those that find nothing to do, {TICKS} of each sort, the one with the most calls shown.",
        DELAY.as_millis()
    ));
    for (what, calls) in [
        ("`natd apply`, 2 tables", &first),
        ("`natd apply` again", &second),
        ("a tick, 2 tables by id", &tick_of_two),
        ("a tick, 50 tables by tag", &tick_of_many),
    ] {
        let (count, writes) = (calls.len().to_string(), writes(calls).to_string());
        section.row([what.to_owned(), count, writes, in_words(calls)]);
    }
    let alone = waves(&first).len();
    let in_turn = format!("{} calls in {alone} turns", first.len());
    section.target(
        "`natd apply`, 2 tables, 1 interface",
        "at most 8 calls",
        first.len(),
        first.len() <= 8,
    );
    section.target("independent calls", "side by side", in_turn, alone < first.len());
    section.target("`natd apply` again", "no write", writes(&second), writes(&second) == 0);
    let ticks = tick_of_two.len().max(tick_of_many.len());
    let reads = ticks <= 3 && writes(&tick_of_two) + writes(&tick_of_many) == 0;
    section.target("a tick, however many tables", "at most 3 reads", ticks, reads);
    Ok(section)
}

fn calls_of_apply(lab: &Lab) -> Result<Vec<Call>> {
    lab.api_log_clear();
    natd(lab, 0, &["apply"])?;
    Ok(lab.api_log())
}

/// The calls of the most talkative of some ticks that change nothing.
fn calls_of_a_tick(lab: &Lab, configuration: &str) -> Result<Vec<Call>> {
    let daemon = serving_daemon(lab, configuration)?;
    after_a_quiet_tick(lab, &daemon);
    delay(lab);
    let mut most = Vec::new();
    let mut seen = full_ticks(lab);
    for tick in 0..=TICKS {
        until("the next tick", || full_ticks(lab).is_some_and(|now| Some(now) > seen));
        seen = full_ticks(lab);
        let calls = lab.api_log();
        lab.api_log_clear();
        // The log before the first of them is that of many ticks.
        if tick > 0 && calls.len() > most.len() {
            most = calls;
        }
    }
    lab.heal();
    Ok(most)
}

/// Has every call answered late until the lab is healed.
fn delay(lab: &Lab) {
    for action in ACTIONS {
        lab.fail(action, Fault::Delay(DELAY), usize::MAX);
    }
}

fn manage(lab: &Lab, table: &str) -> Result<()> {
    lab.tag(table, "natd", "managed")
}

fn writes(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.is_write()).count()
}

/// Calls by the turns in which they were made: a call is of the same turn as an earlier one if it came in before that
/// one can have been answered.
fn waves(calls: &[Call]) -> Vec<Vec<&Call>> {
    let mut waves: Vec<Vec<&Call>> = Vec::new();
    for call in calls {
        match waves.last_mut() {
            Some(wave) if wave.first().is_some_and(|first| call.at < first.at + DELAY) => {
                wave.push(call);
            }
            _ => waves.push(vec![call]),
        }
    }
    waves
}

/// `DescribeSubnets; CreateRoute + CreateRoute`.
fn in_words(calls: &[Call]) -> String {
    let waves = waves(calls).into_iter().map(|wave| {
        wave.into_iter().map(|call| call.action.as_str()).collect::<Vec<_>>().join(" + ")
    });
    waves.collect::<Vec<_>>().join("; ")
}
