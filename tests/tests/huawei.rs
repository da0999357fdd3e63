//! natd on Huawei Cloud, in what is that cloud's own: its own subnet, address pairs, next hops, pages, signatures.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{
    HEALING, actions, assert_served, assert_unserved, natd, says, serving_daemon, writes,
};
use natd_tests::lab::Lab;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::huawei::CHECK_OFF;
use natd_tests::lab::huawei::stand_in::python;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::wait::PATIENCE;
use serde_json::{Value, json};

const REPLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/huawei/replay.py");

fn configure(lab: &Lab, toml: &str) -> Result<()> {
    lab.nat().write("etc/natd/conf.d/10-test.toml", toml)
}

fn is_as(lab: &Lab, before: &State) -> Result<()> {
    let now = State::of(lab)?;
    ensure!(now == *before, "{}", now.differences(before));
    Ok(())
}

/// The documented procedure.
#[test]
fn its_own_subnet_is_served_if_it_has_a_public_address() -> Result<()> {
    let lab = Lab::huawei().nat_in_private_subnet().clients(3).build()?;
    let before = State::of(&lab)?;
    assert_unserved(&lab);
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    natd(&lab, 0, &["down"])?;
    assert_unserved(&lab);
    is_as(&lab, &before)
}

#[test]
fn its_own_subnet_is_refused_if_it_has_none() -> Result<()> {
    let lab = Lab::huawei().nat_in_private_subnet().without_public_address().build()?;
    let (own, subnet) = (lab.ids.table("private-a"), lab.ids.subnet("private-a"));
    configure(&lab, &format!("[routes]\ntables = [{own:?}]\n"))?;
    let before = State::of(&lab)?;
    for command in ["plan", "apply"] {
        says(&natd(&lab, 3, &[command])?, &[own, subnet, "public address"])?;
        ensure!(writes(&lab).is_empty(), "{:?}", writes(&lab));
        is_as(&lab, &before)?;
    }
    ensure!(lab.nat().read("var/lib/natd/journal.json").is_none(), "there is a journal");
    Ok(())
}

#[test]
fn a_missing_public_address_is_warned_of() -> Result<()> {
    let lab = Lab::huawei().without_public_address().build()?;
    let plan = natd(&lab, 0, &["plan"])?;
    says(&plan, &["(10.10.1.10) has no public address"])
}

#[test]
fn other_address_pairs_are_kept_as_they_are() -> Result<()> {
    let lab = Lab::huawei().build()?;
    let (huawei, port) = (lab.as_huawei(), lab.ids.interface("nat/eth0"));
    let others = json!([
        { "ip_address": "198.18.0.7", "mac_address": "fa:16:3e:00:00:99" },
        { "ip_address": "192.0.2.128/25" },
    ]);
    let with = |further: &[&str]| {
        let further = further.iter().map(|address| json!({ "ip_address": address }));
        others.as_array().into_iter().flatten().cloned().chain(further).collect::<Value>()
    };
    huawei.set_pairs(port, &others)?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    ensure!(huawei.pairs(port)? == with(&[CHECK_OFF]), "{}", huawei.pairs(port)?);
    // One that comes meanwhile is somebody's, too.
    huawei.set_pairs(port, &with(&[CHECK_OFF, "198.18.0.8"]))?;
    natd(&lab, 0, &["down"])?;
    ensure!(huawei.pairs(port)? == with(&["198.18.0.8"]), "{}", huawei.pairs(port)?);
    Ok(())
}

#[test]
fn a_check_that_was_off_before_stays_off() -> Result<()> {
    let lab = Lab::huawei().build()?;
    lab.set_check(lab.ids.interface("nat/eth0"), false)?;
    let before = State::of(&lab)?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    natd(&lab, 0, &["down"])?;
    ensure!(!actions(&lab).contains(&"vpc:ports:update".to_owned()), "{:?}", actions(&lab));
    is_as(&lab, &before)
}

/// The write replaces the list: natd sends that list and no other field of the port.
#[test]
fn no_other_field_of_a_port_is_sent() -> Result<()> {
    let lab = Lab::huawei().build()?;
    natd(&lab, 0, &["apply"])?;
    natd(&lab, 0, &["down"])?;
    let bodies = bodies_of(&lab, "vpc:ports:update")?;
    ensure!(bodies.len() == 2, "{bodies:?}");
    for body in bodies {
        let port = body["port"].as_object().context("a port")?;
        ensure!(port.keys().eq(["allowed_address_pairs"]), "{body}");
    }
    Ok(())
}

fn bodies_of(lab: &Lab, action: &str) -> Result<Vec<Value>> {
    let calls = lab.as_huawei().owner.get("/calls")?;
    let calls = calls.as_array().context("calls")?.iter();
    calls
        .filter(|call| call["action"] == action)
        .map(|call| Ok(serde_json::from_str(call["body"].as_str().context("a body")?)?))
        .collect()
}

fn nexthop_types(lab: &Lab) -> Result<Vec<String>> {
    let state = lab.as_huawei().owner.get("/state")?;
    let of = |table| {
        let route = &state["resources"]["routetables"][table]["routes"][0];
        route["type"].as_str().unwrap_or("none").to_owned()
    };
    Ok(lab.ids.private_tables().into_iter().map(of).collect())
}

#[test]
fn routes_can_lead_to_a_further_interface() -> Result<()> {
    let lab = Lab::huawei().two_interfaces().build()?;
    let before = State::of(&lab)?;
    configure(&lab, "[huawei]\nnext_hop = \"eni\"\n[routes]\ninterface = \"eth1\"\n")?;
    natd(&lab, 0, &["apply"])?;
    ensure!(nexthop_types(&lab)? == ["eni", "eni"], "{:?}", nexthop_types(&lab)?);
    for table in lab.ids.private_tables() {
        ensure!(lab.route(table, DEFAULT)?.as_deref() == Some(lab.ids.interface("nat/eth1")));
    }
    assert_served(&lab);
    natd(&lab, 0, &["down"])?;
    is_as(&lab, &before)
}

