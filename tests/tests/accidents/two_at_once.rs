//! Two natd at once on one machine: one works, and the other says who does and what to do. Nobody is harmed.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use natd_tests::expect::{HEALING, actions, assert_served, natd, says};
use natd_tests::lab::Lab;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::natd::Run;
use natd_tests::lab::state::State;
use natd_tests::wait::until;

use super::scene::JOURNAL;

/// Who came second ends with 1, and names the first.
fn is_turned_away(second: &Run, first: Option<u32>) -> Result<()> {
    ensure!(second.code == Some(1), "{second:#?}");
    let who = first.map_or("another natd is at work (process ".to_owned(), |pid| {
        format!("another natd is at work (process {pid})")
    });
    says(second, &[&who, "stop it first"])?;
    ensure!(!second.stderr.contains("(process )"), "nobody is named: {second:#?}");
    Ok(())
}

/// Holds `first` in the middle of its work, by a write that the cloud is slow to answer, and lets the others come.
fn others_come_while(lab: &Lab, first: &str, action: &str, others: &[&str]) -> Result<()> {
    lab.api_log_clear();
    lab.fail(action, Fault::DelayAnswer(Duration::from_secs(4)), 1);
    let mut at_work = Daemon::start(lab.nat().command([first])?)?;
    until("the first is at its work", || actions(lab).iter().any(|name| name == action));
    for other in others {
        let run = lab.nat().natd([other])?;
        is_turned_away(&run, Some(at_work.pid()))?;
    }
    let code = at_work.wait(HEALING)?.code();
    ensure!(code == Some(0), "{first} ended with {code:?}: {:#?}", at_work.lines());
    lab.heal();
    lab.sync()
}

#[test]
fn who_comes_while_another_works_is_turned_away_by_name_and_the_work_is_done() -> Result<()> {
    let lab = Lab::aws().build()?;
    let before = State::of(&lab)?;
    others_come_while(&lab, "apply", "ModifyNetworkInterfaceAttribute", &["run", "apply", "down"])?;
    assert_served(&lab);
    ensure!(lab.nat().read(JOURNAL).is_some());
    others_come_while(&lab, "down", "DeleteRoute", &["run", "apply", "down"])?;
    let now = State::of(&lab)?;
    ensure!(now == before, "{}", now.differences(&before));
    ensure!(lab.nat().read(JOURNAL).is_none(), "the journal is left");
    Ok(())
}

/// At the same instant, some up and some down, again and again.
#[test]
fn of_many_at_the_same_instant_each_works_alone_or_not_at_all() -> Result<()> {
    let lab = Lab::aws().build()?;
    let before = State::of(&lab)?;
    for round in 0..3 {
        let lab = &lab;
        let runs = thread::scope(|scope| {
            let commands = ["apply", "down", "apply", "apply", "down", "apply"];
            let started: Vec<_> = commands
                .into_iter()
                .map(|command| scope.spawn(move || lab.nat().natd([command])))
                .collect();
            let ended = started.into_iter().map(thread::ScopedJoinHandle::join);
            ended.filter_map(Result::ok).collect::<Result<Vec<_>>>()
        })?;
        ensure!(runs.len() == 6);
        let done = runs.iter().filter(|run| run.code == Some(0)).count();
        ensure!(done >= 1, "round {round}: nobody worked: {runs:#?}");
        for run in runs.iter().filter(|run| run.code != Some(0)) {
            is_turned_away(run, None)?;
        }
        natd(lab, 0, &["apply"])?;
        assert_served(lab);
        natd(lab, 0, &["down"])?;
        let now = State::of(lab)?;
        ensure!(now == before, "round {round}: {}", now.differences(&before));
    }
    Ok(())
}

/// Of two daemons one stays, and the other ends without having touched anything.
#[test]
fn of_two_daemons_one_stays() -> Result<()> {
    let lab = Lab::aws().build()?;
    lab.nat().write("etc/natd/conf.d/10-test.toml", "[service]\ninterval = \"1s\"\n")?;
    let mut both = [lab.nat().daemon::<&str>([])?, lab.nat().daemon::<&str>([])?];
    let mut ended = None;
    until("one of them ends", || {
        ended = both.iter_mut().position(|daemon| !daemon.is_running());
        ended.is_some()
    });
    let [first, second] = &mut both;
    let (gone, stays) = if ended == Some(0) { (first, second) } else { (second, first) };
    ensure!(gone.wait(HEALING)?.code() == Some(1), "{:#?}", gone.lines());
    let told = format!("another natd is at work (process {})", stays.pid());
    until("it says why", || gone.lines().iter().any(|line| line.contains(&told)));
    stays.wait_for(HEALING, |line| line.contains("INFO NAT works"))?;
    lab.sync()?;
    assert_served(&lab);
    ensure!(stays.is_running() && lab.nat().health("/readyz")?.0 == 200);
    Ok(())
}
