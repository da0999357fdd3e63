//! Routes are put and removed, and nobody else's is lost.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::try_join_all;
use ipnet::IpNet;
use natd_core::{
    cloud::{Provider, RouteTable},
    config,
    error::Kind,
    model::NextHop,
};
use serde_json::{Value, json};
use wiremock::{Mock, Request, Respond, ResponseTemplate, matchers::path};

use crate::{
    cloud::{Cloud, INSIDE, options, route, router, subnet},
    tables::{by_ids, host_routes},
};

const ADD: &str = "routers/router-in/add_extraroutes";
const REMOVE: &str = "routers/router-in/remove_extraroutes";

fn default_route() -> IpNet {
    "0.0.0.0/0".parse().expect("block")
}

fn own() -> NextHop {
    NextHop::Interface("port-in".parse().expect("id"))
}

fn other(kind: &str, id: &str) -> NextHop {
    NextHop::Other { kind: kind.to_owned(), id: id.to_owned() }
}

async fn table_of(cloud: &Cloud, options: config::Openstack, id: &str) -> Arc<dyn RouteTable> {
    let answer = cloud.connect_as(options).await.route_tables(&by_ids(&[id])).await;
    answer.expect("listed").found.remove(0)
}

/// `router-in`, which shows these routes when it is read, one list after the other.
async fn listed(cloud: &Cloud, readings: &[Value]) -> Arc<dyn RouteTable> {
    for (number, routes) in readings.iter().enumerate() {
        let mut router = router("router-in", routes);
        router["revision_number"] = json!(7 + number);
        cloud.show("router", 1, &router).await;
    }
    table_of(cloud, options(), "router-in").await
}

#[tokio::test]
async fn a_new_route_is_added_beside_the_others() {
    let cloud = Cloud::start().await;
    let table = listed(&cloud, &[json!([route("192.0.2.0/24", "10.0.2.77")])]).await;
    cloud.accept().await;
    table.put(default_route(), &own()).await.expect("added");
    let body = json!({ "router": { "routes": [route("0.0.0.0/0", "10.0.2.5")] } });
    assert_eq!(cloud.writes().await, [(ADD.to_owned(), String::new(), body)]);
}

#[tokio::test]
async fn a_route_that_is_there_is_not_written_again() {
    let cloud = Cloud::start().await;
    let table = listed(&cloud, &[json!([route("0.0.0.0/0", "10.0.2.5")])]).await;
    table.put(default_route(), &own()).await.expect("nothing to do");
    assert!(cloud.writes().await.is_empty());
}

#[tokio::test]
async fn a_next_hop_is_replaced_in_one_write_under_the_revision() {
    let cloud = Cloud::start().await;
    let mut theirs = route("192.0.2.0/24", "10.0.2.77");
    theirs["bfd"] = json!(true);
    let routes = json!([route("0.0.0.0/0", "10.0.2.78"), theirs, route("0.0.0.0/0", "10.0.2.79")]);
    let table = listed(&cloud, &[routes]).await;
    cloud.accept().await;
    table.put(default_route(), &own()).await.expect("replaced");
    let body = json!({ "router": { "routes": [theirs, route("0.0.0.0/0", "10.0.2.5")] } });
    assert_eq!(
        cloud.writes().await,
        [("routers/router-in".to_owned(), "revision_number=7".to_owned(), body)]
    );
}

#[tokio::test]
async fn what_somebody_else_wrote_in_between_is_kept() {
    let cloud = Cloud::start().await;
    let old = route("0.0.0.0/0", "10.0.2.78");
    let new = route("192.0.2.0/24", "10.0.2.77");
    let table = listed(&cloud, &[json!([old]), json!([old, new])]).await;
    cloud.refuse("PUT", "routers/router-in", 1, 412, "RevisionNumberConstraintFailed").await;
    cloud.accept().await;
    table.put(default_route(), &own()).await.expect("at the second write");
    let writes = cloud.writes().await;
    assert_eq!(writes[1].1, "revision_number=8");
    assert_eq!(writes[1].2["router"]["routes"], json!([new, route("0.0.0.0/0", "10.0.2.5")]));
}

