//! Which tables a selector finds, what they show, which are read in a tick.

use natd_core::{
    cloud::{Provider, RouteTables, TableSelector},
    error::Kind,
    model::RouteState,
};
use serde_json::{Value, json};
use wiremock::{Request, ResponseTemplate};

use crate::cloud::{Cloud, INSTANCE, MAC, VPC, get, page, port};

pub fn by_ids(ids: &[&str]) -> TableSelector {
    let ids = ids.iter().map(|id| id.parse().expect("id")).collect();
    TableSelector { ids, ..TableSelector::default() }
}

fn by_subnets(subnets: &[&str]) -> TableSelector {
    let subnets = subnets.iter().map(|id| id.parse().expect("id")).collect();
    TableSelector { subnets, ..TableSelector::default() }
}

fn ids(answer: &RouteTables) -> Vec<&str> {
    answer.found.iter().map(|table| table.facts().id.as_str()).collect()
}

pub fn table(id: &str, subnets: &[&str], default: bool) -> Value {
    let subnets: Vec<Value> = subnets.iter().map(|id| json!({"id": id})).collect();
    json!({"id": id, "name": id, "default": default, "vpc_id": VPC, "subnets": subnets})
}

pub async fn routes(cloud: &Cloud, id: &str, vpc: &str, routes: Value) {
    let table = json!({"routetable": {"id": id, "vpc_id": vpc, "routes": routes}});
    cloud.answer(&format!("v1/routetables/{id}"), table).await;
}

/// `rtb-default`, and `rtb-a` for `subnet-a`; one port in `subnet-1`.
async fn two_tables() -> Cloud {
    let cloud = Cloud::start().await;
    cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
    let both = json!([table("rtb-a", &["subnet-a"], false), table("rtb-default", &[], true)]);
    cloud.list("routetables", both).await;
    routes(&cloud, "rtb-a", VPC, json!([])).await;
    routes(&cloud, "rtb-default", VPC, json!([])).await;
    cloud
}

async fn reads(cloud: &Cloud) -> Vec<String> {
    let calls = cloud.calls().await;
    calls.into_iter().filter(|call| call.contains("/routetables/")).collect()
}

#[tokio::test]
async fn tables_are_found_by_id_and_by_subnet_each_once_in_order() {
    let cloud = two_tables().await;
    let selector = by_ids(&["rtb-default"]).union(&by_subnets(&["subnet-a"]));
    let answer = cloud.connect().await.route_tables(&selector).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-a", "rtb-default"]);
    assert_eq!(answer.missing, []);
    assert!(cloud.calls().await.iter().any(|call| call.contains("vpc_id=vpc-1")));
}

#[tokio::test]
async fn the_own_subnet_without_association_is_served_by_the_default_table() {
    let cloud = two_tables().await;
    let answer = cloud.connect().await.route_tables(&by_subnets(&["subnet-1"])).await;
    let answer = answer.expect("listed");
    assert_eq!(ids(&answer), ["rtb-default"]);
    assert_eq!(answer.found[0].facts().subnets, ["subnet-1".parse().expect("id")].into());
}

#[tokio::test]
async fn where_nobody_says_which_table_is_the_default_one_it_is_told_by_being_alone_or_by_name() {
    let without = |id: &str| {
        let mut table = table(id, &[], false);
        table.as_object_mut().expect("an object").remove("default");
        table
    };
    for (tables, found) in [
        (json!([without("rtb-x")]), Some("rtb-x")),
        (json!([without("rtb-vpc-1"), without("mine")]), Some("rtb-vpc-1")),
        (json!([without("mine"), without("yours")]), None),
    ] {
        let cloud = Cloud::start().await;
        cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
        for table in tables.as_array().expect("tables") {
            routes(&cloud, table["id"].as_str().expect("id"), VPC, json!([])).await;
        }
        cloud.list("routetables", tables).await;
        let answer = cloud.connect().await.route_tables(&by_subnets(&["subnet-1"])).await;
        let answer = answer.expect("listed");
        assert_eq!(ids(&answer).first().copied(), found);
        assert_eq!(answer.missing.len(), usize::from(found.is_none()));
    }
}

