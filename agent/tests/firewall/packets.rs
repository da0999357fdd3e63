//! What the rules do to packets, alike by each back end: a client, the gateway, and a server that
//! knows no way back to the client.

use natd_agent::firewall::{Iptables, Nftables};
use natd_core::{host::Firewall, ruleset::Ruleset};

use crate::{
    DEADLINE, LOCK,
    common::{Namespace, veth},
    ruleset,
};

fn pings(from: &Namespace, to: &str) -> bool {
    let outcome = from.sh(&format!("ping -q -c 1 -W 1 {to} >&2 && echo yes || echo no"));
    outcome.trim() == "yes"
}

fn translates(firewall: &dyn Firewall) {
    let [client, gateway, server] = ["client", "gateway", "server"].map(Namespace::new);
    veth((&client, "eth0"), (&gateway, "eth1"));
    veth((&gateway, "eth0"), (&server, "eth0"));
    client.sh("ip addr add 10.10.2.9/24 dev eth0; ip route add default via 10.10.2.1");
    gateway.sh("ip addr add 10.10.2.1/24 dev eth1; ip addr add 198.51.100.1/24 dev eth0
        ip route add default via 198.51.100.2; sysctl -q net.ipv4.ip_forward=1");
    server.sh("ip addr add 198.51.100.2/24 dev eth0
        for address in 203.0.113.7 169.254.169.254; do ip addr add $address/32 dev lo; done");

    let rules = Ruleset {
        exclude: ["203.0.113.0/24".parse().expect("a prefix")].into_iter().collect(),
        translation: natd_core::ruleset::Translation::to([198, 51, 100, 1].into()),
        ..ruleset(&["10.10.0.0/16"])
    };
    let rendering = rules.render(firewall.kind());
    assert!(!pings(&client, "198.51.100.2"), "there is no way back");
    gateway.block_on(async || firewall.load(&rendering).await).expect("loads");
    gateway.sh("conntrack -F >&2");
    assert!(pings(&client, "198.51.100.2"), "translated");

    assert!(!pings(&client, "203.0.113.7"), "excluded, so not translated");
    server.sh("ip route add 10.10.0.0/16 via 198.51.100.1");
    assert!(pings(&client, "203.0.113.7"), "excluded, not dropped");
    assert!(!pings(&client, "169.254.169.254"), "the gateway's own metadata service");
    assert!(pings(&gateway, "169.254.169.254"), "its own packets");

    gateway.sh("conntrack -F >&2");
    assert!(pings(&gateway, "-I 10.10.2.1 198.51.100.2"), "its own packets");
    let flows = gateway.sh("conntrack -L -p icmp");
    assert!(flows.contains("src=198.51.100.2 dst=10.10.2.1"), "translated: {flows}");
}

#[test]
fn by_nftables() {
    translates(&Nftables::new("nft", DEADLINE));
}

#[test]
fn by_iptables_over_nftables() {
    translates(&Iptables::new("iptables-nft", LOCK, DEADLINE));
}

#[test]
fn by_iptables_over_its_legacy() {
    translates(&Iptables::new("iptables-legacy", LOCK, DEADLINE));
}
