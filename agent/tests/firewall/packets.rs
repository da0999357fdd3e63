//! What the rules do to packets, alike by each back end: a client, the gateway, and a server that
//! knows no way back to the client.

use std::{collections::BTreeSet, net::SocketAddrV4, time::Duration};

use natd_core::{
    host::{Depth, Firewall},
    networks::Networks,
    ruleset::{Blocks, Family, Forward, Pool, Protocol, Ruleset, Translation},
};
use rustix::net::{
    AddressFamily, SocketType, bind, connect, socket,
    sockopt::{Timeout, set_socket_timeout},
};

use crate::{
    common::{Namespace, veth},
    lab::{Lab, iptables, nftables, on_each, pings, sender, udp},
    ruleset,
};

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

/// 60,000 blocks of which none merge with another: every third /32 of 10.32.0.0 and on.
fn many() -> Vec<String> {
    (0..60_000_u32).map(|n| format!("{}/32", address(n))).collect()
}

fn address(n: u32) -> std::net::Ipv4Addr {
    (0x0a20_0000 + n * 3).into()
}

fn holds_many_sources(firewall: &dyn Firewall, blocks: Blocks) {
    let many = many();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let members = [address(0), address(29_999), address(59_999)].map(|address| address.to_string());
    let outside = std::net::Ipv4Addr::from(u32::from(address(30_000)) + 1).to_string();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let lab = Lab::new(&[&members[..], &[&outside]].concat());
    let rules = Ruleset {
        translation: Translation::to([198, 51, 100, 1].into()),
        exclude: Networks::default(),
        ..ruleset(&many)
    };
    assert_eq!(rules.sources.len(), 60_000);
    let rendering = rules.render_with(firewall.kind(), blocks);
    lab.load(firewall, &rendering);
    assert_eq!(lab.seen(&members, "198.51.100.2"), ["198.51.100.1"; 3]);
    assert!(!pings(&lab.client, &format!("-I {outside} 198.51.100.2")), "not one of the sources");

    // Over itself, and from there to fewer: nothing is left over.
    let fewer = Ruleset { sources: ruleset(many.split_at(1).1).sources, ..rules };
    lab.load(firewall, &fewer.render_with(firewall.kind(), blocks));
    assert!(!pings(&lab.client, &format!("-I {} 198.51.100.2", address(0))), "not any more");
    lab.gateway.block_on(async || {
        firewall.unload().await.expect("unloads");
        assert_eq!(firewall.loaded(Depth::Elements).await.expect("readable"), None);
        assert_eq!(crate::run("ipset list -name").await, "");
    });
}

fn keeps_each_client_on_one_address_of_the_pool(firewall: &dyn Firewall) {
    let clients: Vec<String> = (50..74).map(|last| format!("10.10.2.{last}")).collect();
    let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
    let lab = Lab::new(&clients);
    let [own, others @ ..] =
        [1, 11, 12, 13].map(|last| std::net::Ipv4Addr::new(198, 51, 100, last));
    for address in &others {
        lab.gateway.sh(&format!("ip addr add {address}/24 dev eth0"));
    }
    let rules = Ruleset {
        translation: Translation::Snat(Pool::new(own, others)),
        exclude: Networks::default(),
        ..ruleset(&["10.10.0.0/16"])
    };
    lab.load(firewall, &rules.render(firewall.kind()));
    let seen = lab.seen(&clients, "198.51.100.2");
    let all: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(all.len(), 4, "all addresses are used: {seen:?}");
    // Another connection, and other rules around the same pool: still the same.
    assert_eq!(lab.seen(&clients, "198.51.100.2"), seen);
    let others = Ruleset { clamp_mss: true, random_fully: false, ..rules };
    lab.load(firewall, &others.render(firewall.kind()));
    assert_eq!(lab.seen(&clients, "198.51.100.2"), seen);
}

