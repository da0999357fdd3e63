//! Routes put and removed, also when somebody else was faster or the cloud is asked too often.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use natd_core::{
    cloud::{Provider, RouteTable},
    config,
    error::Kind,
    model::NextHop,
};
use natd_providers::{
    huawei::{Environment, Huawei},
    patience::Patience,
};
use serde_json::{Value, json};
use wiremock::{
    Mock, Request, ResponseTemplate,
    matchers::{method, path},
};

use crate::{
    cloud::{Cloud, HASTY, INSTANCE, MAC, VPC, get, in_project, port, refusal},
    route_tables::{by_ids, table},
};

/// A route table that lives: `add` refuses what is there, `mod` and `del` what isn't.
struct Living {
    cloud: Cloud,
    routes: Arc<Mutex<Vec<Value>>>,
}

fn route(kind: &str, destination: &str, nexthop: &str) -> Value {
    json!({"type": kind, "destination": destination, "nexthop": nexthop})
}

fn apply(routes: &mut Vec<Value>, change: &Value) -> Result<(), String> {
    let each = |verb: &str| change[verb].as_array().cloned().unwrap_or_default();
    let at = |routes: &[Value], route: &Value| {
        routes.iter().position(|there| there["destination"] == route["destination"])
    };
    for route in each("add") {
        if at(routes, &route).is_some() {
            return Err("route already exists".to_owned());
        }
        routes.push(route);
    }
    for route in each("mod") {
        let at = at(routes, &route).ok_or("route does not exist")?;
        for key in ["type", "nexthop"] {
            routes[at][key] = route[key].clone();
        }
    }
    for route in each("del") {
        let at = at(routes, &route).ok_or("route does not exist")?;
        routes.remove(at);
    }
    Ok(())
}

impl Living {
    async fn start(routes: Value) -> Self {
        let cloud = Cloud::start().await;
        cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
        cloud.list("routetables", json!([table("rtb-1", &[], true)])).await;
        let routes = Arc::new(Mutex::new(routes.as_array().expect("routes").clone()));
        let shown = Arc::clone(&routes);
        get("v1/routetables/rtb-1")
            .respond_with(move |_: &Request| {
                let routes = shown.lock().expect("lock").clone();
                let table = json!({"id": "rtb-1", "vpc_id": VPC, "routes": routes});
                ResponseTemplate::new(200).set_body_json(json!({"routetable": table}))
            })
            .mount(&cloud.api)
            .await;
        let written = Arc::clone(&routes);
        Mock::given(method("PUT"))
            .and(path(in_project("v1/routetables/rtb-1")))
            .respond_with(move |request: &Request| {
                let mut routes = written.lock().expect("lock");
                let body: Value = serde_json::from_slice(&request.body).expect("JSON");
                match apply(&mut routes, &body["routetable"]["routes"]) {
                    Ok(()) => ResponseTemplate::new(200).set_body_json(json!({"routetable": {}})),
                    Err(why) => refusal(400, &json!({"error_code": "VPC.2802", "error_msg": why})),
                }
            })
            .mount(&cloud.api)
            .await;
        Self { cloud, routes }
    }

    async fn listed(&self) -> Arc<dyn RouteTable> {
        self.listed_by(&self.cloud.connect().await).await
    }

    async fn listed_by(&self, huawei: &Huawei) -> Arc<dyn RouteTable> {
        let answer = huawei.route_tables(&by_ids(&["rtb-1"])).await.expect("listed");
        answer.found.into_iter().next().expect("one table")
    }

    fn routes(&self) -> Vec<Value> {
        self.routes.lock().expect("lock").clone()
    }

    fn set(&self, routes: &Value) {
        self.routes.lock().expect("lock").clone_from(routes.as_array().expect("routes"));
    }

    /// The words of the writes, in order.
    async fn writes(&self) -> Vec<String> {
        let requests = self.cloud.requests().await;
        let writes = requests.iter().filter(|request| request.method.as_str() == "PUT");
        writes
            .map(|request| {
                let body: Value = serde_json::from_slice(&request.body).expect("JSON");
                let change = body["routetable"]["routes"].as_object().expect("a change");
                change.keys().cloned().collect::<Vec<_>>().join(" ")
            })
            .collect()
    }
}

