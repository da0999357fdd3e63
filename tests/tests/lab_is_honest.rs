//! The lab lets packets through only if every piece of a NAT gateway is there.
//!
//! The reference is a NAT set up by hand, without natd. Each test leaves out one piece, sees the packets die, puts the
//! piece in, and sees them live: so it was that piece.

#![allow(clippy::expect_used, reason = "a test says what it expects")]

use std::net::Ipv4Addr;
use std::time::Duration;

use natd_tests::lab::Lab;
use natd_tests::lab::host::Reach;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::{NAT_PUBLIC, public_of_client};

/// What a NAT gateway on AWS is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Forwarding,
    Rule,
    CheckOff,
    Routes,
    PublicAddress,
    InternetRoute,
    GroupLetsIn,
    GroupLetsOut,
}

/// Those that a new lab lacks. The others it has.
const TO_ADD: [Piece; 4] = [Piece::Forwarding, Piece::Rule, Piece::CheckOff, Piece::Routes];

fn add(lab: &Lab, piece: Piece) {
    let (nat, ids) = (lab.nat(), &lab.ids);
    let interface = ids.interface("nat/eth0");
    let let_everything = |side: &str| {
        let action = format!("AuthorizeSecurityGroup{side}");
        call(lab, &action, &everywhere(ids.group("nat")));
    };
    match piece {
        Piece::Forwarding => nat.namespace.set_sysctls(&[("net.ipv4.ip_forward", "1")]).expect("forwarding"),
        Piece::Rule => nat
            .namespace
            .nft("table ip byhand {\n chain post {\n type nat hook postrouting priority srcnat;\n oifname eth0 masquerade\n }\n}\n")
            .expect("the rule"),
        Piece::CheckOff => call(lab, "ModifyNetworkInterfaceAttribute", &[
            ("NetworkInterfaceId", interface),
            ("SourceDestCheck.Value", "false"),
        ]),
        Piece::Routes => {
            for table in ids.private_tables() {
                default_route(lab, table, ("NetworkInterfaceId", interface));
            }
        }
        Piece::PublicAddress => {
            call(lab, "AssociateAddress", &[("AllocationId", &lab.ec2().allocation), ("NetworkInterfaceId", interface)]);
        }
        Piece::InternetRoute => default_route(lab, ids.table("public"), ("GatewayId", &ids.elsewhere)),
        Piece::GroupLetsIn => let_everything("Ingress"),
        Piece::GroupLetsOut => let_everything("Egress"),
    }
    lab.sync().expect("the fabric follows");
}

/// Takes away what a new lab has.
fn take_away(lab: &Lab, piece: Piece) {
    let ids = &lab.ids;
    let group = ids.group("nat");
    match piece {
        Piece::PublicAddress => {
            call(lab, "DisassociateAddress", &[("AssociationId", &lab.ec2().association)]);
        }
        Piece::InternetRoute => call(
            lab,
            "DeleteRoute",
            &[("RouteTableId", ids.table("public")), ("DestinationCidrBlock", "0.0.0.0/0")],
        ),
        Piece::GroupLetsIn => {
            for block in ["10.10.0.0/16", "10.20.0.0/16"] {
                call(
                    lab,
                    "RevokeSecurityGroupIngress",
                    &[
                        ("GroupId", group),
                        ("IpPermissions.1.IpProtocol", "-1"),
                        ("IpPermissions.1.IpRanges.1.CidrIp", block),
                    ],
                );
            }
        }
        Piece::GroupLetsOut => call(lab, "RevokeSecurityGroupEgress", &everywhere(group)),
        Piece::Forwarding | Piece::Rule | Piece::CheckOff | Piece::Routes => {}
    }
}

fn everywhere(group: &str) -> [(&str, &str); 3] {
    [
        ("GroupId", group),
        ("IpPermissions.1.IpProtocol", "-1"),
        ("IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"),
    ]
}

fn default_route(lab: &Lab, table: &str, target: (&str, &str)) {
    call(
        lab,
        "CreateRoute",
        &[("RouteTableId", table), ("DestinationCidrBlock", "0.0.0.0/0"), target],
    );
}

fn call(lab: &Lab, action: &str, parameters: &[(&str, &str)]) {
    lab.api().call(action, parameters).expect("the API does as the test says");
}

