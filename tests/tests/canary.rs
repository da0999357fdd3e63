//! natd knows by packets of its own whether it carries those of private hosts: `verify` tells where one was lost, and
//! the daemon gives routes back and takes them again by it, where it is told to.

use anyhow::{Context, Result};
use natd_tests::expect::{
    HEALING, actions, assert_served, assert_unserved, natd, serving_daemon, writes,
};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::on_every_back_end;
use natd_tests::wait::until;
use serde_json::Value;

on_every_back_end!(verify_tells_station_by_station, routes_go_and_come_as_packets_do);

const STATIONS: [&str; 5] = [
    "canary: forwarding",
    "canary: firewalls",
    "canary: translation",
    "canary: answer",
    "canary: way back",
];

/// Somebody's own firewall, which lets nothing through, and its end.
const OBSTACLE: &str =
    "table inet mine { chain forward { type filter hook forward priority 10; policy drop; }; }";
const NO_OBSTACLE: &str = "delete table inet mine";

/// What `verify` says of each station: `ok`, `failed` or `unproven`, and in words.
fn stations(lab: &Lab, code: i32) -> Result<Vec<(String, String)>> {
    let run = natd(lab, code, &["verify", "--output", "json"])?;
    let json: Value = serde_json::from_str(&run.stdout).with_context(|| format!("{run:#?}"))?;
    let of = |name: &str| {
        let checks = json["checks"].as_array()?;
        let check = checks.iter().find(|check| check["name"] == name)?;
        Some((check["state"].as_str()?.to_owned(), check["detail"].as_str()?.to_owned()))
    };
    STATIONS.iter().map(|name| of(name).with_context(|| format!("{name} in {run:#?}"))).collect()
}

fn states(stations: &[(String, String)]) -> Vec<&str> {
    stations.iter().map(|(state, _)| state.as_str()).collect()
}

/// What a canary could leave behind.
fn traces(lab: &Lab) -> Result<String> {
    lab.nat().sh(
        "ip link | grep -o 'natd-canary' || true; ip route show table all | grep -F 192.0.0. || true
         nft list tables | grep natd-canary || true; conntrack -L 2>/dev/null | grep -F 192.0.0.8 || true",
    )
}

fn verify_tells_station_by_station(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    natd(&lab, 0, &["apply"])?;
    let good = stations(&lab, 0)?;
    assert_eq!(states(&good), ["ok"; 5], "{good:#?}");
    assert!(good[2].1.contains("leaves by eth0 as 10.10.1.10"), "{good:#?}");
    let text = natd(&lab, 0, &["verify"])?.stdout;
    for station in STATIONS {
        assert!(text.lines().any(|line| line.contains('✓') && line.contains(station)), "{text}");
    }
    assert_eq!(traces(&lab)?, "");

    lab.nat().namespace.nft(OBSTACLE)?;
    let dropped = stations(&lab, 1)?;
    assert_eq!(states(&dropped), ["ok", "failed", "unproven", "unproven", "unproven"]);
    let words = "dropped by the policy of chain forward in table inet mine";
    assert!(dropped[1].1.contains(words), "{dropped:#?}");
    let text = natd(&lab, 1, &["verify"])?.stdout;
    let headline = format!("NAT does not work: canary: firewalls: {words}");
    assert!(text.lines().last().is_some_and(|line| line.starts_with(&headline)), "{text}");
    lab.nat().namespace.nft(NO_OBSTACLE)?;

    lab.nat().namespace.set_sysctls(&[("net.ipv4.conf.eth0.forwarding", "0")])?;
    let unforwarded = stations(&lab, 1)?;
    assert_eq!(states(&unforwarded)[0], "failed");
    assert!(unforwarded[0].1.contains("net.ipv4.conf.eth0.forwarding is 0"), "{unforwarded:#?}");
    natd(&lab, 0, &["apply"])?;

    lab.nat().flush_natds_rules(back_end)?;
    let untranslated = stations(&lab, 1)?;
    assert_eq!(states(&untranslated), ["ok", "ok", "failed", "unproven", "unproven"]);
    natd(&lab, 0, &["apply"])?;

    lab.owner("DisassociateAddress", &[("AssociationId", &lab.ec2().association)])?;
    lab.sync()?;
    let unanswered = stations(&lab, 1)?;
    assert_eq!(states(&unanswered), ["ok", "ok", "ok", "failed", "unproven"]);
    assert_eq!(traces(&lab)?, "");
    Ok(())
}