fn here() -> NextHop {
    NextHop::Interface("port-1".parse().expect("id"))
}

fn default_route() -> ipnet::IpNet {
    "0.0.0.0/0".parse().expect("block")
}

#[tokio::test]
async fn a_route_is_added_where_there_is_none_and_modified_where_there_is_one() {
    let living = Living::start(json!([])).await;
    living.listed().await.put(default_route(), &here()).await.expect("added");
    let mut added = route("ecs", "0.0.0.0/0", INSTANCE);
    added["description"] = "natd".into();
    assert_eq!(living.routes(), [added]);

    let mut theirs = route("nat", "0.0.0.0/0", "nat-1");
    theirs["description"] = "theirs".into();
    living.set(&json!([theirs]));
    let table = living.listed().await;
    table.put(default_route(), &here()).await.expect("modified");
    assert_eq!(living.routes()[0]["nexthop"], INSTANCE);
    let back = NextHop::Other { kind: "nat".to_owned(), id: "nat-1".to_owned() };
    table.put(default_route(), &back).await.expect("given back");
    assert_eq!(living.routes(), [theirs], "with the description that it had");
    assert_eq!(living.writes().await, ["add", "mod", "mod"]);
}

#[tokio::test]
async fn a_table_that_changed_since_the_listing_takes_the_other_word() {
    let living = Living::start(json!([])).await;
    let table = living.listed().await;
    living.set(&json!([route("nat", "0.0.0.0/0", "nat-1")]));
    table.put(default_route(), &here()).await.expect("modified");
    assert_eq!(living.routes()[0]["nexthop"], INSTANCE);

    let table = living.listed().await;
    living.set(&json!([]));
    table.put(default_route(), &here()).await.expect("added");
    assert_eq!(living.routes()[0]["nexthop"], INSTANCE);
    assert_eq!(living.writes().await, ["add", "mod", "mod", "add"]);

    // Somebody has written just that.
    living.set(&json!([]));
    let table = living.listed().await;
    living.set(&json!([route("ecs", "0.0.0.0/0", INSTANCE)]));
    table.put(default_route(), &here()).await.expect("there already");
    assert_eq!(living.writes().await.len(), 5);
}

#[tokio::test]
async fn a_refusal_that_has_another_reason_stands() {
    let living = Living::start(json!([])).await;
    let table = living.listed().await;
    let quota = json!({"error_code": "VPC.2803", "error_msg": "routes exceed the quota of 200"});
    living.cloud.refuse("PUT", "v1/routetables/rtb-1", 9, 409, &quota).await;
    let error = table.put(default_route(), &here()).await.expect_err("full");
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, Some("VPC.2803")));
    assert!(error.to_string().contains("route 0.0.0.0/0 in rtb-1"), "{error}");
    assert_eq!(living.writes().await, ["add"]);
}

