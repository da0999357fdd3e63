//! Whatever is configured: the tools take what natd renders of it, and read back it is whole.

use std::{collections::BTreeSet, net::Ipv4Addr, process::Stdio};

use ipnet::{Ipv4Net, Ipv6Net};
use natd_core::{
    host::Firewall,
    model::InterfaceName,
    networks::Networks,
    ruleset::{Blocks, Family, FirewallKind, Forward, Pool, Ports, Protocol, Ruleset, Translation},
};
use proptest::{
    collection::{btree_set, vec},
    prelude::*,
    sample::select,
    test_runner::{Config, RngSeed, TestRunner},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    assert_intact, in_namespace,
    lab::{iptables, nftables},
};

/// Names that the kernel takes, and that mean something to a shell, to `nft` or to `iptables`.
const NAMES: [&str; 11] = [
    "eth0", "enX0", "ens5.100", "ens5@x", "-i", "!eth0", "a;b", "#eth0", "$HOME", "{eth0}", "%d(0)",
];

fn names() -> impl Strategy<Value = InterfaceName> {
    select(&NAMES[..]).prop_map(|name| name.parse().expect("a name"))
}

fn net() -> impl Strategy<Value = Ipv4Net> {
    (any::<u32>(), 1_u8..=32)
        .prop_map(|(bits, length)| Ipv4Net::new(bits.into(), length).expect("a prefix").trunc())
}

fn net6() -> impl Strategy<Value = Ipv6Net> {
    (any::<u128>(), 1_u8..=128)
        .prop_map(|(bits, length)| Ipv6Net::new(bits.into(), length).expect("a prefix").trunc())
}

fn networks(most: usize) -> impl Strategy<Value = Networks> {
    (vec(net(), 1..=most), vec(net6(), 0..3)).prop_map(|(v4, v6)| {
        v4.into_iter().map(Into::into).chain(v6.into_iter().map(Into::into)).collect()
    })
}

/// One of these for each range of ports outside: what is outside overlaps with nothing else.
fn forward(n: u16) -> impl Strategy<Value = Forward> {
    let port = 2000 * n + 1000;
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let to_port = proptest::option::of(1_u16..=60_000);
    (protocol, 0_u16..2000, to_port, any::<u32>(), proptest::option::of(networks(3))).prop_map(
        move |(protocol, more, to, host, from)| {
            let ports = Ports::new(port, port + more).expect("ports");
            let to_ports = to.map_or(Some(ports), |to| ports.moved_to(to)).unwrap_or(ports);
            let v4 = |from: Networks| from.iter().filter(|net| net.addr().is_ipv4()).collect();
            Forward { protocol, ports, to: host.into(), to_ports, from: from.map(v4) }
        },
    )
}

fn rulesets() -> impl Strategy<Value = Ruleset> {
    let pool = btree_set(any::<u32>().prop_map(Ipv4Addr::from), 1..6);
    let families =
        prop_oneof![Just(vec![]), Just(vec![Family::V4]), Just(vec![Family::V4, Family::V6])];
    let forwards = proptest::option::of((forward(0), forward(1), forward(2)));
    (
        (names(), btree_set(names(), 0..3), networks(90), proptest::option::of(networks(90))),
        (proptest::option::of(pool), any::<bool>(), any::<bool>(), forwards, families),
        btree_set(any::<u32>().prop_map(Ipv4Addr::from), 1..4),
    )
        .prop_map(
            |(
                (egress, more, sources, exclude),
                (pool, random_fully, clamp_mss, forwards, shut),
                front,
            )| {
                let ingress = more.into_iter().chain([egress.clone()]).collect();
                let is_v6 = sources.iter().any(|net| net.addr().is_ipv6());
                let served = |family| family == Family::V4 || is_v6;
                let translation = match pool {
                    // As the configuration has it.
                    Some(pool) if !is_v6 => {
                        let mut pool = pool.into_iter();
                        Translation::Snat(Pool::new(pool.next().expect("one"), pool))
                    }
                    _ => Translation::Masquerade,
                };
                let forwards: Vec<Forward> =
                    forwards.map(|(a, b, c)| [a, b, c].into()).unwrap_or_default();
                Ruleset {
                    egress,
                    ingress,
                    sources,
                    exclude: exclude.unwrap_or_default(),
                    translation,
                    random_fully,
                    front: if forwards.is_empty() { BTreeSet::new() } else { front },
                    forwards,
                    clamp_mss,
                    // As `desired` has it: of families that are served.
                    shut: shut.into_iter().filter(|family| served(*family)).collect(),
                }
            },
        )
}

/// So many of them; always the same ones.
fn each_of(cases: u32, test: impl Fn(Ruleset)) {
    let config = Config {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&rulesets(), |ruleset| {
        test(ruleset);
        Ok(())
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}

/// What a program says to a script, if it doesn't take it.
async fn refused(program: &str, arguments: &[&str], script: &str) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(program);
    let mut input = child.stdin.take().expect("a pipe");
    // A program that has seen enough closes it.
    input.write_all(script.as_bytes()).await.ok();
    drop(input);
    let output = child.wait_with_output().await.expect("ended");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(complaint)
}

#[test]
fn nft_and_iptables_restore_take_whatever_is_rendered() {
    each_of(96, |ruleset| {
        in_namespace(async || {
            let nft = ruleset.render(FirewallKind::Nftables).text;
            assert_eq!(refused("nft", &["-c", "-f", "-"], &nft).await, None, "{nft}");
            let rendering = ruleset.render_with(FirewallKind::Iptables, Blocks::Chains);
            for variant in ["nft", "legacy"] {
                let dry_run = ["--test", "--noflush"];
                let families =
                    [("iptables", Some(&rendering.text)), ("ip6tables", rendering.text6.as_ref())];
                for (family, text) in families {
                    let Some(text) = text else { continue };
                    let program = format!("{family}-{variant}-restore");
                    assert_eq!(refused(&program, &dry_run, text).await, None, "{program}: {text}");
                }
            }
        });
    });
}

#[test]
fn whatever_is_loaded_is_read_back_whole_and_goes_again() {
    each_of(12, |ruleset| {
        in_namespace(async || {
            let iptables_nft = iptables("iptables-nft");
            let iptables_legacy = iptables("iptables-legacy");
            let all: [(&dyn Firewall, Blocks); 4] = [
                (&nftables(), Blocks::Chains),
                (&iptables_nft, Blocks::Chains),
                (&iptables_nft, Blocks::Ipset),
                (&iptables_legacy, Blocks::Ipset),
            ];
            for (firewall, blocks) in all {
                let rendering = ruleset.render_with(firewall.kind(), blocks);
                firewall.load(&rendering).await.expect("loads");
                assert_intact(firewall, &rendering).await;
                firewall.unload().await.expect("goes");
                let left =
                    firewall.loaded(natd_core::host::Depth::Elements).await.expect("readable");
                assert_eq!(left, None);
            }
        });
    });
}
