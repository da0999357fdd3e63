//! Which routes are wished for, and which are refused.

use std::collections::BTreeSet;

use natd_core::{
    cloud::{OwnSubnet, PublicAddress, SourceDestCheck},
    config::{InterfaceChoice, TableSpec, Tables},
    desired::{Desired, desired},
    error::{Error, Kind},
    facts::Facts,
    journal::Journal,
    observed::Observed,
    plan::{Plan, plan},
    ruleset::Translation,
    verdict::{Proof, Verdict, judge},
};

use crate::machine::{codes, config, facts, id, networks};

#[test]
fn one_interface_is_egress_and_target() {
    let desired = desired(&config(&["rtb-a", "rtb-b"]), &facts()).expect("possible");
    let rules = desired.rules.as_ref().expect("rules");
    assert_eq!(rules.ruleset.translation, Translation::to(id("10.10.1.10")));
    assert_eq!(rules.ruleset.egress, id("eth0"));
    assert_eq!(rules.ruleset.sources, networks(&["10.10.0.0/16", "10.20.0.0/16"]));
    assert_eq!(desired.unchecked, BTreeSet::from([id("eni-0")]));
    assert_eq!(desired.routes.len(), 2);
    assert!(desired.routes.values().all(|wish| wish.target == id("eni-0")));
    assert!(codes(&desired).is_empty(), "{:?}", desired.warnings);
}

#[test]
fn egress_and_target_can_be_two_interfaces_and_both_are_served() {
    let mut config = config(&["rtb-a"]);
    config.routes.0[0].interface = InterfaceChoice::Named(id("eth1"));
    let desired = desired(&config, &facts()).expect("possible");
    assert!(desired.routes.values().all(|wish| wish.target == id("eni-1")));
    assert_eq!(desired.unchecked, BTreeSet::from([id("eni-0"), id("eni-1")]));
    let keys: Vec<String> = desired.sysctls.keys().map(ToString::to_string).collect();
    for key in ["net.ipv4.conf.eth0.forwarding", "net.ipv4.conf.eth1.forwarding"] {
        assert!(keys.iter().any(|have| have == key), "{keys:?}");
    }
    assert!(!keys.iter().any(|key| key == "net.ipv4.ip_forward"), "{keys:?}");
}

#[test]
fn the_table_of_the_own_subnet_is_refused_and_the_others_are_served() {
    let desired = desired(&config(&["rtb-a", "rtb-public"]), &facts()).expect("possible");
    assert_eq!(desired.refusals.len(), 1);
    assert!(desired.refusals[0].to_string().contains("rtb-public"), "{}", desired.refusals[0]);
    assert_eq!(desired.routes.len(), 1);
}

#[test]
fn where_a_public_address_outranks_the_table_the_own_subnet_is_served_with_one_only() {
    let mut facts = facts();
    let cloud = facts.cloud.as_mut().expect("a cloud");
    cloud.instance.own_subnet = OwnSubnet::PublicAddressOutranks;
    assert!(desired(&config(&["rtb-public"]), &facts).expect("possible").refusals.is_empty());
    facts.cloud.as_mut().expect("a cloud").interfaces[0].addresses[0].public =
        PublicAddress::Absent;
    assert_eq!(desired(&config(&["rtb-public"]), &facts).expect("possible").refusals.len(), 1);
}

fn locked(facts: &mut Facts, port: usize) {
    let why = Error::new(Kind::Conflict, "switch the check off", "it would open everything");
    facts.cloud.as_mut().expect("a cloud").interfaces[port].source_dest_check =
        SourceDestCheck::Locked(why);
}

/// The plan where nothing has been done yet.
fn planned(desired: &Desired) -> Plan {
    let checks = ["eni-0", "eni-1"].map(|port| (id(port), true)).into();
    let observed = Observed { checks, ..Observed::default() };
    plan(desired, &observed, &Journal::default(), &BTreeSet::new(), &[])
}

#[test]
fn a_check_that_must_not_be_switched_off_is_a_refusal_and_nothing_is_planned() {
    let mut facts = facts();
    locked(&mut facts, 0);
    // Whether routes are wanted or not: what leaves would be dropped.
    for tables in [&["rtb-a", "rtb-b"][..], &[]] {
        let desired = desired(&config(tables), &facts).expect("possible");
        assert!(desired.unchecked.is_empty() && desired.routes.is_empty());
        let plan = planned(&desired);
        assert!(plan.is_empty(), "{:?}", plan.steps);
        let said: Vec<String> = plan.refusals.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["could not switch the check off: it would open everything"]);
        let judged =
            judge(&desired, &plan, [], &Proof::Reached("198.51.100.10:80".to_owned()).into());
        assert_eq!(judged.verdict, Verdict::Broken);
        assert!(judged.headline.contains("it would open everything"), "{}", judged.headline);
    }
    // Another interface's check is nobody's business.
    let mut other = facts.clone();
    other.cloud.as_mut().expect("a cloud").interfaces[0].source_dest_check = SourceDestCheck::Off;
    locked(&mut other, 1);
    let desired = desired(&config(&["rtb-a"]), &other).expect("possible");
    assert!(desired.refusals.is_empty() && planned(&desired).served.len() == 1);
}

#[test]
fn a_locked_target_takes_its_own_routes_along_and_no_others() {
    let mut facts = facts();
    locked(&mut facts, 1);
    let mut config = config(&["rtb-a"]);
    let mut inside = config.routes.0[0].clone();
    inside.interface = InterfaceChoice::Named(id("eth1"));
    inside.tables = Tables(vec![TableSpec::Id(id("rtb-b"))]);
    config.routes.0.push(inside);
    let both = desired(&config, &facts).expect("possible");
    let tables: Vec<&str> = both.routes.keys().map(|key| key.table.as_str()).collect();
    assert_eq!(tables, ["rtb-a"]);
    assert_eq!((both.refusals.len(), planned(&both).served.len()), (1, 1));
    assert_eq!(both.unchecked, [id("eni-0")].into());

    config.routes.0.remove(0);
    let alone = planned(&desired(&config, &facts).expect("possible"));
    assert!(alone.is_empty() && alone.served.is_empty(), "{:?}", alone.steps);
}
