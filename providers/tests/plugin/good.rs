//! Every method of a good plugin, as natd calls it and as natd takes the answer.

use natd_core::{
    cloud::{
        Address, CheckSettings, OwnSubnet, Provider, PublicAddress, RouteTables, SourceDestCheck,
        TableSelector,
    },
    error::Kind,
    model::{NextHop, RouteOrigin, RouteState, Tag},
};
use natd_providers::plugin::Plugin;
use serde_json::{Value, json};

use crate::program::Program;

const GOOD: &str = include_str!("good.py");

async fn good() -> (Program, Plugin) {
    let program = Program::python(GOOD);
    let plugin = program.connect().await.expect("it starts");
    (program, plugin)
}

fn selector(ids: &[&str], tag: Option<&str>, subnets: &[&str]) -> TableSelector {
    TableSelector {
        ids: ids.iter().map(|id| id.parse().expect("id")).collect(),
        tags: tag.iter().map(|tag| tag.parse::<Tag>().expect("tag")).collect(),
        subnets: subnets.iter().map(|id| id.parse().expect("id")).collect(),
    }
}

async fn tables(plugin: &Plugin, selector: TableSelector) -> RouteTables {
    plugin.route_tables(&selector).await.expect("listed")
}

#[tokio::test]
async fn natd_introduces_itself_with_the_settings() {
    let (program, _plugin) = good().await;
    let first: Value =
        serde_json::from_str(program.file("asked").lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        first,
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocol": 1, "natd": env!("CARGO_PKG_VERSION"), "settings": {"colour": "blue"}}})
    );
}

#[tokio::test]
async fn the_instance_is_told() {
    let (_program, plugin) = good().await;
    assert_eq!(plugin.name(), "plugin");
    let instance = plugin.instance().await.expect("told");
    assert_eq!(instance.id.as_str(), "vm-1");
    assert_eq!((instance.region.as_str(), instance.zone.as_str()), ("north", "n1"));
    assert_eq!(instance.network.as_str(), "net-1");
    assert_eq!(instance.network_cidrs, ["10.0.0.0/16".parse().expect("block")]);
    assert_eq!(instance.subnets, ["s-1".parse().expect("id")].into());
    assert_eq!(instance.own_subnet, OwnSubnet::PublicAddressOutranks);
}

#[tokio::test]
async fn interfaces_are_listed_with_what_their_groups_let_through() {
    let (_program, plugin) = good().await;
    let listed = plugin.interfaces().await.expect("listed");
    let facts: Vec<_> = listed.iter().map(|port| port.facts()).collect();
    assert_eq!(facts[0].id.as_str(), "port-1");
    assert_eq!(facts[0].mac.to_string(), "0a:00:00:00:00:01");
    assert_eq!(facts[0].subnet.as_str(), "s-1");
    let address = |private: &str, public: Option<&str>| Address {
        private: private.parse().expect("address"),
        public: public.map_or(PublicAddress::Unknown, |public| {
            PublicAddress::Is(public.parse().expect("address"))
        }),
    };
    assert_eq!(
        facts[0].addresses,
        [address("10.0.1.10", Some("203.0.113.1")), address("10.0.1.11", None)]
    );
    let settings = CheckSettings(json!({"pairs": [1, 2]}));
    assert_eq!(facts[0].source_dest_check, SourceDestCheck::On { overwrites: Some(settings) });
    assert_eq!(facts[1].source_dest_check, SourceDestCheck::Off);
    // That there is no public address is another thing than not to know.
    assert_eq!(facts[1].addresses[0].public, PublicAddress::Absent);
    let lock = facts[2].source_dest_check.lock().expect("locked");
    assert_eq!(lock.kind(), Kind::Conflict);
    assert_eq!(
        lock.to_string(),
        "could not switch the source/destination check of port-3 off: it is shared; ask its owner"
    );
    let rules = facts[0].security.as_ref().expect("rules");
    assert_eq!(rules.inbound, ["10.0.0.0/16".parse().expect("block")].into());
    assert!(rules.outbound && !rules.inbound_by_reference);

    // Without groups everything passes.
    let open = facts[1].security.as_ref().expect("rules");
    assert!(open.outbound && open.inbound.contains(&"0.0.0.0/0".parse().expect("block")));
    let unread = facts[2].security.as_ref().expect_err("not told");
    assert_eq!(unread.kind(), Kind::Denied);
    assert_eq!(
        unread.to_string(),
        "could not read the security groups of port-3: no right to [E403]; allow it"
    );
}

