//! `Events` hears of what matters, and of nothing else.

mod common;

use std::time::Duration;

use common::{Namespace, veth};
use natd_agent::events::{Change, Events};

/// What is heard at once, or nothing.
async fn heard(events: &mut Events) -> Option<Change> {
    tokio::time::timeout(Duration::from_millis(300), events.next()).await.ok()
}

/// Lets the links come up and the echoes of it fade.
async fn quiet(events: &mut Events) {
    while heard(events).await.is_some() {}
}

fn host() -> (Namespace, Namespace) {
    let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
    veth((&host, "eth0"), (&peer, "eth0"));
    host.sh("ip addr add 10.1.0.5/24 dev eth0");
    peer.sh("ip addr add 10.1.0.1/24 dev eth0");
    (host, peer)
}

#[test]
fn each_change_is_heard() {
    let (host, _peer) = host();
    host.block_on(async || {
        let mut events = Events::open().expect("netlink is there");
        for (change, script) in [
            (Change::Network, "ip addr add 10.1.0.6/24 dev eth0"),
            (Change::Network, "ip route add 192.0.2.0/24 via 10.1.0.1"),
            (Change::Network, "sysctl -qw net.ipv4.conf.eth0.forwarding=1"),
            (Change::Network, "sysctl -qw net.ipv4.conf.eth0.rp_filter=2"),
            (Change::Network, "ip link set eth0 mtu 1400"),
            // No route changes with it.
            (
                Change::Network,
                "ip addr change 10.1.0.5/24 dev eth0 valid_lft 900 preferred_lft 900",
            ),
            (Change::Firewall, "nft add table ip t"),
            (Change::Firewall, "nft add chain ip t c"),
            (Change::Firewall, "nft add rule ip t c accept"),
            (Change::Firewall, "nft flush chain ip t c"),
            (Change::Firewall, "iptables-nft -A INPUT -j ACCEPT"),
        ] {
            quiet(&mut events).await;
            host.sh(script);
            assert_eq!(heard(&mut events).await, Some(change), "{script}");
        }
    });
}

#[test]
fn what_changes_nothing_is_not_heard() {
    let (host, _peer) = host();
    host.sh("nft add table ip t");
    host.block_on(async || {
        let mut events = Events::open().expect("netlink is there");
        quiet(&mut events).await;
        host.sh("ip addr show; ip route show; nft list ruleset");
        host.sh("ping -c 1 -W 1 10.1.0.1");
        host.sh("sysctl -qw net.ipv4.conf.eth0.forwarding=0");
        assert_eq!(heard(&mut events).await, None);
    });
}

#[test]
fn what_is_drained_is_forgotten_and_what_comes_after_is_not() {
    let (host, _peer) = host();
    host.block_on(async || {
        let mut events = Events::open().expect("netlink is there");
        quiet(&mut events).await;
        host.sh("ip addr add 10.1.0.6/24 dev eth0; nft add table ip t");
        assert_eq!(events.drain(), [Change::Network, Change::Firewall]);
        assert_eq!(heard(&mut events).await, None);
        host.sh("nft delete table ip t");
        assert_eq!(heard(&mut events).await, Some(Change::Firewall));
    });
}

#[test]
fn waits_that_are_given_up_lose_nothing() {
    let (host, _peer) = host();
    host.block_on(async || {
        let mut events = Events::open().expect("netlink is there");
        quiet(&mut events).await;
        for _ in 0..10 {
            let given_up = tokio::time::timeout(Duration::ZERO, events.next()).await;
            assert_eq!(given_up.ok(), None);
        }
        // Both wait at once: hearing of one doesn't use up the other.
        host.sh("nft add table ip t; ip addr add 10.1.0.6/24 dev eth0");
        let mut changes = vec![];
        while let Some(change) = heard(&mut events).await {
            changes.push(change);
        }
        assert!(changes.contains(&Change::Network), "{changes:?}");
        assert!(changes.contains(&Change::Firewall), "{changes:?}");
    });
}

#[test]
fn more_news_than_the_socket_holds_is_news_and_then_all_goes_on() {
    let (host, _peer) = host();
    host.block_on(async || {
        let mut events = Events::open().expect("netlink is there");
        quiet(&mut events).await;
        host.sh("for i in $(seq 3000); do echo route add 192.0.2.1 dev eth0; \
             echo route del 192.0.2.1 dev eth0; done | ip -batch -");
        assert_eq!(heard(&mut events).await, Some(Change::Network));
        events.drain();
        assert_eq!(heard(&mut events).await, None);
        host.sh("ip addr add 10.1.0.6/24 dev eth0");
        assert_eq!(heard(&mut events).await, Some(Change::Network));
    });
}
