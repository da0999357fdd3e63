//! One address has 64,000 ports for one destination; who needs more takes a second address.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use natd_core::{
    host::Firewall,
    networks::Networks,
    ruleset::{Pool, Ruleset, Translation},
};
use rustix::net::{
    AddressFamily, SendFlags, SocketType, ipproto, sendto, socket,
    sockopt::set_socket_recv_buffer_size_force,
};

use crate::{
    lab::{Lab, iptables, nftables, udp},
    ruleset,
};

const OWN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 9);

/// Clients, and flows of each: more than there are ports.
const CLIENTS: std::ops::Range<u8> = 100..124;
const FLOWS: u16 = 3400;
const ALL: usize = 24 * 3400;
/// From 1024 to 65535: what the kernel gives to source ports that are not below.
const PORTS: usize = 64_512;

/// The same flows again and again, which are the same connections for the kernel: those that found no port look anew.
/// Gives whom the server has seen in all: until these are so many, or no more than before.
fn flows_seen(lab: &Lab) -> BTreeSet<SocketAddr> {
    let server = udp(&lab.server, &SERVER.to_string());
    set_socket_recv_buffer_size_force(&server, 1 << 30).expect("root may");
    server.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    let sent = AtomicBool::new(false);
    let mut seen = BTreeSet::new();
    for _ in 0..8 {
        let before = seen.len();
        sent.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                lab.client.run(send_one_of_each);
                sent.store(true, Ordering::Relaxed);
            });
            loop {
                let all_sent = sent.load(Ordering::Relaxed);
                match server.recv_from(&mut [0; 16]) {
                    Ok((_, sender)) => drop(seen.insert(sender)),
                    Err(_) if all_sent => break,
                    Err(_) => {}
                }
            }
        });
        if seen.len() == ALL || seen.len() == before {
            break;
        }
    }
    seen
}

/// An empty datagram of each flow, made by hand: sockets of that many ports would take much longer. The kernel fills in
/// the length and the checksum of the IP header (raw(7)); none is needed for UDP.
fn send_one_of_each() {
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).expect("root may");
    let mut packet = [0; 28];
    packet[0] = 0x45;
    packet[8..10].copy_from_slice(&[64, 17]);
    packet[16..20].copy_from_slice(&SERVER.ip().octets());
    packet[22..24].copy_from_slice(&SERVER.port().to_be_bytes());
    packet[24..26].copy_from_slice(&8_u16.to_be_bytes());
    for port in 10_000..10_000 + FLOWS {
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        for client in CLIENTS {
            packet[12..16].copy_from_slice(&[10, 10, 2, client]);
            sendto(&raw, &packet, SendFlags::empty(), &SERVER).expect("sent");
        }
    }
}

fn a_second_address_relieves_a_full_one(firewall: &dyn Firewall) {
    let clients: Vec<String> = CLIENTS.map(|last| format!("10.10.2.{last}")).collect();
    let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
    let lab = Lab::new(&clients);
    lab.gateway.sh(&format!(
        "ip addr add {SECOND}/24 dev eth0
        sysctl -qw net.netfilter.nf_conntrack_udp_timeout=600"
    ));
    let most: usize = lab
        .gateway
        .sh("sysctl -n net.netfilter.nf_conntrack_max")
        .trim()
        .parse()
        .expect("a number");
    assert!(most > ALL, "this machine's kernel tracks no more than {most} connections");
    let with = |pool: Pool| {
        let rules = Ruleset {
            translation: Translation::Snat(pool),
            exclude: Networks::default(),
            ..ruleset(&["10.10.0.0/16"])
        };
        lab.load(firewall, &rules.render(firewall.kind()));
        flows_seen(&lab)
    };
    let one = with(Pool::new(OWN, []));
    assert!((64_000..=PORTS).contains(&one.len()), "one address carries {}", one.len());
    assert!(one.iter().all(|seen| seen.ip() == OWN));
    let two = with(Pool::new(OWN, [SECOND]));
    assert_eq!(two.len(), ALL, "two addresses carry them all");
    let by_first = two.iter().filter(|seen| seen.ip() == OWN).count();
    assert!((ALL / 4..=3 * ALL / 4).contains(&by_first), "{by_first} by the first");
}

#[test]
fn by_nftables() {
    a_second_address_relieves_a_full_one(&nftables());
}

#[test]
fn by_iptables() {
    a_second_address_relieves_a_full_one(&iptables("iptables-legacy"));
}
