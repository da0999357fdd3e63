//! Whether NAT works, and if not, what is wrong: a pure function of what was wanted and what is missing.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    canary::Outcome,
    desired::{Desired, Weight},
    error::{Error, Sort},
    persist::Persistence,
    plan::Plan,
    proof::{Evidence, Flown, Found},
    step::{Phase, Step},
};

/// Whether packets were seen to get out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// This target answered.
    Reached(String),
    /// None of the targets did.
    Failed(Error),
    /// There are no targets, or they were not tried.
    Unproven,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Nobody knows.
    Unproven,
    /// Not as it should be.
    Failed,
}

/// One thing that NAT needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub name: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// The trouble that it comes of, if it comes of an error.
    #[serde(skip)]
    pub sort: Option<Sort>,
}

/// Whether NAT works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All that was asked for is served, and packets were seen to get out.
    Works,
    /// All that was asked for is served; that packets get out was not tried.
    Unproven,
    /// Some routes are served, others not.
    Partly,
    /// Nobody is served.
    Broken,
}

/// The verdict, with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// In a word.
    pub verdict: Verdict,
    /// In a line, for people: the first that `natd status` prints.
    pub headline: String,
    /// In detail, in the order of a packet's way.
    pub checks: Vec<Check>,
    /// The trouble that the headline tells, if it comes of an error.
    #[serde(skip)]
    pub told: Option<Sort>,
}

impl Judgement {
    /// Whether it says what the other one says, in whatever words: what works is told in full; of what
    /// doesn't, which checks fail by which trouble.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let gist = |judgement: &Self| -> BTreeSet<(String, Option<Sort>, String)> {
            let failed = judgement.checks.iter().filter(|check| check.state == State::Failed);
            let by_sort = failed.map(|Check { name, detail, sort, .. }| {
                let detail = if sort.is_some() { String::new() } else { detail.clone() };
                (name.clone(), sort.clone(), detail)
            });
            by_sort.collect()
        };
        let works = matches!(self.verdict, Verdict::Works | Verdict::Unproven);
        self.verdict == other.verdict
            && (!works || self.headline == other.headline)
            && gist(self) == gist(other)
    }
}

/// A step towards what is wanted that is still to be done.
#[derive(Debug, Clone, Copy)]
pub struct Outstanding<'a> {
    /// Which.
    pub step: &'a Step,
    /// Why it was not, if it was tried.
    pub why: Option<&'a Error>,
}

impl<'a> From<&'a Step> for Outstanding<'a> {
    fn from(step: &'a Step) -> Self {
        Self { step, why: None }
    }
}

/// Judges by what was wanted, which steps towards it are still to be done, and the evidence.
#[must_use]
pub fn judge<'a>(
    desired: &Desired,
    plan: &Plan,
    outstanding: impl IntoIterator<Item = Outstanding<'a>>,
    evidence: &Evidence,
) -> Judgement {
    let Evidence { proof, canary } = evidence;
    let outstanding: Vec<Outstanding<'_>> = outstanding.into_iter().collect();
    let mut checks = Vec::new();
    host_checks(&mut checks, desired, &outstanding);
    checks.push(way_out(evidence));
    checks.extend(canary.iter().flat_map(canary_checks));
    let fails = |check: &&Check| {
        check.state == State::Failed && ![TUNING, REBOOT, NEIGHBOUR].contains(&check.name.as_str())
    };
    let carried = checks.iter().find(fails).cloned();
    let mut served = 0;
    for (key, wish) in &desired.routes {
        let takes =
            |step: &Step| matches!(step, Step::TakeRoute { key: taken, .. } if taken == key);
        let to_be_taken = outstanding.iter().find(|left| takes(left.step));
        if to_be_taken.is_some() || !plan.served.contains(key) {
            let why = to_be_taken.and_then(|left| left.why);
            checks.push(wrong(key.to_string(), "does not lead here", why));
        } else {
            served += 1;
            checks.push(check(key.to_string(), State::Ok, format!("leads to {}", wish.target)));
        }
    }
    for error in plan.refusals.iter().chain(&plan.problems) {
        checks.push(failed(ASKED_FOR, error));
    }
    let unserved = checks.iter().rfind(fails);
    let told = carried.as_ref().or(unserved).and_then(|check| check.sort.clone());
    let routes =
        if served == 1 { "1 route leads".to_owned() } else { format!("{served} routes lead") };
    let (verdict, headline) = match (carried, unserved) {
        (Some(broken), _) => (Verdict::Broken, format!("NAT does not work: {}", sentence(&broken))),
        (None, Some(check)) if served > 0 => {
            (Verdict::Partly, format!("NAT works in part: {routes} here, and {}", sentence(check)))
        }
        (None, Some(check)) => (Verdict::Broken, format!("NAT does not work: {}", sentence(check))),
        (None, None) => {
            let how = desired.rules.as_ref().map_or_else(String::new, |rules| {
                format!("{} out by {}", rules.ruleset.translation, rules.ruleset.egress)
            });
            match proof {
                Proof::Reached(target) => {
                    (Verdict::Works, format!("NAT works: {routes} here, {how}, {target} answers"))
                }
                _ => (
                    Verdict::Unproven,
                    format!(
                        "NAT is in place, unproven: {routes} here, {how}; set verify.targets to have it proven"
                    ),
                ),
            }
        }
    };
    Judgement { verdict, headline, checks, told }
}

