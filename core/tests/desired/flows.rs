//! Which tracked connections a change leaves, and which it ends.

use std::{collections::BTreeSet, net::IpAddr};

use natd_core::{
    config::Mode,
    desired::desired,
    network::Flow,
    ruleset::{Pool, Ruleset, Translation},
};

use crate::{
    machine::{config, facts, id, networks},
    nat::forward,
};

#[test]
fn connections_that_missed_their_rule_are_stale_and_no_others() {
    let facts = facts();
    let stale = |masquerade: bool, flow: [&str; 4]| {
        let mut config = config(&["rtb-a"]);
        if masquerade {
            config.nat.mode = Mode::Masquerade;
        }
        let rules = desired(&config, &facts).expect("possible").rules.expect("rules");
        let [source, destination, reply_source, reply_destination] = flow.map(id::<IpAddr>);
        let flow = Flow {
            protocol: 6,
            source,
            destination,
            reply_source,
            reply_destination,
            destination_port: 80,
            reply_source_port: 80,
        };
        rules.ruleset.makes_stale(&flow, &facts.network, None)
    };
    let (client, out, ours, older) = ("10.10.2.101", "198.51.100.10", "10.10.1.10", "10.10.1.77");
    for masquerade in [false, true] {
        assert!(stale(masquerade, [client, out, out, client]), "untranslated");
        assert!(stale(masquerade, [client, out, out, older]), "translated to an earlier address");
        assert!(!stale(masquerade, [client, out, out, ours]), "translated as it should be");
        assert!(!stale(masquerade, [client, "10.20.3.101", "10.20.3.101", client]), "excluded");
        assert!(!stale(masquerade, [client, ours, ours, client]), "to this machine itself");
        assert!(!stale(masquerade, [ours, out, out, ours]), "from this machine itself");
        assert!(!stale(masquerade, ["172.17.0.2", out, out, "172.17.0.2"]), "a container's");
        assert!(
            !stale(masquerade, [client, out, "10.10.4.7", client]),
            "redirected by a neighbour to eth1"
        );
    }
}

#[test]
fn what_is_still_served_goes_on_and_what_is_not_is_stale() {
    let facts = facts();
    let before = {
        let mut config = config(&["rtb-a"]);
        config.nat.forward = vec![forward("8443", "10.10.2.101:443")];
        desired(&config, &facts).expect("possible").rules.expect("rules").ruleset
    };
    let earlier = before.served(&facts.network);
    let flow = |addresses: [&str; 4], port: u16, reply_port: u16| {
        let [source, destination, reply_source, reply_destination] = addresses.map(id::<IpAddr>);
        Flow {
            protocol: 6,
            source,
            destination,
            reply_source,
            reply_destination,
            destination_port: port,
            reply_source_port: reply_port,
        }
    };
    let (out, ours) = ("198.51.100.10", "10.10.1.10");
    let from_a = flow(["10.10.2.101", out, out, ours], 80, 80);
    let from_b = flow(["10.20.3.101", out, out, ours], 80, 80);
    let container = flow(["172.17.0.2", out, out, ours], 80, 80);
    let forwarded = flow([out, ours, "10.10.2.101", out], 8443, 443);
    let hairpin = flow(["10.20.3.101", "203.0.113.10", "10.10.2.101", ours], 8443, 443);
    let untranslated =
        flow(["10.20.3.101", "203.0.113.10", "10.10.2.101", "10.20.3.101"], 8443, 443);
    let missed = flow([out, ours, ours, out], 8443, 8443);
    let stale =
        |ruleset: &Ruleset, flow: &Flow| ruleset.makes_stale(flow, &facts.network, Some(&earlier));
    for served in [&from_a, &from_b, &container, &forwarded, &hairpin] {
        assert!(!stale(&before, served), "{served:?}");
    }
    assert!(stale(&before, &untranslated) && stale(&before, &missed));

    // Fewer sources, more excluded, no forwards: exactly those go that these were for.
    let fewer = Ruleset { sources: networks(&["10.10.0.0/16"]), ..before.clone() };
    assert!(!stale(&fewer, &from_a) && stale(&fewer, &from_b) && !stale(&fewer, &container));
    let excluding = Ruleset { exclude: networks(&["198.51.100.0/24"]), ..before.clone() };
    assert!(stale(&excluding, &from_a) && !stale(&excluding, &forwarded));
    let closed = Ruleset { forwards: Vec::new(), front: BTreeSet::new(), ..before.clone() };
    assert!(!stale(&closed, &from_a) && stale(&closed, &forwarded) && stale(&closed, &hairpin));
    assert!(!stale(&closed, &missed), "to this machine itself");
    // A larger pool gives what was given, a smaller one doesn't.
    let larger = Pool::new(id("10.10.1.11"), [id("10.10.1.10")]);
    let larger = Ruleset { translation: Translation::Snat(larger), ..before.clone() };
    assert!(!stale(&larger, &from_a));
    let other = Ruleset { translation: Translation::to(id("10.10.1.11")), ..before };
    assert!(stale(&other, &from_a) && !stale(&other, &forwarded));
}
