//! The contract of the providers, on each cloud's real wire: `natd provider check` against the API's server, with and
//! without a faulty way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use natd_tests::expect::{natd, writes};
use natd_tests::lab::Lab;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::natd::Run;
use natd_tests::lab::state::State;
use natd_tests::on_every_cloud;
use natd_tests::wait::until;

on_every_cloud!(
    every_promise_is_kept,
    reading_alone_changes_nothing,
    faults_that_pass_break_no_promise,
    unknown_fields_are_passed_over,
    answers_that_make_no_sense_are_told,
    a_refused_write_is_told_and_what_is_left_is_cleared_away_later,
    another_writer_loses_nothing,
    the_api_is_restarted_in_the_middle,
);

/// A route of somebody else's, whose target the contract writes too.
const FOREIGN: &str = "198.18.0.0/24";

/// A lab whose table `private-a` has a route of somebody else's.
fn lab(cloud: CloudKind) -> Result<Lab> {
    let lab = Lab::of(cloud).clients(1).build()?;
    lab.point_route(lab.ids.table("private-a"), FOREIGN, &lab.ids.elsewhere)?;
    Ok(lab)
}

fn check(lab: &Lab) -> Result<Run> {
    let table = lab.ids.table("private-a");
    lab.nat().natd(["provider", "check", "--write", "--table", table, "--output", "json"])
}

/// What became of each promise, in the words of the output: `kept`, or a kind of trouble with its text.
fn outcomes(run: &Run) -> Result<BTreeMap<String, Vec<String>>> {
    let output: serde_json::Value =
        serde_json::from_str(&run.stdout).with_context(|| format!("{run:#?}"))?;
    let findings = output["promises"].as_array().context("promises")?;
    let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in findings {
        let promise = finding["promise"].as_str().context("a promise")?.to_owned();
        outcomes.entry(promise).or_default().push(match &finding["outcome"] {
            serde_json::Value::String(word) => word.clone(),
            other => other.to_string(),
        });
    }
    Ok(outcomes)
}

/// Promises that a cloud has no way to break: a Linux router has no source/destination check.
fn cannot_be_tried(cloud: CloudKind) -> BTreeSet<&'static str> {
    match cloud.name() {
        "plugin" => ["check-both-ways", "check-is-shown"].into(),
        _ => BTreeSet::new(),
    }
}

#[track_caller]
fn assert_all_kept(lab: &Lab, run: &Run) -> Result<()> {
    let outcomes = outcomes(run)?;
    assert_eq!(outcomes.len(), 19, "{outcomes:#?}");
    let untried = cannot_be_tried(lab.cloud().kind());
    for (promise, outcomes) in &outcomes {
        for outcome in outcomes {
            let fine = outcome == "kept"
                || (untried.contains(promise.as_str()) && outcome.contains("not-tried"));
            assert!(fine, "{promise}: {outcome}\n{}", run.stderr);
        }
    }
    assert_eq!(run.code, Some(0), "{run:#?}");
    Ok(())
}

fn every_promise_is_kept(cloud: CloudKind) -> Result<()> {
    let lab = lab(cloud)?;
    let before = State::of(&lab)?;
    let run = check(&lab)?;
    assert_all_kept(&lab, &run)?;
    let after = State::of(&lab)?;
    assert!(after == before, "the check left something:\n{}", after.differences(&before));
    assert!(!writes(&lab).is_empty());
    Ok(())
}

fn reading_alone_changes_nothing(cloud: CloudKind) -> Result<()> {
    let lab = lab(cloud)?;
    let run = natd(&lab, 0, &["provider", "check"])?;
    assert!(run.stdout.contains("The cloud does what natd needs."), "{run:#?}");
    assert_eq!(writes(&lab), [""; 0]);
    Ok(())
}

/// Lost, repeated, late and outdated answers, and an API that is asked too often.
fn faults_that_pass_break_no_promise(cloud: CloudKind) -> Result<()> {
    let lab = lab(cloud)?;
    let before = State::of(&lab)?;
    natd(&lab, 0, &["provider", "check"])?;
    let reads: BTreeSet<String> = lab.api_log().into_iter().map(|call| call.action).collect();
    for action in &reads {
        lab.fail(action, Fault::throttled(), 1);
        lab.fail(action, Fault::DropBefore, 1);
        lab.fail(action, Fault::DropAfter, 1);
        lab.fail(action, Fault::Delay(Duration::ZERO), 12);
        lab.fail(action, Fault::Outdated, 2);
        lab.fail(action, Fault::Delay(Duration::ZERO), 9);
        lab.fail(action, Fault::Outdated, 1);
    }
    for (action, _) in lab.cloud().writes() {
        lab.fail(action, Fault::throttled(), 1);
        lab.fail(action, Fault::DropBefore, 1);
        lab.fail(action, Fault::DropAfter, 1);
        lab.fail(action, Fault::Twice, 2);
    }
    let run = check(&lab)?;
    lab.heal();
    assert_all_kept(&lab, &run)?;
    let after = State::of(&lab)?;
    assert!(after == before, "the check left something:\n{}", after.differences(&before));
    Ok(())
}

