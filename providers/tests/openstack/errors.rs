//! Failures by kind, what is tried again, and what an error tells.

use natd_core::{
    cloud::Provider,
    error::{Error, Kind},
};
use natd_providers::openstack::{Action, Openstack};
use wiremock::{Mock, ResponseTemplate, matchers::path};

use crate::cloud::{Cloud, HASTY, options};

async fn fails(cloud: &Cloud) -> Error {
    cloud.connect().await.instance().await.expect_err("a failure")
}

#[tokio::test]
async fn throttling_and_broken_servers_are_waited_out() {
    for (status, kind) in [(429, ""), (503, "ServiceUnavailable"), (500, "HTTPInternalServerError")]
    {
        let cloud = Cloud::start().await;
        cloud.refuse("GET", "routers", 2, status, kind).await;
        cloud.connect().await.instance().await.expect("at the third attempt");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_reported_by_kind() {
    for (status, code, kind, attempts) in [
        (429, "TooManyRequests", Kind::Throttled, 6),
        (503, "ServiceUnavailable", Kind::Unreachable, 6),
        (400, "HTTPBadRequest", Kind::Invalid, 1),
        (403, "PolicyNotAuthorized", Kind::Denied, 1),
        (404, "HTTPNotFound", Kind::Unsupported, 1),
        (409, "Conflict", Kind::Conflict, 1),
    ] {
        let cloud = Cloud::start().await;
        cloud.refuse("GET", "routers", 99, status, code).await;
        let error = fails(&cloud).await;
        assert_eq!(error.kind(), kind, "{error}");
        let expected = format!(
            "could not list the routers of this project: this is {code} [{code}, request req-7]"
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        let calls = cloud.calls().await;
        let routers = calls.iter().filter(|call| *call == "GET routers").count();
        assert_eq!(routers, attempts, "{error}");
    }
}

#[tokio::test]
async fn a_denial_names_the_access_rule() {
    let cloud = Cloud::start().await;
    cloud.refuse("GET", "subnets", 9, 403, "PolicyNotAuthorized").await;
    let error = fails(&cloud).await;
    let rule = r#"allow {"service":"network","method":"GET","path":"/v2.0/subnets"}"#;
    assert!(error.advice().expect("advice").contains(rule), "{error}");
}

#[test]
fn every_action_has_a_rule_of_its_own() {
    let mut rules: Vec<String> = Action::ALL.iter().map(|action| action.access_rule()).collect();
    for rule in &rules {
        let parsed: serde_json::Value = serde_json::from_str(rule).expect("JSON");
        assert_eq!(parsed["service"], "network");
    }
    rules.sort();
    rules.dedup();
    assert_eq!(rules.len(), Action::ALL.len());
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_judged_by_its_status() {
    for (status, kind) in [(502, Kind::Unreachable), (403, Kind::Denied), (200, Kind::Invalid)] {
        let cloud = Cloud::start().await;
        Mock::given(path("/v2.0/routers"))
            .respond_with(ResponseTemplate::new(status).set_body_string("<html>proxy"))
            .with_priority(1)
            .mount(&cloud.neutron)
            .await;
        assert_eq!(fails(&cloud).await.kind(), kind, "{status}");
    }
}

#[tokio::test]
async fn an_answer_without_the_needed_fields_is_an_error_that_names_them() {
    let cloud = Cloud::bare().await;
    cloud.ports(&[serde_json::json!({ "id": "port-1", "network_id": "network-1" })]).await;
    for list in ["routers", "ports", "subnets"] {
        cloud.list(list, &[]).await;
    }
    let error = fails(&cloud).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("mac_address"), "{error}");
}

#[tokio::test]
async fn an_api_that_nobody_serves_is_unreachable_by_name() {
    let cloud = Cloud::start().await;
    for key in ["OS_AUTH_URL", "OS_NETWORK_ENDPOINT_OVERRIDE"] {
        let mut environment = cloud.environment();
        environment.variables.insert(key.to_owned(), "http://127.0.0.1:9".to_owned());
        let openstack =
            Openstack::connect_with(options(), environment, HASTY).await.expect("complete");
        let error = openstack.instance().await.expect_err("nobody there");
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
    }
}