fn nat_by_hand(lab: &Lab) {
    for piece in TO_ADD {
        add(lab, piece);
    }
}

fn reaches(lab: &Lab) -> Vec<Reach> {
    std::thread::scope(|scope| {
        let probes: Vec<_> = lab.clients().map(|client| scope.spawn(|| client.reach())).collect();
        probes.into_iter().map(|probe| probe.join().expect("a probe")).collect()
    })
}

fn assert_alive(lab: &Lab) {
    for reach in reaches(lab) {
        assert!(reach.is_all(NAT_PUBLIC), "{reach:#?}");
    }
}

fn assert_dead(lab: &Lab) {
    for reach in reaches(lab) {
        assert!(reach.is_none(), "{reach:#?}");
    }
}

fn dies_without(piece: Piece) {
    let lab = Lab::aws().build().expect("a lab");
    take_away(&lab, piece);
    for needed in TO_ADD.into_iter().filter(|needed| *needed != piece) {
        add(&lab, needed);
    }
    lab.sync().expect("the fabric follows");
    assert_dead(&lab);
    add(&lab, piece);
    assert_alive(&lab);
}

#[test]
fn a_nat_by_hand_works() {
    let lab = Lab::aws().clients(3).build().expect("a lab");
    assert_dead(&lab);
    nat_by_hand(&lab);
    assert_alive(&lab);
    assert_eq!(
        lab.nat().reach(),
        Reach { tcp: Ok(NAT_PUBLIC), udp: Ok(NAT_PUBLIC), ping: Ok(NAT_PUBLIC) }
    );
    assert!(lab.api_log().is_empty(), "no instance called the API: {:?}", lab.api_log());
    assert!(lab.api_recording().expect("moto's recording").is_empty());
}

#[test]
fn dies_without_forwarding() {
    dies_without(Piece::Forwarding);
}

#[test]
fn dies_without_the_rule() {
    dies_without(Piece::Rule);
}

#[test]
fn dies_with_the_check_on() {
    dies_without(Piece::CheckOff);
}

#[test]
fn dies_without_the_route() {
    dies_without(Piece::Routes);
}

#[test]
fn dies_without_the_public_address() {
    dies_without(Piece::PublicAddress);
}

#[test]
fn dies_without_the_internet_gateway_route() {
    dies_without(Piece::InternetRoute);
}

#[test]
fn dies_without_the_group_letting_in() {
    dies_without(Piece::GroupLetsIn);
}

#[test]
fn dies_without_the_group_letting_out() {
    dies_without(Piece::GroupLetsOut);
}

#[test]
fn untranslated_packets_are_counted_where_they_die() {
    let lab = Lab::aws().build().expect("a lab");
    for piece in [Piece::Forwarding, Piece::CheckOff, Piece::Routes] {
        add(&lab, piece);
    }
    assert_eq!(lab.untranslated().expect("a counter"), 0);
    assert_dead(&lab);
    assert!(lab.untranslated().expect("a counter") > 0);
}

#[test]
fn a_group_lets_in_by_protocol_and_port() {
    let lab = Lab::aws().build().expect("a lab");
    take_away(&lab, Piece::GroupLetsIn);
    nat_by_hand(&lab);
    call(
        &lab,
        "AuthorizeSecurityGroupIngress",
        &[
            ("GroupId", lab.ids.group("nat")),
            ("IpPermissions.1.IpProtocol", "tcp"),
            ("IpPermissions.1.FromPort", "80"),
            ("IpPermissions.1.ToPort", "80"),
            // By reference: whoever is in the clients' group.
            ("IpPermissions.1.Groups.1.GroupId", lab.ids.group("clients")),
        ],
    );
    lab.sync().expect("the fabric follows");
    for reach in reaches(&lab) {
        assert_eq!(reach.tcp, Ok(NAT_PUBLIC));
        assert!(reach.udp.is_err() && reach.ping.is_err(), "{reach:#?}");
    }
}

#[test]
fn a_dead_target_is_a_black_hole() {
    let lab = Lab::aws().build().expect("a lab");
    nat_by_hand(&lab);
    assert_alive(&lab);
    call(&lab, "StopInstances", &[("InstanceId.1", lab.ids.instance("nat"))]);
    lab.sync().expect("the fabric follows");
    assert_dead(&lab);
    call(&lab, "StartInstances", &[("InstanceId.1", lab.ids.instance("nat"))]);
    lab.sync().expect("the fabric follows");
    assert_alive(&lab);
}

