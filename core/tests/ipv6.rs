//! What IPv6 takes beside its rules: kernel parameters, and files of its own for a reboot.

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::collections::BTreeSet;

use natd_core::{
    config::{Config, Mode, NetworkSpec},
    desired::{Desired, desired},
    facts::Facts,
    host::SysctlKey,
    journal::Journal,
    network::{Link, Network},
    observed::Observed,
    persist::{Availability, Boot, Form, HostPath, ServiceName, is_set_in},
    plan::plan,
    ruleset::{Blocks, Family, FirewallKind},
    step::Step,
};

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(id: &str) -> T {
    id.parse().expect("well formed")
}

/// A host with eth0 outside, eth1 inside, and no cloud.
fn facts(firewall: FirewallKind, boot: Boot) -> Facts {
    let link = |(name, last): (&str, u8)| Link {
        name: id(name),
        mac: Some(natd_core::model::MacAddress([2, 0, 0, 0, 0, last])),
        up: true,
        addresses: vec![id(&format!("10.10.{last}.10/24"))],
    };
    Facts {
        network: Network {
            links: [("eth0", 1), ("eth1", 2)].map(link).into(),
            routes: [("0.0.0.0/0", "eth0")].map(|(net, name)| (id(net), id(name))).into(),
        },
        firewall,
        blocks: Blocks::Chains,
        chosen: None,
        forwards: BTreeSet::new(),
        forwards_ipv6_by_interface: true,
        advertised: [id("eth0")].into(),
        listening: BTreeSet::new(),
        boot,
        memory: None,
        neighbours: BTreeSet::new(),
        obstacles: Vec::new(),
        cloud: None,
    }
}

fn config(sources: &[&str]) -> Config {
    let mut config = Config::default();
    config.nat.mode = Mode::Masquerade;
    config.nat.sources = sources.iter().map(|net| NetworkSpec::Net(id(net))).collect();
    config
}

fn keys(wanted: &Desired) -> Vec<String> {
    wanted.sysctls.keys().map(ToString::to_string).filter(|key| key.contains("ipv6")).collect()
}

const BOTH: [&str; 2] = ["10.10.2.0/24", "fd00::/8"];

#[test]
fn ipv6_is_forwarded_by_interface_where_the_kernel_can() {
    let facts = facts(FirewallKind::Nftables, Boot::default());
    let wanted =
        |sources: &[&str], facts: &Facts| desired(&config(sources), facts).expect("possible");
    assert_eq!(keys(&wanted(&["10.10.2.0/24"], &facts)), [""; 0]);
    assert_eq!(keys(&wanted(&BOTH, &facts)), ["net.ipv6.conf.eth0.force_forwarding"]);
    // What this host does for others is done already.
    let others = Facts { forwards: [Family::V6].into(), ..facts };
    assert_eq!(keys(&wanted(&BOTH, &others)), [""; 0]);
}

#[test]
fn else_by_all_of_them_and_first_router_advertisements_are_kept_where_they_are_taken() {
    let facts = Facts {
        forwards_ipv6_by_interface: false,
        ..facts(FirewallKind::Nftables, Boot { rc_local: true, ..Boot::default() })
    };
    let wanted = desired(&config(&BOTH), &facts).expect("possible");
    let observed = Observed {
        sysctls: [("eth0", "1"), ("eth1", "0")]
            .map(|(name, value)| (SysctlKey::ipv6(&id(name), "accept_ra"), value.to_owned()))
            .into(),
        ..Observed::default()
    };
    let plan = plan(&wanted, &observed, &Journal::default(), &BTreeSet::new(), &[]);
    let set = plan.steps.iter().filter_map(|step| match step {
        Step::SetSysctl { key, to, .. } if key.path().contains("ipv6") => {
            Some(format!("{key} = {to}"))
        }
        _ => None,
    });
    assert_eq!(
        set.collect::<Vec<_>>(),
        ["net.ipv6.conf.eth0.accept_ra = 2", "net.ipv6.conf.all.forwarding = 1"]
    );
    // At boot, too, in that order: rc.local's block comes after /etc/sysctl.d.
    let text = |path: &str| wanted.persistence.files[&HostPath::new(path)].text.clone();
    let [early, late] = ["/etc/sysctl.d/90-natd.conf", "/etc/rc.local"].map(text);
    assert!(early.contains("\nnet/ipv6/conf/eth0/accept_ra = 2\n"), "{early}");
    assert!(!early.contains("eth1/accept_ra") && !early.contains("forwarding"), "{early}");
    assert!(late.contains("'net/ipv6/conf/all/forwarding'"), "{late}");
}