/// What an answer is given besides what natd knows, in each cloud's form.
fn unknown_fields_are_passed_over(cloud: CloudKind) -> Result<()> {
    let lab = lab(cloud)?;
    let (what, by) = match cloud.name() {
        "aws" => ("<item>", "<item><unheardOf><of>1</of></unheardOf>"),
        // Of links: a route with something unheard of couldn't be given back, and is not for that plugin to replace.
        "plugin" => ("{\"ifindex\"", "{\"unheard_of\": [{\"of\": 1}], \"ifindex\""),
        // Of objects: a router's routes are written back whole, and as they are.
        "openstack" => ("{\"id\": \"", "{\"unheard_of\": [{\"of\": 1}], \"id\": \""),
        _ => ("{\"", "{\"unheard_of\": [{\"of\": 1}], \""),
    };
    lab.fail_all(Fault::Altered { what: what.to_owned(), by: by.to_owned() }, usize::MAX);
    let run = check(&lab)?;
    lab.heal();
    assert_all_kept(&lab, &run)
}

/// Every answer is cut off in the middle: all that is told is that, and nothing is changed.
fn answers_that_make_no_sense_are_told(cloud: CloudKind) -> Result<()> {
    let lab = lab(cloud)?;
    let before = State::of(&lab)?;
    let what = if cloud.name() == "aws" { "</" } else { "}" };
    lab.fail_all(Fault::Altered { what: what.to_owned(), by: String::new() }, usize::MAX);
    let run = lab.nat().natd(["provider", "check"])?;
    lab.heal();
    assert_eq!(run.code, Some(1), "{run:#?}");
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(said.contains("could not ") && !said.contains("panicked"), "{said}");
    let after = State::of(&lab)?;
    assert!(after == before, "{}", after.differences(&before));
    Ok(())
}

fn a_refused_write_is_told_and_what_is_left_is_cleared_away_later(cloud: CloudKind) -> Result<()> {
    let lab = lab(cloud)?;
    let before = State::of(&lab)?;
    for (action, _) in lab.cloud().writes() {
        lab.fail(action, Fault::denied(), usize::MAX);
        let run = check(&lab)?;
        lab.heal();
        assert_eq!(run.code, Some(1), "{action}: {run:#?}");
        let outcomes = outcomes(&run)?;
        let denied = |outcome: &String| outcome.contains("\"denied\"");
        assert!(outcomes.values().flatten().any(denied), "{action}: {outcomes:#?}");
    }
    assert_all_kept(&lab, &check(&lab)?)?;
    let after = State::of(&lab)?;
    assert!(after == before, "the checks left something:\n{}", after.differences(&before));
    Ok(())
}

/// Somebody else writes twenty routes into the same table meanwhile: all of them are there afterwards, and as he wrote
/// them.
fn another_writer_loses_nothing(cloud: CloudKind) -> Result<()> {
    let lab = lab(cloud)?;
    let table = lab.ids.table("private-a");
    let destinations: Vec<String> = (1..=20).map(|n| format!("198.18.{n}.0/24")).collect();
    let run = thread::scope(|scope| {
        let checking = scope.spawn(|| check(&lab));
        for destination in &destinations {
            lab.cloud().point_route(table, destination, &lab.ids.elsewhere)?;
        }
        checking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    for destination in &destinations {
        let target = lab.route(table, destination)?;
        assert_eq!(target.as_ref(), Some(&lab.ids.elsewhere), "{destination}");
    }
    for (promise, outcomes) in outcomes(&run)? {
        let spoilt = ["others-untouched", "put-twice", "tables-by-id"].contains(&promise.as_str());
        let kept =
            outcomes.iter().all(|outcome| outcome == "kept" || outcome.contains("not-tried"));
        assert!(kept || spoilt, "{promise}: {outcomes:?}");
    }
    Ok(())
}

fn the_api_is_restarted_in_the_middle(cloud: CloudKind) -> Result<()> {
    let lab = lab(cloud)?;
    let before = State::of(&lab)?;
    natd(&lab, 0, &["provider", "check"])?;
    let reads = lab.api_log().len();
    lab.api_log_clear();
    let table = lab.ids.table("private-a");
    let command = lab
        .nat()
        .command(["provider", "check", "--write", "--table", table, "--output", "json"])?;
    let mut natd = Daemon::start(command)?;
    until("the check writes", || lab.api_log().len() > reads + 4);
    lab.interrupt_api()?;
    thread::sleep(Duration::from_millis(500));
    lab.resume_api()?;
    let status = natd.wait(Duration::from_secs(90))?;
    assert!(status.success(), "{:#?}", natd.lines());
    let after = State::of(&lab)?;
    assert!(after == before, "the check left something:\n{}", after.differences(&before));
    Ok(())
}
