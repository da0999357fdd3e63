//! What should be, from configuration and facts; and what is judged of it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects, and writes its own files"
)]

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use natd_core::{
    cloud::{Address, Instance, InterfaceFacts, OwnSubnet, SecurityRules, TableFacts},
    config::{Config, InterfaceChoice, Mode, NetworkSpec, TableSpec, Tables},
    desired::{Desired, desired},
    error::Kind,
    facts::{CloudFacts, Facts},
    model::{NextHop, Route, RouteOrigin, RouteState},
    network::{Flow, Link, Network},
    networks::Networks,
    persist::Boot,
    plan::Plan,
    ruleset::{Blocks, FirewallKind, Translation},
    step::Step,
    verdict::{Proof, Verdict, judge},
};

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(id: &str) -> T {
    id.parse().expect("well formed")
}

fn link(name: &str, mac: u8, address: &str) -> Link {
    Link {
        name: id(name),
        mac: Some(natd_core::model::MacAddress([2, 0, 0, 0, 0, mac])),
        up: true,
        addresses: vec![id(address)],
    }
}

fn port(name: &str, mac: u8, address: &str, public: Option<&str>, subnet: &str) -> InterfaceFacts {
    InterfaceFacts {
        id: id(name),
        mac: natd_core::model::MacAddress([2, 0, 0, 0, 0, mac]),
        addresses: vec![Address { private: id(address), public: public.map(id) }],
        subnet: id(subnet),
        source_dest_check: true,
        check_settings: None,
        security: Ok(SecurityRules {
            inbound: BTreeSet::from([id("10.0.0.0/8")]),
            inbound_by_reference: false,
            outbound: true,
        }),
    }
}

fn table(name: &str, subnet: &str, to_internet: bool) -> TableFacts {
    let internet = Route {
        destination: id("0.0.0.0/0"),
        next_hop: NextHop::InternetGateway("igw-1".to_owned()),
        state: RouteState::Active,
        origin: RouteOrigin::Static,
    };
    TableFacts {
        id: id(name),
        subnets: BTreeSet::from([id(subnet)]),
        tags: BTreeSet::new(),
        routes: to_internet.then_some(internet).into_iter().collect(),
    }
}

/// A machine with eth0 (public subnet, with a public address) and eth1 (inside), two private tables.
fn facts() -> Facts {
    Facts {
        network: Network {
            links: vec![link("eth0", 1, "10.10.1.10/24"), link("eth1", 2, "10.10.4.10/24")],
            routes: [("0.0.0.0/0", "eth0"), ("10.10.4.0/24", "eth1")]
                .map(|(net, name)| (id::<IpNet>(net), id(name)))
                .into(),
        },
        firewall: FirewallKind::Nftables,
        blocks: Blocks::Chains,
        chosen: None,
        forwards: BTreeSet::new(),
        forwards_ipv6_by_interface: true,
        listening: BTreeSet::new(),
        boot: Boot::default(),
        cloud: Some(CloudFacts {
            instance: Instance {
                id: id("i-1"),
                region: "eu-west-1".to_owned(),
                zone: "eu-west-1a".to_owned(),
                network: id("vpc-1"),
                network_cidrs: vec![id("10.10.0.0/16"), id("10.20.0.0/16")],
                subnets: BTreeSet::from([id("subnet-public"), id("subnet-inside")]),
                own_subnet: OwnSubnet::Loops,
            },
            interfaces: vec![
                port("eni-0", 1, "10.10.1.10", Some("203.0.113.10"), "subnet-public"),
                port("eni-1", 2, "10.10.4.10", None, "subnet-inside"),
            ],
            tables: vec![
                table("rtb-a", "subnet-a", false),
                table("rtb-b", "subnet-b", false),
                table("rtb-public", "subnet-public", true),
            ],
            missing: Vec::new(),
        }),
    }
}

fn config(tables: &[&str]) -> Config {
    let mut config = Config::default();
    config.routes.0[0].tables =
        Tables(tables.iter().map(|table| TableSpec::Id(id(table))).collect());
    config.verify.targets = vec!["198.51.100.10:80".to_owned()];
    config
}

fn networks(nets: &[&str]) -> Networks {
    nets.iter().map(|net| id::<IpNet>(net)).collect()
}

fn codes(desired: &Desired) -> Vec<&'static str> {
    desired.warnings.iter().map(|warning| warning.code).collect()
}

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
    facts.cloud.as_mut().expect("a cloud").interfaces[0].addresses[0].public = None;
    assert_eq!(desired(&config(&["rtb-public"]), &facts).expect("possible").refusals.len(), 1);
}

#[test]
fn an_address_that_the_interface_does_not_have_is_invalid() {
    let mut config = config(&["rtb-a"]);
    config.nat.addresses = vec![id("10.10.1.99")];
    let error = desired(&config, &facts()).expect_err("impossible");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(
        error.to_string().contains("10.10.1.99") && error.to_string().contains("10.10.1.10"),
        "{error}"
    );
}

