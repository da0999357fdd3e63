//! Which tables a selector finds, what they show, and what is said of those that it can't.

use natd_core::{
    cloud::{OwnSubnet, Provider, RouteTables, TableSelector},
    config::{self, OpenstackRoutes},
    error::Kind,
    model::{NextHop, RouteOrigin},
};
use serde_json::{Value, json};
use wiremock::{
    Match, Mock, ResponseTemplate,
    matchers::{path, query_param, query_param_is_missing},
};

use crate::cloud::{Cloud, INSIDE, OUTSIDE, options, port, route, router, subnet};

pub fn by_ids(ids: &[&str]) -> TableSelector {
    let ids = ids.iter().map(|id| id.parse().expect("id")).collect();
    TableSelector { ids, ..TableSelector::default() }
}

fn by_subnets(subnets: &[&str]) -> TableSelector {
    let subnets = subnets.iter().map(|id| id.parse().expect("id")).collect();
    TableSelector { subnets, ..TableSelector::default() }
}

fn by_tag(tag: &str) -> TableSelector {
    TableSelector { tags: [tag.parse().expect("tag")].into(), ..TableSelector::default() }
}

fn ids(answer: &RouteTables) -> Vec<&str> {
    answer.found.iter().map(|table| table.facts().id.as_str()).collect()
}

pub fn host_routes() -> config::Openstack {
    config::Openstack { routes: OpenstackRoutes::HostRoutes, ..options() }
}

#[tokio::test]
async fn a_router_is_found_by_id_by_subnet_and_by_tag() {
    let openstack = Cloud::start().await.connect().await;
    for (selector, expected) in [
        (by_ids(&["router-in"]), vec!["router-in"]),
        (by_subnets(&["subnet-far"]), vec!["router-in"]),
        (by_subnets(&[INSIDE, OUTSIDE]), vec!["router-in", "router-out"]),
        (by_tag("natd=managed"), vec!["router-in"]),
        (by_tag("natd=other"), vec![]),
    ] {
        let answer = openstack.route_tables(&selector).await.expect("listed");
        assert_eq!(ids(&answer), expected, "{selector:?}");
        assert!(answer.missing.is_empty(), "{:?}", answer.missing);
    }
}

#[tokio::test]
async fn what_can_not_be_served_is_told_and_the_rest_is() {
    let cloud = Cloud::start().await;
    let elsewhere = router("router-elsewhere", &json!([]));
    let routers = json!({ "routers": [router("router-in", &json!([])), elsewhere] });
    Mock::given(path("/v2.0/routers"))
        .respond_with(ResponseTemplate::new(200).set_body_json(routers))
        .with_priority(1)
        .mount(&cloud.neutron)
        .await;
    let selector = by_ids(&["router-in", "router-elsewhere", "router-none"]).union(&by_subnets(&[
        "subnet-alone",
        "subnet-none",
        OUTSIDE,
    ]));
    let answer = cloud.connect().await.route_tables(&selector).await.expect("listed");
    assert_eq!(ids(&answer), ["router-in"]);
    let told: Vec<_> =
        answer.missing.iter().map(|error| (error.kind(), error.to_string())).collect();
    for (kind, text) in [
        (Kind::Invalid, "use router router-elsewhere: this server has no port there"),
        (Kind::NotFound, "use router router-none: this project has none of that id"),
        (Kind::NotFound, "subnet subnet-alone: no router has its gateway address"),
        (Kind::NotFound, "subnet subnet-none: this project has no such subnet"),
        (Kind::NotFound, "subnet subnet-out: its router router-out is another project's"),
    ] {
        assert!(told.iter().any(|(k, t)| *k == kind && t.contains(text)), "{text}: {told:?}");
    }
    assert_eq!(told.len(), 5);
}

