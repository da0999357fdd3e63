//! What should be, from configuration and facts; and what is judged of it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects, and writes its own files"
)]

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use natd_core::{
    cloud::{
        Address, Instance, InterfaceFacts, OwnSubnet, PublicAddress, SecurityRules,
        SourceDestCheck, TableFacts,
    },
    config::{
        Config, ConntrackMax, ConntrackTimeout, InterfaceChoice, Mode, NetworkSpec, Seconds,
        TableSpec, Tables,
    },
    desired::{Desired, desired},
    error::{Error, Kind},
    facts::{CloudFacts, Facts},
    journal::Journal,
    model::{NextHop, Route, RouteOrigin, RouteState},
    network::{Flow, Link, Network},
    networks::Networks,
    observed::Observed,
    persist::Boot,
    plan::{Plan, plan},
    ruleset::{Blocks, Family, FirewallKind, Pool, Protocol, Ruleset, Translation},
    step::Step,
    verdict::{Outstanding, Proof, Verdict, judge},
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
        addresses: vec![Address { private: id(address), public: public.map(id).into() }],
        subnet: id(subnet),
        source_dest_check: SourceDestCheck::On { overwrites: None },
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
        advertised: BTreeSet::new(),
        listening: BTreeSet::new(),
        boot: Boot::default(),
        memory: Some(4 << 30),
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
    facts.cloud.as_mut().expect("a cloud").interfaces[0].addresses[0].public =
        PublicAddress::Absent;
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
    cloud.interfaces[0].addresses[0].public = PublicAddress::Absent;
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

/// Neither is known to be absent where the cloud doesn't know what the internet sees.
#[test]
fn a_cloud_that_does_not_know_is_not_taken_for_one_that_says_no() {
    let mut facts = facts();
    let cloud = facts.cloud.as_mut().expect("a cloud");
    cloud.interfaces[0].addresses[0].public = PublicAddress::Unknown;
    cloud.tables[2].routes[0].next_hop =
        NextHop::Other { kind: "route".to_owned(), id: "via 10.10.1.1".to_owned() };
    let warned = |facts: &Facts| codes(&desired(&config(&["rtb-a"]), facts).expect("possible"));
    assert!(warned(&facts).is_empty(), "{:?}", warned(&facts));
    // Whoever knows is believed.
    let mut knowing = facts.clone();
    let cloud = knowing.cloud.as_mut().expect("a cloud");
    cloud.interfaces[0].addresses[0].public = PublicAddress::Absent;
    assert_eq!(warned(&knowing), ["no-public-address", "no-internet-route"]);
    // Without any way out there is none, whatever is known.
    facts.cloud.as_mut().expect("a cloud").tables[2].routes.clear();
    assert_eq!(warned(&facts), ["no-internet-route"]);
}

#[test]
fn an_address_that_is_public_itself_needs_no_other() {
    let mut facts = facts();
    facts.network.links[0].addresses = vec![id("192.0.2.10/24")];
    let cloud = facts.cloud.as_mut().expect("a cloud");
    cloud.interfaces[0].addresses =
        vec![Address { private: id("192.0.2.10"), public: PublicAddress::Absent }];
    let warned = codes(&desired(&config(&["rtb-a"]), &facts).expect("possible"));
    assert!(warned.is_empty(), "{warned:?}");
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
    let reached = Proof::Reached("198.51.100.10:80".to_owned()).into();
    let works = judge(&desired, &all, [], &reached);
    assert_eq!(works.verdict, Verdict::Works);
    assert!(works.headline.starts_with("NAT works: 2 routes lead here"), "{}", works.headline);
    assert_eq!(judge(&desired, &all, [], &Proof::Unproven.into()).verdict, Verdict::Unproven);

    let load = Step::LoadRules {
        rules: desired.rules.clone().expect("rules"),
        damage: vec!["rule 2 of 4 is missing".to_owned()],
        replaces: true,
    };
    let broken = judge(&desired, &all, [(&load).into()], &reached);
    assert_eq!(broken.verdict, Verdict::Broken);
    assert!(broken.headline.contains("rules: rule 2 of 4 is missing"), "{}", broken.headline);

    let first = served.first().expect("a route").clone();
    let take = Step::TakeRoute { key: first, target: id("eni-0"), from: None };
    let partly = judge(&desired, &all, [(&take).into()], &reached);
    assert_eq!(partly.verdict, Verdict::Partly);

    // Why is part of it; in whatever words, with whatever request id, it is the same.
    let tried = |id: &str, kind| {
        let why = Error::new(kind, "point it here", format!("no, {id}")).with_request_id(id);
        judge(&desired, &all, [Outstanding { step: &take, why: Some(&why) }], &reached)
    };
    let denied = tried("r-1", Kind::Denied);
    assert!(
        denied.headline.ends_with("could not point it here: no, r-1 [request r-1]"),
        "{denied:?}"
    );
    assert!(denied.says_the_same(&tried("r-2", Kind::Denied)) && denied.told.is_some());
    assert!(tried("r-1", Kind::Throttled).says_the_same(&tried("r-3", Kind::Unreachable)));
    assert!(!denied.says_the_same(&tried("r-1", Kind::Throttled)));
    assert!(!denied.says_the_same(&partly) && !denied.says_the_same(&works));
    let none = Plan::default();
    assert_eq!(judge(&desired, &none, [], &reached).verdict, Verdict::Broken);
}

fn forward(port: &str, to: &str) -> natd_core::config::Forward {
    natd_core::config::Forward {
        protocol: Protocol::Tcp,
        port: id(port),
        to: to.to_owned().try_into().expect("a target"),
        from: Vec::new(),
    }
}

#[test]
fn a_pool_is_of_addresses_that_the_interface_has_and_those_it_lacks_are_named() {
    let mut facts = facts();
    facts.network.links[0].addresses.push(id("10.10.1.11/24"));
    let mut config = config(&["rtb-a"]);
    config.nat.addresses = vec![id("10.10.1.11"), id("10.10.1.10"), id("10.10.1.11")];
    let wanted = desired(&config, &facts).expect("possible");
    let pool = Pool::new(id("10.10.1.11"), [id("10.10.1.10")]);
    assert_eq!(wanted.rules.expect("rules").ruleset.translation, Translation::Snat(pool));
    // Each needs a public address of its own.
    let warning = wanted.warnings.iter().find(|warning| warning.code == "no-public-address");
    assert!(warning.expect("one").message.contains("(10.10.1.11)"), "{warning:?}");
    config.nat.addresses.extend([id::<std::net::Ipv4Addr>("10.10.1.98"), id("10.10.1.99")]);
    let error = desired(&config, &facts).expect_err("impossible").to_string();
    assert!(error.contains("translate to 10.10.1.98, 10.10.1.99: eth0"), "{error}");
    assert!(error.contains("it has 10.10.1.10, 10.10.1.11;"), "{error}");
}

#[test]
fn ports_are_forwarded_at_own_and_public_addresses_to_hosts_that_are_served() {
    let mut config = config(&["rtb-a"]);
    config.nat.forward =
        vec![forward("8443", "10.10.2.101:443"), forward("8000-8002", "10.10.2.101:9000")];
    let mut facts = facts();
    let wanted = desired(&config, &facts).expect("possible");
    let ruleset = wanted.rules.expect("rules").ruleset;
    assert_eq!(ruleset.front, [id("10.10.1.10"), id("203.0.113.10")].into());
    let targets: Vec<String> = ruleset.forwards.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["tcp 8443 → 10.10.2.101:443", "tcp 8000-8002 → 10.10.2.101:9000-9002"]);

    // A program of this host is not cut off, and the other ports are forwarded all the same.
    facts.listening = [8001].into();
    let wanted = desired(&config, &facts).expect("possible");
    assert_eq!(wanted.rules.expect("rules").ruleset.forwards.len(), 1);
    let refusal = wanted.refusals[0].to_string();
    assert!(refusal.contains("listens on port 8001"), "{refusal}");

    config.nat.forward = vec![forward("8443", "192.0.2.1:443")];
    let error = desired(&config, &facts).expect_err("impossible");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("192.0.2.1 is none of nat.sources"), "{error}");
}