#[test]
fn vpc_never_means_everything() {
    let mut facts = facts();
    facts.cloud.as_mut().expect("a cloud").instance.network_cidrs.clear();
    assert_eq!(desired(&config(&["rtb-a"]), &facts).expect_err("impossible").kind(), Kind::Invalid);
    facts.cloud = None;
    assert_eq!(desired(&config(&[]), &facts).expect_err("impossible").kind(), Kind::Invalid);
    let mut by_hand = config(&[]);
    by_hand.nat.sources = vec![NetworkSpec::Net(id("10.10.0.0/16"))];
    let host_only = desired(&by_hand, &facts).expect("possible");
    assert!(host_only.unchecked.is_empty() && host_only.routes.is_empty());
}

#[test]
fn what_stands_in_the_way_is_warned_of() {
    let mut facts = facts();
    let cloud = facts.cloud.as_mut().expect("a cloud");
    cloud.interfaces[0].addresses[0].public = None;
    cloud.interfaces[0].security = Ok(SecurityRules {
        inbound: BTreeSet::from([id("10.10.2.0/24")]),
        inbound_by_reference: false,
        outbound: false,
    });
    cloud.tables[2].routes.clear();
    let mut config = config(&["rtb-a"]);
    config.verify.targets.clear();
    let desired = desired(&config, &facts).expect("possible");
    assert_eq!(
        codes(&desired),
        [
            "security-group-in",
            "security-group-out",
            "no-public-address",
            "no-internet-route",
            "unproven"
        ]
    );
    assert!(
        desired.warnings[0].message.contains("10.20.0.0/16"),
        "{}",
        desired.warnings[0].message
    );
}

#[test]
fn connections_that_missed_their_rule_are_stale_and_no_others() {
    let facts = facts();
    let stale = |masquerade: bool, flow: [&str; 4]| {
        let mut config = config(&["rtb-a"]);
        if masquerade {
            config.nat.mode = Mode::Masquerade;
        }
        let rules = desired(&config, &facts).expect("possible").rules.expect("rules");
        let [source, destination, reply_source, reply_destination] = flow.map(id::<IpAddr>);
        let flow = Flow {
            protocol: 6,
            source,
            destination,
            reply_source,
            reply_destination,
            destination_port: 80,
            reply_source_port: 80,
        };
        rules.ruleset.makes_stale(&flow, &facts.network, None)
    };
    let (client, out, ours, older) = ("10.10.2.101", "198.51.100.10", "10.10.1.10", "10.10.1.77");
    for masquerade in [false, true] {
        assert!(stale(masquerade, [client, out, out, client]), "untranslated");
        assert!(stale(masquerade, [client, out, out, older]), "translated to an earlier address");
        assert!(!stale(masquerade, [client, out, out, ours]), "translated as it should be");
        assert!(!stale(masquerade, [client, "10.20.3.101", "10.20.3.101", client]), "excluded");
        assert!(!stale(masquerade, [client, ours, ours, client]), "to this machine itself");
        assert!(!stale(masquerade, [ours, out, out, ours]), "from this machine itself");
        assert!(!stale(masquerade, ["172.17.0.2", out, out, "172.17.0.2"]), "a container's");
        assert!(
            !stale(masquerade, [client, out, "10.10.4.7", client]),
            "redirected by a neighbour to eth1"
        );
    }
}

#[test]
fn the_verdict_says_what_is_wrong_and_names_the_first_thing() {
    let desired = desired(&config(&["rtb-a", "rtb-b"]), &facts()).expect("possible");
    let served: BTreeSet<_> = desired.routes.keys().cloned().collect();
    let all = Plan { served: served.clone(), ..Plan::default() };
    let reached = Proof::Reached("198.51.100.10:80".to_owned());
    let works = judge(&desired, &all, [], &reached);
    assert_eq!(works.verdict, Verdict::Works);
    assert!(works.headline.starts_with("NAT works: 2 routes lead here"), "{}", works.headline);
    assert_eq!(judge(&desired, &all, [], &Proof::Unproven).verdict, Verdict::Unproven);

    let load = Step::LoadRules {
        rules: desired.rules.clone().expect("rules"),
        damage: vec!["rule 2 of 4 is missing".to_owned()],
        replaces: true,
    };
    let broken = judge(&desired, &all, [&load], &reached);
    assert_eq!(broken.verdict, Verdict::Broken);
    assert!(broken.headline.contains("rules: rule 2 of 4 is missing"), "{}", broken.headline);

    let first = served.first().expect("a route").clone();
    let take = Step::TakeRoute { key: first, target: id("eni-0"), from: None };
    assert_eq!(judge(&desired, &all, [&take], &reached).verdict, Verdict::Partly);
    let none = Plan::default();
    assert_eq!(judge(&desired, &none, [], &reached).verdict, Verdict::Broken);
}