#[tokio::test]
async fn routes_show_own_ports_other_addresses_and_the_gateway() {
    let cloud = Cloud::start().await;
    let routes = json!([
        route("198.51.100.0/24", "10.0.2.5"),
        route("192.0.2.0/24", "10.0.2.77"),
        route("203.0.113.0/24", "10.0.2.78"),
        route("203.0.113.0/24", "10.0.2.77"),
    ]);
    Mock::given(path("/v2.0/routers"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "routers": [
            router("router-in", &routes),
            { "id": "router-out", "routes": [], "external_gateway_info": { "network_id": "internet" } },
        ] })))
        .with_priority(1)
        .mount(&cloud.neutron)
        .await;
    let answer = cloud.connect().await.route_tables(&by_ids(&["router-in", "router-out"])).await;
    let found = answer.expect("listed").found;
    let shown: Vec<_> = found[0]
        .facts()
        .routes
        .iter()
        .map(|route| (route.destination.to_string(), route.next_hop.to_string()))
        .collect();
    let expected = [
        ("192.0.2.0/24", "10.0.2.77 (address)"),
        ("198.51.100.0/24", "port-in"),
        ("203.0.113.0/24", "10.0.2.77,10.0.2.78 (addresses)"),
    ]
    .map(|(destination, hop)| (destination.to_owned(), hop.to_owned()));
    assert_eq!(shown, expected);
    let default = &found[1].facts().routes[0];
    assert_eq!(default.next_hop, NextHop::InternetGateway("internet".to_owned()));
    assert_eq!(default.origin, RouteOrigin::Propagated, "it can't be made again as a route");
}