fn way_out(Evidence { proof, canary }: &Evidence) -> Check {
    let (state, detail) = match (proof, canary.as_ref().map(|flown| &flown.outcome)) {
        (Proof::Reached(target), _) => (State::Ok, format!("{target} answers")),
        (Proof::Failed(error), _) => return failed("way out", error),
        (Proof::Unproven, Some(Outcome::Lost(_))) => {
            (State::Unproven, "the canary didn't get as far".to_owned())
        }
        (Proof::Unproven, None) => (State::Unproven, "it was not tried".to_owned()),
        (Proof::Unproven, Some(_)) => {
            (State::Unproven, "verify.targets is empty: nobody was asked for an answer".to_owned())
        }
    };
    check("way out", state, detail)
}

/// The stations of the canary's way.
fn canary_checks(flown: &Flown) -> Vec<Check> {
    if let Outcome::Unsent(error) = &flown.outcome {
        return vec![check("canary", State::Unproven, error.to_string())];
    }
    let stations = flown.stations().into_iter();
    stations
        .map(|(station, found)| {
            let (state, detail) = match found {
                Found::Passed(passed) => (State::Ok, passed),
                Found::Lost(lost) => (State::Failed, lost),
                Found::Unknown(why) => (State::Unproven, why),
            };
            check(station.name(), state, detail)
        })
        .collect()
}

/// The names of the checks that NAT doesn't stand or fall with.
const TUNING: &str = "tuning";
const REBOOT: &str = "after a reboot";
const NEIGHBOUR: &str = "neighbour";

/// The name of the checks of what was asked for and can't be done. Their detail is what natd "could not".
const ASKED_FOR: &str = "asked for";

/// What is wrong, for a headline.
fn sentence(Check { name, detail, .. }: &Check) -> String {
    if name == ASKED_FOR { format!("natd {detail}") } else { format!("{name}: {detail}") }
}

fn check(name: impl Into<String>, state: State, detail: impl Into<String>) -> Check {
    Check { name: name.into(), state, detail: detail.into(), sort: None }
}

/// What an error says is wrong.
fn failed(name: &str, error: &Error) -> Check {
    Check { sort: Some(error.sort()), ..check(name, State::Failed, error.to_string()) }
}

/// What is wrong, and why it was not put right, if that was tried.
fn wrong(name: impl Into<String>, detail: impl Into<String>, why: Option<&Error>) -> Check {
    let mut check = check(name, State::Failed, detail);
    if let Some(why) = why {
        check.detail = format!("{}: {why}", check.detail);
        check.sort = Some(why.sort());
    }
    check
}

fn host_checks(checks: &mut Vec<Check>, desired: &Desired, outstanding: &[Outstanding<'_>]) {
    if let Some(rules) = &desired.rules {
        let amiss = outstanding.iter().find_map(|left| {
            let what = match left.step {
                Step::LoadRules { replaces: false, .. } => "not loaded".to_owned(),
                Step::LoadRules { damage, .. } if damage.is_empty() => {
                    "older than the configuration".to_owned()
                }
                Step::LoadRules { damage, .. } => damage.join(", "),
                Step::ClearStaleFlows { .. } => {
                    "loaded; connections that they don't serve so are not deleted yet".to_owned()
                }
                _ => return None,
            };
            Some(wrong("rules", what, left.why))
        });
        checks.push(match amiss {
            Some(amiss) => amiss,
            None => {
                check("rules", State::Ok, format!("{}, loaded and intact", rules.rendering.kind))
            }
        });
    }
    for (key, setting) in &desired.sysctls {
        let amiss = outstanding.iter().find_map(|left| match left.step {
            Step::SetSysctl { key: set, from, .. } if set == key => {
                Some((from.as_deref().unwrap_or("missing"), left.why))
            }
            _ => None,
        });
        let name = if setting.weight == Weight::Carries { "forwarding" } else { TUNING };
        match amiss {
            Some((found, why)) => {
                let detail = format!("{key} is {found}, not {}", setting.value);
                checks.push(wrong(name, detail, why));
            }
            None if setting.weight == Weight::Carries => {
                checks.push(check(name, State::Ok, format!("{key} is {}", setting.value)));
            }
            None => {}
        }
    }
    for who in desired.passages.keys() {
        let opens = |step: &Step| matches!(step, Step::OpenPassage { who: by, .. } if by == who);
        checks.push(match outstanding.iter().find(|left| opens(left.step)) {
            Some(left) => wrong(
                NEIGHBOUR,
                format!("{who} is not told to let natd's traffic through"),
                left.why,
            ),
            None => check(NEIGHBOUR, State::Ok, format!("{who} lets natd's traffic through")),
        });
    }
    checks.push(after_a_reboot(desired, outstanding));
    for interface in &desired.unchecked {
        let switches = |step: &Step| matches!(step, Step::SwitchCheckOff { interface: off, .. } if off == interface);
        let name = "source/destination check";
        checks.push(match outstanding.iter().find(|left| switches(left.step)) {
            Some(left) => wrong(name, format!("of {interface} is on"), left.why),
            None => check(name, State::Ok, format!("of {interface} is off")),
        });
    }
}

/// Whether NAT will be there before natd is.
fn after_a_reboot(desired: &Desired, outstanding: &[Outstanding<'_>]) -> Check {
    let Persistence { kind, why, problem, .. } = &desired.persistence;
    let missing = outstanding.iter().find(|left| left.step.phase() == Phase::Persist);
    match (problem, missing, kind) {
        (Some(problem), ..) => failed(REBOOT, problem),
        (None, Some(left), _) => wrong(REBOOT, format!("not done: {}", left.step), left.why),
        (None, None, Some(kind)) => check(REBOOT, State::Ok, format!("{kind} ({why})")),
        (None, None, None) => {
            check(REBOOT, State::Unproven, format!("only natd's own start brings NAT back: {why}"))
        }
    }
}