fn masquerades_ipv6(firewall: &dyn Firewall) {
    let lab = Lab::new(&[]);
    let v4_alone = Ruleset { translation: Translation::Masquerade, ..ruleset(&["10.10.0.0/16"]) };
    lab.load(firewall, &v4_alone.render(firewall.kind()));
    assert!(!pings(&lab.client, "2001:db8::2"), "there is no way back");
    let rules = lab.gateway.sh("nft list ruleset | grep ip6 || true");
    let saved = lab.gateway.sh("ip6tables-nft-save; ip6tables-legacy-save");
    assert!(rules.is_empty() && !saved.contains("NATD"), "{rules}{saved}");

    let both = Ruleset {
        exclude: Networks::default(),
        shut: [Family::V6].into(),
        clamp_mss: true,
        ..ruleset(&["10.10.0.0/16", "fd00:10::/32"])
    };
    let both = Ruleset { translation: Translation::Masquerade, ..both };
    lab.load(firewall, &both.render(firewall.kind()));
    assert_eq!(lab.seen(&["fd00:10::9"], "2001:db8::2"), ["2001:db8::1"]);
    assert_eq!(lab.seen(&["10.10.2.9"], "198.51.100.2"), ["198.51.100.1"]);
    // The gateway's own metadata service, and what comes from somebody else.
    lab.server.sh("ip addr add fd00:ec2::254/128 dev lo nodad");
    lab.gateway.sh("ip route add fd00:ec2::254 via 2001:db8::2");
    assert!(pings(&lab.gateway, "fd00:ec2::254") && !pings(&lab.client, "fd00:ec2::254"));
    lab.server.sh("ip route add fd00:10::/32 via 2001:db8::1");
    assert!(!pings(&lab.server, "fd00:10::9"), "it comes from outside");
    lab.gateway.block_on(async || firewall.unload().await).expect("unloads");
    assert!(pings(&lab.server, "fd00:10::9"), "so it was natd's rule");
}

/// An accept queue of one line: what the server at that port saw of its client.
fn forwards_ports(firewall: &dyn Firewall) {
    let lab = Lab::new(&["10.10.2.8"]);
    lab.client.sh("ip rule add pref 5 from 10.10.2.8 lookup 100; ip route add default via 10.10.2.1 table 100");
    let forward = |protocol: Protocol, ports: &str, to_ports: &str, from: Option<&str>| Forward {
        protocol,
        ports: ports.parse().expect("ports"),
        to: [10, 10, 2, 9].into(),
        to_ports: to_ports.parse().expect("ports"),
        from: from.map(|net| [net.parse().expect("a block")].into_iter().collect()),
    };
    let rules = Ruleset {
        translation: Translation::to([198, 51, 100, 1].into()),
        shut: [Family::V4].into(),
        forwards: vec![
            forward(Protocol::Tcp, "8443", "443", None),
            forward(Protocol::Tcp, "8000-8002", "9000-9002", None),
            forward(Protocol::Tcp, "7000-7002", "7000-7002", Some("192.0.2.0/24")),
            forward(Protocol::Udp, "5300-5302", "6300-6302", Some("198.51.100.0/24")),
        ],
        // The second is public: the cloud would translate it to the first.
        front: [[198, 51, 100, 1].into(), [203, 0, 113, 10].into()].into(),
        ..ruleset(&["10.10.0.0/16"])
    };
    lab.load(firewall, &rules.render(firewall.kind()));
    lab.server.sh("ip addr add 192.0.2.7/32 dev lo; ip route add 10.10.0.0/16 via 198.51.100.1");
    lab.gateway.sh("ip route add 192.0.2.0/24 via 198.51.100.2");
    let listen = |port: u16| {
        lab.client.run(|| std::net::TcpListener::bind(("10.10.2.9", port)).expect("a port"))
    };
    let listeners: Vec<(u16, std::net::TcpListener)> =
        [443, 9001, 7001].map(|port| (port, listen(port))).into();
    // Where the connection's other end is, as the private host sees it.
    let reach = |from: &Namespace, source: &str, to: &str, port: u16, inside: u16| {
        let target: SocketAddrV4 = format!("{to}:{port}").parse().expect("an address");
        let source: SocketAddrV4 = format!("{source}:0").parse().expect("an address");
        let connected = from.run(|| {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
            set_socket_timeout(&socket, Timeout::Send, Some(Duration::from_secs(1))).expect("set");
            bind(&socket, &source).expect("an address");
            connect(&socket, &target).is_ok()
        });
        connected.then(|| {
            let (_, listener) = listeners.iter().find(|(port, _)| *port == inside).expect("one");
            listener.accept().expect("a connection").1.ip().to_string()
        })
    };
    let outside =
        |source: &str, port, inside| reach(&lab.server, source, "198.51.100.1", port, inside);
    assert_eq!(outside("198.51.100.2", 8443, 443).as_deref(), Some("198.51.100.2"));
    assert_eq!(outside("198.51.100.2", 8001, 9001).as_deref(), Some("198.51.100.2"));
    assert_eq!(outside("198.51.100.2", 7001, 7001), None, "not one of those who may");
    assert_eq!(outside("192.0.2.7", 7001, 7001).as_deref(), Some("192.0.2.7"));
    assert_eq!(
        reach(&lab.server, "198.51.100.2", "10.10.2.9", 443, 443),
        None,
        "not by its own address"
    );
    // By hairpin, through the public address: replies come back by the gateway.
    let inside = reach(&lab.client, "10.10.2.8", "203.0.113.10", 8443, 443);
    assert_eq!(inside.as_deref(), Some("10.10.2.1"));
    let inside = reach(&lab.client, "10.10.2.8", "198.51.100.1", 8001, 9001);
    assert_eq!(inside.as_deref(), Some("10.10.2.1"));

    // Datagrams, to and fro; of who may not, none arrives.
    let inside = udp(&lab.client, "10.10.2.9:6301");
    let (who_may, who_may_not) =
        (udp(&lab.server, "198.51.100.2:0"), udp(&lab.server, "192.0.2.7:0"));
    who_may_not.send_to(b"?", "198.51.100.1:5301").expect("sent");
    who_may.send_to(b"?", "198.51.100.1:5301").expect("sent");
    let asker = sender(&inside).expect("a datagram");
    assert_eq!(asker, who_may.local_addr().expect("an address"));
    inside.send_to(b"!", asker).expect("sent");
    assert_eq!(sender(&who_may), Some("198.51.100.1:5301".parse().expect("an address")));
    assert_eq!(sender(&inside), None, "one that may not come in has come in");
}

