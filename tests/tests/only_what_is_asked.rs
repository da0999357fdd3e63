//! natd translates what it is told to, and lets nothing through that would harm.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{assert_served, assert_unserved, natd};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::host::{Host, PATIENCE};
use natd_tests::lab::http::{Request, send};
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::{INTERNET_HOST, METADATA};
use natd_tests::on_every_back_end;
use natd_tests::wait::until;
use socket2::{Domain, Protocol, Socket, Type};

on_every_back_end!(
    traffic_inside_the_network_keeps_its_source,
    excluded_destinations_are_left_untranslated_and_foreign_sources_go_nowhere,
    clients_do_not_get_the_instances_credentials,
    invalid_packets_go_nowhere,
);

/// A table can send what is for a neighbour by way of the instance, too.
fn traffic_inside_the_network_keeps_its_source(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let (from, to) = (lab.client("client-a"), lab.client("client-b"));
    natd(&lab, 0, &["apply"])?;
    lab.point_route(lab.ids.table("private-a"), "10.20.3.0/24", lab.ids.interface("nat/eth0"))?;
    lab.owner(
        "AuthorizeSecurityGroupIngress",
        &[
            ("GroupId", lab.ids.group("clients")),
            ("IpPermissions.1.IpProtocol", "-1"),
            ("IpPermissions.1.IpRanges.1.CidrIp", DEFAULT),
        ],
    )?;
    assert_served(&lab);
    // `ForwDatagrams` of RFC 2011.
    let passing = "awk '/^Ip: [0-9]/ {print $7}' /proc/net/snmp";
    let forwarded = || -> Result<u64> { Ok(lab.nat().sh(passing)?.trim().parse()?) };
    let before = forwarded()?;
    assert_eq!(source_seen(from, to)?, from.address);
    ensure!(forwarded()? > before, "the datagram did not come by the NAT instance");
    Ok(())
}

/// Sends a datagram from one host to another, which tells the source address that it saw.
fn source_seen(from: &Host, to: &Host) -> Result<Ipv4Addr> {
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7777));
    let listener = to.namespace.run(bind)??;
    listener.set_read_timeout(Some(Duration::from_secs(5)))?;
    let sender = from.namespace.run(bind)??;
    sender.send_to(b"who am I", (to.address, 7777))?;
    match listener.recv_from(&mut [0; 64])?.1 {
        SocketAddr::V4(source) => Ok(*source.ip()),
        SocketAddr::V6(source) => anyhow::bail!("{source} is no IPv4 address"),
    }
}

fn excluded_destinations_are_left_untranslated_and_foreign_sources_go_nowhere(
    back_end: BackEnd,
) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let sources = "[nat]\nsources = [\"10.10.0.0/16\"]\n";
    lab.nat().write("etc/natd/conf.d/10-test.toml", sources)?;
    natd(&lab, 0, &["apply"])?;
    assert!(lab.client("client-a").tcp().is_ok());
    assert!(lab.client("client-b").tcp().is_err());
    assert_eq!(lab.untranslated()?, 0, "the host forwards for natd alone");
    // A host that forwards for others goes on doing so.
    lab.nat().namespace.set_sysctls(&[("net.ipv4.ip_forward", "1")])?;
    natd(&lab, 0, &["apply"])?;
    assert!(lab.client("client-b").tcp().is_err());
    let foreign = lab.untranslated()?;
    assert!(foreign > 0, "the foreign source was translated or dropped");

    let exclude = format!("[nat]\nexclude = [\"vpc\", \"{INTERNET_HOST}/32\"]\n");
    lab.nat().write("etc/natd/conf.d/10-test.toml", &exclude)?;
    natd(&lab, 0, &["apply"])?;
    assert_unserved(&lab);
    assert!(lab.untranslated()? > foreign, "the excluded destination was translated");
    Ok(())
}

/// Where the network carries packets for the metadata address, they end up with the instance's own service.
fn clients_do_not_get_the_instances_credentials(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let client = lab.client("client-a");
    client.port.route_metadata(true)?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    ensure!(
        token_status(client).is_err(),
        "a client talks to the metadata service of the NAT instance"
    );
    assert_eq!(token_status(lab.nat())?, 200, "the instance itself needs it");
    // So it was natd's rule.
    lab.nat().flush_all_rules()?;
    assert_eq!(token_status(client)?, 200);
    Ok(())
}

fn token_status(host: &Host) -> Result<u16> {
    let address = (METADATA, 80).into();
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "60".to_owned());
    let request = Request {
        method: "PUT".to_owned(),
        target: "/latest/api/token".to_owned(),
        headers: vec![ttl],
        ..Request::default()
    };
    let stream = host.namespace.connect(address, PATIENCE)?;
    Ok(send(stream, address, &request, PATIENCE)?.status)
}

/// What conntrack can't place, NAT doesn't translate: it would leave with its private address.
fn invalid_packets_go_nowhere(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let arrived = || -> Result<u64> {
        let received = lab.nat().sh("cat /sys/class/net/eth0/statistics/rx_packets")?;
        received.trim().parse().context("a count of packets")
    };
    let before = arrived()?;
    let segments = 20;
    for _ in 0..segments {
        send_impossible_segment(lab.client("client-a"))?;
    }
    until("the segments arrive at the NAT instance", || {
        arrived().is_ok_and(|now| now >= before + segments)
    });
    // What was sent later has come through, so those segments are not still on their way.
    assert_served(&lab);
    assert_eq!(lab.untranslated()?, 0);
    // So it was natd's rules: nothing else on the way minds those segments.
    lab.nat().flush_all_rules()?;
    send_impossible_segment(lab.client("client-a"))?;
    until("an untranslated segment", || lab.untranslated().is_ok_and(|count| count > 0));
    Ok(())
}

/// A TCP segment that both opens and closes.
fn send_impossible_segment(host: &Host) -> Result<()> {
    let raw =
        host.namespace.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)))??;
    let mut segment = [0_u8; 20];
    segment[..2].copy_from_slice(&4444_u16.to_be_bytes());
    segment[2..4].copy_from_slice(&80_u16.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = 0b0000_0011;
    let checksum = checksum(&segment, host.address, INTERNET_HOST);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    raw.send_to(&segment, &SocketAddr::from((INTERNET_HOST, 0)).into())?;
    Ok(())
}

/// RFC 9293, 3.1.
fn checksum(segment: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
    let pseudo = [&source.octets()[..], &destination.octets(), &[0, 6, 0, 20]].concat();
    let words = pseudo.chunks(2).chain(segment.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or_default()
}