#[test]
fn routes_can_lead_to_a_virtual_address() -> Result<()> {
    let lab = Lab::huawei().build()?;
    let virtual_port = json!({
        "name": "vip", "device_owner": "neutron:VIP_PORT", "device_id": "",
        "network_id": lab.ids.subnet("public"), "mac_address": "fa:16:3e:00:01:00",
        "fixed_ips": [{ "ip_address": "10.10.1.50", "subnet_id": lab.ids.subnet("public") }],
        "allowed_address_pairs": [{ "ip_address": "10.10.1.10" }],
    });
    lab.as_huawei().owner.change("PUT", "/resources/ports/vip", &virtual_port)?;
    let before = State::of(&lab)?;
    configure(&lab, "[huawei]\nnext_hop = \"vip\"\nvirtual_address = \"10.10.1.50\"\n")?;
    natd(&lab, 0, &["apply"])?;
    ensure!(nexthop_types(&lab)? == ["vip", "vip"], "{:?}", nexthop_types(&lab)?);
    assert_served(&lab);
    lab.api_log_clear();
    natd(&lab, 0, &["apply"])?;
    ensure!(writes(&lab).is_empty(), "{:?}", writes(&lab));
    natd(&lab, 0, &["down"])?;
    is_as(&lab, &before)
}

/// More tables than the cloud puts on a page, and a list that tells of no routes.
#[test]
fn tables_are_found_on_every_page() -> Result<()> {
    let lab = Lab::huawei().build()?;
    let mut tables: Vec<String> =
        lab.ids.private_tables().iter().map(ToString::to_string).collect();
    for _ in 0..45 {
        tables.push(lab.new_table()?);
    }
    lab.as_huawei().owner.set(&json!({ "longest_page": 20 }))?;
    configure(&lab, &format!("[routes]\ntables = {tables:?}\n"))?;
    natd(&lab, 0, &["apply"])?;
    for table in &tables {
        let target = lab.route(table, DEFAULT)?;
        ensure!(target.as_deref() == Some(lab.ids.interface("nat/eth0")), "{table}: {target:?}");
    }
    ensure!(writes(&lab).iter().filter(|action| *action == "vpc:routeTables:update").count() == 47);
    assert_served(&lab);
    lab.api_log_clear();
    natd(&lab, 0, &["apply"])?;
    ensure!(writes(&lab).is_empty(), "{:?}", writes(&lab));
    Ok(())
}

/// The table that serves a subnet without one of its own is the network's default.
#[test]
fn a_subnet_without_a_table_is_served_by_the_default_one() -> Result<()> {
    let lab = Lab::huawei().build()?;
    let (ids, huawei) = (&lab.ids, lab.as_huawei());
    let own = format!("/resources/routetables/{}", ids.table("private-b"));
    huawei.owner.change("PATCH", &own, &json!({ "subnets": [] }))?;
    lab.sync()?;
    let subnets = [ids.subnet("private-a"), ids.subnet("private-b")];
    configure(&lab, &format!("[routes]\ntables = {{ subnets = {subnets:?} }}\n"))?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    ensure!(lab.route(ids.table("main"), DEFAULT)?.as_deref() == Some(ids.interface("nat/eth0")));
    ensure!(lab.route(ids.table("private-b"), DEFAULT)?.is_none());
    natd(&lab, 0, &["down"])?;
    assert_unserved(&lab);
    Ok(())
}

#[test]
fn throttled_writes_are_waited_out() -> Result<()> {
    let lab = Lab::huawei().build()?;
    lab.fail("vpc:routeTables:update", Fault::throttled(), 1);
    lab.fail("vpc:routeTables:list", Fault::throttled(), 2);
    lab.fail("vpc:ports:update", Fault::throttled(), 1);
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    Ok(())
}

/// Every request of a whole life, as it was received, is signed again by the official SDK to the same signature.
#[test]
fn every_request_is_signed_as_the_official_sdk_signs_it() -> Result<()> {
    let lab = Lab::huawei().build()?;
    let huawei = lab.as_huawei();
    for command in ["plan", "apply", "status"] {
        natd(&lab, 0, &[command])?;
    }
    let mut daemon = serving_daemon(&lab, "")?;
    let mark = daemon.mark();
    lab.remove_route(lab.ids.table("private-a"), DEFAULT)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: "))?;
    huawei.rotate_keys()?;
    lab.remove_route(lab.ids.table("private-b"), DEFAULT)?;
    daemon.wait_for_after(mark + 1, HEALING, |line| line.contains("done: "))?;
    daemon.terminate()?;
    daemon.wait(PATIENCE)?;
    natd(&lab, 0, &["down"])?;

    let (log, state) = (lab.nat().root.join("calls"), lab.nat().root.join("cloud"));
    let calls = huawei.owner.get("/calls")?;
    let received = calls.as_array().context("calls")?;
    let is_there = |action: &str| received.iter().any(|call| call["action"] == action);
    ensure!(is_there("vpc:ports:update") && is_there("vpc:routeTables:update"), "{calls}");
    fs::write(&log, calls.to_string())?;
    fs::write(&state, huawei.owner.get("/state")?.to_string())?;
    let run = Command::new(python()?).args(["-B", REPLAY]).arg(log).arg(state).output()?;
    let said = String::from_utf8_lossy(&run.stdout);
    ensure!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    ensure!(
        said.contains(&format!("{} requests signed again, 0 differ", received.len())),
        "{said}"
    );
    Ok(())
}
