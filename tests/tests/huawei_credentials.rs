//! Who natd is on Huawei Cloud, and what it may do: keys that rotate, a cloud that doubts or throttles it, a clock that is
//! off, and the least policy. Whatever comes of it, packets flow.

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{
    HEALING, after_a_quiet_tick, assert_served, full_ticks, natd, says, serving_daemon, tells,
    writes,
};
use natd_tests::lab::Lab;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::flow::PingStream;
use natd_tests::lab::host::PATIENCE;
use natd_tests::lab::huawei::metadata::Version;
use natd_tests::lab::natd::run;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::wait;
use serde_json::{Value, json};

/// A daemon that serves, while a client pings the internet.
struct Scene {
    lab: Lab,
    daemon: Daemon,
    ping: PingStream,
    mark: usize,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::huawei().build()?;
        let daemon = serving_daemon(&lab, "")?;
        let ping = lab.client("client-a").ping_stream()?;
        after_a_quiet_tick(&lab, &daemon);
        let mark = daemon.mark();
        Ok(Self { lab, daemon, ping, mark })
    }

    /// Pings until it holds. No reply may be missing.
    fn ping_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = std::time::Instant::now() + wait::PATIENCE;
        while !holds(self) {
            self.ping.exchange(PATIENCE).map_err(|dead| anyhow::anyhow!("{what}: {dead}"))?;
            let lines = || self.daemon.lines().split_off(self.mark);
            ensure!(std::time::Instant::now() < deadline, "{what}: not yet: {:#?}", lines());
        }
        Ok(())
    }

    /// Pings through further ticks of the daemon's.
    fn ping_on(&mut self) -> Result<()> {
        let ticks = full_ticks(&self.lab).context("no ticks")?;
        self.ping_until("further ticks", |scene| {
            full_ticks(&scene.lab).is_some_and(|now| now >= ticks + 3)
        })
    }

    fn said(&self) -> Vec<String> {
        self.daemon.lines().split_off(self.mark)
    }

    /// The daemon does its work as before.
    fn works_on(&mut self) -> Result<()> {
        let mark = self.daemon.mark();
        self.lab.remove_route(self.lab.ids.table("private-b"), DEFAULT)?;
        self.daemon.wait_for_after(mark, HEALING, |line| line.contains("done: point route"))?;
        self.lab.sync()?;
        assert_served(&self.lab);
        ensure!(self.daemon.is_running());
        Ok(())
    }

    fn status_of_calls(&self, status: u16) -> usize {
        self.lab.api_log().iter().filter(|call| call.status == Some(status)).count()
    }
}

#[test]
fn keys_that_rotate_are_followed_in_one_line() -> Result<()> {
    let mut scene = Scene::new()?;
    for _ in 0..2 {
        scene.lab.api_log_clear();
        scene.mark = scene.daemon.mark();
        scene.lab.as_huawei().rotate_keys()?;
        scene.ping_until("the old key is refused", |scene| scene.status_of_calls(401) > 0)?;
        scene.ping_on()?;
        tells(&scene.said(), &[&["INFO the cloud refused the agency's keys; going on with new"]]);
    }
    scene.works_on()
}

/// The token of the metadata service, too.
#[test]
fn a_metadata_token_that_is_forgotten_is_asked_for_again() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.lab.as_huawei().metadata.forget_tokens();
    scene.lab.as_huawei().rotate_keys()?;
    scene.ping_until("the old key is refused", |scene| scene.status_of_calls(401) > 0)?;
    scene.ping_on()?;
    tells(&scene.said(), &[&["INFO the cloud refused the agency's keys; going on with new"]]);
    scene.works_on()
}

#[test]
fn a_single_doubt_in_the_middle_is_a_line() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.lab.api_log_clear();
    scene.lab.fail("vpc:routeTables:list", Fault::unauthorised(), 1);
    scene.ping_until("the call is refused", |scene| scene.status_of_calls(401) > 0)?;
    scene.ping_on()?;
    tells(&scene.said(), &[&["INFO the cloud refused the keys once and took them"]]);
    scene.works_on()
}

/// A cloud that doubts keys for a while that are good: natd says so, and that it is over. Meanwhile it isn't ready, since
/// that may need the operator.
#[test]
fn a_doubt_for_a_while_passes() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.lab.fail("vpc:routeTables:list", Fault::unauthorised(), usize::MAX);
    scene.ping_until("natd tells of it", |scene| !scene.said().is_empty())?;
    scene.ping_on()?;
    let (ready, why) = scene.lab.nat().health("/readyz")?;
    ensure!(ready == 503 && why.contains("APIGW.0301"), "{ready} {why}");
    scene.lab.heal();
    scene.ping_until("natd tells of its end", |scene| scene.said().len() > 1)?;
    scene.ping_on()?;
    tells(
        &scene.said(),
        &[
            &["WARN going by what the cloud said last", "APIGW.0301"],
            &["INFO the cloud answers again"],
        ],
    );
    ensure!(scene.lab.nat().health("/readyz")?.0 == 200);
    scene.works_on()
}

#[test]
fn a_storm_of_refusals_is_weathered() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.lab.api_log_clear();
    scene.lab.fail_all(Fault::throttled(), usize::MAX);
    scene.ping_until("natd tells of it", |scene| !scene.said().is_empty())?;
    ensure!(writes(&scene.lab).is_empty(), "{:?}", writes(&scene.lab));
    scene.lab.heal();
    scene.ping_until("natd tells of its end", |scene| scene.said().len() > 1)?;
    scene.ping_on()?;
    tells(
        &scene.said(),
        &[
            &["WARN going by what the cloud said last", "APIGW.0308"],
            &["INFO the cloud answers again"],
        ],
    );
    scene.works_on()
}

