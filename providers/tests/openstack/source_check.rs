//! The check of a port's addresses, off and on, by either way.

use std::sync::Arc;

use natd_core::{
    cloud::{CheckSettings, Interface, Provider, SourceDestCheck},
    config::{self, OpenstackSourceCheck},
    error::Kind,
};
use serde_json::{Value, json};
use wiremock::{
    Mock,
    matchers::{method, path, query_param},
};

use crate::cloud::{Cloud, ok, options, port, rule};

async fn listed(cloud: &Cloud, kind: OpenstackSourceCheck) -> Arc<dyn Interface> {
    let options = config::Openstack { source_check: kind, ..options() };
    let interfaces = cloud.connect_as(options).await.interfaces().await.expect("listed");
    interfaces.into_iter().find(|port| port.facts().id.as_str() == "port-in").expect("listed")
}

/// The port, with other fields over the usual ones.
fn with(over: &Value) -> Value {
    let mut port = port("port-in", "subnet-in", "10.0.2.5");
    for (key, value) in over.as_object().expect("a table") {
        port[key] = value.clone();
    }
    port
}

fn everywhere() -> Value {
    json!({ "ip_address": "0.0.0.0/0", "mac_address": "fa:16:3e:00:00:02" })
}

/// Somebody's pair, with a field that natd doesn't know.
fn foreign() -> Value {
    json!({ "ip_address": "10.0.2.100", "mac_address": "FA:16:3E:00:00:02", "reason": { "of": "vrrp" } })
}

/// The rules that name a group of the port.
async fn named_by(cloud: &Cloud, rules: &[Value]) {
    Mock::given(method("GET"))
        .and(path("/v2.0/security-group-rules"))
        .and(query_param("remote_group_id", "group-1"))
        .respond_with(ok("security_group_rules", &json!(rules)))
        .with_priority(1)
        .mount(&cloud.neutron)
        .await;
}

#[tokio::test]
async fn a_pair_is_added_and_the_others_are_kept_as_they_are() {
    let cloud = Cloud::start().await;
    named_by(&cloud, &[]).await;
    let interface = listed(&cloud, OpenstackSourceCheck::AddressPairs).await;
    assert_eq!(interface.facts().source_dest_check, SourceDestCheck::On { overwrites: None });
    cloud.show("port", 1, &with(&json!({ "allowed_address_pairs": [foreign()] }))).await;
    cloud.accept().await;
    interface.set_source_dest_check(false, None).await.expect("switched");
    let body =
        json!({ "port": { "allowed_address_pairs": [foreign(), { "ip_address": "0.0.0.0/0" }] } });
    assert_eq!(
        cloud.writes().await,
        [("ports/port-in".to_owned(), "revision_number=4".to_owned(), body)]
    );

    // Off already, on again, on already.
    let off = with(&json!({ "allowed_address_pairs": [foreign(), everywhere()] }));
    cloud.show("port", 3, &off).await;
    assert!(!interface.source_dest_check().await.expect("read"));
    interface.set_source_dest_check(false, None).await.expect("nothing to do");
    interface.set_source_dest_check(true, None).await.expect("switched");
    cloud.show("port", 1, &with(&json!({}))).await;
    interface.set_source_dest_check(true, None).await.expect("nothing to do");
    let writes = cloud.writes().await;
    assert_eq!(writes.len(), 2);
    assert_eq!(writes[1].2, json!({ "port": { "allowed_address_pairs": [foreign()] } }));
}

#[tokio::test]
async fn somebody_who_was_quicker_loses_nothing() {
    let cloud = Cloud::start().await;
    named_by(&cloud, &[]).await;
    let interface = listed(&cloud, OpenstackSourceCheck::AddressPairs).await;
    cloud.show("port", 1, &with(&json!({}))).await;
    let newer = json!({ "allowed_address_pairs": [foreign()], "revision_number": 5 });
    cloud.show("port", 9, &with(&newer)).await;
    cloud.refuse("PUT", "ports/port-in", 1, 412, "RevisionNumberConstraintFailed").await;
    cloud.accept().await;
    interface.set_source_dest_check(false, None).await.expect("at the second write");
    let writes = cloud.writes().await;
    assert_eq!(
        writes.iter().map(|write| write.1.as_str()).collect::<Vec<_>>(),
        ["revision_number=4", "revision_number=5"]
    );
    assert_eq!(writes[1].2["port"]["allowed_address_pairs"][0], foreign());
}

