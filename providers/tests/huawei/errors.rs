//! Failures by kind, what is tried again, and what an error tells.

use natd_core::{
    cloud::Provider,
    config,
    error::{Error, Kind},
};
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::cloud::{Cloud, MAC, SECRET, SESSION, connect, get, port};

async fn interfaces_fail(cloud: &Cloud) -> Error {
    cloud.connect().await.interfaces().await.err().expect("a failure")
}

#[tokio::test]
async fn every_shape_of_a_refusal_is_told_with_code_and_request() {
    let neutron = json!({"NeutronError": {"type": "PortNotFound", "message": "m", "detail": ""}});
    let escaped = json!({"error_code": "VPC.0002", "error_msg": neutron.to_string()});
    for (status, body, code) in [
        (400, json!({"code": "VPC.0002", "message": "m"}), "VPC.0002"),
        (400, json!({"error_code": "SYS.0202", "error_msg": "m", "request_id": "r"}), "SYS.0202"),
        (
            403,
            json!({"error_code": "APIGW.0302", "error_msg": "m", "request_id": "r"}),
            "APIGW.0302",
        ),
        (400, json!({"errorCode": "VPC.0002", "errorMsg": "m"}), "VPC.0002"),
        (400, json!({"error": {"code": "Ecs.0005", "message": "m"}}), "Ecs.0005"),
        (404, neutron, "PortNotFound"),
        (404, escaped, "VPC.0002"),
        (401, json!({"error": {"code": 401, "message": "m", "title": "Unauthorized"}}), "401"),
    ] {
        let cloud = Cloud::start().await;
        cloud.refuse("GET", "v1/ports", 99, status, &body).await;
        let error = interfaces_fail(&cloud).await;
        assert_eq!(error.code(), Some(code), "{error}");
        let text = error.to_string();
        let expected = format!(
            "could not list the network interfaces of server-1: m [{code}, request request-7]"
        );
        assert!(text.starts_with(&expected), "{text}");
    }
}

#[tokio::test]
async fn what_may_pass_is_waited_out() {
    let throttled = json!({"error_code": "APIGW.0308", "error_msg": "too often"});
    let busy = json!({"code": "VPC.0004", "message": "VPC is not active, please try later."});
    for (status, body) in [(429, throttled), (400, busy), (502, json!("<html>"))] {
        let cloud = Cloud::start().await;
        cloud.refuse("GET", "v1/ports", 2, status, &body).await;
        cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
        cloud.list("publicips", json!([])).await;
        cloud.connect().await.interfaces().await.expect("at the third attempt");
    }
}

#[tokio::test]
async fn throttling_without_end_is_reported_as_such() {
    let cloud = Cloud::start().await;
    let body = json!({"error_code": "APIGW.0308", "error_msg": "too often"});
    cloud.refuse("GET", "v1/ports", 99, 429, &body).await;
    assert_eq!(interfaces_fail(&cloud).await.kind(), Kind::Throttled);
    assert_eq!(cloud.calls().await.len(), 6);
}

#[tokio::test]
async fn nothing_else_is_tried_again() {
    let cloud = Cloud::start().await;
    let body = json!({"code": "VPC.0002", "message": "nonsense"});
    cloud.refuse("GET", "v1/ports", 99, 400, &body).await;
    assert_eq!(interfaces_fail(&cloud).await.kind(), Kind::Invalid);
    assert_eq!(cloud.calls().await.len(), 1);
}

#[tokio::test]
async fn a_wrong_host_is_not_a_missing_resource() {
    let cloud = Cloud::start().await;
    let body = json!({"error_code": "APIGW.0101", "error_msg": "The API does not exist"});
    cloud.refuse("GET", "v1/ports", 99, 404, &body).await;
    let error = interfaces_fail(&cloud).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.advice().expect("advice").contains("huawei.endpoint"), "{error}");
}

#[tokio::test]
async fn an_api_that_nobody_serves_is_unreachable_by_name() {
    let cloud = Cloud::start().await;
    let options =
        config::Huawei { endpoint: Some("http://127.0.0.1:9".to_owned()), ..cloud.options() };
    let error = connect(options).await.interfaces().await.err().expect("nobody there");
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_what_natd_expects_is_an_error_and_no_crash() {
    for body in [json!({}), json!({"ports": 7}), json!({"ports": [{"id": "port-1"}]}), json!([1])] {
        let cloud = Cloud::start().await;
        cloud.answer("v1/ports", body).await;
        assert_eq!(interfaces_fail(&cloud).await.kind(), Kind::Invalid);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let cloud = Cloud::start().await;
    let answer = ResponseTemplate::new(302).insert_header("Location", "http://127.0.0.1:9/");
    get("v1/ports").respond_with(answer).mount(&cloud.api).await;
    assert_eq!(interfaces_fail(&cloud).await.kind(), Kind::Invalid);
}

#[tokio::test]
async fn no_secret_reaches_an_error() {
    // A service that repeats whatever it was sent.
    for status in [400, 401, 403, 404, 409, 500, 200] {
        let cloud = Cloud::start().await;
        get("v1/ports")
            .respond_with(move |request: &wiremock::Request| {
                let sent: Vec<String> = request
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()))
                    .collect();
                let message = format!("{SECRET}-secret-1 {}", sent.join(" "));
                let body: Value = json!({"code": "VPC.0001", "message": message});
                ResponseTemplate::new(status)
                    .insert_header("X-Request-Id", sent.join(" ").as_str())
                    .set_body_json(body)
            })
            .mount(&cloud.api)
            .await;
        let error = interfaces_fail(&cloud).await;
        let sent = cloud.requests().await;
        let header = sent[0].headers["authorization"].to_str().expect("text").to_owned();
        let signature = header.rsplit('=').next().expect("a signature");
        for text in [error.to_string(), format!("{error:?}")] {
            for secret in [SECRET, SESSION, "AK-1", signature] {
                assert!(!text.contains(secret), "{status}: {text}");
            }
        }
    }
}
