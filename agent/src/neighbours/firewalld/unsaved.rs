//! What firewalld does now and would not do after a reload, or the other way round.

use std::collections::{BTreeMap, BTreeSet};

use natd_core::{
    error::Result,
    neighbours::firewalld::{POLICY, Unsaved},
};
use serde_json::Value;

use super::bus::{Bus, Target};

/// Which settings of zones hold interfaces.
const INTERFACES: &str = "interfaces";

/// Things that have names, and how they are asked for: names now and saved, settings now, and by name the
/// object that has the saved ones.
struct Named {
    what: &'static str,
    part: &'static str,
    names: &'static str,
    settings: &'static str,
    saved_names: &'static str,
    saved: (&'static str, &'static str, &'static str),
}

const NAMED: [Named; 3] = [
    Named {
        what: "zone",
        part: ".zone",
        names: "getZones",
        settings: "getZoneSettings2",
        saved_names: "getZoneNames",
        saved: ("getZoneByName", ".zone", "getSettings2"),
    },
    Named {
        what: "policy",
        part: ".policy",
        names: "getPolicies",
        settings: "getPolicySettings",
        saved_names: "getPolicyNames",
        saved: ("getPolicyByName", ".policy", "getSettings"),
    },
    Named {
        what: "ipset",
        part: ".ipset",
        names: "getIPSets",
        settings: "getIPSetSettings",
        saved_names: "getIPSetNames",
        saved: ("getIPSetByName", ".ipset", "getSettings"),
    },
];

/// What a reload would change, but for natd's own policy.
pub(super) async fn unsaved(bus: &Bus, doing: &str) -> Result<Unsaved> {
    let mut parts = BTreeSet::new();
    // By a reload, firewalld asks NetworkManager for its interfaces again.
    let returns = bus.has(doing, "org.freedesktop.NetworkManager").await?;
    let files = Target::permanent("");
    for named in NAMED {
        let now = Target::runtime(named.part);
        let names: BTreeSet<String> =
            bus.names(doing, &now, named.names).await?.into_iter().collect();
        let saved: BTreeSet<String> =
            bus.names(doing, &files, named.saved_names).await?.into_iter().collect();
        for name in names.union(&saved).filter(|name| *name != POLICY || named.what != "policy") {
            let is_both = names.contains(name) && saved.contains(name);
            let is_same = is_both && {
                let now = bus.call(doing, &now, named.settings, &["s", name]).await?;
                let saved = bus.saved(doing, named.saved, name).await?;
                normal(&now, returns) == normal(&saved, returns)
            };
            if !is_same {
                parts.insert(format!("{} {name}", named.what));
            }
        }
    }
    let direct = Target::runtime(".direct");
    let mut now = Vec::new();
    for method in ["getAllChains", "getAllRules", "getAllPassthroughs"] {
        now.push(bus.call(doing, &direct, method, &[]).await?);
    }
    let saved = bus.call(doing, &Target::permanent(".direct"), "getSettings", &[]).await?;
    if normal(&Value::Array(now), false) != normal(&saved, false) {
        parts.insert("direct rules".to_owned());
    }
    let services = bus.names(doing, &Target::runtime(""), "listServices").await?;
    let saved = bus.names(doing, &files, "getServiceNames").await?;
    let set = |names: Vec<String>| names.into_iter().collect::<BTreeSet<_>>();
    if set(services) != set(saved) {
        parts.insert("services".to_owned());
    }
    for (what, method, property) in [
        ("the default zone", "getDefaultZone", "DefaultZone"),
        ("what is logged", "getLogDenied", "LogDenied"),
    ] {
        let now = bus.call(doing, &Target::runtime(""), method, &[]).await?;
        if now != bus.property(doing, &files, property).await? {
            parts.insert(what.to_owned());
        }
    }
    Ok(Unsaved(parts))
}

/// The same for what means the same: lists in order, and without settings that are empty, which may be
/// left out.
fn normal(value: &Value, without_interfaces: bool) -> Value {
    match value {
        Value::Array(parts) => parts.iter().map(sorted).collect(),
        Value::Object(map) => {
            let kept: BTreeMap<&String, Value> = map
                .iter()
                .filter(|(key, _)| !(without_interfaces && *key == INTERFACES))
                .map(|(key, value)| (key, sorted(value.get("data").unwrap_or(value))))
                .filter(|(_, value)| !is_empty(value))
                .collect();
            kept.into_iter().map(|(key, value)| (key.clone(), value)).collect()
        }
        other => other.clone(),
    }
}

/// A list in order; what else there is as it is.
fn sorted(value: &Value) -> Value {
    let Value::Array(list) = value else { return value.clone() };
    let mut list = list.clone();
    list.sort_by_key(Value::to_string);
    Value::Array(list)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_and_what_is_empty_make_no_difference() {
        let now = json!({
            "services": {"type": "as", "data": ["ssh", "http"]},
            "ports": {"type": "a(ss)", "data": []},
            "masquerade": {"type": "b", "data": false},
            "forward": {"type": "b", "data": true},
        });
        let saved = json!({
            "forward": {"type": "b", "data": true},
            "services": {"type": "as", "data": ["http", "ssh"]},
        });
        assert_eq!(normal(&now, false), normal(&saved, false));
    }

    #[test]
    fn what_differs_makes_one() {
        let zone = |services: &[&str], interfaces: &[&str]| {
            json!({
                "services": {"type": "as", "data": services},
                "interfaces": {"type": "as", "data": interfaces},
            })
        };
        let (now, saved) = (zone(&["ssh"], &["eth0"]), zone(&["ssh"], &[]));
        assert_ne!(normal(&now, false), normal(&saved, false));
        assert_eq!(normal(&now, true), normal(&saved, true));
        assert_ne!(normal(&zone(&["ssh", "http"], &[]), true), normal(&saved, true));
        let ports = |ports: &[(&str, &str)]| json!({"ports": {"type": "a(ss)", "data": ports}});
        assert_ne!(normal(&ports(&[("80", "tcp")]), true), normal(&ports(&[("tcp", "80")]), true));
    }
}
