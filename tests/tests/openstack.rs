//! natd on `OpenStack`, in what only `OpenStack` has: address pairs, port security, two shapes, access rules, tokens.

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{
    after_a_quiet_tick, assert_served, assert_unserved, natd, serving_daemon, tells, writes,
};
use natd_tests::lab::Lab;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::flow::PingStream;
use natd_tests::lab::host::PATIENCE;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::wait::until;
use serde_json::{Value, json};

const TEST_CONFIGURATION: &str = "etc/natd/conf.d/10-test.toml";

/// Sees `apply` serve, a second one write nothing, and `down` give everything back.
fn serves_and_gives_back(lab: &Lab) -> Result<()> {
    let before = State::of(lab)?;
    assert_unserved(lab);
    natd(lab, 0, &["apply"])?;
    assert_served(lab);
    lab.api_log_clear();
    natd(lab, 0, &["apply"])?;
    assert_eq!(writes(lab), [""; 0]);
    natd(lab, 0, &["down"])?;
    let after = State::of(lab)?;
    assert!(after == before, "down left something:\n{}", after.differences(&before));
    assert_unserved(lab);
    Ok(())
}

#[test]
fn one_port_serves_its_own_subnet_by_host_routes() -> Result<()> {
    let lab = Lab::openstack().host_routes().build()?;
    let table = lab.ids.table("private-a");
    lab.point_route(table, "198.18.0.0/15", lab.ids.interface("client-b/eth0"))?;
    serves_and_gives_back(&lab)?;
    let mut served = serving_daemon(&lab, "")?;
    let mark = served.mark();
    lab.remove_route(table, DEFAULT)?;
    served.wait_for_after(mark, natd_tests::expect::HEALING, |line| {
        line.contains("done: point route 0.0.0.0/0")
    })?;
    lab.sync()?;
    assert_served(&lab);
    served.terminate()?;
    served.wait(PATIENCE * 10)?;
    Ok(())
}

#[test]
fn other_address_pairs_are_kept() -> Result<()> {
    let lab = Lab::openstack().build()?;
    let port = lab.cloud().target();
    let pairs = json!([{ "ip_address": "10.10.4.77" }, { "ip_address": "172.31.0.0/16" }]);
    lab.change_port(port, &json!({ "allowed_address_pairs": pairs }))?;
    let theirs = |port: &Value| -> Vec<String> {
        let all = port["allowed_address_pairs"].as_array().into_iter().flatten();
        all.filter_map(|pair| Some(pair["ip_address"].as_str()?.to_owned())).collect()
    };
    natd(&lab, 0, &["apply"])?;
    let mut now = theirs(&lab.neutron().port(port)?);
    now.sort();
    assert_eq!(now, ["0.0.0.0/0", "10.10.4.77", "172.31.0.0/16"]);
    natd(&lab, 0, &["down"])?;
    serves_and_gives_back(&lab)
}

#[test]
fn port_security_comes_back_with_groups_and_pairs() -> Result<()> {
    let lab = Lab::openstack().build()?;
    let port = lab.cloud().target();
    lab.nat().write(TEST_CONFIGURATION, "[openstack]\nsource_check = \"port_security\"\n")?;
    let pairs = json!([{ "ip_address": "10.10.4.77" }]);
    lab.change_port(port, &json!({ "allowed_address_pairs": pairs }))?;
    natd(&lab, 0, &["apply"])?;
    let now = lab.neutron().port(port)?;
    assert_eq!(now["port_security_enabled"], false);
    assert_eq!(now["security_groups"], json!([]));
    natd(&lab, 0, &["down"])?;
    let now = lab.neutron().port(port)?;
    assert_eq!(now["security_groups"], json!([lab.ids.group("nat")]));
    serves_and_gives_back(&lab)
}

