//! `verify` and `status` say whether NAT works, by their first words and their exit code, and what to know besides.

use anyhow::{Context, Result};
use natd_tests::expect::{
    actions, after_a_quiet_tick, assert_served, assert_unserved, natd, serving_daemon, writes,
};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::natd::binary;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::ENDPOINT;
use natd_tests::on_every_back_end;
use natd_tests::wait::PATIENCE;
use serde_json::Value;

on_every_back_end!(
    every_state_has_its_words_and_its_code,
    no_route_is_taken_before_the_way_out_is_proven,
);

/// Begins every change of colour on a terminal.
const ESCAPE: char = '\u{1b}';

/// `status` begins, and `verify` ends, with these words; both exit with that code, and say so in JSON.
fn says(lab: &Lab, code: i32, words: &str, verdict: &str) -> Result<()> {
    let (status, verify) = (natd(lab, code, &["status"])?, natd(lab, code, &["verify"])?);
    assert!(status.stdout.starts_with(words), "{words}: {status:#?}");
    assert!(
        verify.stdout.lines().last().is_some_and(|line| line.starts_with(words)),
        "{words}: {verify:#?}"
    );
    let json = |command| -> Result<Value> {
        let run = natd(lab, code, &[command, "--output", "json"])?;
        serde_json::from_str(&run.stdout).with_context(|| format!("{run:#?}"))
    };
    assert_eq!(json("verify")?["verdict"], verdict);
    assert_eq!(json("status")?["now"]["verdict"], verdict);
    Ok(())
}

fn every_state_has_its_words_and_its_code(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let nat = lab.nat();
    says(&lab, 1, "NAT does not work: rules: not loaded", "broken")?;
    assert_eq!(writes(&lab), [""; 0]);
    assert!(nat.tables()?.is_empty(), "looking changed something");

    natd(&lab, 0, &["apply"])?;
    let works =
        "NAT works: 2 routes lead here, snat to 10.10.1.10 out by eth0, 198.51.100.10:80 answers";
    says(&lab, 0, works, "works")?;

    lab.remove_route(lab.ids.table("private-a"), DEFAULT)?;
    says(&lab, 4, "NAT works in part: 1 route leads here, and route 0.0.0.0/0 in rtb-", "partly")?;
    natd(&lab, 0, &["apply"])?;

    nat.namespace.set_sysctls(&[("net.ipv4.conf.eth0.forwarding", "0")])?;
    says(
        &lab,
        1,
        "NAT does not work: forwarding: net.ipv4.conf.eth0.forwarding is 0, not 1",
        "broken",
    )?;
    natd(&lab, 0, &["apply"])?;

    nat.flush_natds_rules(back_end)?;
    says(&lab, 1, "NAT does not work: rules: ", "broken")?;
    natd(&lab, 0, &["apply"])?;

    lab.set_check(lab.ids.interface("nat/eth0"), true)?;
    says(&lab, 1, "NAT does not work: source/destination check: of eni-", "broken")?;
    natd(&lab, 0, &["apply"])?;
    says(&lab, 0, works, "works")?;

    nat.write("etc/natd/conf.d/10-test.toml", "[verify]\ntargets = []\n")?;
    says(
        &lab,
        0,
        "NAT is in place, unproven: 2 routes lead here, snat to 10.10.1.10 out by eth0",
        "unproven",
    )?;
    Ok(())
}

fn no_route_is_taken_before_the_way_out_is_proven(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let nobody = "198.51.100.99:80";
    lab.nat()
        .write("etc/natd/conf.d/10-test.toml", &format!("[verify]\ntargets = [{nobody:?}]\n"))?;
    let run = natd(&lab, 1, &["apply"])?;
    for words in
        ["could not prove the way out", nobody, "no route is taken", "NAT does not work: way out"]
    {
        assert!(run.stdout.contains(words), "{words}: {run:#?}");
    }
    assert!(!actions(&lab).contains(&"CreateRoute".to_owned()), "{:?}", actions(&lab));
    assert_unserved(&lab);

    // Of several targets one is enough.
    let targets = format!("[verify]\ntargets = [{nobody:?}, \"198.51.100.10:80\"]\n");
    lab.nat().write("etc/natd/conf.d/10-test.toml", &targets)?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    Ok(())
}