#[tokio::test]
async fn what_cant_be_served_is_told_one_by_one_and_hides_nothing() {
    let cloud = two_tables().await;
    routes(&cloud, "rtb-far", "vpc-2", json!([])).await;
    let gone = json!({"error_code": "VPC.2808", "error_msg": "RouteTable is not exist"});
    cloud.refuse("GET", "v1/routetables/rtb-none", 9, 404, &gone).await;
    cloud
        .answer("v1/subnets/subnet-far", json!({"subnet": {"id": "subnet-far", "vpc_id": "vpc-2"}}))
        .await;
    cloud.answer("v1/subnets/subnet-b", json!({"subnet": {"id": "subnet-b", "vpc_id": VPC}})).await;
    let no_subnet = json!({"code": "VPC.0202", "message": "subnet does not exist"});
    cloud.refuse("GET", "v1/subnets/subnet-none", 9, 404, &no_subnet).await;
    let selector = TableSelector {
        tags: ["natd=managed".parse().expect("tag")].into(),
        ..by_ids(&["rtb-a", "rtb-far", "rtb-none"]).union(&by_subnets(&[
            "subnet-b",
            "subnet-far",
            "subnet-none",
        ]))
    };
    let huawei = cloud.connect().await;
    let answer = huawei.route_tables(&selector).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-a", "rtb-default"]);
    let told: Vec<_> =
        answer.missing.iter().map(|error| (error.kind(), error.to_string())).collect();
    let expected = [
        (Kind::Invalid, ["rtb-far", "vpc-2", "vpc-1"]),
        (Kind::NotFound, ["rtb-none", "does not exist", "VPC.2808"]),
        (Kind::Invalid, ["subnet-far", "vpc-2", "vpc-1"]),
        (Kind::NotFound, ["subnet-none", "subnet", "exist"]),
        (Kind::Unsupported, ["natd=managed", "no tags", "routes.tables"]),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((kind, text), (expected, parts)) in told.iter().zip(expected) {
        assert_eq!(*kind, expected, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    huawei.route_tables(&selector).await.expect("listed");
    let calls = cloud.calls().await;
    let looked_up = calls.iter().filter(|call| call.ends_with("/subnets/subnet-b")).count();
    assert_eq!(looked_up, 1, "a subnet stays in its VPC");
}

#[tokio::test]
async fn further_pages_are_followed_however_short_they_are() {
    let cloud = Cloud::start().await;
    cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
    let all: Value = (0..7).map(|n| table(&format!("rtb-{n}"), &[], false)).collect();
    get("v1/routetables")
        .respond_with(move |request: &Request| {
            ResponseTemplate::new(200).set_body_json(json!({"routetables": page(&all, request, 3)}))
        })
        .mount(&cloud.api)
        .await;
    routes(&cloud, "rtb-6", VPC, json!([])).await;
    let answer = cloud.connect().await.route_tables(&by_ids(&["rtb-6"])).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-6"]);
}

#[tokio::test]
async fn a_service_that_knows_no_marker_does_not_turn_in_a_circle() {
    let cloud = two_tables().await;
    cloud.api.reset().await;
    cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
    cloud.answer("v1/routetables", json!({"routetables": [table("rtb-a", &[], true)]})).await;
    routes(&cloud, "rtb-a", VPC, json!([])).await;
    let answer = cloud.connect().await.route_tables(&by_ids(&["rtb-a"])).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-a"]);
}

#[tokio::test]
async fn routes_of_every_sort_are_shown_and_none_breaks_the_list() {
    let cloud = two_tables().await;
    cloud.api.reset().await;
    cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
    cloud.list("routetables", json!([table("rtb-a", &[], true)])).await;
    let all = json!([
        {"type": "local", "destination": "10.0.0.0/16", "nexthop": "-"},
        {"type": "ecs", "destination": "0.0.0.0/0", "nexthop": INSTANCE, "description": "x"},
        {"type": "eni", "destination": "10.1.0.0/16", "nexthop": "port-1"},
        {"type": "ecs", "destination": "10.2.0.0/16", "nexthop": "server-9"},
        {"type": "nat", "destination": "10.3.0.0/16", "nexthop": "nat-1"},
        {"type": "flux", "destination": "10.4.0.1/16", "nexthop": "flux-1", "new": [1]},
        {"type": "er", "destination": "::/0", "nexthop": "er-1"},
        {"type": "peering", "destination": "nonsense", "nexthop": "peer-1"},
    ]);
    routes(&cloud, "rtb-a", VPC, all).await;
    let answer = cloud.connect().await.route_tables(&by_ids(&["rtb-a"])).await.expect("listed");
    let shown = &answer.found[0].facts().routes;
    let lines: Vec<_> =
        shown.iter().map(|route| format!("{} {}", route.destination, route.next_hop)).collect();
    assert_eq!(
        lines,
        [
            "10.0.0.0/16 local",
            "0.0.0.0/0 port-1",
            "10.1.0.0/16 port-1",
            "10.2.0.0/16 server-9 (ecs)",
            "10.3.0.0/16 nat-1 (nat)",
            "10.4.0.0/16 flux-1 (flux)",
            "::/0 er-1 (er)",
        ]
    );
    assert_eq!(shown[1].state, RouteState::Active);
}

#[tokio::test]
async fn of_many_tables_eight_are_read_a_tick_and_those_asked_for_by_id_are_always() {
    let cloud = Cloud::start().await;
    cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
    let names: Vec<String> = (0..30).map(|n| format!("rtb-{n:02}")).collect();
    let all: Value = names.iter().map(|name| table(name, &[], name == "rtb-00")).collect();
    cloud.list("routetables", all).await;
    for name in &names {
        routes(&cloud, name, VPC, json!([])).await;
    }
    let huawei = cloud.connect().await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tick = by_ids(&names).union(&by_subnets(&["subnet-1"]));
    let mut before = 0;
    let mut turns = Vec::new();
    for expected in [30, 8, 8, 8, 8] {
        let answer = huawei.route_tables(&tick).await.expect("listed");
        assert_eq!(answer.found.len(), 30);
        let all = reads(&cloud).await;
        assert_eq!(all.len() - before, expected);
        turns.push(all[before..].to_vec());
        before = all.len();
    }
    let mut seen: Vec<_> = turns[1..].concat();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 30, "each has its turn");

    huawei.route_tables(&by_ids(&names)).await.expect("listed");
    assert_eq!(reads(&cloud).await.len() - before, 30);
}

#[tokio::test]
async fn an_empty_selector_costs_nothing() {
    let cloud = two_tables().await;
    let huawei = cloud.connect().await;
    let answer = huawei.route_tables(&TableSelector::default()).await.expect("empty");
    assert!(answer.found.is_empty() && answer.missing.is_empty());
    assert!(reads(&cloud).await.is_empty());
}

#[tokio::test]
async fn a_denied_list_and_a_denied_table_name_their_actions() {
    for (place, action) in [
        ("v1/routetables", "vpc:routeTables:list"),
        ("v1/routetables/rtb-a", "vpc:routeTables:get"),
    ] {
        let cloud = two_tables().await;
        let body = json!({"code": "VPC.2201", "message": "Policy doesn't allow it"});
        cloud.refuse("GET", place, 9, 403, &body).await;
        let error = cloud.connect().await.route_tables(&by_ids(&["rtb-a"])).await.err();
        let error = error.expect("denied");
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains(action), "{error}");
    }
}
