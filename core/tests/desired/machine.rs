//! A machine in a cloud, and a configuration for it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use natd_core::{
    cloud::{
        Address, Instance, InterfaceFacts, OwnSubnet, SecurityRules, SourceDestCheck, TableFacts,
    },
    config::{Config, TableSpec, Tables},
    desired::Desired,
    facts::{CloudFacts, Facts},
    model::{NextHop, Route, RouteOrigin, RouteState},
    network::{Link, Network},
    networks::Networks,
    persist::Boot,
    ruleset::{Blocks, FirewallKind},
};

pub fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(id: &str) -> T {
    id.parse().expect("well formed")
}

pub fn link(name: &str, mac: u8, address: &str) -> Link {
    Link {
        name: id(name),
        mac: Some(natd_core::model::MacAddress([2, 0, 0, 0, 0, mac])),
        up: true,
        addresses: vec![id(address)],
    }
}

pub fn port(
    name: &str,
    mac: u8,
    address: &str,
    public: Option<&str>,
    subnet: &str,
) -> InterfaceFacts {
    InterfaceFacts {
        id: id(name),
        mac: natd_core::model::MacAddress([2, 0, 0, 0, 0, mac]),
        addresses: vec![Address { private: id(address), public: public.map(id).into() }],
        subnet: id(subnet),
        source_dest_check: SourceDestCheck::On { overwrites: None },
        security: Ok(SecurityRules {
            inbound: BTreeSet::from([id("10.0.0.0/8")]),
            inbound_by_reference: false,
            outbound: true,
        }),
    }
}

pub fn table(name: &str, subnet: &str, to_internet: bool) -> TableFacts {
    let internet = Route {
        destination: id("0.0.0.0/0"),
        next_hop: NextHop::InternetGateway("igw-1".to_owned()),
        state: RouteState::Active,
        origin: RouteOrigin::Static,
    };
    TableFacts {
        id: id(name),
        subnets: BTreeSet::from([id(subnet)]),
        tags: BTreeSet::new(),
        routes: to_internet.then_some(internet).into_iter().collect(),
    }
}

/// A machine with eth0 (public subnet, with a public address) and eth1 (inside), two private tables.
pub fn facts() -> Facts {
    Facts {
        network: Network {
            links: vec![link("eth0", 1, "10.10.1.10/24"), link("eth1", 2, "10.10.4.10/24")],
            routes: [("0.0.0.0/0", "eth0"), ("10.10.4.0/24", "eth1")]
                .map(|(net, name)| (id::<IpNet>(net), id(name)))
                .into(),
        },
        firewall: FirewallKind::Nftables,
        blocks: Blocks::Chains,
        chosen: None,
        forwards: BTreeSet::new(),
        forwards_ipv6_by_interface: true,
        advertised: BTreeSet::new(),
        listening: BTreeSet::new(),
        boot: Boot::default(),
        memory: Some(4 << 30),
        neighbours: BTreeSet::new(),
        obstacles: Vec::new(),
        cloud: Some(CloudFacts {
            instance: Instance {
                id: id("i-1"),
                region: "eu-west-1".to_owned(),
                zone: "eu-west-1a".to_owned(),
                network: id("vpc-1"),
                network_cidrs: vec![id("10.10.0.0/16"), id("10.20.0.0/16")],
                subnets: BTreeSet::from([id("subnet-public"), id("subnet-inside")]),
                own_subnet: OwnSubnet::Loops,
            },
            interfaces: vec![
                port("eni-0", 1, "10.10.1.10", Some("203.0.113.10"), "subnet-public"),
                port("eni-1", 2, "10.10.4.10", None, "subnet-inside"),
            ],
            tables: vec![
                table("rtb-a", "subnet-a", false),
                table("rtb-b", "subnet-b", false),
                table("rtb-public", "subnet-public", true),
            ],
            missing: Vec::new(),
        }),
    }
}

pub fn config(tables: &[&str]) -> Config {
    let mut config = Config::default();
    config.routes.0[0].tables =
        Tables(tables.iter().map(|table| TableSpec::Id(id(table))).collect());
    config.verify.targets = vec!["198.51.100.10:80".to_owned()];
    config
}

pub fn networks(nets: &[&str]) -> Networks {
    nets.iter().map(|net| id::<IpNet>(net)).collect()
}

pub fn codes(desired: &Desired) -> Vec<&'static str> {
    desired.warnings.iter().map(|warning| warning.code).collect()
}