/// What stands in the way and isn't natd's to change.
#[test]
fn obstacles_are_warned_of_by_plan_status_and_daemon() -> Result<()> {
    let lab = Lab::aws().build()?;
    let (ids, group) = (&lab.ids, lab.ids.group("nat"));
    let anything_for = |peer| {
        [
            ("GroupId", group),
            ("IpPermissions.1.IpProtocol", "-1"),
            ("IpPermissions.1.IpRanges.1.CidrIp", peer),
        ]
    };
    lab.owner("DisassociateAddress", &[("AssociationId", &lab.ec2().association)])?;
    lab.remove_route(ids.table("public"), DEFAULT)?;
    lab.owner("RevokeSecurityGroupIngress", &anything_for("10.20.0.0/16"))?;
    lab.owner("RevokeSecurityGroupEgress", &anything_for(DEFAULT))?;
    let expected = [
        ("security-group-in", "let 10.20.0.0/16 in by no port"),
        ("security-group-out", "let nothing out"),
        ("no-public-address", "(10.10.1.10) has no public address"),
        ("no-internet-route", "has no route to an internet gateway"),
        ("unproven", "verify.targets is empty"),
    ];
    let daemon = serving_daemon(&lab, "[verify]\ntargets = []\n")?;
    let plan = natd(&lab, 0, &["plan"])?.stdout;
    let status = natd(&lab, 0, &["status"])?.stdout;
    for (code, words) in expected {
        assert!(plan.contains(words), "{words}:\n{plan}");
        assert!(status.contains(words), "{words}:\n{status}");
        let line = daemon.wait_for(PATIENCE, |line| line.contains(words))?;
        assert!(line.contains("WARN") && line.contains(code), "{line}");
    }
    after_a_quiet_tick(&lab, &daemon);
    let warnings = daemon.lines().iter().filter(|line| line.contains("WARN")).count();
    assert_eq!(warnings, expected.len(), "each once: {:#?}", daemon.lines());
    let json: Value = serde_json::from_str(&natd(&lab, 0, &["plan", "--output", "json"])?.stdout)?;
    let codes = json["warnings"]
        .as_array()
        .map(|all| all.iter().map(|warning| warning["code"].clone()).collect());
    assert_eq!(codes, Some(expected.map(|(code, _)| Value::from(code)).to_vec()));
    Ok(())
}

#[test]
fn nothing_is_warned_of_where_all_is_well() -> Result<()> {
    let lab = Lab::aws().build()?;
    natd(&lab, 0, &["apply"])?;
    for command in ["plan", "status"] {
        let run = natd(&lab, 0, &[command])?;
        assert!(!run.stdout.contains("warnings"), "{run:#?}");
    }
    Ok(())
}

#[test]
fn colour_is_for_terminals_that_want_it() -> Result<()> {
    let lab = Lab::aws().build()?;
    for command in ["plan", "apply", "status", "verify", "down"] {
        let run = lab.nat().natd([command])?;
        assert!(
            !run.stdout.contains(ESCAPE) && !run.stderr.contains(ESCAPE),
            "{command} in a pipe: {run:#?}"
        );
    }
    let on_a_terminal = |environment: &str| {
        let (root, program) = (lab.nat().root.display(), binary()?.display().to_string());
        let endpoint = format!("AWS_ENDPOINT_URL_EC2=http://{ENDPOINT}");
        let line = format!(
            "env -u NO_COLOR TERM=xterm {environment} {endpoint} {program} --root {root} status"
        );
        lab.nat().sh(&format!("script -qec '{line}' /dev/null || true"))
    };
    let (coloured, plain) = (on_a_terminal("")?, on_a_terminal("NO_COLOR=1")?);
    assert!(coloured.contains(ESCAPE) && coloured.contains("NAT does not work"), "{coloured:?}");
    assert!(!plain.contains(ESCAPE) && plain.contains("NAT does not work"), "{plain:?}");
    Ok(())
}
