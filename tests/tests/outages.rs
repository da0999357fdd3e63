//! While the cloud's API is away, slow or unwilling, packets flow and the host is kept in order.

use anyhow::Result;
use natd_tests::expect::{HEALING, actions, assert_served, natd, serving_daemon};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::on_every_back_end;
use natd_tests::wait::until;

on_every_back_end!(the_host_is_healed_while_the_api_is_down);

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
#[test]
fn a_lost_answer_is_no_failure() -> Result<()> {
    let lab = Lab::aws().build()?;
    lab.fail("CreateRoute", Fault::DropAfter, 1);
    lab.fail("ModifyNetworkInterfaceAttribute", Fault::DropAfter, 1);
    natd(&lab, 0, &["apply"])?;
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
