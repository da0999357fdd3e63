//! The firewall's back ends against the kernel, each test in a network namespace of its own.

#![expect(clippy::expect_used, reason = "tests panic where it isn't as they expect")]

use std::{
    collections::BTreeSet, fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path,
    sync::Arc, time::Duration,
};

use natd_agent::firewall::{BackEnds, Iptables, Nftables};
use natd_core::{
    error::Kind,
    host::{Depth, Firewall},
    ruleset::{FirewallKind, Rendering, Ruleset, Translation},
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set, set_capabilities};
use tokio::process::Command;

mod any;
#[path = "../common/mod.rs"]
mod common;
mod full;
mod iptables;
mod lab;
mod nftables;
mod packets;
mod served;

const DEADLINE: Duration = Duration::from_secs(10);
const LOCK: &str = "/run/xtables.lock";

fn ruleset(sources: &[&str]) -> Ruleset {
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().expect("a prefix")).collect();
    Ruleset {
        egress: "eth0".parse().expect("a name"),
        ingress: ["eth0", "eth1"].map(|name| name.parse().expect("a name")).into(),
        sources: nets(sources),
        exclude: nets(&["10.0.0.0/8"]),
        translation: Translation::to([10, 10, 1, 5].into()),
        random_fully: true,
        forwards: Vec::new(),
        front: BTreeSet::new(),
        clamp_mss: false,
        shut: BTreeSet::new(),
    }
}

fn rendering(kind: FirewallKind) -> Rendering {
    ruleset(&["10.10.0.0/17", "10.10.128.0/17", "10.20.0.7/32"]).render(kind)
}

fn other_rendering(kind: FirewallKind) -> Rendering {
    Ruleset { translation: Translation::Masquerade, ..ruleset(&["192.168.0.0/24"]) }.render(kind)
}

async fn assert_intact(firewall: &dyn Firewall, rendering: &Rendering) {
    let loaded = firewall.loaded(Depth::Elements).await.expect("readable").expect("loaded");
    assert_eq!(loaded.digest.as_ref(), Some(&rendering.digest));
    assert_eq!(loaded.damage, [""; 0]);
}

/// Loads, does that, and expects those words to describe the damage; `None` if nothing is left.
async fn assert_damage(firewall: &dyn Firewall, tampering: &str, expected: Option<&str>) {
    let rendering = rendering(firewall.kind());
    firewall.load(&rendering).await.expect("loads over anything");
    assert_intact(firewall, &rendering).await;
    run(tampering).await;
    let loaded = firewall.loaded(Depth::Elements).await.expect(tampering);
    match expected {
        None => assert_eq!(loaded, None, "{tampering}"),
        Some(words) => {
            let damage = loaded.expect("damaged, not absent").damage;
            assert!(damage.iter().any(|line| line.contains(words)), "{tampering}: {damage:?}");
        }
    }
}

/// Runs the test in a network namespace of its own, and so the programs that it starts.
fn in_namespace(test: impl AsyncFnOnce() + Send) {
    common::Namespace::new("firewall").block_on(test);
}

/// What the shell command prints; it must succeed.
async fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().await.expect("a shell");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An executable script.
async fn script(path: &Path, text: &str) {
    tokio::fs::write(path, format!("#!/bin/sh\n{text}")).await.expect("written");
    tokio::fs::set_permissions(path, Permissions::from_mode(0o755)).await.expect("executable");
}

#[test]
fn without_the_capability_both_are_denied() {
    in_namespace(|| async {
        // Out of the bounding set, so that root's programs don't get it back.
        remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN).expect("root");
        let mut sets = rustix::thread::capabilities(None).expect("readable");
        for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
            set.remove(CapabilitySet::NET_ADMIN);
        }
        set_capabilities(None, sets).expect("fewer are always possible");
        for firewall in BackEnds::default().by_kind().values() {
            let rendering = rendering(firewall.kind());
            for error in [firewall.load(&rendering).await, firewall.unload().await] {
                let error = error.expect_err("not permitted");
                assert_eq!(error.kind(), Kind::Denied, "{error}");
                assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            }
        }
    });
}

fn back_ends(nft: &str, iptables: &'static str) -> BackEnds {
    BackEnds {
        nftables: Arc::new(Nftables::new(nft, DEADLINE)),
        iptables: Arc::new(Iptables::new(iptables, LOCK, DEADLINE)),
    }
}

#[test]
fn what_the_host_uses_is_chosen_and_both_packages_are_named() {
    for (rules, kind, because) in [
        ("true", FirewallKind::Nftables, "no rules of its own"),
        ("nft add table inet firewalld", FirewallKind::Nftables, "inet firewalld"),
        ("iptables-nft -A FORWARD -s 192.0.2.1 -j DROP", FirewallKind::Iptables, "nf_tables"),
        (
            "iptables-nft -A FORWARD -s 192.0.2.1 -j DROP; nft add table inet own",
            FirewallKind::Nftables,
            "inet own",
        ),
    ] {
        in_namespace(async || {
            run(rules).await;
            let choice = back_ends("nft", "iptables-nft").choose(None).await.expect("one");
            assert_eq!(choice.kind, kind, "{rules}");
            let reason = choice.reason.expect("a reason");
            assert!(reason.contains(because), "{rules}: {reason}");
            // What natd itself has loaded doesn't make it change its mind.
            for natds in back_ends("nft", "iptables-nft").by_kind().values() {
                natds.load(&rendering(natds.kind())).await.expect("loads");
                let again = back_ends("nft", "iptables-nft").choose(None).await.expect("one");
                assert_eq!(again.kind, kind, "{rules}");
                natds.unload().await.expect("unloads");
            }
        });
    }
    in_namespace(async || {
        run("iptables-legacy -t nat -A POSTROUTING -s 192.0.2.1 -j MASQUERADE").await;
        let choice = back_ends("nft", "iptables-legacy").choose(None).await.expect("one");
        assert_eq!(choice.kind, FirewallKind::Iptables);
        assert!(choice.reason.expect("a reason").contains("legacy"));
        let choice = back_ends("/nowhere/nft", "iptables-legacy").choose(None).await.expect("one");
        assert_eq!(choice.kind, FirewallKind::Iptables);
        assert!(choice.reason.expect("a reason").contains("nft does not run"));
        let choice = back_ends("nft", "/nowhere/iptables").choose(None).await.expect("one");
        assert_eq!(choice.kind, FirewallKind::Nftables);
        assert!(choice.reason.expect("a reason").contains("iptables does not run"));
        let told = back_ends("nft", "iptables-nft").choose(Some(FirewallKind::Iptables)).await;
        assert_eq!(told.expect("told").reason, None);
        let error = back_ends("/nowhere/nft", "/nowhere/iptables").choose(None).await;
        let error = error.expect_err("none is here");
        assert_eq!(error.kind(), Kind::NotFound);
        let advice = error.advice().expect("an advice");
        assert!(advice.contains("nftables") && advice.contains("iptables"), "{advice}");
    });
}
