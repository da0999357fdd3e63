//! Worlds and wishes made at random.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use natd_core::{
    config::Takeover,
    desired::{Desired, RouteWish, Rules, Setting, Weight},
    host::SysctlKey,
    model::{InterfaceId, NextHop, Route, RouteKey, RouteOrigin, RouteState},
    neighbours::Passage,
    networks::Networks,
    persist::{Boot, HostPath, PersistKind, ServiceName, lay_out},
    ruleset::{FirewallKind, Ruleset, Translation},
};
use proptest::prelude::*;

use super::{ADDRESS, INTERFACES, NEIGHBOURS, SERVICES, State, TABLES};

pub const DESTINATIONS: [&str; 2] = ["0.0.0.0/0", "198.51.100.0/24"];
pub const SYSCTLS: [&str; 3] = [
    "net/ipv4/conf/eth0/forwarding",
    "net/ipv4/conf/eth0/rp_filter",
    "net/ipv4/conf/all/send_redirects",
];

pub fn interface(id: &str) -> InterfaceId {
    id.parse().expect("an id")
}

pub fn keys() -> Vec<RouteKey> {
    TABLES
        .iter()
        .flat_map(|table| {
            DESTINATIONS.iter().map(|destination| RouteKey {
                table: table.parse().expect("an id"),
                destination: destination.parse::<IpNet>().expect("a net"),
            })
        })
        .collect()
}

pub fn route(key: &RouteKey, next_hop: NextHop) -> Route {
    Route {
        destination: key.destination,
        next_hop,
        state: RouteState::Active,
        origin: RouteOrigin::Static,
    }
}

/// Somebody else's target, or none.
pub fn foreign() -> impl Strategy<Value = Option<NextHop>> {
    prop_oneof![
        Just(None),
        Just(Some(NextHop::Interface(interface("eni-theirs")))),
        Just(Some(NextHop::InternetGateway("igw-1".to_owned()))),
        Just(Some(NextHop::Other { kind: "nat-gateway".to_owned(), id: "nat-1".to_owned() })),
    ]
}

/// Files that are there before natd.
pub fn files() -> impl Strategy<Value = BTreeMap<HostPath, (String, u32)>> {
    let of = |path: &str, contents: &[&str]| {
        let contents: Vec<Option<String>> = std::iter::once(None)
            .chain(contents.iter().map(|text| Some((*text).to_owned())))
            .collect();
        (
            Just(HostPath::new(path)),
            proptest::sample::select(contents),
            prop_oneof![Just(0o600_u32), Just(0o755)],
        )
    };
    let script = ["", "#!/bin/sh\nmine\nexit 0\n", "#!/bin/sh -e\nmine"];
    let saved = ["", "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MINE\nCOMMIT\n"];
    (
        of("/etc/rc.local", &script),
        of("/etc/iptables/rules.v4", &saved),
        of("/etc/sysconfig/iptables", &saved),
        of("/etc/iptables/rules.v6", &saved),
        of("/etc/sysconfig/ip6tables", &saved),
        of("/etc/nftables.conf", &["flush ruleset"]),
    )
        .prop_map(|(a, b, c, d, e, f)| {
            [a, b, c, d, e, f]
                .into_iter()
                .filter_map(|(path, content, mode)| Some((path, (content?, mode))))
                .collect()
        })
}

prop_compose! {
    /// A world before natd: nothing in it is natd's.
    pub fn worlds()(
        targets in proptest::collection::vec(foreign(), TABLES.len() * DESTINATIONS.len()),
        sysctls in proptest::collection::vec(0..3_u8, SYSCTLS.len()),
        checks in proptest::collection::vec(any::<bool>(), INTERFACES.len()),
        files in files(),
        services in proptest::sample::subsequence(SERVICES.to_vec(), 0..=SERVICES.len()),
    ) -> State {
        State {
            files,
            services: services.into_iter().map(ServiceName::new).collect(),
            rules: BTreeMap::new(),
            passages: BTreeMap::new(),
            sysctls: SYSCTLS.iter().map(|key| SysctlKey::global(key)).zip(sysctls.iter().map(ToString::to_string)).collect(),
            checks: INTERFACES.iter().map(|id| interface(id)).zip(checks).collect(),
            routes: keys()
                .into_iter()
                .zip(targets)
                .filter_map(|(key, target)| target.map(|hop| (key.clone(), route(&key, hop))))
                .collect(),
        }
    }
}

pub fn rules(kind: FirewallKind, masquerade: bool, ipv6: bool) -> Rules {
    let sources = ["10.10.0.0/16", "fd00:10::/32"].into_iter().take(1 + usize::from(ipv6));
    let ruleset = Ruleset {
        egress: "eth0".parse().expect("a name"),
        ingress: BTreeSet::from(["eth0".parse().expect("a name")]),
        sources: sources.map(|net| net.parse().expect("a net")).collect(),
        exclude: Networks::default(),
        translation: if masquerade { Translation::Masquerade } else { Translation::to(ADDRESS) },
        random_fully: true,
        forwards: Vec::new(),
        front: BTreeSet::new(),
        clamp_mss: false,
        shut: BTreeSet::new(),
    };
    Rules {
        rendering: ruleset.render(kind),
        ruleset,
        egress_address: ADDRESS,
        entrances: BTreeSet::new(),
        chosen: None,
    }
}

prop_compose! {
    pub fn wishes()(
        kind in prop_oneof![Just(FirewallKind::Nftables), Just(FirewallKind::Iptables)],
        masquerade: bool,
        ipv6: bool,
        wanted_sysctls in proptest::collection::vec(proptest::option::of(0..3_u8), SYSCTLS.len()),
        unchecked in proptest::sample::subsequence(INTERFACES.to_vec(), 0..=INTERFACES.len()),
        wanted_routes in proptest::sample::subsequence(keys(), 0..=keys().len()),
        target in proptest::sample::select(INTERFACES.to_vec()),
        persist in proptest::option::of(any::<bool>()),
        beside in proptest::sample::subsequence(NEIGHBOURS.to_vec(), 0..=NEIGHBOURS.len()),
    ) -> Desired {
        let sysctls = SYSCTLS
            .iter()
            .zip(wanted_sysctls)
            .filter_map(|(key, value)| Some((
                SysctlKey::global(key),
                Setting { value: value?.to_string(), weight: Weight::Carries },
            )))
            .collect();
        let rules = rules(kind, masquerade, ipv6);
        let boot = Boot { live: true, ..Boot::default() };
        let persistence = match (persist, kind) {
            (None, _) => None,
            (Some(true), _) => Some(PersistKind::RcLocal),
            (Some(false), FirewallKind::Nftables) => Some(PersistKind::Nftables),
            (Some(false), FirewallKind::Iptables) if masquerade => Some(PersistKind::IptablesServices),
            (Some(false), FirewallKind::Iptables) => Some(PersistKind::NetfilterPersistent),
        };
        let passage = Passage::of(&rules.ruleset, &rules.ruleset.ingress);
        Desired {
            passages: beside.into_iter().map(|who| (who, passage.clone())).collect(),
            persistence: persistence
                .map(|kind| lay_out(kind, String::new(), &rules, &sysctls, &boot))
                .unwrap_or_default(),
            rules: Some(rules),
            sysctls,
            unchecked: unchecked.into_iter().map(interface).collect(),
            wants_routes: !wanted_routes.is_empty(),
            routes: wanted_routes
                .into_iter()
                .map(|key| (key, RouteWish { target: interface(target), takeover: Takeover::Replace }))
                .collect(),
            ..Desired::default()
        }
    }
}
