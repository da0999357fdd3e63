//! The lab's API endpoint logs what instances call, refuses what EC2 refuses, and fails on demand.

#![allow(clippy::expect_used, reason = "a test says what it expects")]

use std::time::{Duration, Instant};

use natd_tests::lab::Lab;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::http::{Request, Response, send};
use natd_tests::lab::topology::ENDPOINT;

/// Calls from the NAT instance, as natd would.
fn call(lab: &Lab, form: &str) -> anyhow::Result<Response> {
    let scope = "AWS4-HMAC-SHA256 Credential=x/20240101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let request = Request {
        method: "POST".to_owned(),
        target: "/".to_owned(),
        headers: vec![
            header("authorization", scope),
            header("user-agent", "a-test"),
            header("content-type", "application/x-www-form-urlencoded"),
        ],
        body: format!("{form}&Version=2016-11-15").into_bytes(),
        source: None,
    };
    let stream = lab.nat().namespace.connect(ENDPOINT, Duration::from_secs(1))?;
    send(stream, ENDPOINT, &request, Duration::from_secs(5))
}

fn body(response: &Response) -> String {
    String::from_utf8_lossy(&response.body).into_owned()
}

#[test]
fn calls_are_logged_here_and_by_the_api_itself() {
    let lab = Lab::aws().clients(1).build().expect("a lab");
    assert_eq!(call(&lab, "Action=DescribeVpcs").expect("an answer").status, 200);
    assert_eq!(call(&lab, "Action=CreateTags&ResourceId.1=vpc-0").expect("an answer").status, 400);
    let log = lab.api_log();
    let seen: Vec<_> =
        log.iter().map(|call| (call.action.as_str(), call.is_write(), call.status)).collect();
    assert_eq!(seen, [("DescribeVpcs", false, Some(200)), ("CreateTags", true, Some(400))]);
    assert_eq!(log[1].parameters["ResourceId.1"], "vpc-0");
    assert_eq!(log[1].user_agent, "a-test");
    assert_eq!(lab.api_recording().expect("moto's recording"), ["DescribeVpcs", "CreateTags"]);
    lab.api_log_clear();
    assert!(lab.api_log().is_empty());
}

#[test]
fn faults_are_used_up() {
    let lab = Lab::aws().clients(1).build().expect("a lab");
    lab.fail("DescribeVpcs", Fault::throttled(), 2);
    lab.fail("DescribeVpcs", Fault::DropBefore, 1);
    lab.fail("DescribeVpcs", Fault::Delay(Duration::from_millis(300)), 1);
    for _ in 0..2 {
        let refused = call(&lab, "Action=DescribeVpcs").expect("an answer");
        assert_eq!(refused.status, 503);
        assert!(body(&refused).contains("<Code>RequestLimitExceeded</Code>"));
    }
    assert!(call(&lab, "Action=DescribeVpcs").is_err(), "the connection is dropped");
    let started = Instant::now();
    assert_eq!(call(&lab, "Action=DescribeVpcs").expect("an answer").status, 200);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(call(&lab, "Action=DescribeVpcs").expect("an answer").status, 200);
}

#[test]
fn routes_are_created_once_and_replaced_only_if_they_are_there() {
    let lab = Lab::aws().clients(1).build().expect("a lab");
    let (table, interface) = (lab.ids.table("private-a"), lab.ids.interface("nat/eth0"));
    let route = |action: &str| {
        let of = format!("Action={action}&RouteTableId={table}&DestinationCidrBlock=0.0.0.0%2F0");
        let response =
            call(&lab, &format!("{of}&NetworkInterfaceId={interface}")).expect("an answer");
        (response.status, body(&response))
    };
    let refuses = |action: &str, code: &str| {
        let (status, body) = route(action);
        assert!(status == 400 && body.contains(code), "{status} {body}");
    };
    refuses("ReplaceRoute", "InvalidParameterValue");
    refuses("DeleteRoute", "InvalidRoute.NotFound");
    assert_eq!(route("CreateRoute").0, 200);
    refuses("CreateRoute", "RouteAlreadyExists");
    assert_eq!(route("ReplaceRoute").0, 200);
    assert_eq!(route("DeleteRoute").0, 200);
}

/// What an instance changes takes effect without being asked for.
#[test]
fn the_network_follows_what_instances_call() {
    let lab = Lab::aws().clients(1).build().expect("a lab");
    let nat = lab.nat();
    let (table, interface) = (lab.ids.table("private-a"), lab.ids.interface("nat/eth0"));
    nat.sh("sysctl -qw net.ipv4.ip_forward=1").expect("forwarding");
    let masquerade = "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; \
                      add rule ip t c oifname eth0 masquerade";
    nat.namespace.nft(masquerade).expect("a rule");
    let route = format!(
        "RouteTableId={table}&DestinationCidrBlock=0.0.0.0%2F0&NetworkInterfaceId={interface}"
    );
    call(&lab, &format!("Action=CreateRoute&{route}")).expect("an answer");
    let check = format!("NetworkInterfaceId={interface}&SourceDestCheck.Value=false");
    call(&lab, &format!("Action=ModifyNetworkInterfaceAttribute&{check}")).expect("an answer");
    let mut flow = lab.client("client-a").udp_flow().expect("a socket");
    flow.exchange(Duration::from_secs(1)).expect("the network follows within a second");
}

#[test]
fn an_answer_can_be_lost_though_the_call_was_carried_out() {
    let lab = Lab::aws().clients(1).build().expect("a lab");
    lab.fail("CreateRoute", Fault::DropAfter, 1);
    let (table, interface) = (lab.ids.table("private-a"), lab.ids.interface("nat/eth0"));
    let route = format!(
        "Action=CreateRoute&RouteTableId={table}&DestinationCidrBlock=0.0.0.0%2F0&NetworkInterfaceId={interface}"
    );
    assert!(call(&lab, &route).is_err());
    let again = call(&lab, &route).expect("an answer");
    assert!(body(&again).contains("RouteAlreadyExists"));
    let statuses: Vec<_> = lab.api_log().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [None, Some(400)]);
}
