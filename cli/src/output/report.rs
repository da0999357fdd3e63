//! What came of a command: steps, judgement, warnings.

use natd_agent::gateway::Report;
use natd_core::{
    apply::Outcome,
    plan::Plan,
    verdict::{Judgement, State, Verdict},
};

use super::{BAD, BOLD, GOOD, NOTE, print, print_heading, print_warnings, sign};

/// What `apply` prints: what was done, what was not, whether NAT works now.
pub fn print_applied(report: &Report) {
    print_steps(report);
    for error in report.refusals.iter().chain(&report.problems) {
        sign(BAD, '!', &error.to_string());
    }
    print_warnings(&report.warnings);
    print_headline(&report.judgement);
}

/// What `down` prints.
pub fn print_return(report: &Report, plan: &Plan) {
    print_steps(report);
    for left in &plan.left_alone {
        sign(NOTE, '·', &format!("{}: left alone, {}", left.what, left.why));
    }
    print_warnings(&report.warnings);
    if report.unfinished().next().is_some() {
        print(&format!("{BAD}Not all is given back.{BAD:#} natd down tries again."));
    } else if report.steps.is_empty() {
        print("Nothing to give back.");
    } else {
        print("All that natd had changed is given back.");
    }
}

/// What `status` prints: the verdict, what it rests on, what to know, the daemon.
pub fn print_status(report: &Report, daemon: Option<&serde_json::Value>) {
    print_headline(&report.judgement);
    print_checks(&report.judgement);
    print_warnings(&report.warnings);
    print_heading("daemon");
    match daemon.and_then(|daemon| daemon.get("process")) {
        Some(process) => sign(GOOD, '·', &format!("runs as process {process}")),
        None => sign(NOTE, '·', "does not run: what drifts is not healed"),
    }
    let alarm = daemon.and_then(|daemon| daemon.get("trouble")?.get("cause")?.as_str());
    if let Some(alarm) = alarm {
        sign(BAD, '!', alarm);
    }
    let unanswered =
        daemon.and_then(|daemon| daemon.get("report")?.get("unanswered")?.get("cause")?.as_str());
    if let Some(unanswered) = unanswered {
        sign(BAD, '!', &format!("the cloud did not answer: {unanswered}"));
    }
    let problems = daemon.and_then(|daemon| daemon.get("report")?.get("problems")?.as_array());
    for problem in problems.into_iter().flatten() {
        if let Some(cause) = problem.get("cause").and_then(serde_json::Value::as_str) {
            sign(BAD, '!', cause);
        }
    }
}

/// What `verify` prints.
pub fn print_judgement(judgement: &Judgement) {
    print_checks(judgement);
    print_headline(judgement);
}

fn print_headline(judgement: &Judgement) {
    let style = match judgement.verdict {
        Verdict::Works => GOOD,
        Verdict::Unproven | Verdict::Partly => NOTE,
        Verdict::Broken => BAD,
    };
    print(&format!("{BOLD}{style}{}{style:#}{BOLD:#}", judgement.headline));
}

fn print_steps(report: &Report) {
    for attempt in &report.steps {
        let step = &attempt.step;
        match &attempt.outcome {
            Outcome::Done { detail: None } => sign(GOOD, '✓', &step.to_string()),
            Outcome::Done { detail: Some(detail) } => sign(GOOD, '✓', &format!("{step}: {detail}")),
            Outcome::Warned(error) => sign(NOTE, '!', &error.to_string()),
            Outcome::Failed(error) => sign(BAD, '✗', &error.to_string()),
            Outcome::Skipped => sign(NOTE, '-', &format!("not tried: {step}")),
        }
    }
}

fn print_checks(judgement: &Judgement) {
    for check in &judgement.checks {
        let (style, mark) = match check.state {
            State::Ok => (GOOD, '✓'),
            State::Unproven => (NOTE, '?'),
            State::Failed => (BAD, '✗'),
        };
        sign(style, mark, &format!("{:<38} {}", check.name, check.detail));
    }
}