#[test]
fn exclusions_that_cover_everything_with_the_network_are_invalid() {
    let mut facts = facts();
    let mut config = config(&["rtb-a"]);
    config.nat.exclude = vec![NetworkSpec::Vpc, NetworkSpec::Net(id("128.0.0.0/1"))];
    desired(&config, &facts).expect("there is something left");
    facts.cloud.as_mut().expect("a cloud").instance.network_cidrs = vec![id("0.0.0.0/1")];
    let error = desired(&config, &facts).expect_err("nothing is left");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("covers every destination"), "{error}");
}

#[test]
fn what_is_not_served_is_shut_out_unless_the_host_forwards_for_others() {
    let mut facts = facts();
    let shut = |facts: &Facts, config: &Config| {
        desired(config, facts).expect("possible").rules.expect("rules").ruleset.shut
    };
    let mut config = config(&["rtb-a"]);
    assert_eq!(shut(&facts, &config), [Family::V4].into());
    config.nat.mode = Mode::Masquerade;
    config.nat.sources.push(NetworkSpec::Net(id("fd00::/8")));
    facts.forwards = [Family::V4].into();
    assert_eq!(shut(&facts, &config), [Family::V6].into());
}

#[test]
fn what_is_still_served_goes_on_and_what_is_not_is_stale() {
    let facts = facts();
    let before = {
        let mut config = config(&["rtb-a"]);
        config.nat.forward = vec![forward("8443", "10.10.2.101:443")];
        desired(&config, &facts).expect("possible").rules.expect("rules").ruleset
    };
    let earlier = before.served(&facts.network);
    let flow = |addresses: [&str; 4], port: u16, reply_port: u16| {
        let [source, destination, reply_source, reply_destination] = addresses.map(id::<IpAddr>);
        Flow {
            protocol: 6,
            source,
            destination,
            reply_source,
            reply_destination,
            destination_port: port,
            reply_source_port: reply_port,
        }
    };
    let (out, ours) = ("198.51.100.10", "10.10.1.10");
    let from_a = flow(["10.10.2.101", out, out, ours], 80, 80);
    let from_b = flow(["10.20.3.101", out, out, ours], 80, 80);
    let container = flow(["172.17.0.2", out, out, ours], 80, 80);
    let forwarded = flow([out, ours, "10.10.2.101", out], 8443, 443);
    let hairpin = flow(["10.20.3.101", "203.0.113.10", "10.10.2.101", ours], 8443, 443);
    let untranslated =
        flow(["10.20.3.101", "203.0.113.10", "10.10.2.101", "10.20.3.101"], 8443, 443);
    let missed = flow([out, ours, ours, out], 8443, 8443);
    let stale =
        |ruleset: &Ruleset, flow: &Flow| ruleset.makes_stale(flow, &facts.network, Some(&earlier));
    for served in [&from_a, &from_b, &container, &forwarded, &hairpin] {
        assert!(!stale(&before, served), "{served:?}");
    }
    assert!(stale(&before, &untranslated) && stale(&before, &missed));

    // Fewer sources, more excluded, no forwards: exactly those go that these were for.
    let fewer = Ruleset { sources: networks(&["10.10.0.0/16"]), ..before.clone() };
    assert!(!stale(&fewer, &from_a) && stale(&fewer, &from_b) && !stale(&fewer, &container));
    let excluding = Ruleset { exclude: networks(&["198.51.100.0/24"]), ..before.clone() };
    assert!(stale(&excluding, &from_a) && !stale(&excluding, &forwarded));
    let closed = Ruleset { forwards: Vec::new(), front: BTreeSet::new(), ..before.clone() };
    assert!(!stale(&closed, &from_a) && stale(&closed, &forwarded) && stale(&closed, &hairpin));
    assert!(!stale(&closed, &missed), "to this machine itself");
    // A larger pool gives what was given, a smaller one doesn't.
    let larger = Pool::new(id("10.10.1.11"), [id("10.10.1.10")]);
    let larger = Ruleset { translation: Translation::Snat(larger), ..before.clone() };
    assert!(!stale(&larger, &from_a));
    let other = Ruleset { translation: Translation::to(id("10.10.1.11")), ..before };
    assert!(stale(&other, &from_a) && !stale(&other, &forwarded));
}