fn draws_source_ports_at_random_if_told_to(firewall: &dyn Firewall) {
    let lab = Lab::new(&[]);
    let server = udp(&lab.server, "198.51.100.2:9");
    for random_fully in [true, false] {
        let translation = Translation::to([198, 51, 100, 1].into());
        let rules = Ruleset { translation, random_fully, ..ruleset(&["10.10.0.0/16"]) };
        lab.load(firewall, &rules.render(firewall.kind()));
        let kept = (4000..4004).filter(|port| {
            let client = udp(&lab.client, &format!("10.10.2.9:{port}"));
            client.send_to(b"?", "198.51.100.2:9").expect("sent");
            sender(&server).expect("a datagram").port() == *port
        });
        // By chance one in 64,000 is what it was.
        assert_eq!(kept.count() == 4, !random_fully, "random_fully = {random_fully}");
    }
}

/// The largest segment that the namespace's one open connection sends.
fn mss(of: &Namespace) -> u32 {
    let info = of.sh("ss -Htin state established");
    let size = info.split_whitespace().find_map(|word| word.strip_prefix("mss:"));
    size.expect("a size").parse().expect("a number")
}

fn clamps_the_segment_size(firewall: &dyn Firewall) {
    let lab = Lab::new(&[]);
    lab.gateway.sh("ip link set eth0 mtu 1300");
    let listener =
        lab.server.run(|| std::net::TcpListener::bind("198.51.100.2:80").expect("a port"));
    let sizes = [false, true].map(|clamp_mss| {
        let rules = Ruleset {
            translation: Translation::to([198, 51, 100, 1].into()),
            clamp_mss,
            ..ruleset(&["10.10.0.0/16"])
        };
        lab.load(firewall, &rules.render(firewall.kind()));
        let client =
            lab.client.run(|| std::net::TcpStream::connect("198.51.100.2:80").expect("up"));
        let (server, _) = listener.accept().expect("a connection");
        let sizes = (mss(&lab.server), mss(&lab.client));
        drop((client, server));
        sizes
    });
    let [(unclamped, _), clamped] = sizes;
    assert!(unclamped > 1260, "{sizes:?}");
    assert!(clamped.0 <= 1260 && clamped.1 <= 1260, "{sizes:?}");
}

on_each!(
    translates,
    keeps_each_client_on_one_address_of_the_pool,
    masquerades_ipv6,
    forwards_ports,
    draws_source_ports_at_random_if_told_to,
    clamps_the_segment_size,
);

#[test]
fn sixty_thousand_sources_in_a_set_of_nftables() {
    holds_many_sources(&nftables(), Blocks::Chains);
}

#[test]
fn sixty_thousand_sources_in_a_set_of_ipsets() {
    for variant in ["iptables-nft", "iptables-legacy"] {
        holds_many_sources(&iptables(variant), Blocks::Ipset);
    }
}

#[test]
fn sixty_thousand_sources_in_a_tree_of_chains() {
    holds_many_sources(&iptables("iptables-legacy"), Blocks::Chains);
}
