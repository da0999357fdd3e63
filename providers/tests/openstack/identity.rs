//! Which server this is, its network, its interfaces.

use std::collections::BTreeSet;

use natd_core::{
    cloud::{OwnSubnet, Provider, PublicAddress},
    config,
    error::Kind,
};
use natd_providers::openstack::Openstack;
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use crate::cloud::{Cloud, HASTY, SERVER, options, port, rule};

async fn metadata(links: &[&str]) -> MockServer {
    let server = MockServer::start().await;
    let serve = async |name: &str, body: Value| {
        Mock::given(method("GET"))
            .and(path(format!("/openstack/latest/{name}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(body))
            .mount(&server)
            .await;
    };
    serve("meta_data.json", json!({ "uuid": SERVER, "availability_zone": "nova" })).await;
    let link = |port: &&str| json!({ "id": format!("tap-{port}"), "vif_id": port, "ethernet_mac_address": "fa:16:3e:00:00:01", "type": "ovs" });
    let links: Vec<Value> = links.iter().map(link).collect();
    serve("network_data.json", json!({ "links": links, "networks": [] })).await;
    server
}

fn asking(metadata: &MockServer) -> config::Openstack {
    config::Openstack {
        instance_id: None,
        metadata_endpoint: Some(metadata.uri()),
        ..config::Openstack::default()
    }
}

#[tokio::test]
async fn the_metadata_service_names_server_zone_and_order() {
    let (cloud, metadata) = (Cloud::start().await, metadata(&["port-out", "port-in"]).await);
    let openstack = cloud.connect_as(asking(&metadata)).await;
    let instance = openstack.instance().await.expect("the cloud answers");
    assert_eq!((instance.id.as_str(), instance.zone.as_str()), (SERVER, "nova"));
    assert_eq!(instance.region, "one");
    assert_eq!(instance.network.as_str(), "network-out");
    assert_eq!(instance.own_subnet, OwnSubnet::Loops);
    let subnets: Vec<_> = instance.subnets.iter().map(ToString::to_string).collect();
    assert_eq!(subnets, ["subnet-in", "subnet-out"]);
    let blocks: Vec<_> = instance.network_cidrs.iter().map(ToString::to_string).collect();
    // Its own, and the further one on a router that is there; not the one that is somewhere else.
    assert_eq!(blocks, ["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]);
}

#[tokio::test]
async fn given_blocks_stand_for_the_network() {
    let cloud = Cloud::start().await;
    let vpc_cidrs = vec!["10.0.0.0/8".parse().expect("block")];
    let openstack = cloud.connect_as(config::Openstack { vpc_cidrs, ..options() }).await;
    let instance = openstack.instance().await.expect("the cloud answers");
    assert_eq!(instance.network_cidrs, ["10.0.0.0/8".parse().expect("block")]);
}

#[tokio::test]
async fn an_absent_metadata_service_is_reported_with_what_replaces_it() {
    let cloud = Cloud::start().await;
    let nobody = config::Openstack {
        metadata_endpoint: Some("http://127.0.0.1:9".to_owned()),
        ..config::Openstack::default()
    };
    let connected = Openstack::connect_with(nobody, cloud.environment(), HASTY).await;
    let error = connected.err().expect("nobody there");
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.advice().expect("advice").contains("openstack.instance_id"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_project_is_told() {
    let cloud = Cloud::start().await;
    let options =
        config::Openstack { instance_id: Some("server-2".parse().expect("id")), ..options() };
    let openstack = cloud.connect_as(options).await;
    Mock::given(path("/v2.0/ports"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "ports": [] })))
        .with_priority(9)
        .mount(&cloud.neutron)
        .await;
    let error = openstack.instance().await.expect_err("no ports");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("no port of server-2"), "{error}");
}

#[tokio::test]
async fn ports_show_addresses_and_what_their_groups_let_through() {
    let cloud = Cloud::start().await;
    let interfaces = cloud.connect().await.interfaces().await.expect("listed");
    let facts: Vec<_> = interfaces.iter().map(|interface| interface.facts().clone()).collect();
    // Of the same age, and without an order from the metadata service: by id.
    assert_eq!(facts[0].id.as_str(), "port-in");
    assert_eq!(facts[1].addresses[0].public.known(), Some("203.0.113.9".parse().expect("address")));
    assert_eq!(facts[0].addresses[0].public, PublicAddress::Absent, "router-in has no gateway");
    assert!(facts[0].source_dest_check.is_on());
    let rules = facts[0].security.clone().expect("readable");
    assert_eq!(rules.inbound, BTreeSet::from(["10.0.0.0/16".parse().expect("block")]));
    assert!(!rules.inbound_by_reference && !rules.outbound);
}

#[tokio::test]
async fn without_a_floating_ip_the_internet_sees_the_routers_address() {
    let cloud = Cloud::start().await;
    let nothing = ResponseTemplate::new(200).set_body_json(json!({ "floatingips": [] }));
    Mock::given(path("/v2.0/floatingips"))
        .respond_with(nothing)
        .with_priority(1)
        .mount(&cloud.neutron)
        .await;
    let interfaces = cloud.connect().await.interfaces().await.expect("listed");
    let public = interfaces[1].facts().addresses[0].public.known();
    assert_eq!(public, Some("203.0.113.1".parse().expect("address")));
}

#[tokio::test]
async fn rules_are_reduced_to_what_natd_judges_by() {
    let cloud = Cloud::bare().await;
    let mut open = port("port-open", "subnet-out", "10.0.1.6");
    open["port_security_enabled"] = json!(false);
    cloud.ports(&[port("port-out", "subnet-out", "10.0.1.5"), open]).await;
    for list in ["routers", "ports", "subnets", "floatingips"] {
        cloud.list(list, &[]).await;
    }
    let rules = [
        rule("group-1", &json!({ "protocol": "icmp", "remote_ip_prefix": "192.0.2.0/24" })),
        rule("group-1", &json!({ "remote_ip_prefix": null, "ethertype": "IPv6" })),
        rule("group-1", &json!({ "remote_ip_prefix": null, "remote_group_id": "group-2" })),
        rule("group-1", &json!({ "direction": "egress", "remote_ip_prefix": null })),
    ];
    cloud.list("security-group-rules", &rules).await;
    let interfaces = cloud.connect().await.interfaces().await.expect("listed");
    let of = |id: &str| {
        let port = interfaces.iter().find(|port| port.facts().id.as_str() == id).expect("listed");
        port.facts().security.clone().expect("readable")
    };
    let judged = of("port-out");
    assert_eq!(judged.inbound, BTreeSet::from(["::/0".parse().expect("block")]));
    assert!(judged.inbound_by_reference && judged.outbound);
    assert!(of("port-open").inbound.contains(&"0.0.0.0/0".parse().expect("block")));
}