#[tokio::test]
async fn a_router_that_is_not_the_gateway_does_not_serve_the_subnet() {
    // Its route through this server can't loop: the subnet's hosts don't go by it.
    let cloud = Cloud::bare().await;
    cloud.ports(&[port("port-out", OUTSIDE, "10.0.1.5")]).await;
    let leg = |router: &str, subnet: &str, address: &str| json!({ "id": router, "device_id": router, "fixed_ips": [{ "subnet_id": subnet, "ip_address": address }] });
    let legs = [
        leg("router-in", OUTSIDE, "10.0.1.2"),
        leg("router-out", OUTSIDE, "10.0.1.1"),
        leg("router-in", INSIDE, "10.0.2.1"),
    ];
    cloud.list("ports", &legs).await;
    cloud
        .list("routers", &[router("router-in", &json!([])), router("router-out", &json!([]))])
        .await;
    let subnets =
        [subnet(OUTSIDE, "10.0.1.0/24", "10.0.1.1"), subnet(INSIDE, "10.0.2.0/24", "10.0.2.1")];
    cloud.list("subnets", &subnets).await;
    let answer = cloud.connect().await.route_tables(&by_subnets(&[INSIDE, OUTSIDE])).await;
    let found = answer.expect("listed").found;
    let served: Vec<Vec<String>> = found
        .iter()
        .map(|table| table.facts().subnets.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(served, [[INSIDE], [OUTSIDE]]);
}

#[tokio::test]
async fn a_subnet_is_a_table_of_host_routes() {
    let cloud = Cloud::start().await;
    let mut inside = subnet(INSIDE, "10.0.2.0/24", "10.0.2.1");
    inside["tags"] = json!(["natd=managed"]);
    inside["host_routes"] = json!([route("192.0.2.0/24", "10.0.2.5")]);
    let subnets = json!({ "subnets": [inside, subnet(OUTSIDE, "10.0.1.0/24", "10.0.1.1")] });
    Mock::given(path("/v2.0/subnets"))
        .respond_with(ResponseTemplate::new(200).set_body_json(subnets))
        .with_priority(1)
        .mount(&cloud.neutron)
        .await;
    let openstack = cloud.connect_as(host_routes()).await;
    assert_eq!(openstack.instance().await.expect("known").own_subnet, OwnSubnet::HostsDecide);
    let selector = by_tag("natd=managed").union(&by_subnets(&[OUTSIDE, "subnet-far"]));
    let answer = openstack.route_tables(&selector).await.expect("listed");
    assert_eq!(ids(&answer), [INSIDE, OUTSIDE]);
    assert_eq!(answer.missing.len(), 1);
    let hops = |number: usize| -> Vec<String> {
        answer.found[number].facts().routes.iter().map(|route| route.next_hop.to_string()).collect()
    };
    assert_eq!(hops(0), ["port-in", "10.0.2.1 (gateway)"], "router-in has no way out");
    assert_eq!(hops(1), ["internet"], "router-out has");
}

/// A page of a list with that router, and whether it says that more follow.
fn page(id: &str, more: bool) -> ResponseTemplate {
    let mut page = json!({ "routers": [router(id, &json!([]))] });
    if more {
        // The link's host may be one that only the cloud's own machines reach.
        page["routers_links"] =
            json!([{ "rel": "next", "href": "http://internal/v2.0/routers?marker=x" }]);
    }
    ResponseTemplate::new(200).set_body_json(page)
}

async fn answers(cloud: &Cloud, marker: impl Match + 'static, page: ResponseTemplate) {
    Mock::given(path("/v2.0/routers"))
        .and(marker)
        .respond_with(page)
        .with_priority(1)
        .mount(&cloud.neutron)
        .await;
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let cloud = Cloud::start().await;
    answers(&cloud, query_param_is_missing("marker"), page("router-a", true)).await;
    answers(&cloud, query_param("marker", "router-a"), page("router-in", false)).await;
    let answer = cloud.connect().await.route_tables(&by_ids(&["router-in"])).await;
    assert_eq!(ids(&answer.expect("listed")), ["router-in"]);
}

#[tokio::test]
async fn a_list_that_goes_in_a_circle_is_an_error() {
    let cloud = Cloud::start().await;
    answers(&cloud, query_param_is_missing("marker"), page("router-a", true)).await;
    answers(&cloud, query_param("marker", "router-a"), page("router-b", true)).await;
    answers(&cloud, query_param("marker", "router-b"), page("router-a", true)).await;
    let answer = cloud.connect().await.route_tables(&by_ids(&["router-in"])).await;
    let error = answer.err().expect("it has no end").to_string();
    assert!(error.contains("the list of routers has no end"), "{error}");
}

#[tokio::test]
async fn a_tick_costs_the_same_whatever_the_number_of_routers() {
    let cloud = Cloud::bare().await;
    // In use: as long as an address pair is yet to be added, there is a list more.
    let mut in_use = port("port-in", INSIDE, "10.0.2.5");
    in_use["allowed_address_pairs"] = json!([{ "ip_address": "0.0.0.0/0" }]);
    cloud.ports(&[in_use]).await;
    let numbers = 0..200;
    let routers: Vec<Value> =
        numbers.clone().map(|n| router(&format!("router-{n}"), &json!([]))).collect();
    let legs: Vec<Value> = numbers
        .map(|n| {
            json!({ "id": format!("leg-{n}"), "device_id": format!("router-{n}"),
            "fixed_ips": [{ "subnet_id": INSIDE, "ip_address": format!("10.0.2.{}", n + 10) }] })
        })
        .collect();
    cloud.list("ports", &legs).await;
    cloud.list("routers", &routers).await;
    cloud.list("subnets", &[subnet(INSIDE, "10.0.2.0/24", "10.0.2.10")]).await;
    for list in ["floatingips", "security-group-rules"] {
        cloud.list(list, &[]).await;
    }
    let openstack = cloud.connect().await;
    openstack.instance().await.expect("known");
    openstack.interfaces().await.expect("listed");
    let tables = openstack.route_tables(&by_tag("natd=managed")).await.expect("listed");
    assert_eq!(tables.found.len(), 200);
    assert_eq!(cloud.calls().await.len(), 10);
}