#[tokio::test]
async fn removing_an_absent_route_is_success() {
    let living = Living::start(json!([route("ecs", "0.0.0.0/0", INSTANCE)])).await;
    let table = living.listed().await;
    table.remove(default_route()).await.expect("removed");
    table.remove(default_route()).await.expect("absent");
    assert_eq!(living.routes(), Vec::<Value>::new());
    assert_eq!(living.writes().await, ["del", "del"]);

    let gone = json!({"error_code": "VPC.2808", "error_msg": "RouteTable is not exist"});
    living.cloud.refuse("PUT", "v1/routetables/rtb-1", 9, 404, &gone).await;
    living.cloud.refuse("GET", "v1/routetables/rtb-1", 9, 404, &gone).await;
    let error = table.remove(default_route()).await.expect_err("the table is gone");
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_looked_after() {
    let living = Living::start(json!([])).await;
    let table = living.listed().await;
    let lost = json!({"error_code": "APIGW.0201", "error_msg": "Backend timeout"});
    living.cloud.refuse("PUT", "v1/routetables/rtb-1", 1, 504, &lost).await;
    table.put(default_route(), &here()).await.expect("written again");
    assert_eq!(living.routes().len(), 1);

    living.cloud.refuse("PUT", "v1/routetables/rtb-1", 1, 504, &lost).await;
    living.set(&json!([]));
    table.remove(default_route()).await.expect("it is gone");
    assert_eq!(living.writes().await, ["add", "add", "del"]);
}

#[tokio::test]
async fn next_hops_are_written_as_the_configuration_says() {
    for (way, kind, nexthop) in [
        (config::HuaweiNextHop::Ecs, "ecs", INSTANCE),
        (config::HuaweiNextHop::Eni, "eni", "port-1"),
        (config::HuaweiNextHop::Vip, "vip", "10.0.0.99"),
    ] {
        let living = Living::start(json!([route("ecs", "10.9.0.0/16", INSTANCE)])).await;
        let options = config::Huawei {
            next_hop: way,
            virtual_address: Some("10.0.0.99".parse().expect("address")),
            ..living.cloud.options()
        };
        let huawei = crate::cloud::connect(options).await;
        living.listed_by(&huawei).await.put(default_route(), &here()).await.expect("added");
        let written = &living.routes()[1];
        assert_eq!((&written["type"], &written["nexthop"]), (&json!(kind), &json!(nexthop)));
        let table = living.listed_by(&huawei).await;
        let shown = table.facts().routes.iter().find(|route| route.destination == default_route());
        assert_eq!(shown.expect("there").next_hop, here());
    }
}

#[tokio::test]
async fn a_denied_write_names_the_action_and_is_not_tried_again() {
    let living = Living::start(json!([])).await;
    let table = living.listed().await;
    let body = json!({"code": "VPC.2701", "message": "Token not allowed to do this action."});
    living.cloud.refuse("PUT", "v1/routetables/rtb-1", 9, 403, &body).await;
    let error = table.put(default_route(), &here()).await.expect_err("denied");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("vpc:routeTables:update"), "{error}");
    assert_eq!(living.writes().await.len(), 1);
}

fn throttled() -> Value {
    json!({"error_code": "APIGW.0308", "error_msg": "The throttling threshold has been reached"})
}

#[tokio::test]
async fn a_throttled_write_is_tried_again_after_a_while() {
    let living = Living::start(json!([])).await;
    let table = living.listed().await;
    living.cloud.refuse("PUT", "v1/routetables/rtb-1", 2, 429, &throttled()).await;
    table.put(default_route(), &here()).await.expect("at the third attempt");
    assert_eq!(living.writes().await.len(), 3);
}

#[tokio::test]
async fn throttling_without_end_is_bounded_for_one_write_and_for_many() {
    let living = Living::start(json!([])).await;
    // A pause doubles from 50 ms; who would wait for more than 200 ms is not sent.
    let patience = Patience {
        initial_backoff: Duration::from_millis(5),
        call: Duration::from_millis(200),
        ..HASTY
    };
    let service = config::Service::default();
    let options = living.cloud.options();
    let huawei = Huawei::connect_with(options, &service, &Environment::default(), patience).await;
    let table = living.listed_by(&huawei.expect("connected")).await;
    living.cloud.refuse("PUT", "v1/routetables/rtb-1", 9999, 429, &throttled()).await;
    let destinations: Vec<ipnet::IpNet> =
        (0..200).map(|n| format!("198.51.{n}.0/24").parse().expect("block")).collect();
    let hop = here();
    let puts = destinations.iter().map(|destination| table.put(*destination, &hop));
    let results: Vec<_> = futures_util::StreamExt::collect::<Vec<_>>(
        futures_util::StreamExt::buffered(futures_util::stream::iter(puts), 8),
    )
    .await;
    let kinds: Vec<_> =
        results.into_iter().map(|result| result.expect_err("throttled").kind()).collect();
    assert!(kinds.iter().all(|kind| *kind == Kind::Throttled));
    let sent = living.writes().await.len();
    assert!(sent < 30, "{sent} writes were sent for 200 routes");
}
