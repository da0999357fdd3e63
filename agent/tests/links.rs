//! What `Netlink` reads is what `ip` has set up.

#![expect(clippy::expect_used, reason = "tests say what they expect")]

mod common;

use std::{net::IpAddr, time::Duration};

use common::{Namespace, veth};
use ipnet::IpNet;
use natd_agent::links::Netlink;
use natd_core::{host::Links as _, model::InterfaceName, network::Network};

/// On a machine that does much else, a list may be torn for as long as somebody changes it.
const PATIENCE: Duration = Duration::from_mins(1);

fn network(namespace: &Namespace) -> Network {
    namespace.block_on(async || Netlink::new(PATIENCE).network().await).expect("the kernel answers")
}

fn route<'a>(network: &'a Network, destination: &str) -> Option<&'a str> {
    let destination: IpNet = destination.parse().expect("a network");
    network.routes.get(&destination).map(InterfaceName::as_str)
}

/// A host with `eth0` in 10.1.0.0/24 and `ens5.100` in 10.2.0.0/24.
fn host() -> (Namespace, Namespace) {
    let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
    host.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    veth((&host, "eth0"), (&peer, "p0"));
    veth((&host, "ens5.100"), (&peer, "p1"));
    host.sh("ip addr add 10.1.0.5/24 dev eth0; ip addr add 10.2.0.5/24 dev ens5.100");
    (host, peer)
}

#[test]
fn links_have_name_mac_state_and_addresses_in_the_kernels_order() {
    let (host, _peer) = host();
    host.sh("ip link set eth0 address 0a:00:00:00:00:01; ip link set ens5.100 down
             ip addr add 10.1.0.4/24 dev eth0; ip addr add 10.9.0.1 peer 10.9.0.2/32 dev eth0");
    let network = network(&host);

    let links: Vec<_> = network
        .links
        .iter()
        .map(|link| (link.name.as_str(), link.mac.map(|mac| mac.to_string()), link.up))
        .collect();
    let second = host.sh("cat /sys/class/net/ens5.100/address").trim().to_owned();
    assert_eq!(
        links,
        [
            ("lo", None, true),
            ("eth0", Some("0a:00:00:00:00:01".to_owned()), true),
            ("ens5.100", Some(second), false),
        ]
    );
    let addresses: Vec<_> = network.links[1].addresses.iter().map(IpNet::to_string).collect();
    // Primary addresses in the order of their making; 10.1.0.4 is secondary to 10.1.0.5.
    assert_eq!(addresses, ["10.1.0.5/24", "10.9.0.1/32", "10.1.0.4/24"]);
    assert!(network.is_local("10.9.0.1".parse().expect("an address")));
}

#[test]
fn the_route_of_the_lowest_metric_counts_and_is_followed_when_it_moves() {
    let (host, _peer) = host();
    host.sh("ip route add default via 10.1.0.1 metric 200
             ip route add default via 10.2.0.1 metric 100");
    assert_eq!(route(&network(&host), "0.0.0.0/0"), Some("ens5.100"));
    assert_eq!(route(&network(&host), "10.1.0.0/24"), Some("eth0"));

    host.sh("ip route del default via 10.2.0.1");
    let network = network(&host);
    assert_eq!(route(&network, "0.0.0.0/0"), Some("eth0"));
    let outside: IpAddr = "192.0.2.1".parse().expect("an address");
    assert_eq!(network.leaves_by(outside).map(InterfaceName::as_str), Some("eth0"));
}

#[test]
fn a_multipath_route_goes_by_its_first_hop() {
    let (host, _peer) = host();
    host.sh("ip route add 192.0.2.0/24 nexthop via 10.2.0.1 nexthop via 10.1.0.1");
    assert_eq!(route(&network(&host), "192.0.2.0/24"), Some("ens5.100"));
}

#[test]
fn only_unicast_routes_of_the_main_table_for_all_packets_are_routes() {
    let (host, _peer) = host();
    host.sh("ip route add 198.51.100.0/24 via 10.1.0.1 table 100
             ip route add blackhole 203.0.113.0/24
             ip route add local 203.0.113.7 dev eth0 table main
             ip route add 192.0.2.0/24 via 10.1.0.1 tos 0x10
             ip route add 198.18.0.0/15 via 10.1.0.1");
    let network = network(&host);
    for absent in ["198.51.100.0/24", "203.0.113.0/24", "203.0.113.7/32", "192.0.2.0/24"] {
        assert_eq!(route(&network, absent), None, "{absent}");
    }
    assert_eq!(route(&network, "198.18.0.0/15"), Some("eth0"));
}

#[test]
fn ipv6_is_read_too() {
    let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
    veth((&host, "eth0"), (&peer, "p0"));
    host.sh("ip addr add 2001:db8::5/64 dev eth0 nodad; ip route add default via 2001:db8::1");
    let network = network(&host);
    assert_eq!(route(&network, "::/0"), Some("eth0"));
    assert!(network.is_local("2001:db8::5".parse().expect("an address")));
}

#[test]
fn a_name_that_rules_cannot_hold_is_left_out() {
    let (host, peer) = host();
    veth((&host, "odd\"name"), (&peer, "p2"));
    host.sh("ip addr add 10.3.0.5/24 dev 'odd\"name'");
    let network = network(&host);
    assert_eq!(network.links.len(), 3);
    assert_eq!(route(&network, "10.3.0.0/24"), None);
    assert_eq!(route(&network, "10.1.0.0/24"), Some("eth0"));
}

#[test]
fn lists_that_change_while_they_are_read_are_read_again() {
    let (host, _peer) = host();
    host.sh("for i in $(seq 400); do
           echo addr add 10.8.$((i / 200)).$((i % 200)) dev eth0
         done | ip -batch -");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            host.sh("for i in $(seq 6000); do
                   echo addr add 10.9.0.1 dev eth0; echo addr del 10.9.0.1/32 dev eth0
                 done | ip -batch -");
        });
        for _ in 0..30 {
            assert!(network(&host).links[1].addresses.len() > 400);
        }
    });
}