/// As often as the daemon's metrics say.
fn metric(lab: &Lab, name: &str) -> Option<u64> {
    let (_, text) = lab.nat().health("/metrics").ok()?;
    text.lines().find_map(|line| line.strip_prefix(&format!("natd_{name} ")))?.trim().parse().ok()
}

fn ready(lab: &Lab) -> Option<u16> {
    lab.nat().health("/readyz").ok().map(|(code, _)| code)
}

fn routes_go_and_come_as_packets_do(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let (a, b) = (lab.ids.table("private-a"), lab.ids.table("private-b"));
    let earlier = lab.ids.elsewhere.as_str();
    lab.point_route(b, DEFAULT, earlier)?;
    let daemon = serving_daemon(&lab, "[verify]\ninterval = \"1s\"\nwithdraw = true\n")?;
    assert_served(&lab);
    lab.api_log_clear();

    lab.nat().namespace.nft(OBSTACLE)?;
    daemon
        .wait_for(HEALING, |line| line.contains("the routes are given back: 3 proofs in a row"))?;
    until("routes are given back", || metric(&lab, "routes_withdrawn") == Some(1));
    lab.sync()?;
    assert_eq!(lab.route(a, DEFAULT)?, None);
    assert_eq!(lab.route(b, DEFAULT)?.as_deref(), Some(earlier));
    until("it is not ready", || ready(&lab) == Some(503));
    let (_, text) = lab.nat().health("/readyz")?;
    assert!(text.contains("canary: firewalls: dropped by the policy of chain forward"), "{text}");
    // Rules and forwarding stay, and nothing is tried again and again.
    assert_eq!(lab.nat().back_ends()?, [back_end].into());
    let lost = metric(&lab, "canaries_lost_total");
    until("more canaries are lost", || metric(&lab, "canaries_lost_total") > lost.map(|n| n + 3));
    assert_eq!(writes(&lab).len(), 2, "{:?}", writes(&lab));
    lab.api_log_clear();

    lab.nat().namespace.nft(NO_OBSTACLE)?;
    daemon
        .wait_for(HEALING, |line| line.contains("the routes are taken again: 2 proofs in a row"))?;
    until("it is ready again", || ready(&lab) == Some(200));
    lab.sync()?;
    assert_served(&lab);
    assert_eq!(metric(&lab, "routes_withdrawn"), Some(0));
    assert_eq!(writes(&lab).len(), 2, "{:?}", writes(&lab));
    // What a route was before natd is known still.
    drop(daemon);
    natd(&lab, 0, &["down"])?;
    assert_eq!(lab.route(b, DEFAULT)?.as_deref(), Some(earlier));
    assert_eq!(traces(&lab)?, "");
    Ok(())
}

/// A failure or two are waited out: neither routes nor readiness change; unless told to, routes stay whatever comes.
#[test]
fn few_failures_change_nothing() -> Result<()> {
    let lab = Lab::aws().build()?;
    let _daemon =
        serving_daemon(&lab, "[verify]\ninterval = \"1s\"\nwithdraw = true\nfall = 1000\n")?;
    lab.api_log_clear();
    lab.nat().namespace.nft(OBSTACLE)?;
    until("some proofs have failed", || metric(&lab, "proof_failures") >= Some(3));
    assert_eq!((ready(&lab), metric(&lab, "routes_withdrawn")), (Some(200), Some(0)));
    lab.nat().namespace.nft(NO_OBSTACLE)?;
    until("proofs come out again", || metric(&lab, "proof_failures") == Some(0));
    assert_eq!(ready(&lab), Some(200));
    assert_eq!(writes(&lab), [""; 0]);
    assert_served(&lab);
    Ok(())
}

#[test]
fn routes_stay_unless_they_are_to_be_withdrawn() -> Result<()> {
    let lab = Lab::aws().build()?;
    let _daemon = serving_daemon(&lab, "[verify]\ninterval = \"1s\"\nfall = 1\nrise = 3\n")?;
    lab.api_log_clear();
    lab.nat().namespace.nft(OBSTACLE)?;
    until("it is not ready", || ready(&lab) == Some(503));
    lab.nat().namespace.nft(NO_OBSTACLE)?;
    until("it is ready again", || ready(&lab) == Some(200));
    assert_eq!(writes(&lab), [""; 0]);
    assert_served(&lab);
    Ok(())
}