/// A pair for every address would make everybody a member of the port's groups.
#[test]
fn a_rule_that_names_the_ports_group_is_refused_and_explained() -> Result<()> {
    let lab = Lab::openstack().build()?;
    let (api, group) = (lab.administrator(), lab.ids.group("nat"));
    let rule = json!({
        "security_group_id": lab.ids.group("clients"),
        "project_id": lab.ids.network,
        "direction": "ingress",
        "ethertype": "IPv4",
        "remote_group_id": group,
    });
    let named = api.make("security_group_rule", &rule)?;
    let before = State::of(&lab)?;
    for command in ["plan", "apply"] {
        let said = natd(&lab, 3, &[command])?.stdout;
        let words = [group, lab.cloud().target(), "as its remote group", "port_security"];
        ensure!(words.iter().all(|word| said.contains(word)), "{said}");
        // Neither in the cloud nor on the host.
        assert_eq!(writes(&lab), [""; 0]);
        let after = State::of(&lab)?;
        assert!(after == before, "something was changed:\n{}", after.differences(&before));
        assert!(lab.nat().read("var/lib/natd/journal.json").is_none());
    }
    assert_unserved(&lab);

    // The daemon says so, is not ready, changes nothing either, and serves once the rule is gone.
    lab.nat().write(TEST_CONFIGURATION, "[service]\ninterval = \"1s\"\n")?;
    let mut daemon = lab.nat().daemon::<&str>([])?;
    daemon.wait_for(natd_tests::expect::HEALING, |line| {
        line.contains("ERROR NAT does not work") && line.contains("as its remote group")
    })?;
    until("the daemon answers", || lab.nat().health("/readyz").is_ok());
    let (status, text) = lab.nat().health("/readyz")?;
    assert!(status == 503 && text.contains("as its remote group"), "{status} {text}");
    assert_eq!(writes(&lab), [""; 0]);
    let after = State::of(&lab)?;
    assert!(after == before, "something was changed:\n{}", after.differences(&before));
    api.delete(&format!("/v2.0/security-group-rules/{}", named["id"].as_str().context("a rule")?))?;
    daemon.wait_for(natd_tests::expect::HEALING, |line| line.contains("INFO NAT works"))?;
    lab.sync()?;
    assert_served(&lab);
    daemon.terminate()?;
    daemon.wait(PATIENCE * 10)?;
    natd(&lab, 0, &["down"])?;

    let named = api.make("security_group_rule", &rule)?;
    ensure!(named["id"].is_string(), "{named}");
    lab.nat().write(TEST_CONFIGURATION, "[openstack]\nsource_check = \"port_security\"\n")?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    Ok(())
}

/// The router would send what natd lets out back to natd.
#[test]
fn a_route_in_the_egress_ports_own_router_is_refused() -> Result<()> {
    let lab = Lab::openstack().build()?;
    let before = State::of(&lab)?;
    let edge = lab.ids.table("public");
    lab.nat().write(
        TEST_CONFIGURATION,
        &format!("[routes]\ntables = [{edge:?}]\ninterface = \"eth0\"\n"),
    )?;
    for command in ["plan", "apply"] {
        natd(&lab, 3, &[command])?;
    }
    assert_eq!(writes(&lab), [""; 0]);
    let after = State::of(&lab)?;
    assert!(after == before, "something was changed:\n{}", after.differences(&before));
    Ok(())
}

/// A daemon that serves, and a ping through it.
struct Scene<'a> {
    lab: &'a Lab,
    daemon: Daemon,
    ping: PingStream,
    lost: usize,
}

impl<'a> Scene<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let daemon = serving_daemon(lab, "")?;
        let ping = lab.client("client-a").ping_stream()?;
        Ok(Self { lab, daemon, ping, lost: 0 })
    }

    /// Pings until it holds.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = std::time::Instant::now() + natd_tests::wait::PATIENCE * 2;
        while !holds(self) {
            assert!(std::time::Instant::now() < deadline, "{what}: {:#?}", self.daemon.lines());
            self.lost += usize::from(self.ping.exchange(PATIENCE).is_err());
        }
    }

    /// Sees these lines since the mark, no packet lost, and a daemon that still heals.
    fn ends_well(mut self, mark: usize, lines: &[&[&str]]) -> Result<()> {
        after_a_quiet_tick(self.lab, &self.daemon);
        tells(&self.daemon.lines().split_off(mark), lines);
        ensure!(self.lost == 0, "{} pings were lost", self.lost);
        self.lab.remove_route(self.lab.ids.table("private-b"), DEFAULT)?;
        until("the route comes back", || {
            let route = self.lab.route(self.lab.ids.table("private-b"), DEFAULT);
            route.is_ok_and(|route| route.as_deref() == Some(self.lab.cloud().target()))
        });
        self.lab.sync()?;
        assert_served(self.lab);
        ensure!(self.daemon.is_running(), "{:#?}", self.daemon.lines());
        Ok(())
    }

    /// How often a token was asked for.
    fn logins(&self) -> usize {
        let is_login = |action: &str| action == "POST /v3/auth/tokens";
        self.lab.api_log().iter().filter(|call| is_login(&call.action)).count()
    }
}

