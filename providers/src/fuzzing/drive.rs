//! Asks a provider for all that natd ever asks, and checks what it tells and what it writes.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use natd_core::{
    cloud::{Interface, Provider, RouteTables, SourceDestCheck, TableSelector},
    error::{Error, Result},
    model::{InterfaceId, NextHop, Tag},
};
use serde_json::Value;

use super::{SECRET, server::Exchange};

/// Longer than anything that fits a line of a log.
const LONGEST: usize = 30_000;

/// An error is one line of bounded length, and holds no secret.
pub(crate) fn told(error: &Error) {
    let text = error.to_string();
    assert!(!text.contains(SECRET), "a secret is told: {text}");
    assert!(text.chars().count() < LONGEST, "{} characters: {text}", text.chars().count());
    assert!(!text.chars().any(char::is_control), "it is not one line: {text:?}");
}

fn checked<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(told).ok()
}

/// Everything, on the way up and down.
pub(crate) async fn drive(provider: &dyn Provider) {
    let Some(instance) = checked(provider.instance().await) else { return };
    for net in &instance.network_cidrs {
        assert_eq!(net.trunc(), *net, "bits behind the prefix");
    }
    let interfaces = checked(provider.interfaces().await).unwrap_or_default();
    let own = interfaces.first().map(|interface| interface.facts().id.clone());
    let tables = checked(provider.route_tables(&selector(&instance.subnets)).await);
    if let Some(RouteTables { found, missing }) = tables {
        missing.iter().for_each(told);
        for table in &found {
            for route in &table.facts().routes {
                assert_eq!(route.destination.trunc(), route.destination, "{route:?}");
            }
        }
        if let Some(table) = found.first() {
            write(table.as_ref(), own).await;
        }
    }
    if let Some(interface) = interfaces.first() {
        switch(interface.as_ref()).await;
    }
}

/// By each of the ways in which a table can be named.
fn selector(own: &BTreeSet<natd_core::model::SubnetId>) -> TableSelector {
    TableSelector {
        ids: ["rtb-1", "router-1", "rtb-absent"]
            .into_iter()
            .filter_map(|id| id.parse().ok())
            .collect(),
        tags: [Tag { key: "natd".to_owned(), value: "managed".to_owned() }].into(),
        subnets: own.iter().cloned().chain("subnet-1".parse().ok()).collect(),
    }
}

async fn write(table: &dyn natd_core::cloud::RouteTable, own: Option<InterfaceId>) {
    let destinations = ["0.0.0.0/0", "192.0.2.0/24"].into_iter().filter_map(|net| net.parse().ok());
    for destination in destinations.collect::<Vec<IpNet>>() {
        if let Some(own) = &own {
            checked(table.put(destination, &NextHop::Interface(own.clone())).await);
        }
        checked(table.remove(destination).await);
        let earlier = table.facts().routes.iter().find(|route| route.destination == destination);
        if let Some(earlier) = earlier {
            // As `natd down` gives it back.
            checked(table.put(destination, &earlier.next_hop).await);
        }
    }
}

async fn switch(interface: &dyn Interface) {
    let facts = interface.facts();
    if let Err(error) = &facts.security {
        told(error);
    }
    let earlier = match &facts.source_dest_check {
        SourceDestCheck::On { overwrites } => overwrites.clone(),
        SourceDestCheck::Locked(error) => {
            told(error);
            None
        }
        SourceDestCheck::Off => None,
    };
    checked(interface.set_source_dest_check(false, earlier.as_ref()).await);
    checked(interface.source_dest_check().await);
    checked(interface.set_source_dest_check(true, earlier.as_ref()).await);
}

/// Lists that are written as a whole hold all that was read right before and isn't natd's, as it was.
/// `is_natds` tells elements that natd may take away.
pub(crate) fn others_stay(
    exchanges: &[Exchange],
    lists: &[(&str, &str)],
    is_natds: impl Fn(&Value) -> bool,
) {
    let mut read: BTreeMap<&str, Value> = BTreeMap::new();
    for exchange in exchanges {
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
        match exchange.method.as_str() {
            "GET" if exchange.status == 200 => {
                read.insert(&exchange.path, json(&exchange.answered));
            }
            "PUT" => {
                let (before, written) = (read.get(exchange.path.as_str()), json(&exchange.sent));
                for (object, list) in lists {
                    let of = |value: &Value| value.get(*object)?.get(*list)?.as_array().cloned();
                    let (Some(before), Some(written)) = (before.and_then(of), of(&written)) else {
                        continue;
                    };
                    for element in before.iter().filter(|element| !is_natds(element)) {
                        assert!(
                            written.contains(element),
                            "{element} of {list} is lost: {written:?}"
                        );
                    }
                }
            }
            _ => {}
        }
    }
}
