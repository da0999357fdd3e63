//! The daemon takes a new configuration, stops as it is told to, is alone on its machine, and says how it is.

use anyhow::Result;
use natd_tests::expect::{
    HEALING, after_a_quiet_tick, assert_served, assert_unserved, changes, natd, serving_daemon,
    writes,
};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::NAT_PUBLIC;
use natd_tests::on_every_back_end;
use natd_tests::wait::until;

on_every_back_end!(
    a_hang_up_brings_the_new_configuration,
    a_bad_configuration_leaves_the_old_one_in_force,
    the_data_path_outlives_the_daemon,
    stopping_gives_the_routes_back_if_told_to,
);

fn tables(tables: &[&str]) -> String {
    format!("[routes]\ntables = {tables:?}\n")
}

fn a_hang_up_brings_the_new_configuration(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let (a, b) = (lab.ids.table("private-a"), lab.ids.table("private-b"));
    let only = |table| lab.nat().write("etc/natd/conf.d/20-tables.toml", &tables(&[table]));
    only(a)?;
    let daemon = serving_daemon(&lab, "")?;
    assert!(lab.client("client-a").reach().is_all(NAT_PUBLIC));
    assert!(lab.client("client-b").reach().is_none());

    let mark = daemon.mark();
    only(b)?;
    daemon.hang_up()?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("configuration reloaded"))?;
    after_a_quiet_tick(&lab, &daemon);
    lab.sync()?;
    assert!(lab.client("client-a").reach().is_none());
    assert!(lab.client("client-b").reach().is_all(NAT_PUBLIC));
    assert_eq!(lab.route(a, DEFAULT)?, None);
    let told = changes(&daemon, mark);
    assert_eq!(told.len(), 2, "{told:#?}");
    Ok(())
}

fn a_bad_configuration_leaves_the_old_one_in_force(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let mut daemon = serving_daemon(&lab, "")?;
    lab.nat().write("etc/natd/conf.d/20-bad.toml", "[nat]\nmood = \"snat\"\n")?;
    let mark = daemon.mark();
    daemon.hang_up()?;
    let line = daemon.wait_for_after(mark, HEALING, |line| line.contains("not reloaded"))?;
    assert!(line.contains("ERROR") && line.contains("the old one stays in force"), "{line}");
    daemon.wait_for_after(mark, HEALING, |line| line.contains("mood"))?;

    lab.nat().flush_natds_rules(back_end)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: "))?;
    assert!(daemon.is_running());
    assert_served(&lab);
    assert_eq!(lab.nat().health("/readyz")?.0, 200);
    Ok(())
}

fn the_data_path_outlives_the_daemon(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let mut daemon = serving_daemon(&lab, "")?;
    let mut flow = lab.client("client-a").tcp_flow()?;
    let before = flow.exchange(HEALING)?;
    lab.api_log_clear();
    daemon.terminate()?;
    assert_eq!(daemon.wait(HEALING)?.code(), Some(0));
    assert!(
        daemon.lines().iter().any(|line| line.contains("stopped; the data path stays as it is"))
    );
    assert_eq!(writes(&lab), [""; 0]);
    assert_eq!(flow.exchange(HEALING)?, before);
    assert_served(&lab);
    Ok(())
}

fn stopping_gives_the_routes_back_if_told_to(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let gateway = lab.ids.elsewhere.as_str();
    let table = lab.ids.table("private-b");
    lab.point_route(table, DEFAULT, gateway)?;
    let mut daemon = serving_daemon(&lab, "[routes]\non_stop = \"restore\"\n")?;
    assert_served(&lab);
    daemon.terminate()?;
    assert_eq!(daemon.wait(HEALING)?.code(), Some(0));
    lab.sync()?;
    assert_unserved(&lab);
    assert_eq!(lab.route(lab.ids.table("private-a"), DEFAULT)?, None);
    assert_eq!(lab.route(table, DEFAULT)?.as_deref(), Some(gateway));
    // The rest stays, so that flows under way are not cut off from what they were translated to.
    assert_eq!(lab.nat().back_ends()?, [back_end].into());
    assert!(!lab.checks(lab.ids.interface("nat/eth0"))?);
    Ok(())
}

#[test]
fn a_second_natd_is_told_who_is_first() -> Result<()> {
    let lab = Lab::aws().build()?;
    let mut daemon = serving_daemon(&lab, "")?;
    lab.api_log_clear();
    for command in ["run", "apply", "down"] {
        let second = natd(&lab, 1, &[command])?;
        let complaint = format!("another natd is at work (process {})", daemon.pid());
        assert!(second.stderr.contains(&complaint), "{second:#?}");
    }
    assert_eq!(writes(&lab), [""; 0]);
    assert!(daemon.is_running());
    // Who only looks is welcome.
    let status = natd(&lab, 0, &["status"])?;
    assert!(status.stdout.contains(&format!("runs as process {}", daemon.pid())), "{status:#?}");
    // The lock goes with its holder, however that ends.
    daemon.kill()?;
    daemon.wait(HEALING)?;
    natd(&lab, 0, &["apply"])?;
    Ok(())
}

#[test]
fn health_and_metrics_say_how_it_is() -> Result<()> {
    let lab = Lab::aws().build()?;
    let _daemon = serving_daemon(&lab, "[verify]\ninterval = \"1s\"\n")?;
    let get = |path| lab.nat().health(path);
    let metric = |name: &str| -> Option<u64> {
        let (_, text) = get("/metrics").ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("natd_{name} ")))?
            .trim()
            .parse()
            .ok()
    };
    until("it is ready", || get("/readyz").is_ok_and(|(code, _)| code == 200));
    let (code, text) = get("/readyz")?;
    assert!(code == 200 && text.starts_with("NAT works: 2 routes lead here"), "{code} {text}");
    assert_eq!(get("/livez")?.0, 200);
    assert_eq!((metric("ready"), metric("routes_served")), (Some(1), Some(2)));
    assert!(metric("steps_done_total").is_some_and(|steps| steps >= 7));

    // Nobody can mend this but the owner of the cloud.
    lab.owner("DisassociateAddress", &[("AssociationId", &lab.ec2().association)])?;
    until("it is not ready", || get("/readyz").is_ok_and(|(code, _)| code == 503));
    let (_, text) = get("/readyz")?;
    assert!(text.starts_with("NAT does not work: way out"), "{text}");
    assert_eq!(get("/livez")?.0, 200, "the loop itself is well");
    until("metrics say so", || metric("ready") == Some(0));

    let interface = lab.ids.interface("nat/eth0");
    let association =
        [("AllocationId", lab.ec2().allocation.as_str()), ("NetworkInterfaceId", interface)];
    lab.owner("AssociateAddress", &association)?;
    until("it is ready again", || get("/readyz").is_ok_and(|(code, _)| code == 200));
    assert_served(&lab);
    Ok(())
}