#[tokio::test]
async fn tables_are_found_missing_or_passed_over() {
    let (program, plugin) = good().await;
    let asked = selector(&["rt-0", "rt-7", "rt-8"], Some("natd=yes"), &["s-5"]);
    let RouteTables { found, missing } = tables(&plugin, asked).await;
    // rt-9 was listed and nobody asked for it.
    let ids: Vec<_> = found.iter().map(|table| table.facts().id.as_str()).collect();
    assert_eq!(ids, ["rt-0", "rt-1"]);
    let reasons: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        reasons,
        [
            "could not use route table rt-7: not yours [request r7]",
            "could not use route table rt-8: the plugin doesn't know it",
            "could not find the route table of s-5: the plugin knows no table that serves it",
        ]
    );
    assert_eq!((missing[0].kind(), missing[1].kind()), (Kind::Denied, Kind::NotFound));
    assert_eq!(
        program.asked()[0]["params"],
        json!({"ids": ["rt-0", "rt-7", "rt-8"], "tags": [{"key": "natd", "value": "yes"}], "subnets": ["s-5"]})
    );

    let routes = &found[1].facts().routes;
    assert_eq!(routes[0].next_hop, NextHop::Local);
    assert_eq!((routes[0].state, routes[0].origin), (RouteState::Active, RouteOrigin::Propagated));
    let unknown = NextHop::Other { kind: "hyper-gateway".to_owned(), id: "hg 1".to_owned() };
    assert_eq!(routes[1].next_hop, unknown);
    assert_eq!((routes[1].state, routes[1].origin), (RouteState::Blackhole, RouteOrigin::Static));
}

#[tokio::test]
async fn nothing_is_asked_for_nothing() {
    let (program, plugin) = good().await;
    let answer = tables(&plugin, TableSelector::default()).await;
    assert!(answer.found.is_empty() && answer.missing.is_empty());
    assert_eq!(program.asked(), [] as [Value; 0]);
}

#[tokio::test]
async fn routes_are_put_and_removed() {
    let (program, plugin) = good().await;
    let table = tables(&plugin, selector(&["rt-1"], None, &[])).await.found.remove(0);
    let default = "0.0.0.0/0".parse().expect("block");
    table.put(default, &NextHop::Interface("port-1".parse().expect("id"))).await.expect("put");
    // What natd doesn't know goes back as it came.
    let earlier = table.facts().routes[1].next_hop.clone();
    table.put(default, &earlier).await.expect("put");
    table.put("10.1.2.3/16".parse().expect("block"), &NextHop::Local).await.expect("put");
    table.remove(default).await.expect("removed");
    let asked: Vec<_> = program.asked()[1..]
        .iter()
        .map(|call| (call["method"].clone(), call["params"].clone()))
        .collect();
    let put = |destination: &str, hop: Value| {
        (json!("put"), json!({"table": "rt-1", "destination": destination, "next_hop": hop}))
    };
    assert_eq!(
        asked,
        [
            put("0.0.0.0/0", json!({"type": "interface", "id": "port-1"})),
            put("0.0.0.0/0", json!({"type": "hyper-gateway", "id": "hg 1"})),
            put("10.1.0.0/16", json!({"type": "local"})),
            (json!("remove"), json!({"table": "rt-1", "destination": "0.0.0.0/0"})),
        ]
    );
}