/// Without targets, too: what nobody has to answer for is proven all the same.
#[test]
fn no_route_is_taken_while_the_canary_is_lost() -> Result<()> {
    let lab = Lab::aws().build()?;
    let nat = lab.nat();
    nat.write("etc/natd/conf.d/10-test.toml", "[verify]\ntargets = []\n")?;
    nat.sh("iptables-nft -N DOCKER-USER; iptables-nft -P FORWARD DROP")?;
    let run = natd(&lab, 1, &["apply"])?;
    let words = "canary: firewalls: dropped by iptables, probably Docker: the policy of chain FORWARD in table ip filter";
    assert!(run.stdout.contains(words) && run.stdout.contains("no route is taken"), "{run:#?}");
    assert!(!actions(&lab).contains(&"CreateRoute".to_owned()), "{:?}", actions(&lab));
    assert_unserved(&lab);

    nat.sh("iptables-nft -P FORWARD ACCEPT")?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let found = stations(&lab, 0)?;
    assert_eq!(states(&found), ["ok", "ok", "ok", "unproven", "unproven"], "{found:#?}");
    Ok(())
}

#[test]
fn it_comes_in_where_private_hosts_do() -> Result<()> {
    let lab = Lab::aws().two_interfaces().build()?;
    lab.nat().write("etc/natd/conf.d/10-test.toml", "[routes]\ninterface = \"eth1\"\n")?;
    natd(&lab, 0, &["apply"])?;
    let inside = stations(&lab, 0)?;
    assert_eq!(states(&inside), ["ok"; 5], "{inside:#?}");
    assert!(inside[0].1.contains("eth1") && inside[2].1.contains("eth0"), "{inside:#?}");
    lab.nat().namespace.nft(
        "table inet mine { chain forward { type filter hook forward priority 10; iifname eth1 drop; }; }",
    )?;
    let dropped = stations(&lab, 1)?;
    assert!(dropped[1].1.contains("iifname \"eth1\" drop"), "{dropped:#?}");
    Ok(())
}

#[test]
fn killed_in_the_air_it_leaves_nothing() -> Result<()> {
    let lab = Lab::aws().build()?;
    let nat = lab.nat();
    natd(&lab, 0, &["apply"])?;
    // Nobody answers there, so that it is in the air for some seconds.
    let silent = "[verify]\ntargets = [\"198.51.100.99:80\"]\n";
    nat.write("etc/natd/conf.d/10-test.toml", silent)?;
    for _ in 0..3 {
        let mut daemon = nat.daemon::<&str>([])?;
        until("it flies", || traces(&lab).is_ok_and(|seen| seen.contains("table ip natd-canary")));
        let seen = traces(&lab)?;
        daemon.kill()?;
        daemon.wait(HEALING)?;
        let left = nat.sh(
            "ip link | grep -o 'natd-canary' || true; ip route show table all | grep -F 192.0.0. || true
             nft list tables | grep natd-canary || true",
        )?;
        assert_eq!(left, "", "before it was killed: {seen}");
    }
    Ok(())
}

/// Where no device can be had, the proof is what this machine itself reaches, and that is said.
#[test]
fn without_a_device_the_hosts_own_connection_is_the_proof() -> Result<()> {
    let lab = Lab::aws().build()?;
    natd(&lab, 0, &["apply"])?;
    let hidden = |arguments: &str| {
        let natd = natd_tests::lab::natd::binary()?.display().to_string();
        let (root, endpoint) = (lab.nat().root.display(), natd_tests::lab::topology::ENDPOINT);
        // A mount namespace in which the device's folder is empty.
        lab.nat().sh(&format!(
            "unshare -m sh -ec 'mount -t tmpfs none /dev/net; AWS_ENDPOINT_URL_EC2=http://{endpoint} {natd} --root {root} {arguments}'"
        ))
    };
    let text = hidden("verify")?;
    assert!(text.contains("? canary") && text.contains("/dev/net/tun: No such file"), "{text}");
    assert!(text.contains("✓ way out"), "{text}");
    assert!(text.lines().last().is_some_and(|line| line.starts_with("NAT works")), "{text}");
    Ok(())
}