#[test]
fn rc_local_has_nothing_forwarded_before_its_rules_are_loaded() {
    for firewall in [FirewallKind::Nftables, FirewallKind::Iptables] {
        let facts = facts(firewall, Boot { rc_local: true, ..Boot::default() });
        let files = desired(&config(&BOTH), &facts).expect("possible").persistence.files;
        let text = |path: &str| files[&HostPath::new(path)].text.clone();
        let early = text("/etc/sysctl.d/90-natd.conf");
        for family in ["ipv4", "ipv6"] {
            let name = if family == "ipv4" { "forwarding" } else { "force_forwarding" };
            let key = SysctlKey::global(&format!("net/{family}/conf/eth0/{name}"));
            assert!(!is_set_in(&early, &key), "{early}");
            assert!(is_set_in(&text("/run/sysctl.d/90-natd-forwarding.conf"), &key));
            let block = text("/etc/rc.local");
            let (loads, forwards) = block.split_once("for key in").expect("a loop");
            assert!(forwards.contains(&format!("'{}'", key.path())), "{block}");
            let restores = loads.matches("-restore -w 10").count();
            assert_eq!(restores, if firewall == FirewallKind::Iptables { 2 } else { 0 }, "{block}");
        }
    }
}

/// The files for IPv6 that each of iptables' services reads, and the services.
#[test]
fn files_and_services_of_ipv6_are_there_for_ipv6_sources_only() {
    let live = Boot { live: true, ..Boot::default() };
    let enabled = Availability::Enabled;
    let cases = [
        (
            Boot { rc_local: true, ..live.clone() },
            ["/etc/natd/boot.iptables", "/etc/natd/boot.ip6tables"],
            ["", ""],
        ),
        (
            Boot { netfilter_persistent: enabled, ..live.clone() },
            ["/etc/iptables/rules.v4", "/etc/iptables/rules.v6"],
            ["netfilter-persistent", "netfilter-persistent"],
        ),
        (
            Boot { iptables_services: enabled, ..live },
            ["/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables"],
            ["iptables", "ip6tables"],
        ),
    ];
    for (boot, paths, services) in cases {
        let facts = facts(FirewallKind::Iptables, boot);
        for (sources, [v4, v6]) in [
            (&["10.10.2.0/24"][..], [true, false]),
            (&["fd00::/8"][..], [false, true]),
            (&BOTH[..], [true, true]),
        ] {
            let persistence = desired(&config(sources), &facts).expect("possible").persistence;
            for (path, is_wanted, net) in [(paths[0], v4, "10.10.2.0"), (paths[1], v6, "fd00::/8")]
            {
                let part = persistence.files.get(&HostPath::new(path));
                assert_eq!(part.is_some(), is_wanted, "{sources:?} {path}");
                if let Some(part) = part {
                    assert!(part.text.contains(net) && part.text.contains("MASQUERADE"), "{path}");
                    // As somebody may save it, in either form.
                    let saved = Form::Chains.normal(&part.text);
                    assert!(part.form == Form::Whole || saved.contains(net), "{saved}");
                }
            }
            let expected: BTreeSet<&str> = services
                .into_iter()
                .zip([v4, v6])
                .filter_map(|(service, is_wanted)| is_wanted.then_some(service))
                .filter(|service| !service.is_empty())
                .collect();
            let found = persistence.services.iter().map(ServiceName::as_str);
            assert_eq!(found.collect::<BTreeSet<_>>(), expected, "{sources:?}");
        }
    }
}

#[test]
fn what_natd_has_applied_at_boot_is_told_from_the_file() {
    let text = "# natd\nnet/ipv6/conf/eth0/accept_ra = 2\n";
    assert!(is_set_in(text, &SysctlKey::ipv6(&id("eth0"), "accept_ra")));
    assert!(!is_set_in(text, &SysctlKey::ipv6(&id("eth1"), "accept_ra")));
    assert!(!is_set_in(text, &SysctlKey::global("net/ipv6/conf/all/forwarding")));
}
