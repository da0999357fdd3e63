//! Who is translated to what, what is forwarded, and how large the table of connections is.

use natd_core::{
    config::{Config, ConntrackMax, ConntrackTimeout, Mode, NetworkSpec, Seconds},
    desired::desired,
    error::Kind,
    facts::Facts,
    ruleset::{Family, Pool, Protocol, Translation},
};

use crate::machine::{config, facts, id};

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

pub(crate) fn forward(port: &str, to: &str) -> natd_core::config::Forward {
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
