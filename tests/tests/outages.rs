//! While the cloud's API is away, slow or unwilling, packets flow and the host is kept in order.

use anyhow::Result;
use natd_tests::expect::{
    HEALING, actions, after_a_quiet_tick, assert_served, natd, serving_daemon,
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

on_every_cloud!(a_lost_answer_is_no_failure, the_data_path_never_stops_while_the_api_is_restarted,);

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
    let said = daemon.lines().split_off(mark);
    assert!(
        said.len() == 2
            && said[0].contains("going by what the cloud said last")
            && said[1].contains("the cloud answers again"),
        "{said:#?}"
    );
    lab.remove_route(lab.ids.table("private-b"), DEFAULT)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: point route"))?;
    lab.sync()?;
    assert_served(&lab);
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