#[tokio::test]
async fn a_group_that_rules_refer_to_is_refused_and_explained() {
    let by_reference = json!({ "remote_ip_prefix": null, "remote_group_id": "group-1" });
    let v6 = json!({ "remote_ip_prefix": null, "remote_group_id": "group-1", "ethertype": "IPv6" });
    let cloud = Cloud::start().await;
    named_by(&cloud, &[rule("group-2", &v6), rule("group-2", &by_reference)]).await;
    let interface = listed(&cloud, OpenstackSourceCheck::AddressPairs).await;
    cloud.show("port", 9, &with(&json!({}))).await;
    cloud.accept().await;
    // Whoever reads it knows, and who writes looks once more.
    let read = interface.facts().source_dest_check.lock().cloned().expect("locked");
    let written = interface.set_source_dest_check(false, None).await.expect_err("refused");
    for error in [read, written] {
        assert_eq!(error.kind(), Kind::Conflict);
        for part in
            ["rule rule-1 of security group group-2", "would let everybody", "port_security"]
        {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert!(cloud.writes().await.is_empty());

    // By port security the trap is none, and a check that is off already is no question.
    let interface = listed(&cloud, OpenstackSourceCheck::PortSecurity).await;
    assert!(interface.facts().source_dest_check.overwrites().is_some());
    let open = Cloud::bare().await;
    named_by(&open, &[rule("group-2", &by_reference)]).await;
    open.ports(&[with(&json!({ "allowed_address_pairs": [everywhere()] }))]).await;
    for list in ["routers", "ports", "subnets", "floatingips", "security-group-rules"] {
        open.list(list, &[]).await;
    }
    let interface = listed(&open, OpenstackSourceCheck::AddressPairs).await;
    assert_eq!(interface.facts().source_dest_check, SourceDestCheck::Off);

    let cloud = Cloud::start().await;
    named_by(&cloud, &[rule("group-2", &v6)]).await;
    let interface = listed(&cloud, OpenstackSourceCheck::AddressPairs).await;
    assert!(interface.facts().source_dest_check.lock().is_none());
    cloud.show("port", 9, &with(&json!({}))).await;
    cloud.accept().await;
    interface.set_source_dest_check(false, None).await.expect("a rule for IPv6 doesn't matter");
}

#[tokio::test]
async fn port_security_goes_with_groups_and_pairs_and_comes_back_with_them() {
    let cloud = Cloud::start().await;
    let groups = json!(["group-1", "group-gone"]);
    let before = with(&json!({ "security_groups": groups, "allowed_address_pairs": [foreign()] }));
    cloud.neutron.reset().await;
    cloud.ports(std::slice::from_ref(&before)).await;
    for list in ["ports", "routers", "subnets", "floatingips", "security-group-rules"] {
        cloud.list(list, &[]).await;
    }
    let interface = listed(&cloud, OpenstackSourceCheck::PortSecurity).await;
    let saved = interface
        .facts()
        .source_dest_check
        .overwrites()
        .cloned()
        .expect("something is overwritten");
    cloud.show("port", 1, &before).await;
    cloud.accept().await;
    interface.set_source_dest_check(false, None).await.expect("switched");
    let off = json!({ "port_security_enabled": false, "security_groups": [], "allowed_address_pairs": [] });
    assert_eq!(cloud.writes().await[0].2, json!({ "port": off }));

    cloud.show("port", 9, &with(&off)).await;
    cloud.list("security-groups", &[json!({ "id": "group-1" })]).await;
    interface.set_source_dest_check(true, Some(&saved)).await.expect("given back");
    let on = json!({ "port_security_enabled": true, "security_groups": ["group-1"], "allowed_address_pairs": [foreign()] });
    assert_eq!(cloud.writes().await[1].2, json!({ "port": on }));
}

#[tokio::test]
async fn what_the_journal_does_not_hold_is_not_overwritten() {
    let cloud = Cloud::start().await;
    let interface = listed(&cloud, OpenstackSourceCheck::PortSecurity).await;
    cloud.show("port", 1, &with(&json!({ "security_groups": ["group-1", "group-new"] }))).await;
    cloud.accept().await;
    let error = interface.set_source_dest_check(false, None).await.expect_err("changed since");
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(cloud.writes().await.is_empty());
}

#[tokio::test]
async fn nonsense_in_the_journal_gives_no_groups_back() {
    let cloud = Cloud::start().await;
    let interface = listed(&cloud, OpenstackSourceCheck::PortSecurity).await;
    cloud
        .show("port", 1, &with(&json!({ "port_security_enabled": false, "security_groups": [] })))
        .await;
    cloud.accept().await;
    let nonsense = CheckSettings(json!("nonsense"));
    interface.set_source_dest_check(true, Some(&nonsense)).await.expect("switched");
    assert_eq!(cloud.writes().await[0].2, json!({ "port": { "port_security_enabled": true } }));
}

#[tokio::test]
async fn what_this_neutron_cannot_do_is_unsupported() {
    for (kind, field, other) in [
        (OpenstackSourceCheck::AddressPairs, "allowed_address_pairs", "port_security"),
        (OpenstackSourceCheck::PortSecurity, "port_security_enabled", "address_pairs"),
    ] {
        let cloud = Cloud::bare().await;
        let mut without = with(&json!({}));
        without.as_object_mut().expect("a table").remove(field);
        cloud.ports(std::slice::from_ref(&without)).await;
        for list in ["routers", "ports", "subnets", "floatingips", "security-group-rules"] {
            cloud.list(list, &[]).await;
        }
        let interface = listed(&cloud, kind).await;
        cloud.show("port", 1, &without).await;
        let read = interface.facts().source_dest_check.lock().cloned().expect("locked");
        let written = interface.set_source_dest_check(false, None).await.expect_err("not there");
        assert_eq!(read, written);
        assert_eq!(read.kind(), Kind::Unsupported);
        assert!(read.advice().expect("advice").contains(other), "{read}");
    }
}

#[tokio::test]
async fn a_port_on_another_projects_network_is_told() {
    let cloud = Cloud::start().await;
    named_by(&cloud, &[]).await;
    let interface = listed(&cloud, OpenstackSourceCheck::AddressPairs).await;
    cloud.show("port", 1, &with(&json!({}))).await;
    cloud.refuse("PUT", "ports/port-in", 9, 403, "PolicyNotAuthorized").await;
    let error = interface.set_source_dest_check(false, None).await.expect_err("denied");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.advice().expect("advice").contains("another project's"), "{error}");
    let rule = r#"{"service":"network","method":"PUT","path":"/v2.0/ports/*"}"#;
    assert!(error.to_string().contains(rule), "{error}");
}

/// Who refers to the port's groups must be known, or an open pair may open everything.
#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_harmless() {
    let cloud = Cloud::start().await;
    cloud.refuse("GET", "security-group-rules", 99, 403, "PolicyNotAuthorized").await;
    let interface = listed(&cloud, OpenstackSourceCheck::AddressPairs).await;
    let error = interface.facts().source_dest_check.lock().cloned().expect("locked");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("/v2.0/security-group-rules"), "{error}");
    // For port security nobody has to know.
    let interface = listed(&cloud, OpenstackSourceCheck::PortSecurity).await;
    assert!(interface.facts().source_dest_check.lock().is_none());

    // What may pass is tried again, by who asked for the interfaces.
    let cloud = Cloud::start().await;
    cloud.refuse("GET", "security-group-rules", 99, 503, "ServiceUnavailable").await;
    let error = cloud.connect().await.interfaces().await.err().expect("not known");
    assert_eq!(error.kind(), Kind::Unreachable);
}
