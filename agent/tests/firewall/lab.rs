//! A client, a gateway and an outside host, and the same tests of them by each back end.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use natd_agent::firewall::{Iptables, Nftables};
use natd_core::{host::Firewall, ruleset::Rendering};

use crate::{
    DEADLINE, LOCK,
    common::{Namespace, veth},
};

pub(crate) fn nftables() -> Nftables {
    Nftables::new("nft", DEADLINE)
}

pub(crate) fn iptables(variant: &'static str) -> Iptables {
    Iptables::new(variant, LOCK, DEADLINE)
}

/// The same tests by each back end: each is a function of a firewall.
macro_rules! on_each {
    ($($test:ident),+ $(,)?) => {
        mod by_nftables {
            $(#[test] fn $test() { super::$test(&$crate::lab::nftables()); })+
        }
        mod by_iptables_over_nftables {
            $(#[test] fn $test() { super::$test(&$crate::lab::iptables("iptables-nft")); })+
        }
        mod by_iptables_over_its_legacy {
            $(#[test] fn $test() { super::$test(&$crate::lab::iptables("iptables-legacy")); })+
        }
    };
}
pub(crate) use on_each;

pub(crate) fn pings(from: &Namespace, to: &str) -> bool {
    let outcome = from.sh(&format!("ping -q -c 1 -W 1 {to} >&2 && echo yes || echo no"));
    outcome.trim() == "yes"
}

/// A port for datagrams in a namespace, at which nobody waits for long.
pub(crate) fn udp(namespace: &Namespace, address: &str) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind(address)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
    socket
}

/// Who sent a datagram there, if one comes.
pub(crate) fn sender(socket: &UdpSocket) -> Option<SocketAddr> {
    socket.recv_from(&mut [0; 16]).ok().map(|(_, sender)| sender)
}

/// A client behind the gateway, an outside host, and further hosts' addresses on the client.
pub(crate) struct Lab {
    pub(crate) client: Namespace,
    pub(crate) gateway: Namespace,
    pub(crate) server: Namespace,
}

impl Lab {
    pub(crate) fn new(client_addresses: &[&str]) -> Self {
        let [client, gateway, server] = ["client", "gateway", "server"].map(Namespace::new);
        veth((&client, "eth0"), (&gateway, "eth1"));
        veth((&gateway, "eth0"), (&server, "eth0"));
        client.sh("ip addr add 10.10.2.9/24 dev eth0; ip route add default via 10.10.2.1
            ip addr add fd00:10::9/64 dev eth0 nodad; ip route add default via fd00:10::1");
        for address in client_addresses {
            client.sh(&format!("ip addr add {address}/32 dev eth0"));
        }
        gateway.sh("ip addr add 10.10.2.1/24 dev eth1; ip addr add 198.51.100.1/24 dev eth0
            ip addr add fd00:10::1/64 dev eth1 nodad; ip addr add 2001:db8::1/64 dev eth0 nodad
            ip route add default via 198.51.100.2; ip route add default via 2001:db8::2
            ip route add 10.0.0.0/8 dev eth1
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        server
            .sh("ip addr add 198.51.100.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad");
        Self { client, gateway, server }
    }

    pub(crate) fn load(&self, firewall: &dyn Firewall, rendering: &Rendering) {
        self.gateway.block_on(async || {
            firewall.load(rendering).await.expect("loads");
            crate::assert_intact(firewall, rendering).await;
        });
        self.gateway.sh("conntrack -F >&2");
    }

    /// The addresses that the server sees of pings from these addresses of the client.
    pub(crate) fn seen(&self, sources: &[&str], to: &str) -> Vec<String> {
        self.gateway.sh("conntrack -F >&2");
        for source in sources {
            assert!(pings(&self.client, &format!("-I {source} {to}")), "{source}");
        }
        let list = self.gateway.sh("conntrack -L 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        let reply = |source: &&str| {
            let line = list.lines().find(|line| line.contains(&format!("src={source} ")));
            let line = line.expect("each has a flow");
            line.rsplit("dst=")
                .next()
                .and_then(|rest| rest.split(' ').next())
                .expect("dst")
                .to_owned()
        };
        sources.iter().map(reply).collect()
    }
}
