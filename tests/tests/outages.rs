//! While the cloud's API is away, slow or unwilling, packets flow and the host is kept in order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use natd_tests::expect::{
    HEALING, actions, after_a_quiet_tick, assert_served, full_ticks, natd, serving_daemon, tells,
};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::lab::host::PATIENCE;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::wait::until;
use natd_tests::{on_every_back_end, on_every_cloud};

on_every_back_end!(the_host_is_healed_while_the_api_is_down);

on_every_cloud!(
    a_lost_answer_is_no_failure,
    the_data_path_never_stops_while_the_api_is_restarted,
    a_refusal_that_lasts_is_told_when_it_begins_and_when_it_is_over,
    a_storm_of_429_is_told_when_it_begins_and_when_it_is_over,
);

/// What natd asks of the API at every tick.
const LOOKS: [&str; 3] =
    ["DescribeNetworkInterfaces", "DescribeSecurityGroups", "DescribeRouteTables"];

fn the_host_is_healed_while_the_api_is_down(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let mut daemon = serving_daemon(&lab, "")?;
    let mut flow = lab.client("client-a").udp_flow()?;
    let source = flow.exchange(HEALING)?;
    for action in LOOKS {
        lab.fail(action, Fault::DropBefore, usize::MAX);
    }
    lab.api_log_clear();
    until("natd meets the outage", || actions(&lab).len() > 3);
    assert_eq!(flow.exchange(HEALING)?, source);

    let mark = daemon.mark();
    lab.nat().flush_natds_rules(back_end)?;
    daemon
        .wait_for_after(mark, HEALING, |line| line.contains("done: ") && line.contains("natd's"))?;
    assert_served(&lab);
    assert!(daemon.is_running());

    lab.heal();
    let table = lab.ids.table("private-b");
    lab.remove_route(table, DEFAULT)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: point route"))?;
    lab.sync()?;
    assert_served(&lab);
    Ok(())
}

#[test]
fn throttling_is_waited_out() -> Result<()> {
    let lab = Lab::aws().build()?;
    lab.fail("CreateRoute", Fault::throttled(), 2);
    lab.fail("DescribeRouteTables", Fault::throttled(), 1);
    lab.fail("ModifyNetworkInterfaceAttribute", Fault::throttled(), 2);
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    assert_eq!(actions(&lab).iter().filter(|action| *action == "CreateRoute").count(), 4);
    Ok(())
}

/// The answer is lost and the change was made: natd finds that out and is content.
fn a_lost_answer_is_no_failure(cloud: CloudKind) -> Result<()> {
    let lab = Lab::of(cloud).build()?;
    for (action, _) in lab.cloud().writes() {
        lab.fail(action, Fault::DropAfter, 1);
    }
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let lost = lab.api_log().into_iter().filter(|call| call.is_write() && call.status.is_none());
    assert!(lost.count() > 0, "no answer was lost");
    Ok(())
}

/// One line when the API goes away and one when it is back, and a ping that loses nothing meanwhile.
fn the_data_path_never_stops_while_the_api_is_restarted(cloud: CloudKind) -> Result<()> {
    let lab = Lab::of(cloud).build()?;
    let daemon = serving_daemon(&lab, "")?;
    let mut ping = lab.client("client-a").ping_stream()?;
    let (mark, mut lost) = (daemon.mark(), Vec::new());
    let mut pinging = |until: &mut dyn FnMut() -> bool| {
        while !until() {
            lost.extend(ping.exchange(PATIENCE).err());
        }
    };
    lab.interrupt_api()?;
    pinging(&mut || daemon.mark() > mark);
    lab.resume_api()?;
    pinging(&mut || daemon.mark() > mark + 1);
    assert_eq!(lost, []);
    after_a_quiet_tick(&lab, &daemon);
    tells(&daemon.lines().split_off(mark), &BEGINS_AND_IS_OVER);
    lab.remove_route(lab.ids.table("private-b"), DEFAULT)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: point route"))?;
    lab.sync()?;
    assert_served(&lab);
    Ok(())
}

/// What natd says of an outage, and nothing else.
const BEGINS_AND_IS_OVER: [&[&str]; 2] =
    [&["WARN going by what the cloud said last"], &["INFO the cloud answers again"]];

/// Every call is refused for a while: a 401, several ticks long. What was being served is, and natd isn't ready, since this
/// may need the operator.
fn a_refusal_that_lasts_is_told_when_it_begins_and_when_it_is_over(cloud: CloudKind) -> Result<()> {
    accident(cloud, &Fault::unauthorised(), 3, 503)
}