#[tokio::test]
async fn who_loses_again_and_again_gives_up() {
    let cloud = Cloud::start().await;
    let readings = vec![json!([route("0.0.0.0/0", "10.0.2.78")]); 40];
    let table = listed(&cloud, &readings).await;
    cloud.refuse("PUT", "routers/router-in", 99, 412, "RevisionNumberConstraintFailed").await;
    let error = table.put(default_route(), &own()).await.expect_err("a fight");
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(cloud.writes().await.len(), 20);
}

#[tokio::test]
async fn without_the_extension_the_list_is_replaced_under_the_revision() {
    let cloud = Cloud::start().await;
    let nothing = wiremock::ResponseTemplate::new(200).set_body_json(json!({ "extensions": [] }));
    wiremock::Mock::given(wiremock::matchers::path("/v2.0/extensions"))
        .respond_with(nothing)
        .with_priority(1)
        .mount(&cloud.neutron)
        .await;
    let theirs = route("192.0.2.0/24", "10.0.2.77");
    let readings = [json!([theirs]), json!([theirs, route("0.0.0.0/0", "10.0.2.5")])];
    let table = listed(&cloud, &readings).await;
    cloud.accept().await;
    table.put(default_route(), &own()).await.expect("added");
    table.remove(default_route()).await.expect("removed");
    let writes = cloud.writes().await;
    assert_eq!(writes[0].2["router"]["routes"], json!([theirs, route("0.0.0.0/0", "10.0.2.5")]));
    assert_eq!(
        (writes[1].1.as_str(), &writes[1].2["router"]["routes"]),
        ("revision_number=8", &json!([theirs]))
    );
    assert!(writes.iter().all(|write| write.0 == "routers/router-in"));
}

#[tokio::test]
async fn only_the_own_route_is_removed_and_an_absent_one_is_success() {
    let cloud = Cloud::start().await;
    let (ours, theirs) = (route("0.0.0.0/0", "10.0.2.5"), route("0.0.0.0/0", "10.0.2.78"));
    let readings = [json!([]), json!([ours, theirs]), json!([theirs])];
    let table = listed(&cloud, &readings).await;
    cloud.accept().await;
    table.remove(default_route()).await.expect("absent");
    assert!(cloud.writes().await.is_empty());
    for removed in [&ours, &theirs] {
        table.remove(default_route()).await.expect("removed");
        let (path, _, body) = cloud.writes().await.pop().expect("written");
        assert_eq!((path.as_str(), &body["router"]["routes"]), (REMOVE, &json!([removed])));
    }
}

#[tokio::test]
async fn earlier_targets_are_written_back() {
    let cloud = Cloud::start().await;
    let ours = json!([route("0.0.0.0/0", "10.0.2.5")]);
    let table = listed(&cloud, &[ours.clone(), ours]).await;
    cloud.accept().await;
    for (hop, addresses) in [
        (other("address", "10.0.2.78"), vec!["10.0.2.78"]),
        (other("addresses", "10.0.2.78,10.0.2.79"), vec!["10.0.2.78", "10.0.2.79"]),
    ] {
        table.put(default_route(), &hop).await.expect("given back");
        let routes: Vec<Value> = addresses.iter().map(|hop| route("0.0.0.0/0", hop)).collect();
        let (_, _, body) = cloud.writes().await.pop().expect("written");
        assert_eq!(body["router"]["routes"], json!(routes));
    }
    for hop in
        [NextHop::Local, NextHop::InternetGateway("internet".to_owned()), other("unknown", "?")]
    {
        let error = table.put(default_route(), &hop).await.expect_err("no address");
        assert_eq!(error.kind(), Kind::Unsupported);
    }
}

#[tokio::test]
async fn a_port_that_is_elsewhere_is_refused_before_anything_is_written() {
    let cloud = Cloud::start().await;
    let table = listed(&cloud, &[]).await;
    let outside = NextHop::Interface("port-out".parse().expect("id"));
    let error = table.put(default_route(), &outside).await.expect_err("not on the router");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(
        error.to_string().contains("must be on one of its subnets (subnet-far, subnet-in)"),
        "{error}"
    );
    assert!(error.advice().expect("advice").contains("routes.interface"), "{error}");

    cloud.refuse("GET", "ports/port-gone", 1, 404, "PortNotFound").await;
    let gone = NextHop::Interface("port-gone".parse().expect("id"));
    let error = table.put(default_route(), &gone).await.expect_err("gone");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(cloud.writes().await.is_empty());
}

