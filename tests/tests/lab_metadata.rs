//! The lab's metadata service does as EC2's: a token first, and answers to whoever's packet it is.

#![allow(clippy::expect_used, reason = "a test says what it expects")]

use natd_tests::lab::Lab;
use natd_tests::lab::host::{Host, PATIENCE};
use natd_tests::lab::http::{Request, Response, send};
use natd_tests::lab::topology::METADATA;

fn ask(
    host: &Host,
    method: &str,
    target: &str,
    header: Option<(&str, &str)>,
) -> anyhow::Result<Response> {
    let address = (METADATA, 80).into();
    let request = Request {
        method: method.to_owned(),
        target: format!("/latest/{target}"),
        headers: header
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
        ..Request::default()
    };
    send(host.namespace.connect(address, PATIENCE)?, address, &request, PATIENCE)
}

fn token(host: &Host) -> anyhow::Result<String> {
    let response =
        ask(host, "PUT", "api/token", Some(("x-aws-ec2-metadata-token-ttl-seconds", "60")))?;
    assert_eq!(response.status, 200);
    Ok(String::from_utf8(response.body)?)
}

fn get(host: &Host, path: &str) -> anyhow::Result<String> {
    let token = token(host)?;
    let response = ask(host, "GET", path, Some(("x-aws-ec2-metadata-token", &token)))?;
    assert_eq!(response.status, 200, "{path}");
    Ok(String::from_utf8(response.body)?)
}

#[test]
fn no_answer_without_a_token() {
    let lab = Lab::aws().clients(1).build().expect("a lab");
    let nat = lab.nat();
    let status = |method, path, header| ask(nat, method, path, header).expect("an answer").status;
    assert_eq!(status("GET", "meta-data/instance-id", None), 401);
    assert_eq!(
        status("GET", "meta-data/instance-id", Some(("x-aws-ec2-metadata-token", "made-up"))),
        401
    );
    assert_eq!(status("PUT", "api/token", None), 400);
    let token = token(nat).expect("a token");
    assert_eq!(status("GET", "meta-data/nothing", Some(("x-aws-ec2-metadata-token", &token))), 404);
}

#[test]
fn answers_by_who_asks_and_from_the_state_of_the_cloud() {
    let lab = Lab::aws().two_interfaces().build().expect("a lab");
    for (host, name) in [
        (lab.client("client-a"), "client-a"),
        (lab.client("client-b"), "client-b"),
        (lab.nat(), "nat"),
    ] {
        assert_eq!(get(host, "meta-data/instance-id").expect("an answer"), lab.ids.instance(name));
        let mac = host.namespace.exec(["cat", "/sys/class/net/eth0/address"]).expect("an address");
        assert_eq!(get(host, "meta-data/mac").expect("an answer"), mac.trim());
    }
    let nat = lab.nat();
    let mac = get(nat, "meta-data/mac").expect("an answer");
    let macs = get(nat, "meta-data/network/interfaces/macs/").expect("an answer");
    assert_eq!(macs.lines().count(), 2, "{macs}");
    let of_mac =
        |key: &str| get(nat, &format!("meta-data/network/interfaces/macs/{mac}/{key}")).expect(key);
    assert_eq!(of_mac("interface-id"), lab.ids.interface("nat/eth0"));
    assert_eq!(of_mac("vpc-ipv4-cidr-blocks"), "10.10.0.0/16\n10.20.0.0/16");
    assert_eq!(of_mac("public-ipv4s"), "203.0.113.10");
    assert_eq!(of_mac("ipv4-associations/203.0.113.10"), "10.10.1.10");
    assert_eq!(of_mac("security-group-ids"), lab.ids.group("nat"));
}

/// This is what natd must prevent: a private host that gets the NAT instance's credentials.
#[test]
fn a_forwarded_question_gets_the_forwarders_answer() {
    let lab = Lab::aws().clients(1).build().expect("a lab");
    let (nat, client) = (lab.nat(), lab.client("client-a"));
    client.port.route_metadata(true).expect("a network without link-local metadata");
    assert!(get(client, "meta-data/instance-id").is_err(), "nothing forwards yet");
    nat.namespace.set_sysctls(&[("net.ipv4.ip_forward", "1")]).expect("forwarding");
    let interface = lab.ids.interface("nat/eth0");
    let call = |action, parameters: &[(&str, &str)]| {
        lab.api().call(action, parameters).expect("the API obeys")
    };
    call(
        "ModifyNetworkInterfaceAttribute",
        &[("NetworkInterfaceId", interface), ("SourceDestCheck.Value", "false")],
    );
    call(
        "CreateRoute",
        &[
            ("RouteTableId", lab.ids.table("private-a")),
            ("DestinationCidrBlock", "0.0.0.0/0"),
            ("NetworkInterfaceId", interface),
        ],
    );
    lab.sync().expect("the fabric follows");
    assert_eq!(get(client, "meta-data/instance-id").expect("an answer"), lab.ids.instance("nat"));
}

#[test]
fn can_be_off() {
    let mut lab = Lab::aws().clients(1).build().expect("a lab");
    lab.stop_metadata();
    assert!(token(lab.nat()).is_err());
    lab.start_metadata().expect("the service again");
    lab.nat().port.swallow_metadata(true).expect("a rule");
    assert!(token(lab.nat()).is_err());
    lab.nat().port.swallow_metadata(false).expect("a rule");
    token(lab.nat()).expect("a token");
}
