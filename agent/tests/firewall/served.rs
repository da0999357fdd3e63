//! What is served is forwarded, and nothing else; what isn't natd's affair goes on as it did.

use natd_core::{
    host::Firewall,
    ruleset::{Family, Ruleset, Translation},
};

use crate::{
    common::{Namespace, veth},
    lab::{Lab, on_each, pings, sender, udp},
    ruleset,
};

/// Rules of others in every form: a policy, what comes in, what is forwarded.
const THEIRS: &str = "for form in iptables-nft iptables-legacy; do
        $form -P INPUT DROP; $form -A INPUT -p icmp -j ACCEPT; $form -A INPUT -p udp --dport 53 -j ACCEPT
        $form -A FORWARD -i eth7 -s 192.0.2.99 -j DROP; $form -t nat -A POSTROUTING -o eth7 -j RETURN
    done
    nft add table inet theirs
    nft add chain inet theirs input '{ type filter hook input priority 5; policy drop; }'
    nft add rule inet theirs input meta l4proto icmp accept
    nft add rule inet theirs input udp dport 53 accept";

/// All rules and policies but natd's, without counts.
fn theirs(gateway: &Namespace) -> String {
    gateway.sh("for form in iptables-nft iptables-legacy; do $form-save; done |
        grep -v -e NATD- -e '^#' | sed 's/ \\[[0-9:]*\\]$//'
        nft -s list table inet theirs")
}

fn lets_through_what_it_serves_and_nothing_else(firewall: &dyn Firewall) {
    let lab = Lab::new(&["10.99.0.9"]);
    let [one, other] = ["one", "other"].map(Namespace::new);
    veth((&one, "eth0"), (&lab.gateway, "eth7"));
    veth((&other, "eth0"), (&lab.gateway, "eth8"));
    for (host, link, net) in [(&one, "eth7", "172.16.7"), (&other, "eth8", "172.16.8")] {
        host.sh(&format!("ip addr add {net}.2/24 dev eth0; ip route add default via {net}.1"));
        lab.gateway.sh(&format!("ip addr add {net}.1/24 dev {link}"));
    }
    lab.server.sh(
        "ip route add 10.0.0.0/8 via 198.51.100.1; ip route add 172.16.0.0/16 via 198.51.100.1",
    );
    lab.gateway.sh(THEIRS);
    let before = theirs(&lab.gateway);
    // There is a way for all of these, so that natd alone can be what stops them.
    let stranger = "-I 10.99.0.9 198.51.100.2";
    let new_from_outside = |reached: bool| {
        assert_eq!(pings(&lab.server, "10.10.2.9"), reached, "from outside");
        assert_eq!(pings(&lab.client, stranger), reached, "not one of the sources");
        assert_eq!(pings(&lab.client, "172.16.7.2"), reached, "out by another interface");
        assert_eq!(pings(&lab.server, "172.16.7.2"), reached, "from outside to another interface");
    };
    new_from_outside(true);

    let rules = Ruleset {
        translation: Translation::to([198, 51, 100, 1].into()),
        exclude: ["10.0.0.0/8".parse().expect("a block")].into_iter().collect(),
        shut: [Family::V4].into(),
        ..ruleset(&["10.10.0.0/16"])
    };
    lab.load(firewall, &rules.render(firewall.kind()));
    new_from_outside(false);
    // New ones from the sources, and replies to them: more than one to each.
    let (client, server) = (udp(&lab.client, "10.10.2.9:4000"), udp(&lab.server, "198.51.100.2:9"));
    for _ in 0..3 {
        client.send_to(b"?", "198.51.100.2:9").expect("sent");
        let seen = sender(&server).expect("a datagram");
        assert_eq!(seen.ip().to_string(), "198.51.100.1");
        server.send_to(b"!", seen).expect("sent");
        assert!(sender(&client).is_some(), "a reply");
    }
    // What others have forwarded, on other interfaces.
    assert!(pings(&one, "172.16.8.2") && pings(&other, "172.16.7.2"), "others' traffic");
    // What is for the gateway itself is let in and kept out as it was.
    assert!(pings(&lab.client, "10.10.2.1") && pings(&lab.server, "198.51.100.1"));
    for (port, comes_in) in [(53, true), (54, false)] {
        let own = udp(&lab.gateway, &format!("10.10.2.1:{port}"));
        client.send_to(b"?", own.local_addr().expect("an address")).expect("sent");
        assert_eq!(sender(&own).is_some(), comes_in, "port {port}");
    }
    assert_eq!(theirs(&lab.gateway), before, "rules of others");
    lab.gateway.block_on(async || firewall.unload().await).expect("unloads");
    new_from_outside(true);
    assert_eq!(theirs(&lab.gateway), before, "rules of others");
}

on_each!(lets_through_what_it_serves_and_nothing_else);