#[tokio::test]
async fn what_the_cloud_refuses_is_told_with_what_to_do() {
    for (status, code, kind, advice) in [
        (409, "OverQuota", Kind::Conflict, "max_routes"),
        (400, "InvalidRoutes", Kind::Invalid, "routes.interface"),
        (401, "Unauthorized", Kind::Denied, r#""path":"/v2.0/routers/*/add_extraroutes"}"#),
    ] {
        let cloud = Cloud::start().await;
        let table = listed(&cloud, &[json!([])]).await;
        cloud.refuse("PUT", ADD, 9, status, code).await;
        let error = table.put(default_route(), &own()).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.advice().expect("advice").contains(advice), "{error}");
    }
    let cloud = Cloud::start().await;
    let table = listed(&cloud, &[]).await;
    cloud.refuse("GET", "routers/router-in", 9, 404, "RouterNotFound").await;
    let error = table.put(default_route(), &own()).await.expect_err("gone");
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn host_routes_are_replaced_under_the_subnets_revision() {
    let cloud = Cloud::start().await;
    let theirs = route("192.0.2.0/24", "10.0.2.77");
    for routes in [json!([theirs]), json!([theirs, route("0.0.0.0/0", "10.0.2.5")])] {
        let mut subnet = subnet(INSIDE, "10.0.2.0/24", "10.0.2.1");
        subnet["host_routes"] = routes;
        cloud.show("subnet", 1, &subnet).await;
    }
    let table = table_of(&cloud, host_routes(), INSIDE).await;
    cloud.accept().await;
    table.put(default_route(), &own()).await.expect("added");
    table.remove(default_route()).await.expect("removed");
    let expected = [json!([theirs, route("0.0.0.0/0", "10.0.2.5")]), json!([theirs])];
    let writes = cloud.writes().await;
    for (write, routes) in writes.iter().zip(expected) {
        let body = json!({ "subnet": { "host_routes": routes } });
        assert_eq!(*write, ("subnets/subnet-in".to_owned(), "revision_number=3".to_owned(), body));
    }
    assert_eq!(writes.len(), 2);
}

/// A subnet that takes every list, whatever revision it is for, and takes its time: so Neutron does for
/// writers of one instant.
struct Careless(Mutex<Value>);

impl Respond for Careless {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut subnet = self.0.lock().expect("no panic");
        if request.method.as_str() == "PUT" {
            let body: Value = request.body_json().expect("JSON");
            subnet["host_routes"] = body["subnet"]["host_routes"].clone();
        }
        ResponseTemplate::new(200)
            .set_delay(Duration::from_millis(20))
            .set_body_json(json!({ "subnet": subnet.clone() }))
    }
}

#[tokio::test]
async fn own_writes_to_one_table_go_one_after_the_other() {
    let cloud = Cloud::start().await;
    let careless = Careless(Mutex::new(subnet(INSIDE, "10.0.2.0/24", "10.0.2.1")));
    Mock::given(path("/v2.0/subnets/subnet-in")).respond_with(careless).mount(&cloud.neutron).await;
    let openstack = cloud.connect_as(host_routes()).await;
    let selector = by_ids(&[INSIDE]);
    let snapshots = [
        openstack.route_tables(&selector).await.expect("listed").found.remove(0),
        openstack.route_tables(&selector).await.expect("listed").found.remove(0),
    ];
    let own = own();
    let puts = (0..8).map(|number| {
        let destination = format!("198.18.{number}.0/24").parse().expect("block");
        snapshots[number % 2].put(destination, &own)
    });
    try_join_all(puts).await.expect("written");
    let (_, _, body) = cloud.writes().await.pop().expect("written");
    assert_eq!(body["subnet"]["host_routes"].as_array().map(Vec::len), Some(8));
}