#[test]
fn many_blocks_in_iptables_without_sets_are_warned_of_with_numbers() {
    let mut facts = facts();
    let mut config = config(&["rtb-a"]);
    let block = |n: u32| {
        NetworkSpec::Net(id(&format!("{}/32", std::net::Ipv4Addr::from(0x0a20_0000 + n * 3))))
    };
    config.nat.sources = (0..1500).map(block).collect();
    assert!(!codes(&desired(&config, &facts).expect("possible")).contains(&"many-rules"));
    facts.firewall = FirewallKind::Iptables;
    let wanted = desired(&config, &facts).expect("possible");
    let warning = wanted.warnings.iter().find(|warning| warning.code == "many-rules").expect("one");
    assert!(warning.message.contains("1502 blocks as 3"), "{}", warning.message);
    facts.blocks = Blocks::Ipset;
    assert!(!codes(&desired(&config, &facts).expect("possible")).contains(&"many-rules"));
}

#[test]
fn the_table_of_connections_is_sized_by_the_memory_and_its_timeouts_by_name() {
    let mut config = config(&[]);
    config.conntrack.max = Some(ConntrackMax::Auto);
    let day = Seconds(std::time::Duration::from_hours(24));
    config.conntrack.timeouts.insert(ConntrackTimeout::TcpEstablished, day);
    config.conntrack.timeouts.insert(ConntrackTimeout::UdpStream, day);
    let sysctls = desired(&config, &facts()).expect("desired").sysctls;
    let conntrack: Vec<(String, &str)> = sysctls
        .iter()
        .filter(|(key, _)| key.is_conntrack())
        .map(|(key, setting)| (key.to_string(), setting.value.as_str()))
        .collect();
    let expected = [
        ("net.netfilter.nf_conntrack_buckets", "1048576"),
        ("net.netfilter.nf_conntrack_max", "1048576"),
        ("net.netfilter.nf_conntrack_tcp_timeout_established", "86400"),
        ("net.netfilter.nf_conntrack_udp_timeout_stream", "86400"),
    ];
    assert_eq!(conntrack, expected.map(|(key, value)| (key.to_owned(), value)));
}