#[test]
fn a_metadata_service_without_tokens_serves_as_well() -> Result<()> {
    for status in [404, 405] {
        let lab = Lab::huawei().build()?;
        lab.as_huawei().metadata.set_version(Version::NoTokens { status });
        natd(&lab, 0, &["apply"])?;
        assert_served(&lab);
    }
    Ok(())
}

#[test]
fn without_an_agency_natd_says_what_it_takes() -> Result<()> {
    let lab = Lab::huawei().build()?;
    lab.as_huawei().metadata.set_agency(false);
    let before = State::of(&lab)?;
    says(&natd(&lab, 1, &["apply"])?, &["agency", "HUAWEICLOUD_SDK_AK"])?;
    ensure!(State::of(&lab)? == before);

    // Keys of the environment do.
    let (access, secret) = ("LABACCESSKEY00000009", "the-operators-own-secret");
    let path = format!("/keys/{access}");
    lab.as_huawei().owner.change("PUT", &path, &json!({ "secret": secret }))?;
    let mut command = lab.nat().command(["apply"])?;
    command.env("HUAWEICLOUD_SDK_AK", access).env("HUAWEICLOUD_SDK_SK", secret);
    let applied = run(command)?;
    ensure!(applied.code == Some(0), "{applied:#?}");
    lab.sync()?;
    assert_served(&lab);

    // So do those of the SDK's file; wrong ones are told of, without the secret.
    let file = format!("[basic]\nak = {access}\nsk = another-{secret}\n");
    lab.nat().write(".huaweicloud/credentials", &file)?;
    let refused = natd(&lab, 1, &["plan"])?;
    says(&refused, &["APIGW.0301"])?;
    ensure!(!format!("{}{}", refused.stdout, refused.stderr).contains(secret), "{refused:#?}");
    lab.nat().write(".huaweicloud/credentials", &file.replace("another-", ""))?;
    natd(&lab, 0, &["plan"])?;
    Ok(())
}

#[test]
fn a_clock_that_is_off_is_told() -> Result<()> {
    let lab = Lab::huawei().build()?;
    let before = State::of(&lab)?;
    lab.as_huawei().owner.set(&json!({ "clock_ahead": 3600 }))?;
    says(&natd(&lab, 1, &["apply"])?, &["APIGW.0301", "clock"])?;
    ensure!(State::of(&lab)? == before);
    Ok(())
}

/// A lab whose configuration takes every action: one of its subnets is served by the network's default table.
fn policy_lab() -> Result<(Lab, Value)> {
    let lab = Lab::huawei().build()?;
    let ids = &lab.ids;
    let own = format!("/resources/routetables/{}", ids.table("private-b"));
    lab.as_huawei().owner.change("PATCH", &own, &json!({ "subnets": [] }))?;
    lab.sync()?;
    let subnets = [ids.subnet("private-a"), ids.subnet("private-b")];
    let tables = format!("[routes]\ntables = {{ subnets = {subnets:?} }}\n");
    lab.nat().write("etc/natd/conf.d/20-tables.toml", &tables)?;
    let printed = natd(&lab, 0, &["policy"])?;
    let policy = serde_json::from_str(&printed.stdout).with_context(|| format!("{printed:#?}"))?;
    Ok((lab, policy))
}

fn actions_of(policy: &Value) -> Vec<String> {
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let actions = statements.filter_map(|statement| statement["Action"].as_array());
    actions.flatten().filter_map(|action| Some(action.as_str()?.to_owned())).collect()
}

#[test]
fn the_printed_policy_is_enough() -> Result<()> {
    let (lab, policy) = policy_lab()?;
    let before = State::of(&lab)?;
    lab.as_huawei().owner.set(&json!({ "policy": policy }))?;
    natd(&lab, 2, &["plan", "--detailed-exitcode"])?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let daemon = serving_daemon(&lab, "")?;
    let mark = daemon.mark();
    lab.set_check(lab.ids.interface("nat/eth0"), true)?;
    lab.remove_route(lab.ids.table("main"), DEFAULT)?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: point route"))?;
    after_a_quiet_tick(&lab, &daemon);
    assert_served(&lab);
    drop(daemon);
    natd(&lab, 0, &["verify"])?;
    natd(&lab, 0, &["down"])?;
    let after = State::of(&lab)?;
    ensure!(after == before, "{}", after.differences(&before));
    let refused = lab.api_log().into_iter().filter(|call| call.status == Some(403)).count();
    ensure!(refused == 0, "{refused} calls were refused");
    Ok(())
}

#[test]
fn a_missing_action_is_named() -> Result<()> {
    let (lab, policy) = policy_lab()?;
    let before = State::of(&lab)?;
    let actions = actions_of(&policy);
    ensure!(actions.len() >= 8, "{policy}");
    for missing in &actions {
        let others: Vec<_> =
            actions.iter().filter(|action| *action != missing).map(String::as_str).collect();
        lab.as_huawei().allow(Some(&others))?;
        let applied = lab.nat().natd(["apply"])?;
        ensure!(matches!(applied.code, Some(1 | 4)), "without {missing}: {applied:#?}");
        says(&applied, &[missing])?;
        lab.as_huawei().allow(None)?;
        natd(&lab, 0, &["down"])?;
        let after = State::of(&lab)?;
        ensure!(after == before, "without {missing}: {}", after.differences(&before));
    }
    Ok(())
}
