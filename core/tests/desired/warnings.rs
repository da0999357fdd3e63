//! What an operator is warned of, and what not.

use std::collections::BTreeSet;

use natd_core::{
    cloud::{Address, PublicAddress, SecurityRules},
    config::NetworkSpec,
    desired::desired,
    facts::Facts,
    model::NextHop,
    ruleset::{Blocks, FirewallKind},
};

use crate::machine::{codes, config, facts, id};

#[test]
fn what_stands_in_the_way_is_warned_of() {
    let mut facts = facts();
    let cloud = facts.cloud.as_mut().expect("a cloud");
    cloud.interfaces[0].addresses[0].public = PublicAddress::Absent;
    cloud.interfaces[0].security = Ok(SecurityRules {
        inbound: BTreeSet::from([id("10.10.2.0/24")]),
        inbound_by_reference: false,
        outbound: false,
    });
    cloud.tables[2].routes.clear();
    let mut config = config(&["rtb-a"]);
    config.verify.targets.clear();
    let desired = desired(&config, &facts).expect("possible");
    assert_eq!(
        codes(&desired),
        [
            "security-group-in",
            "security-group-out",
            "no-public-address",
            "no-internet-route",
            "unproven"
        ]
    );
    assert!(
        desired.warnings[0].message.contains("10.20.0.0/16"),
        "{}",
        desired.warnings[0].message
    );
}

/// Neither is known to be absent where the cloud doesn't know what the internet sees.
#[test]
fn a_cloud_that_does_not_know_is_not_taken_for_one_that_says_no() {
    let mut facts = facts();
    let cloud = facts.cloud.as_mut().expect("a cloud");
    cloud.interfaces[0].addresses[0].public = PublicAddress::Unknown;
    cloud.tables[2].routes[0].next_hop =
        NextHop::Other { kind: "route".to_owned(), id: "via 10.10.1.1".to_owned() };
    let warned = |facts: &Facts| codes(&desired(&config(&["rtb-a"]), facts).expect("possible"));
    assert!(warned(&facts).is_empty(), "{:?}", warned(&facts));
    // Whoever knows is believed.
    let mut knowing = facts.clone();
    let cloud = knowing.cloud.as_mut().expect("a cloud");
    cloud.interfaces[0].addresses[0].public = PublicAddress::Absent;
    assert_eq!(warned(&knowing), ["no-public-address", "no-internet-route"]);
    // Without any way out there is none, whatever is known.
    facts.cloud.as_mut().expect("a cloud").tables[2].routes.clear();
    assert_eq!(warned(&facts), ["no-internet-route"]);
}

#[test]
fn an_address_that_is_public_itself_needs_no_other() {
    let mut facts = facts();
    facts.network.links[0].addresses = vec![id("192.0.2.10/24")];
    let cloud = facts.cloud.as_mut().expect("a cloud");
    cloud.interfaces[0].addresses =
        vec![Address { private: id("192.0.2.10"), public: PublicAddress::Absent }];
    let warned = codes(&desired(&config(&["rtb-a"]), &facts).expect("possible"));
    assert!(warned.is_empty(), "{warned:?}");
}

#[test]
fn many_blocks_in_iptables_without_sets_are_warned_of_with_numbers() {
    let mut facts = facts();
    let mut config = config(&["rtb-a"]);
    let block = |n: u32| {
        NetworkSpec::Net(id(&format!("{}/32", std::net::Ipv4Addr::from(0x0a20_0000 + n * 3))))
    };
    config.nat.sources = (0..1500).map(block).collect();
    assert!(!codes(&desired(&config, &facts).expect("possible")).contains(&"many-rules"));
    facts.firewall = FirewallKind::Iptables;
    let wanted = desired(&config, &facts).expect("possible");
    let warning = wanted.warnings.iter().find(|warning| warning.code == "many-rules").expect("one");
    assert!(warning.message.contains("1502 blocks as 3"), "{}", warning.message);
    facts.blocks = Blocks::Ipset;
    assert!(!codes(&desired(&config, &facts).expect("possible")).contains(&"many-rules"));
}
