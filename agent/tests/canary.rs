//! `TunCanary` with packets: it comes back where packets do, and where one is lost it names that
//! station, and whose doing it is.

#![expect(clippy::expect_used, clippy::panic, reason = "tests say what they expect")]

mod common;

use std::{
    collections::BTreeSet,
    net::{IpAddr, TcpListener},
    time::Duration,
};

use common::{Namespace, veth};
use natd_agent::{
    canary::TunCanary,
    events::Events,
    firewall::{Iptables, Nftables},
};
use natd_core::{
    canary::{Flight, Forwarding, Loss, Outcome, Rule, Station, Way, judge},
    error::{Kind, Result},
    host::{Canary as _, Firewall},
    ruleset::{Family, Ruleset, Translation},
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

const DEADLINE: Duration = Duration::from_secs(20);
const TARGET: &str = "198.51.100.2:80";

/// A gateway with its private side at `eth1` and the internet at `eth0`, where a server listens.
struct Lab {
    gateway: Namespace,
    server: Namespace,
    _inside: Namespace,
    _listener: TcpListener,
}

impl Lab {
    /// Without rules.
    fn bare() -> Self {
        let [inside, gateway, server] = ["inside", "gateway", "server"].map(Namespace::new);
        veth((&inside, "eth0"), (&gateway, "eth1"));
        veth((&gateway, "eth0"), (&server, "eth0"));
        // As strict as a host can be that forwards by these interfaces.
        gateway.sh("ip addr add 10.10.2.1/24 dev eth1; ip addr add 198.51.100.1/24 dev eth0
            ip route add default via 198.51.100.2
            for i in eth0 eth1; do
                sysctl -qw net.ipv4.conf.$i.forwarding=1 net.ipv4.conf.$i.rp_filter=1
            done");
        server.sh("ip addr add 198.51.100.2/24 dev eth0");
        let listener = server.run(|| TcpListener::bind(TARGET).expect("the port is free"));
        Self { gateway, server, _inside: inside, _listener: listener }
    }

    /// With natd's rules.
    fn with(firewall: &dyn Firewall) -> Self {
        let lab = Self::bare();
        let rendering = ruleset().render(firewall.kind());
        lab.gateway.block_on(async || firewall.load(&rendering).await).expect("loads");
        lab
    }

    fn served() -> Self {
        Self::with(&nftables())
    }

    /// What becomes of a canary.
    fn fly(&self, targets: &[&str]) -> Outcome {
        self.try_to_fly(targets).expect("it can be sent")
    }

    fn try_to_fly(&self, targets: &[&str]) -> Result<Outcome> {
        self.fly_by("eth1", targets, &TunCanary::new(Duration::from_secs(2)))
    }

    fn fly_by(&self, entrance: &str, targets: &[&str], canary: &TunCanary) -> Result<Outcome> {
        let (entrance, ruleset) = (entrance.parse().expect("a name"), ruleset());
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let flight = Flight { entrance: &entrance, ruleset: &ruleset, targets: &targets };
        let sightings = self.gateway.block_on(async || canary.fly(&flight).await)?;
        Ok(judge(&flight, &self.forwarding(), &sightings))
    }

    fn forwarding(&self) -> Forwarding {
        let of = |name: &str| {
            let value = self.gateway.sh(&format!("sysctl -n net.ipv4.conf.{name}.forwarding"));
            (name.parse().expect("a name"), value.trim().to_owned())
        };
        ["eth0", "eth1"].map(of).into()
    }

    /// Where a canary is lost after that script, and what is said of it; then all is well again after
    /// the other script.
    fn lost_by(&self, harm: &str, remedy: &str) -> (Station, Loss) {
        self.gateway.sh(harm);
        let outcome = self.fly(&[TARGET]);
        let Outcome::Lost(loss) = outcome else { panic!("{harm}: {outcome:?}") };
        self.gateway.sh(remedy);
        assert_returned(&self.fly(&[TARGET]));
        (loss.station(), loss)
    }
}

fn nftables() -> Nftables {
    Nftables::new("nft", DEADLINE)
}

fn iptables(variant: &'static str) -> Iptables {
    Iptables::new(variant, "/run/xtables.lock", DEADLINE)
}

fn ruleset() -> Ruleset {
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().expect("a block")).collect();
    Ruleset {
        egress: "eth0".parse().expect("a name"),
        ingress: ["eth0", "eth1"].map(|name| name.parse().expect("a name")).into(),
        sources: nets(&["10.10.0.0/16"]),
        exclude: nets(&["10.10.0.0/16", "203.0.113.0/24"]),
        translation: Translation::to([198, 51, 100, 1].into()),
        random_fully: true,
        forwards: Vec::new(),
        front: BTreeSet::new(),
        clamp_mss: true,
        shut: [Family::V4].into(),
    }
}

#[track_caller]
fn assert_returned(outcome: &Outcome) {
    let target = TARGET.to_owned();
    let translated = [198, 51, 100, 1].into();
    assert_eq!(*outcome, Outcome::Returned { target, translated, seen_back: true });
}

/// What a canary may leave behind; counters and times aside.
fn traces(namespace: &Namespace) -> String {
    namespace.sh("ip -d link | grep -v 'link/'; ip addr show | grep inet; ip route show table all
        ip rule; nft -s list ruleset; conntrack -L 2>/dev/null | grep -F 192.0.0.8 || true
        tc qdisc show; sysctl -a 2>/dev/null | grep -E 'net.ipv[46].conf' | sort")
}

fn comes_back_and_leaves_nothing(firewall: &dyn Firewall) {
    let lab = Lab::with(firewall);
    let before = traces(&lab.gateway);
    assert_returned(&lab.fly(&[TARGET]));
    assert_eq!(traces(&lab.gateway), before);
    // Of several targets one is enough; private hosts behind the egress interface itself.
    let canary = TunCanary::new(Duration::from_secs(5));
    let outcome = lab.fly_by("eth0", &["198.51.100.7:80", TARGET], &canary);
    assert_returned(&outcome.expect("it can be sent"));
    assert_eq!(traces(&lab.gateway), before);
    // The server was left with nothing half open.
    assert!(!lab.server.sh("ss -Htan").contains("SYN-RECV"));
    lab.gateway.block_on(async || firewall.unload().await).expect("unloads");
    let Outcome::Lost(loss) = lab.fly(&[TARGET]) else { panic!("nothing translates it") };
    assert_eq!(loss, Loss::Untranslated);
}

#[test]
fn it_comes_back_by_nftables() {
    comes_back_and_leaves_nothing(&nftables());
}

#[test]
fn it_comes_back_by_iptables_over_nftables() {
    comes_back_and_leaves_nothing(&iptables("iptables-nft"));
}

#[test]
fn it_comes_back_by_iptables_over_its_legacy() {
    comes_back_and_leaves_nothing(&iptables("iptables-legacy"));
}

#[test]
fn untranslated_it_doesnt_get_out() {
    let lab = Lab::bare();
    lab.server.sh("nft add table ip t
        nft add chain ip t c '{ type filter hook prerouting priority -400; }'
        nft add rule ip t c ip saddr 192.0.0.8 counter");
    assert_eq!(lab.fly(&[TARGET]), Outcome::Lost(Loss::Untranslated));
    assert!(lab.server.sh("nft list table ip t").contains("packets 0 "));
}

#[test]
fn each_of_natds_own_settings_has_its_station() {
    let lab = Lab::served();
    let forwarding = |of: &str| {
        let set = |value| format!("sysctl -qw net.ipv4.conf.{of}.forwarding={value}");
        lab.lost_by(&set(0), &set(1))
    };
    let (station, loss) = forwarding("eth1");
    assert_eq!(station, Station::Forwarding);
    let said = loss.to_string();
    assert!(said.contains("net.ipv4.conf.eth1.forwarding is 0"), "{said}");
    let (station, loss) = forwarding("eth0");
    assert_eq!(station, Station::WayBack);
    let said = loss.to_string();
    assert!(said.contains("net.ipv4.conf.eth0.forwarding is 0"), "{said}");

    // The rule that translates.
    let table = lab.gateway.sh("nft -s list table inet natd").replace("table inet natd {", "");
    let whole = format!(
        "nft -f - <<'END'\ntable inet natd\ndelete table inet natd\ntable inet natd {{{table}END"
    );
    let (station, loss) = lab.lost_by("nft flush chain inet natd postrouting", &whole);
    assert_eq!((station, loss), (Station::Translation, Loss::Untranslated));
    // The sources.
    let (station, loss) = lab.lost_by(
        "nft delete element inet natd sources '{ 192.0.0.8 }'",
        "nft add element inet natd sources '{ 192.0.0.8 }'",
    );
    let said = loss.to_string();
    assert_eq!(station, Station::Firewalls);
    assert!(
        said.contains("dropped by natd: ") && said.contains("saddr != @sources drop"),
        "{said}"
    );
}

/// The rule that is named.
fn dropped(loss: &Loss, way: Way) -> &Rule {
    match loss {
        Loss::Dropped { rule, way: found } if *found == way => rule,
        other => panic!("{other:?}"),
    }
}

#[test]
fn whoever_drops_it_is_named() {
    let lab = Lab::served();
    let none: Option<&str> = None;
    for (harm, remedy, place, text, owner) in [
        (
            "nft -f - <<'END'\ntable inet mine {\n chain forward {\n type filter hook forward priority 10; policy drop;\n }\n}\nEND",
            "nft delete table inet mine",
            "inet mine forward",
            none,
            none,
        ),
        (
            "nft -f - <<'END'\ntable ip mine {\n chain fine {\n type filter hook forward priority -5; accept\n }\n chain early {\n type filter hook prerouting priority -310; tcp dport 80 counter drop\n }\n}\nEND",
            "nft delete table ip mine",
            "ip mine early",
            Some("tcp dport 80 counter"),
            none,
        ),
        (
            "nft -f - <<'END'\ntable inet firewalld {\n chain filter_FORWARD {\n type filter hook forward priority 10; jump zone\n }\n chain zone {\n reject with icmp type admin-prohibited\n }\n}\nEND",
            "nft delete table inet firewalld",
            "inet firewalld zone",
            Some("reject with"),
            Some("firewalld"),
        ),
        (
            "nft -f - <<'END'\ntable ip mine {\n chain last {\n type filter hook postrouting priority 300; oifname eth0 drop\n }\n}\nEND",
            "nft delete table ip mine",
            "ip mine last",
            Some("oifname"),
            none,
        ),
        (
            "iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A DOCKER-USER -i eth1 -j DROP",
            "iptables-nft -F; iptables-nft -X",
            "ip filter DOCKER-USER",
            Some("iifname \"eth1\""),
            Some("Docker"),
        ),
        (
            "iptables-nft -N ufw-user-forward; iptables-nft -P FORWARD DROP",
            "iptables-nft -P FORWARD ACCEPT; iptables-nft -X",
            "ip filter FORWARD",
            none,
            Some("iptables, probably ufw"),
        ),
        (
            "iptables-nft -A FORWARD -p tcp -j REJECT",
            "iptables-nft -F",
            "ip filter FORWARD",
            Some("tcp"),
            Some("iptables"),
        ),
    ] {
        let (station, loss) = lab.lost_by(harm, remedy);
        assert_eq!(station, Station::Firewalls, "{harm}: {loss}");
        let rule = dropped(&loss, Way::Out);
        let Rule { family, table, chain, .. } = rule;
        assert_eq!(format!("{family} {table} {chain}"), place, "{harm}");
        assert_eq!(rule.owner.as_deref(), owner, "{harm}");
        assert_eq!(rule.handle.is_none(), text.is_none(), "{harm}: {rule:?}");
        let said = rule.text.clone().unwrap_or_default();
        assert!(said.contains(text.unwrap_or_default()), "{harm}: {rule:?}");
    }
}

#[test]
fn what_nftables_doesnt_see_is_told_too() {
    let lab = Lab::served();
    for (harm, remedy, words) in [
        (
            "iptables-legacy -A FORWARD -s 192.0.0.0/8 -p tcp -j DROP",
            "iptables-legacy -F",
            "in the forward hook, and in no chain of nftables: iptables-legacy: filter: -A FORWARD -s 192.0.0.0/8 -p tcp -j DROP",
        ),
        (
            "iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -s 10.0.0.0/8 -j REJECT",
            "iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F",
            "in the forward hook, and in no chain of nftables: iptables-legacy: filter: the policy of FORWARD",
        ),
        (
            "iptables-legacy -t raw -A PREROUTING -i eth1 -j DROP",
            "iptables-legacy -t raw -F",
            "before it was forwarded, and in no chain of nftables: by the host's routes, or its rp_filter: iptables-legacy: raw: -A PREROUTING -i eth1 -j DROP",
        ),
        (
            "nft -f - <<'END'\ntable netdev mine {\n chain c {\n type filter hook ingress device eth1 priority 0; drop\n }\n}\nEND",
            "nft delete table netdev mine",
            "before any firewall saw it",
        ),
        (
            "ip route add blackhole 198.51.100.2",
            "ip route del blackhole 198.51.100.2",
            "before it was forwarded",
        ),
    ] {
        let (station, loss) = lab.lost_by(harm, remedy);
        let said = loss.to_string();
        assert_eq!(station, Station::Firewalls, "{harm}: {said}");
        assert!(said.contains(words), "{harm}: {said}");
        assert_eq!(said.matches("-j ").count(), words.matches("-j ").count(), "{harm}: {said}");
    }
}

#[test]
fn what_drops_answers_is_named() {
    let lab = Lab::served();
    let (station, loss) = lab.lost_by(
        "iptables-nft -A FORWARD -i eth0 -m conntrack --ctstate ESTABLISHED -j DROP",
        "iptables-nft -F",
    );
    assert_eq!(station, Station::WayBack);
    assert_eq!(dropped(&loss, Way::Back).chain, "FORWARD");
}

/// Rules that let private hosts through by interface let the canary through, and those that don't, don't.
#[test]
fn it_is_to_rules_what_a_private_hosts_packet_is() {
    let lab = Lab::served();
    lab.gateway.sh("iptables-nft -P FORWARD DROP
        iptables-nft -A FORWARD -i eth1 -o eth0 -j ACCEPT
        iptables-nft -A FORWARD -i eth0 -o eth1 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        nft add table ip strict
        nft add chain ip strict c '{ type filter hook prerouting priority raw; }'
        nft add rule ip strict c iifname eth1 fib saddr . iif oif missing drop");
    assert_returned(&lab.fly(&[TARGET]));
    let canary = TunCanary::new(Duration::from_secs(2));
    let other = lab.fly_by("eth0", &[TARGET], &canary).expect("it can be sent");
    let Outcome::Lost(loss) = other else { panic!("{other:?}") };
    assert_eq!(dropped(&loss, Way::Out).chain, "FORWARD");
}

#[test]
fn silence_and_resets_are_no_answers() {
    let lab = Lab::served();
    let silent = "198.51.100.7:80";
    let translated = [198, 51, 100, 1].into();
    let target = silent.to_owned();
    assert_eq!(lab.fly(&[silent]), Outcome::Lost(Loss::Unanswered { target, translated }));
    let target = "198.51.100.2:81".to_owned();
    assert_eq!(lab.fly(&["198.51.100.2:81"]), Outcome::Lost(Loss::Reset { target }));
    lab.gateway.sh("ip link add eth2 type veth peer name eth3; ip link set eth2 up; ip link set eth3 up
        ip addr add 192.0.2.1/24 dev eth2; ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:01 dev eth2");
    // On a host that forwards for others, too, natd doesn't drop what leaves elsewhere.
    let open = Ruleset { shut: BTreeSet::new(), ..ruleset() }.render(nftables().kind());
    lab.gateway.block_on(async || nftables().load(&open).await).expect("loads");
    let elsewhere = "eth2".parse().expect("a name");
    assert_eq!(lab.fly(&["192.0.2.9:80"]), Outcome::Lost(Loss::LeftBy { interface: elsewhere }));
}

#[test]
fn without_targets_it_flies_to_nobody() {
    let lab = Lab::served();
    let before = traces(&lab.gateway);
    assert_eq!(lab.fly(&[]), Outcome::Left { translated: [198, 51, 100, 1].into(), silent: None });
    assert_eq!(traces(&lab.gateway), before);
    let (_, loss) = lab.lost_by("iptables-nft -P FORWARD DROP", "iptables-nft -P FORWARD ACCEPT");
    assert_eq!(dropped(&loss, Way::Out).handle, None);
}

#[test]
fn where_it_cant_be_watched_the_connection_table_is_asked() {
    let lab = Lab::served();
    // A table that is somebody else's: it can't be natd's own.
    lab.gateway.sh("nft add table ip natd-canary");
    let translated = [198, 51, 100, 1].into();
    let target = TARGET.to_owned();
    assert_eq!(lab.fly(&[TARGET]), Outcome::Returned { target, translated, seen_back: false });
    lab.gateway.sh("iptables-nft -P FORWARD DROP");
    let Outcome::Lost(loss) = lab.fly(&[TARGET]) else { panic!("it is dropped") };
    assert!(loss.to_string().contains("where can't be told"), "{loss}");
    lab.gateway.sh("iptables-nft -P FORWARD ACCEPT; nft flush chain inet natd postrouting");
    assert_eq!(lab.fly(&[TARGET]), Outcome::Lost(Loss::Untranslated));
    assert_eq!(lab.gateway.sh("conntrack -L 2>/dev/null | grep -cF 192.0.0.8 || true"), "0\n");
}

#[test]
fn cap_net_admin_is_enough_and_is_needed() {
    let lab = Lab::served();
    let with = |capabilities: CapabilitySet| {
        lab.gateway.run(|| {
            let sets = CapabilitySets {
                effective: capabilities,
                permitted: capabilities,
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, sets).expect("fewer can always be had");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let (entrance, ruleset) = ("eth1".parse().expect("a name"), ruleset());
                let targets = [TARGET.to_owned()];
                let flight = Flight { entrance: &entrance, ruleset: &ruleset, targets: &targets };
                let sightings = TunCanary::new(Duration::from_secs(2)).fly(&flight).await?;
                Ok(judge(&flight, &Forwarding::new(), &sightings))
            })
        })
    };
    let outcome: Result<Outcome> = with(CapabilitySet::NET_ADMIN);
    assert_returned(&outcome.expect("it can be sent"));
    let error = with(CapabilitySet::empty()).expect_err("it may not");
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}

#[test]
fn what_it_cant_fly_by_or_to_is_said() {
    let lab = Lab::served();
    let missing = TunCanary::with_device(DEADLINE, "/dev/net/natd-has-no-such");
    let error = lab.fly_by("eth1", &[TARGET], &missing).expect_err("there is no device");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("/dev/net/natd-has-no-such"), "{error}");
    let other = TunCanary::with_device(DEADLINE, "/dev/null");
    let error = lab.fly_by("eth1", &[TARGET], &other).expect_err("it is no TUN device");
    assert_eq!(error.kind(), Kind::Unsupported);
    let usual = TunCanary::new(DEADLINE);
    for (entrance, target, words) in [
        ("eth9", TARGET, "eth9"),
        ("eth1", "203.0.113.7:80", "203.0.113.7 is in nat.exclude"),
        ("eth1", "[2001:db8::1]:80", "no target has an IPv4 address"),
    ] {
        let error = lab.fly_by(entrance, &[target], &usual).expect_err(target);
        assert!(error.to_string().contains(words), "{error}");
    }
    lab.gateway.sh("ip link set eth1 down");
    let error = lab.fly_by("eth1", &[TARGET], &usual).expect_err("it is down");
    assert!(error.to_string().contains("see that eth1 is up"), "{error}");
}

#[test]
fn two_at_once_wait_for_each_other() {
    let lab = Lab::served();
    std::thread::scope(|scope| {
        let flights: Vec<_> = (0..4).map(|_| scope.spawn(|| lab.fly(&[TARGET]))).collect();
        for flight in flights {
            assert_returned(&flight.join().expect("no panic"));
        }
    });
}

#[test]
fn it_is_no_news_to_natd() {
    let lab = Lab::served();
    lab.gateway.block_on(async || {
        let mut events = Events::open().expect("netlink is there");
        let mut news =
            async || tokio::time::timeout(Duration::from_millis(300), events.next()).await.ok();
        while news().await.is_some() {}
        let (entrance, ruleset) = ("eth1".parse().expect("a name"), ruleset());
        let targets = [TARGET.to_owned()];
        let flight = Flight { entrance: &entrance, ruleset: &ruleset, targets: &targets };
        for _ in 0..3 {
            TunCanary::new(DEADLINE).fly(&flight).await.expect("it can be sent");
            assert_eq!(news().await, None);
        }
        // Others' news is still heard beside it.
        lab.gateway.sh("ip addr add 10.10.2.2/24 dev eth1");
        assert!(news().await.is_some());
    });
    let own: IpAddr = natd_core::canary::SOURCE.into();
    assert!(!lab.gateway.sh("ip route").contains(&own.to_string()));
}