/// Every call is answered with 429, again and again. That passes by itself: natd stays ready.
fn a_storm_of_429_is_told_when_it_begins_and_when_it_is_over(cloud: CloudKind) -> Result<()> {
    accident(cloud, &Fault::throttled(), 1, 200)
}

/// Lasts for so many ticks beyond the one that tells of it.
fn accident(cloud: CloudKind, fault: &Fault, ticks: u64, ready: u16) -> Result<()> {
    let lab = Lab::of(cloud).build()?;
    let daemon = serving_daemon(&lab, "")?;
    after_a_quiet_tick(&lab, &daemon);
    let mut ping = lab.client("client-a").ping_stream()?;
    let (mark, mut lost) = (daemon.mark(), Vec::new());
    let mut pinging = |what: &str, holds: &mut dyn FnMut() -> bool| {
        let deadline = Instant::now() + PATIENCE_OF_ACCIDENTS;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: {:#?}", daemon.lines());
            lost.extend(ping.exchange(PATIENCE).err());
        }
    };
    lab.fail_all(fault.clone(), usize::MAX);
    pinging("natd tells of it", &mut || daemon.mark() > mark);
    let now = full_ticks(&lab).context("the daemon answers")?;
    pinging("it lasts", &mut || full_ticks(&lab).is_some_and(|then| then >= now + ticks));
    assert_eq!(lab.nat().health("/readyz")?.0, ready);
    lab.heal();
    pinging("natd tells of its end", &mut || daemon.mark() > mark + 1);
    assert_eq!(lost, []);
    after_a_quiet_tick(&lab, &daemon);
    tells(&daemon.lines().split_off(mark), &BEGINS_AND_IS_OVER);
    assert_eq!(lab.nat().health("/readyz")?.0, 200);
    Ok(())
}

/// A tick in a storm takes as long as its calls are tried again.
const PATIENCE_OF_ACCIDENTS: Duration = Duration::from_mins(4);

/// Writes alone are refused, for many ticks: natd makes them ever more seldom, says so once, and goes on when it is over.
#[test]
fn writes_stay_few_in_a_long_storm() -> Result<()> {
    for cloud in [CloudKind::Huawei, CloudKind::Aws] {
        let lab = Lab::of(cloud).build()?;
        let daemon = serving_daemon(&lab, "")?;
        after_a_quiet_tick(&lab, &daemon);
        for (action, _) in lab.cloud().writes() {
            lab.fail(action, Fault::throttled(), usize::MAX);
        }
        let (mark, table) = (daemon.mark(), lab.ids.table("private-b"));
        lab.remove_route(table, DEFAULT)?;
        daemon.wait_for_after(mark, HEALING, |line| line.contains("ERROR NAT works in part"))?;
        // From here on, one write after the other is a loop: each tick looks, and may write.
        lab.api_log_clear();
        let (start, ticks) = (full_ticks(&lab).context("the daemon answers")?, 16);
        let deadline = Instant::now() + PATIENCE_OF_ACCIDENTS;
        while full_ticks(&lab).is_none_or(|now| now < start + ticks) {
            assert!(Instant::now() < deadline, "{cloud}: {:#?}", daemon.lines());
            std::thread::sleep(Duration::from_millis(200));
        }
        let calls = lab.api_log();
        let tries = calls.windows(2).filter(|pair| !pair[0].write && pair[1].write).count();
        assert!(tries <= 8, "{cloud}: written in {tries} of {ticks} ticks");
        let writes = calls.iter().filter(|call| call.write).count();
        assert!(writes <= 8 * 6, "{cloud}: {writes} writes in {ticks} ticks");
        lab.heal();
        daemon
            .wait_for_after(mark, PATIENCE_OF_ACCIDENTS, |line| line.contains("INFO NAT works"))?;
        after_a_quiet_tick(&lab, &daemon);
        tells(
            &daemon.lines().split_off(mark),
            &[
                &["ERROR NAT works in part", table, "does not lead here"],
                &["INFO done: point route", table],
                &["INFO NAT works"],
            ],
        );
        lab.sync()?;
        assert_served(&lab);
    }
    Ok(())
}

#[test]
fn a_missing_permission_is_named_and_takes_nothing_else_along() -> Result<()> {
    let lab = Lab::aws().build()?;
    lab.fail("CreateRoute", Fault::denied(), 1);
    let run = natd(&lab, 4, &["apply"])?;
    assert!(run.stdout.contains("ec2:CreateRoute"), "{run:#?}");
    let served = lab.clients().filter(|client| client.tcp().is_ok()).count();
    assert_eq!(served, 1);
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    Ok(())
}