#[test]
fn a_refused_token_in_the_middle_is_renewed_and_told_of_once() -> Result<()> {
    let lab = Lab::openstack().build()?;
    let mut scene = Scene::new(&lab)?;
    let mark = scene.daemon.mark();
    lab.api_log_clear();
    lab.fail("GET /v2.0/ports", Fault::unauthorised(), 1);
    scene.until("a new token", |scene| scene.logins() >= 1);
    scene.ends_well(mark, &[&["INFO Neutron refused the token before its time: logged in again"]])
}

/// Throttling and errors of the server, of every call.
#[test]
fn a_storm_of_429_and_503_is_told_of_once_and_passes() -> Result<()> {
    let lab = Lab::openstack().build()?;
    for fault in [Fault::throttled(), unavailable()] {
        let mut scene = Scene::new(&lab)?;
        let mark = scene.daemon.mark();
        lab.fail_all(fault, usize::MAX);
        scene.until("natd tells of it", |scene| scene.daemon.mark() > mark);
        lab.heal();
        scene.until("natd tells of its end", |scene| scene.daemon.mark() > mark + 1);
        scene.ends_well(
            mark,
            &[&["WARN going by what the cloud said last"], &["INFO the cloud answers again"]],
        )?;
    }
    Ok(())
}

fn unavailable() -> Fault {
    use natd_tests::lab::calls::Refusal;
    let (code, message) = ("ServiceUnavailable".to_owned(), "by the lab's order".to_owned());
    Fault::Refuse(Refusal::As { status: 503, code, message })
}

/// Keystone says for how long a token is good; natd has a new one before that.
#[test]
fn tokens_are_renewed_before_they_end() -> Result<()> {
    let lab = Lab::openstack().build()?;
    lab.neutron().change_keystone("[token]\nexpiration = 60\n")?;
    let mut scene = Scene::new(&lab)?;
    let mark = scene.daemon.mark();
    lab.api_log_clear();
    // natd renews when a quarter of it is left.
    scene.until("a second token", |scene| scene.logins() >= 1);
    let refused = lab.api_log().iter().filter(|call| call.status == Some(401)).count();
    ensure!(refused == 0, "{refused} calls were refused");
    scene.ends_well(mark, &[])
}

/// What `natd policy` prints lets the whole run through, and no rule is there in vain.
#[test]
fn without_any_one_access_rule_natd_names_it() -> Result<()> {
    let lab = Lab::openstack().build()?;
    let printed = natd(&lab, 0, &["policy"])?.stdout;
    let rules: Vec<Value> = serde_json::from_str(&printed).context("natd policy")?;
    lab.use_access_rules(&json!(rules))?;
    // A default route that isn't natd's, so that routes are added, replaced and removed.
    let elsewhere = lab.ids.interface("client-b/eth0");
    lab.point_route(lab.ids.table("private-a"), DEFAULT, elsewhere)?;
    serves_and_gives_back(&lab)?;
    for (number, missing) in rules.iter().enumerate() {
        let mut others = rules.clone();
        others.remove(number);
        lab.use_access_rules(&json!(others))?;
        let mut said = String::new();
        for command in ["apply", "down"] {
            let run = lab.nat().natd([command])?;
            said.extend([run.stdout, run.stderr]);
        }
        let (method, path) = (&missing["method"], &missing["path"]);
        let named = format!("\"method\":{method},\"path\":{path}");
        ensure!(said.contains(&named), "{named} isn't named:\n{said}");
        lab.use_access_rules(&json!(rules))?;
        natd(&lab, 0, &["down"])?;
    }
    Ok(())
}

/// Neither in logs, at any level, nor in what is printed or kept.
#[test]
fn secrets_stay_secret() -> Result<()> {
    let lab = Lab::openstack().build()?;
    let clouds = lab.nat().read(".config/openstack/clouds.yaml").context("clouds.yaml")?;
    let secret = clouds
        .lines()
        .find_map(|line| line.trim().strip_prefix("application_credential_secret: "))
        .context("a secret")?
        .to_owned();
    let run = lab.nat().natd(["apply", "--log-level", "trace"])?;
    ensure!(run.code == Some(0), "{run:#?}");
    let show = lab.nat().natd(["config", "show"])?;
    lab.fail_all(Fault::denied(), usize::MAX);
    let refused = lab.nat().natd(["apply", "--log-level", "trace"])?;
    ensure!(refused.code != Some(0), "{refused:#?}");
    let journal = lab.nat().read("var/lib/natd/journal.json").unwrap_or_default();
    for said in [&run.stdout, &run.stderr, &show.stdout, &refused.stdout, &refused.stderr, &journal]
    {
        ensure!(!said.contains(&secret), "the secret is told");
    }
    Ok(())
}