#[test]
fn reading_the_same_state_again_disturbs_no_flow() {
    let lab = Lab::aws().build().expect("a lab");
    nat_by_hand(&lab);
    let client = lab.client("client-b");
    let (mut tcp, mut udp) =
        (client.tcp_flow().expect("a connection"), client.udp_flow().expect("a socket"));
    let mut ping = client.ping_stream().expect("a raw socket");
    let patience = Duration::from_secs(1);
    let first = (tcp.exchange(patience).expect("TCP"), udp.exchange(patience).expect("UDP"));
    for _ in 0..5 {
        lab.sync().expect("the fabric follows");
        assert_eq!(
            first,
            (tcp.exchange(patience).expect("TCP"), udp.exchange(patience).expect("UDP"))
        );
        assert_eq!(ping.exchange(patience), Ok(NAT_PUBLIC));
    }
}

#[test]
fn two_interfaces_carry_in_by_one_and_out_by_the_other() {
    let lab = Lab::aws().two_interfaces().build().expect("a lab");
    let (inside, outside) = (lab.ids.interface("nat/eth1"), lab.ids.interface("nat/eth0"));
    add(&lab, Piece::Forwarding);
    add(&lab, Piece::Rule);
    for table in lab.ids.private_tables() {
        default_route(&lab, table, ("NetworkInterfaceId", inside));
    }
    call(
        &lab,
        "ModifyNetworkInterfaceAttribute",
        &[("NetworkInterfaceId", outside), ("SourceDestCheck.Value", "false")],
    );
    lab.sync().expect("the fabric follows");
    assert_dead(&lab);
    call(
        &lab,
        "ModifyNetworkInterfaceAttribute",
        &[("NetworkInterfaceId", inside), ("SourceDestCheck.Value", "false")],
    );
    lab.sync().expect("the fabric follows");
    assert_alive(&lab);
}

#[test]
fn a_public_address_stands_for_one_private_address() {
    let other = Ipv4Addr::new(10, 10, 1, 11);
    let lab = Lab::aws().secondary_address(other).build().expect("a lab");
    nat_by_hand(&lab);
    assert_alive(&lab);
    let swap = "ip addr add 10.10.1.11/24 dev eth0; ip addr del 10.10.1.10/24 dev eth0; \
                ip addr add 10.10.1.11/24 dev eth0 2>/dev/null || true; \
                ip route replace default via 10.10.1.1 dev eth0";
    lab.nat().sh(swap).expect("another address");
    assert_dead(&lab);
    lab.associate_public_address(other).expect("an association");
    assert_alive(&lab);
}

#[test]
fn a_nat_that_serves_its_own_subnet_sends_to_itself() {
    let lab = Lab::aws().nat_in_private_subnet().build().expect("a lab");
    let own = lab.ids.table("private-a");
    default_route(&lab, own, ("GatewayId", &lab.ids.elsewhere));
    for piece in [Piece::Forwarding, Piece::Rule, Piece::CheckOff] {
        add(&lab, piece);
    }
    let interface = lab.ids.interface("nat/eth0");
    default_route(&lab, lab.ids.table("private-b"), ("NetworkInterfaceId", interface));
    lab.sync().expect("the fabric follows");
    assert!(lab.client("client-b").reach().is_all(NAT_PUBLIC));
    lab.point_route(own, DEFAULT, interface).expect("a route");
    assert_dead(&lab);
}

#[test]
fn without_a_public_address_nothing_leaves() {
    let lab = Lab::aws().without_public_address().build().expect("a lab");
    nat_by_hand(&lab);
    assert_dead(&lab);
    assert!(lab.untranslated().expect("a counter") > 0);
}

#[test]
fn a_client_with_a_public_address_needs_no_nat() {
    let lab = Lab::aws().public_client("client-b").build().expect("a lab");
    assert_dead(&lab);
    for table in lab.ids.private_tables() {
        default_route(&lab, table, ("GatewayId", &lab.ids.elsewhere));
    }
    lab.sync().expect("the fabric follows");
    assert!(lab.client("client-b").reach().is_all(public_of_client(1)));
    assert!(lab.client("client-a").reach().is_none());
}
