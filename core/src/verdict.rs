//! Whether NAT works, and if not, what is wrong: a pure function of what was wanted and what is missing.

use serde::Serialize;

use crate::{
    desired::{Desired, Weight},
    error::Error,
    persist::Persistence,
    plan::Plan,
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
}

/// Judges by what was wanted, which steps towards it are still to be done, and the proof.
#[must_use]
pub fn judge<'a>(
    desired: &Desired,
    plan: &Plan,
    outstanding: impl IntoIterator<Item = &'a Step>,
    proof: &Proof,
) -> Judgement {
    let outstanding: Vec<&Step> = outstanding.into_iter().collect();
    let mut checks = Vec::new();
    host_checks(&mut checks, desired, &outstanding);
    checks.push(match proof {
        Proof::Reached(target) => check("way out", State::Ok, format!("{target} answers")),
        Proof::Failed(error) => check("way out", State::Failed, error.to_string()),
        Proof::Unproven => {
            check("way out", State::Unproven, "verify.targets is empty: nothing was tried")
        }
    });
    let fails = |check: &&Check| {
        check.state == State::Failed && ![TUNING, REBOOT].contains(&check.name.as_str())
    };
    let carried = checks.iter().find(fails).cloned();
    let mut served = 0;
    for (key, wish) in &desired.routes {
        let missing = !plan.served.contains(key)
            || outstanding
                .iter()
                .any(|step| matches!(step, Step::TakeRoute { key: taken, .. } if taken == key));
        if missing {
            checks.push(check(key.to_string(), State::Failed, "does not lead here"));
        } else {
            served += 1;
            checks.push(check(key.to_string(), State::Ok, format!("leads to {}", wish.target)));
        }
    }
    for error in plan.refusals.iter().chain(&plan.problems) {
        checks.push(check(ASKED_FOR, State::Failed, error.to_string()));
    }
    let unserved = checks.iter().rfind(fails);
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
    Judgement { verdict, headline, checks }
}

/// The names of the checks that NAT doesn't stand or fall with.
const TUNING: &str = "tuning";
const REBOOT: &str = "after a reboot";

/// The name of the checks of what was asked for and can't be done. Their detail is what natd "could not".
const ASKED_FOR: &str = "asked for";

/// What is wrong, for a headline.
fn sentence(Check { name, detail, .. }: &Check) -> String {
    if name == ASKED_FOR { format!("natd {detail}") } else { format!("{name}: {detail}") }
}

fn check(name: impl Into<String>, state: State, detail: impl Into<String>) -> Check {
    Check { name: name.into(), state, detail: detail.into() }
}

fn host_checks(checks: &mut Vec<Check>, desired: &Desired, outstanding: &[&Step]) {
    if let Some(rules) = &desired.rules {
        let wrong = outstanding.iter().find_map(|step| match step {
            Step::LoadRules { replaces: false, .. } => Some("not loaded".to_owned()),
            Step::LoadRules { damage, .. } if damage.is_empty() => {
                Some("older than the configuration".to_owned())
            }
            Step::LoadRules { damage, .. } => Some(damage.join(", ")),
            Step::ClearStaleFlows { .. } => {
                Some("loaded; connections that they don't serve so are not deleted yet".to_owned())
            }
            _ => None,
        });
        checks.push(match wrong {
            Some(wrong) => check("rules", State::Failed, wrong),
            None => {
                check("rules", State::Ok, format!("{}, loaded and intact", rules.rendering.kind))
            }
        });
    }
    for (key, setting) in &desired.sysctls {
        let wrong = outstanding.iter().find_map(|step| match step {
            Step::SetSysctl { key: set, from, .. } if set == key => {
                Some(from.as_deref().unwrap_or("missing"))
            }
            _ => None,
        });
        let name = if setting.weight == Weight::Carries { "forwarding" } else { TUNING };
        match wrong {
            Some(found) => checks.push(check(
                name,
                State::Failed,
                format!("{key} is {found}, not {}", setting.value),
            )),
            None if setting.weight == Weight::Carries => {
                checks.push(check(name, State::Ok, format!("{key} is {}", setting.value)));
            }
            None => {}
        }
    }
    checks.push(after_a_reboot(desired, outstanding));
    for interface in &desired.unchecked {
        let on = outstanding.iter().any(
            |step| matches!(step, Step::SwitchCheckOff { interface: off, .. } if off == interface),
        );
        checks.push(if on {
            check("source/destination check", State::Failed, format!("of {interface} is on"))
        } else {
            check("source/destination check", State::Ok, format!("of {interface} is off"))
        });
    }
}

/// Whether NAT will be there before natd is.
fn after_a_reboot(desired: &Desired, outstanding: &[&Step]) -> Check {
    let Persistence { kind, why, problem, .. } = &desired.persistence;
    let missing = outstanding.iter().find(|step| step.phase() == Phase::Persist);
    match (problem, missing, kind) {
        (Some(problem), ..) => check(REBOOT, State::Failed, problem.to_string()),
        (None, Some(step), _) => check(REBOOT, State::Failed, format!("not done: {step}")),
        (None, None, Some(kind)) => check(REBOOT, State::Ok, format!("{kind} ({why})")),
        (None, None, None) => {
            check(REBOOT, State::Unproven, format!("only natd's own start brings NAT back: {why}"))
        }
    }
}
