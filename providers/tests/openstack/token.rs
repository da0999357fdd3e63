//! One token at a time: fetched once, renewed ahead of time, replaced when refused.

use std::time::Duration;

use futures_util::future::join_all;
use natd_core::{cloud::Provider, error::Kind};
use serde_json::json;
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{header, method, path},
};

use crate::cloud::Cloud;

#[tokio::test]
async fn many_callers_log_in_once() {
    let cloud = Cloud::start().await;
    let openstack = cloud.connect().await;
    for answer in join_all((0..20).map(|_| openstack.instance())).await {
        answer.expect("the cloud answers");
    }
    assert_eq!(cloud.logins().await.len(), 1);
}

#[tokio::test]
async fn a_token_that_was_refused_is_replaced_once_for_all() {
    let cloud = Cloud::start().await;
    Mock::given(header("x-auth-token", "token-1"))
        .respond_with(ResponseTemplate::new(401).set_body_json(json!({ "error": { "code": 401 } })))
        .with_priority(1)
        .mount(&cloud.neutron)
        .await;
    let openstack = cloud.connect().await;
    for answer in join_all((0..20).map(|_| openstack.instance())).await {
        answer.expect("with the second token");
    }
    assert_eq!(cloud.logins().await.len(), 2);
}

#[tokio::test]
async fn nobody_waits_while_a_token_is_renewed_ahead_of_time() {
    let cloud = Cloud::start().await;
    cloud.keystone.reset().await;
    // A quarter of its life is left from the ninth second on.
    cloud.tokens(12).await;
    let openstack = cloud.connect().await;
    openstack.instance().await.expect("with the first token");
    tokio::time::sleep(Duration::from_millis(9100)).await;
    cloud.keystone.reset().await;
    // Keystone is down: the token that is left is good all the same.
    openstack.instance().await.expect("with the first token");
    cloud.tokens(3600).await;
}

#[tokio::test]
async fn a_token_that_has_ended_is_replaced_before_it_is_used() {
    let cloud = Cloud::start().await;
    cloud.keystone.reset().await;
    cloud.tokens(1).await;
    let openstack = cloud.connect().await;
    openstack.instance().await.expect("with the first token");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    openstack.instance().await.expect("with another token");
    assert!(cloud.logins().await.len() >= 2);
}

#[tokio::test]
async fn a_missing_access_rule_is_named_and_logged_in_for_once() {
    let cloud = Cloud::start().await;
    cloud.refuse("GET", "security-group-rules", 99, 401, "Unauthorized").await;
    let openstack = cloud.connect().await;
    for _ in 0..3 {
        let interfaces = openstack.interfaces().await.expect("natd works without");
        let error = interfaces[0].facts().security.clone().expect_err("denied");
        assert_eq!(error.kind(), Kind::Denied);
        let rule = r#"{"service":"network","method":"GET","path":"/v2.0/security-group-rules"}"#;
        assert!(error.to_string().contains(rule), "{error}");
    }
    assert_eq!(cloud.logins().await.len(), 2);
}

#[tokio::test]
async fn wrong_credentials_are_told_and_not_tried_again() {
    let cloud = Cloud::start().await;
    cloud.keystone.reset().await;
    let body =
        json!({ "error": { "code": 401, "title": "Unauthorized", "message": "no such user." } });
    Mock::given(method("POST"))
        .and(path("/v3/auth/tokens"))
        .respond_with(ResponseTemplate::new(401).set_body_json(body))
        .mount(&cloud.keystone)
        .await;
    let error = cloud.connect().await.instance().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("no such user [Unauthorized]"), "{error}");
    assert_eq!(cloud.logins().await.len(), 1);
}
