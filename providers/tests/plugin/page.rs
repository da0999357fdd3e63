//! The example on the page for authors of plugins works as it stands there.

use std::time::Duration;

use natd_core::{
    cloud::{OwnSubnet, Provider, TableSelector},
    error::Kind,
    model::{NextHop, RouteTableId},
};
use natd_providers::contract::{self, Finding, Outcome, Scratch};

use crate::program::Program;

const PAGE: &str = include_str!("../../../docs/plugin-protocol.md");

fn example() -> &'static str {
    let (_, rest) = PAGE.split_once("```python\n").expect("an example");
    rest.split_once("```").expect("its end").0
}

#[tokio::test]
async fn the_example_is_a_plugin() {
    let program = Program::python(example());
    let plugin = program.connect().await.expect("it starts");
    let instance = plugin.instance().await.expect("told");
    let ports = plugin.interfaces().await.expect("listed");
    let own = ports[0].facts().id.clone();
    assert!(instance.subnets.contains(&ports[0].facts().subnet));

    let asked = TableSelector {
        ids: ["private".parse().expect("id"), "nowhere".parse().expect("id")].into(),
        ..TableSelector::default()
    };
    let default = "0.0.0.0/0".parse().expect("block");
    let answer = plugin.route_tables(&asked).await.expect("listed");
    assert_eq!(answer.missing.len(), 1);
    let table = &answer.found[0];
    assert!(table.facts().routes.iter().all(|route| route.destination != default));

    table.put(default, &NextHop::Interface(own.clone())).await.expect("put");
    table.put(default, &NextHop::Interface(own.clone())).await.expect("put again");
    let shown = plugin.route_tables(&asked).await.expect("listed").found.remove(0);
    let route = shown.facts().routes.iter().find(|route| route.destination == default);
    assert_eq!(route.expect("it is there").next_hop, NextHop::Interface(own));

    table.remove(default).await.expect("removed");
    table.remove(default).await.expect("absent");
    let error = ports[0].set_source_dest_check(false, None).await.expect_err("no check");
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(!ports[0].source_dest_check().await.expect("read"));
}

#[tokio::test]
async fn the_page_has_the_words_for_whether_a_route_loops() {
    for (word, meant) in [
        ("loops", OwnSubnet::Loops),
        ("public-address-outranks", OwnSubnet::PublicAddressOutranks),
        ("hosts-decide", OwnSubnet::HostsDecide),
    ] {
        let quoted = format!("\"{word}\"");
        assert!(PAGE.contains(&format!("`{quoted}`")), "{word}");
        let (plain, told) =
            ("\"subnets\": [\"public\"]}", format!("\"subnets\": [], \"own_subnet\": {quoted}}}"));
        assert!(example().contains(plain));
        let program = Program::python(&example().replace(plain, &told));
        let plugin = program.connect().await.expect("it starts");
        assert_eq!(plugin.instance().await.expect("told").own_subnet, meant, "{word}");
    }
}

/// What `natd provider check --write` would say of it.
#[tokio::test]
async fn the_example_keeps_the_contract() {
    let program = Program::python(example());
    let plugin = program.connect().await.expect("it starts");
    let table: RouteTableId = "private".parse().expect("id");
    let selected = TableSelector { ids: [table.clone()].into(), ..TableSelector::default() };
    let mut findings = contract::read(&plugin, &selected).await;
    let scratch = Scratch::choose(&plugin, &table, None, Duration::ZERO).await.expect("free");
    findings.extend(contract::write(&plugin, &scratch).await);
    assert!(findings.iter().all(Finding::is_fine), "{findings:#?}");
    let kept = findings.iter().filter(|finding| finding.outcome == Outcome::Kept).count();
    assert!(kept > 14, "{findings:#?}");
}

/// The page's examples of messages, each a line of JSON.
#[test]
fn the_messages_on_the_page_are_json() {
    let blocks = PAGE.split("```json\n").skip(1).map(|rest| rest.split("```").next());
    let lines: Vec<&str> = blocks.flatten().flat_map(str::lines).collect();
    assert!(lines.len() > 16, "there are examples of every method");
    for line in lines {
        serde_json::from_str::<serde_json::Value>(line).expect(line);
    }
}
