//! `Ctnetlink` deletes exactly the stale entries. They are made by packets, and looked at with
//! `conntrack -L`.

#![expect(clippy::expect_used, reason = "tests say what they expect")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use common::{Namespace, veth};
use natd_agent::conntrack::Ctnetlink;
use natd_core::{host::Conntrack as _, network::Flow};
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType, ipproto, sendto, socket};

const STALE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SOUND: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// A host that tracks connections, and a peer with two addresses. What begins in the host is
/// translated to 10.1.0.99 if it goes to the port 53.
fn lab() -> (Namespace, Namespace) {
    let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
    veth((&host, "eth0"), (&peer, "eth0"));
    host.sh("ip addr add 10.1.0.5/24 dev eth0; ip addr add 10.1.0.99/24 dev eth0
         ip addr add 2001:db8::5/64 dev eth0 nodad
         nft -f - <<'END'
         table inet t {
           chain zone { type filter hook output priority raw; meta length > 500 ct zone set 7
           }
           chain seen { type filter hook output priority filter; ct state new counter
           }
         }
         table ip n {
           chain out { type nat hook postrouting priority srcnat; udp dport 53 snat to 10.1.0.99
           }
         }
END");
    peer.sh("ip addr add 10.1.0.1/24 dev eth0; ip addr add 10.1.0.2/24 dev eth0
         ip addr add 2001:db8::1/64 dev eth0 nodad");
    (host, peer)
}

fn delete_where(
    namespace: &Namespace,
    stale: impl for<'a> Fn(&'a Flow) -> bool + Send + Sync,
) -> usize {
    namespace
        .block_on(async || Ctnetlink::default().delete_where(&stale).await)
        .expect("the kernel answers")
}

fn port(host: &Namespace, address: &str) -> UdpSocket {
    host.run(|| UdpSocket::bind(address).expect("a port"))
}

fn send(socket: &UdpSocket, to: impl ToSocketAddrs, length: usize) {
    socket.send_to(&vec![0; length], to).expect("a packet");
}

/// Lines of `conntrack -L`, by family.
fn entries(host: &Namespace) -> Vec<String> {
    ["ipv4", "ipv6"]
        .iter()
        .flat_map(|family| {
            let list = host.sh(&format!("conntrack -L -f {family} 2>/dev/null"));
            list.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn stale_entries_of_every_protocol_go_and_all_others_stay() {
    let (host, peer) = lab();
    let listeners: Vec<TcpListener> =
        peer.run(|| [STALE, SOUND].map(|to| TcpListener::bind((to, 80)).expect("a port")).into());
    let (one, other) = (port(&host, "0.0.0.0:4000"), port(&host, "0.0.0.0:4001"));
    let mut streams = Vec::new();
    for to in [STALE, SOUND] {
        streams.push(host.run(|| TcpStream::connect((to, 80)).expect("a listener")));
        send(&one, (to, 123), 1);
        send(&other, (to, 123), 1);
        send(&one, (to, 53), 1);
        host.sh(&format!("ping -c 1 -W 1 {to}"));
        for protocol in [ipproto::ESP, ipproto::GRE] {
            host.run(|| raw(protocol, to));
        }
    }
    let before = entries(&host);
    assert_eq!(before.len(), 2 * 7, "{before:#?}");

    let deleted = delete_where(&host, |flow| flow.destination == IpAddr::V4(STALE));

    let after = entries(&host);
    assert_eq!(deleted, 7, "{after:#?}");
    assert_eq!(after.len(), 7, "{after:#?}");
    for protocol in ["tcp", "udp", "icmp", "gre"] {
        assert!(after.iter().any(|line| line.starts_with(protocol)), "{protocol}: {after:#?}");
    }
    assert!(after.iter().all(|line| line.contains("dst=10.1.0.2")), "{after:#?}");
    drop((listeners, streams));
}

fn raw(protocol: Protocol, to: Ipv4Addr) {
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(protocol)).expect("a socket");
    let address = SocketAddrV4::new(to, 0);
    sendto(&socket, &[0; 16], SendFlags::empty(), &address).expect("a packet");
}

#[test]
fn the_translation_is_seen_in_the_reply_direction() {
    let (host, _peer) = lab();
    let socket = port(&host, "10.1.0.5:4000");
    send(&socket, (STALE, 53), 1);
    send(&socket, (STALE, 123), 1);
    let translated: IpAddr = Ipv4Addr::new(10, 1, 0, 99).into();

    let seen = std::sync::Mutex::new(Vec::new());
    let deleted = delete_where(&host, |flow| {
        seen.lock().expect("no panic").push(*flow);
        flow.reply_destination != translated
    });

    assert_eq!(deleted, 1);
    let after = entries(&host);
    assert!(after.len() == 1 && after[0].contains("dport=53"), "{after:#?}");
    let flow = |reply_destination| Flow {
        protocol: 17,
        source: Ipv4Addr::new(10, 1, 0, 5).into(),
        destination: STALE.into(),
        reply_source: STALE.into(),
        reply_destination,
        destination_port: 53,
        reply_source_port: 53,
    };
    let seen = seen.into_inner().expect("no panic");
    assert_eq!(seen.len(), 2);
    let as_it_was =
        Flow { destination_port: 123, reply_source_port: 123, ..flow(flow(translated).source) };
    assert!(seen.contains(&flow(translated)) && seen.contains(&as_it_was), "{seen:?}");
}

#[test]
fn entries_of_other_zones_and_of_ipv6_are_found() {
    let (host, _peer) = lab();
    let socket = port(&host, "10.1.0.5:4000");
    send(&socket, (STALE, 123), 1);
    send(&socket, (STALE, 123), 600);
    send(&socket, (SOUND, 123), 600);
    send(&port(&host, "[2001:db8::5]:4000"), "[2001:db8::1]:123", 1);
    let of_udp = |lines: Vec<String>| lines.into_iter().filter(|l| l.contains("dport=123")).count();
    assert_eq!(of_udp(entries(&host)), 4);

    let deleted = delete_where(&host, |flow| flow.destination == IpAddr::V4(STALE));
    assert_eq!(deleted, 2);
    let deleted =
        delete_where(&host, |flow| flow.destination.is_ipv6() && !flow.destination.is_multicast());
    assert!(deleted >= 1);

    let after = entries(&host);
    assert!(after.iter().any(|line| line.contains("zone=7") && line.contains("dst=10.1.0.2")));
    assert_eq!(of_udp(after), 1);
}

#[test]
fn an_entry_that_has_taken_the_stale_ones_place_stays() {
    let (host, _peer) = lab();
    let socket = port(&host, "10.1.0.5:4000");
    send(&socket, (STALE, 123), 1);

    let deleted = delete_where(&host, |flow| {
        let stale = flow.destination == IpAddr::V4(STALE);
        if stale {
            host.sh("conntrack -D -d 10.1.0.1");
            // These take the memory of the one that is gone, which its id is made of.
            for port in 1..500 {
                send(&socket, (SOUND, port), 1);
            }
            send(&socket, (STALE, 123), 1);
        }
        stale
    });

    assert_eq!(deleted, 0);
    assert!(entries(&host).iter().any(|line| line.contains("src=10.1.0.5 dst=10.1.0.1 ")));
}

#[test]
fn an_empty_table_and_a_sound_one_lose_nothing() {
    let host = Namespace::new("host");
    assert_eq!(delete_where(&host, |_| true), 0);
    let (host, _peer) = lab();
    let socket = port(&host, "10.1.0.5:4000");
    send(&socket, (STALE, 123), 1);
    let before = entries(&host).len();
    assert_eq!(delete_where(&host, |_| false), 0);
    assert_eq!(entries(&host).len(), before);
}

/// Many more than one datagram of the kernel's or one batch of ours holds.
#[test]
fn a_large_table_is_gone_through_whole() {
    let (host, peer) = lab();
    peer.sh("sysctl -qw net.ipv4.icmp_ratelimit=1000");
    host.run(|| {
        let socket = UdpSocket::bind("10.1.0.5:4000").expect("a port");
        for port in 1000..6000 {
            socket.send_to(&[0], (STALE, port)).expect("a packet");
            socket.send_to(&[0], (SOUND, port)).expect("a packet");
        }
    });

    let deleted = delete_where(&host, |flow| flow.destination == IpAddr::V4(STALE));

    assert_eq!(deleted, 5000);
    let after = entries(&host);
    assert_eq!(after.iter().filter(|line| line.contains("dst=10.1.0.1 ")).count(), 0);
    assert_eq!(
        after.iter().filter(|line| line.contains("src=10.1.0.5 dst=10.1.0.2 ")).count(),
        5000
    );
}
