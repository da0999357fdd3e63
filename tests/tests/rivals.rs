//! Routes of others: taken over with care and given back, left alone where natd is told to, never fought over.

use anyhow::Result;
use natd_tests::expect::{
    HEALING, after_a_quiet_tick, assert_served, assert_unserved, natd, serving_daemon, writes,
};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::on_every_back_end;

on_every_back_end!(
    a_foreign_route_is_taken_over_and_given_back,
    a_foreign_route_is_left_alone_if_told_to,
);

fn a_foreign_route_is_taken_over_and_given_back(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let (a, b) = (lab.ids.table("private-a"), lab.ids.table("private-b"));
    let (gateway, other) = (lab.ids.elsewhere.as_str(), lab.ids.interface("client-b/eth0"));
    lab.point_route(a, DEFAULT, gateway)?;
    lab.point_route(b, DEFAULT, other)?;
    let plan = natd(&lab, 2, &["plan", "--detailed-exitcode"])?;
    assert!(plan.stdout.contains(gateway) && plan.stdout.contains(other), "{plan:#?}");

    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    natd(&lab, 0, &["apply"])?;
    natd(&lab, 0, &["down"])?;
    assert_eq!(lab.route(a, DEFAULT)?.as_deref(), Some(gateway));
    assert_eq!(lab.route(b, DEFAULT)?.as_deref(), Some(other));
    Ok(())
}

fn a_foreign_route_is_left_alone_if_told_to(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    lab.nat().write("etc/natd/conf.d/10-test.toml", "[routes]\ntakeover = \"refuse\"\n")?;
    let (a, b) = (lab.ids.table("private-a"), lab.ids.table("private-b"));
    let other = lab.ids.interface("client-b/eth0");
    for table in [a, b] {
        lab.point_route(table, DEFAULT, other)?;
    }
    let before = State::of(&lab)?;
    let refused = natd(&lab, 3, &["apply"])?;
    for table in [a, b] {
        let why = format!(
            "could not take route 0.0.0.0/0 in {table}: it targets {other} and takeover is \"refuse\""
        );
        assert!(refused.stdout.contains(&why), "{refused:#?}");
    }
    assert!(refused.stdout.contains("routes.takeover = \"replace\""), "{refused:#?}");
    natd(&lab, 3, &["plan"])?;
    let after = State::of(&lab)?;
    assert!(after == before, "something changed:\n{}", after.differences(&before));
    assert_eq!(lab.nat().read("var/lib/natd/journal.json"), None);
    assert_eq!(writes(&lab), [""; 0]);

    // One of them is free: it is served, and the other is not.
    lab.remove_route(a, DEFAULT)?;
    natd(&lab, 4, &["apply"])?;
    assert_eq!(lab.route(a, DEFAULT)?.as_deref(), Some(lab.ids.interface("nat/eth0")));
    assert_eq!(lab.route(b, DEFAULT)?.as_deref(), Some(other));
    Ok(())
}

#[test]
fn a_route_that_is_lost_three_times_is_left_alone() -> Result<()> {
    let lab = Lab::aws().build()?;
    let daemon = serving_daemon(&lab, "")?;
    let (table, rival) = (lab.ids.table("private-a"), lab.ids.interface("client-b/eth0"));
    let taken_back = format!("done: point route 0.0.0.0/0 in {table}");
    for _ in 0..2 {
        let mark = daemon.mark();
        lab.point_route(table, DEFAULT, rival)?;
        daemon.wait_for_after(mark, HEALING, |line| line.contains(&taken_back))?;
        after_a_quiet_tick(&lab, &daemon);
    }
    let mark = daemon.mark();
    lab.point_route(table, DEFAULT, rival)?;
    let alarm = daemon.wait_for_after(mark, HEALING, |line| line.contains("ERROR"))?;
    assert!(alarm.contains("natd has stopped taking it"), "{alarm}");
    after_a_quiet_tick(&lab, &daemon);
    assert_eq!(lab.route(table, DEFAULT)?.as_deref(), Some(rival));
    assert_eq!(daemon.mark(), mark + 1, "{:#?}", &daemon.lines()[mark..]);

    let (code, text) = lab.nat().health("/readyz")?;
    assert!(code == 503 && text.starts_with("NAT works in part"), "{code} {text}");
    let status = natd(&lab, 4, &["status"])?;
    assert!(status.stdout.starts_with("NAT works in part"), "{status:#?}");
    assert!(status.stdout.contains("natd has stopped taking it"), "{status:#?}");

    let mark = daemon.mark();
    daemon.hang_up()?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains(&taken_back))?;
    lab.sync()?;
    assert_served(&lab);
    after_a_quiet_tick(&lab, &daemon);
    assert_eq!(lab.nat().health("/readyz")?.0, 200);
    Ok(())
}

/// Somebody who changes a route after natd has taken it made it theirs.
#[test]
fn a_route_that_somebody_has_changed_since_is_theirs() -> Result<()> {
    let lab = Lab::aws().build()?;
    natd(&lab, 0, &["apply"])?;
    let (table, rival) = (lab.ids.table("private-a"), lab.ids.interface("client-b/eth0"));
    lab.point_route(table, DEFAULT, rival)?;
    natd(&lab, 0, &["down"])?;
    assert_eq!(lab.route(table, DEFAULT)?.as_deref(), Some(rival));
    assert_eq!(lab.route(lab.ids.table("private-b"), DEFAULT)?, None);
    assert_unserved(&lab);
    Ok(())
}