#[tokio::test]
async fn the_check_is_switched_and_read() {
    let (program, plugin) = good().await;
    let port = plugin.interfaces().await.expect("listed").remove(0);
    let earlier = CheckSettings(json!({"pairs": []}));
    port.set_source_dest_check(false, None).await.expect("off");
    port.set_source_dest_check(true, Some(&earlier)).await.expect("on");
    assert!(!port.source_dest_check().await.expect("read"));
    let asked: Vec<_> = program.asked()[1..].iter().map(|call| call["params"].clone()).collect();
    assert_eq!(
        asked,
        [
            json!({"interface": "port-1", "enabled": false}),
            json!({"interface": "port-1", "enabled": true, "earlier": {"pairs": []}}),
            json!({"interface": "port-1"}),
        ]
    );
}

#[tokio::test]
async fn an_error_of_the_plugin_is_natds_own() {
    let (_program, plugin) = good().await;
    let table = tables(&plugin, selector(&["rt-1"], None, &[])).await.found.remove(0);
    let error = table.remove("10.99.0.0/16".parse().expect("block")).await.expect_err("refused");
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, Some("E9")));
    assert_eq!(
        error.to_string(),
        "could not delete route 10.99.0.0/16 in rt-1: taken [E9, request r9]"
    );
    table.remove("10.98.0.0/16".parse().expect("block")).await.expect("it goes on");
}

#[tokio::test]
async fn what_is_throttled_is_tried_again_and_nothing_else_is() {
    let refuse = |kind: &str, times: u32| {
        let script = GOOD.replace(
            "    answer = {",
            &format!(
                r#"    if request["id"] in range(2, {}):
        error = {{"code": 1, "message": "no", "data": {{"kind": "{kind}"}}}}
        print(json.dumps({{"jsonrpc": "2.0", "id": request["id"], "error": error}}), flush=True)
        continue
    answer = {{"#,
                times + 2
            ),
        );
        Program::python(&script)
    };
    let program = refuse("throttled", 3);
    let plugin = program.connect().await.expect("it starts");
    plugin.instance().await.expect("at last");
    assert_eq!(program.asked().len(), 4);

    let program = refuse("throttled", 100);
    let plugin = program.connect().await.expect("it starts");
    let error = plugin.instance().await.expect_err("for ever");
    assert_eq!((error.kind(), program.asked().len()), (Kind::Throttled, 5));

    let program = refuse("unreachable", 1);
    let plugin = program.connect().await.expect("it starts");
    let error = plugin.instance().await.expect_err("refused");
    assert_eq!((error.kind(), program.asked().len()), (Kind::Unreachable, 1));
}

/// Answers only once three requests have come.
const THREE_AT_ONCE: &str = r#"
import json, sys
hello = {"protocol": 1, "name": "wide", "concurrency": 3}
print(json.dumps({"jsonrpc": "2.0", "id": json.loads(input())["id"], "result": hello}), flush=True)
ids = [json.loads(input())["id"] for _ in range(3)]
for place in reversed(ids):
    result = {"id": f"vm-{place}", "network": "n", "network_cidrs": []}
    print(json.dumps({"jsonrpc": "2.0", "id": place, "result": result}), flush=True)
sys.stdin.read()
"#;

#[tokio::test]
async fn as_many_requests_are_under_way_as_the_plugin_allows() {
    let program = Program::python(THREE_AT_ONCE);
    let plugin = program.connect().await.expect("it starts");
    let (a, b, c) = tokio::join!(plugin.instance(), plugin.instance(), plugin.instance());
    // Answered last to first, and each got its own.
    let ids = [a, b, c].map(|answer| answer.expect("answered").id.to_string());
    assert_eq!(ids, ["vm-2", "vm-3", "vm-4"]);
}

#[tokio::test]
async fn a_plugin_that_allows_nothing_is_asked_one_thing_at_a_time() {
    let alone = GOOD.replace(
        "    answer = {",
        "    import select\n    assert not select.select([sys.stdin], [], [], 0.2)[0], 'two at once'\n    answer = {",
    );
    let program = Program::python(&alone);
    let plugin = program.connect().await.expect("it starts");
    let (a, b, c) = tokio::join!(plugin.instance(), plugin.interfaces(), plugin.instance());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
}
