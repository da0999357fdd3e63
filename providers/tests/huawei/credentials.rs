//! Where the keys come from, and how those of the agency are renewed.

use std::{fs::File, io::Write as _, path::Path};

use futures_util::future::join_all;
use natd_core::{cloud::Provider, config, error::Kind};
use natd_providers::huawei::{Environment, Huawei};
use serde_json::{Value, json};
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{method, path},
};

use crate::cloud::{
    Cloud, HASTY, MAC, SECRET, connect, connect_in, get, keys, page, port, refusal, signed_with,
};

async fn one_port(cloud: &Cloud) {
    cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
    cloud.list("publicips", json!([])).await;
}

fn write(path: &Path, content: &str) {
    File::create(path).and_then(|mut file| file.write_all(content.as_bytes())).expect("written");
}

async fn keys_used(cloud: &Cloud) -> Vec<String> {
    cloud.requests().await.iter().map(signed_with).collect()
}

fn unsigned() -> Value {
    json!({"error_code": "APIGW.0301", "error_msg": "Incorrect IAM authentication information",
           "request_id": "r"})
}

#[tokio::test]
async fn the_first_place_that_has_keys_gives_them() {
    let cloud = Cloud::start().await;
    one_port(&cloud).await;
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join(".huaweicloud");
    std::fs::create_dir(&folder).expect("made");
    let profile = format!("[basic]\nak = AK-FILE\nsk = {SECRET};#file\n[global]\nak = other\n");
    write(&folder.join("credentials"), &profile);
    let home = ("HOME", home.path().to_str().expect("Unicode").to_owned());
    let variables = [
        home.clone(),
        ("HUAWEICLOUD_SDK_AK", "AK-ENVIRONMENT".to_owned()),
        ("HUAWEICLOUD_SDK_SK", SECRET.to_owned()),
        ("HUAWEICLOUD_SDK_SECURITY_TOKEN", "token".to_owned()),
    ];
    let given = config::Huawei {
        access_key: Some("AK-OF-CONFIGURATION".to_owned()),
        secret_key: Some(SECRET.to_owned().into()),
        ..cloud.options()
    };
    for (options, environment, expected) in [
        (given, Environment::from_iter(variables.clone()), "AK-OF-CONFIGURATION"),
        (cloud.options(), Environment::from_iter(variables), "AK-ENVIRONMENT"),
        (cloud.options(), Environment::from_iter([home]), "AK-FILE"),
        (cloud.options(), Environment::default(), "AK-1"),
    ] {
        cloud.api.reset().await;
        one_port(&cloud).await;
        connect_in(options, &environment).await.interfaces().await.expect("listed");
        let requests = cloud.requests().await;
        assert_eq!(signed_with(&requests[0]), expected);
        let token =
            requests[0].headers.get("x-security-token").and_then(|token| token.to_str().ok());
        let expected_token = match expected {
            "AK-ENVIRONMENT" => Some("token".to_owned()),
            "AK-1" => Some(format!("{SECRET}-token-1")),
            _ => None,
        };
        assert_eq!(token, expected_token.as_deref(), "{expected}");
        let names = requests[0].headers["authorization"].to_str().expect("text");
        assert_eq!(names.contains("x-security-token"), token.is_some(), "the token is signed");
    }
}

#[tokio::test]
async fn half_a_pair_is_refused_by_name() {
    let cloud = Cloud::start().await;
    let failure = |options: config::Huawei, environment: Environment| async move {
        let service = config::Service::default();
        match Huawei::connect_with(options, &service, &environment, HASTY).await {
            Ok(_) => panic!("half a pair is none"),
            Err(error) => error,
        }
    };
    let half = config::Huawei { secret_key: Some(SECRET.to_owned().into()), ..cloud.options() };
    let error = failure(half, Environment::default()).await;
    assert!(error.to_string().contains("huawei.access_key is not set"), "{error}");
    assert!(!error.to_string().contains(SECRET), "{error}");
    let environment = Environment::from_iter([("HUAWEICLOUD_SDK_AK", "AK")]);
    let error = failure(cloud.options(), environment).await;
    assert!(error.to_string().contains("HUAWEICLOUD_SDK_SK is not set"), "{error}");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys");
    let named = [("HUAWEICLOUD_SDK_CREDENTIALS_FILE", file.to_str().expect("Unicode").to_owned())];
    let error = failure(cloud.options(), Environment::from_iter(named.clone())).await;
    assert!(error.to_string().contains("keys"), "{error}");
    write(&file, &format!("[basic]\n{SECRET}\nak = x\n[{SECRET}\n"));
    let error = failure(cloud.options(), Environment::from_iter(named)).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(!error.to_string().contains(SECRET), "{error}");
}

#[tokio::test]
async fn keys_with_enough_time_are_read_once_however_many_ask() {
    let cloud = Cloud::start().await;
    one_port(&cloud).await;
    let huawei = cloud.connect().await;
    let calls = join_all((0..20).map(|_| huawei.interfaces())).await;
    assert!(calls.iter().all(Result::is_ok));
    assert_eq!(cloud.asked("securitykey").await, 1);
}

#[tokio::test]
async fn keys_are_renewed_early_by_one_while_the_others_go_on_with_the_old_ones() {
    let cloud = Cloud::start().await;
    one_port(&cloud).await;
    cloud.document_times("securitykey", keys("early", 39), Some(1)).await;
    // The renewal takes its time.
    let slow = ResponseTemplate::new(200)
        .set_body_json(keys("1", 60))
        .set_delay(std::time::Duration::from_millis(500));
    Mock::given(path("/openstack/latest/securitykey"))
        .respond_with(slow)
        .with_priority(2)
        .mount(&cloud.metadata)
        .await;
    let huawei = cloud.connect().await;
    let calls = join_all((0..20).map(|_| huawei.interfaces())).await;
    assert!(calls.iter().all(Result::is_ok));
    huawei.interfaces().await.expect("listed");
    assert_eq!(cloud.asked("securitykey").await, 2, "one at first, and one renewal for all");
    let used = keys_used(&cloud).await;
    let old = used.iter().filter(|key| *key == "AK-early").count();
    assert!(old >= 19 * 3, "nobody waits but the one that renews: {old} of {}", used.len());
    assert_eq!(used.last().map(String::as_str), Some("AK-1"));
}

#[tokio::test]
async fn an_early_renewal_that_fails_stops_nothing_and_is_not_tried_every_time() {
    let cloud = Cloud::start().await;
    one_port(&cloud).await;
    cloud.document_times("securitykey", keys("early", 39), Some(1)).await;
    Mock::given(path("/openstack/latest/securitykey"))
        .respond_with(ResponseTemplate::new(400))
        .with_priority(2)
        .mount(&cloud.metadata)
        .await;
    let huawei = cloud.connect().await;
    for _ in 0..5 {
        huawei.interfaces().await.expect("listed with the old keys");
    }
    assert_eq!(cloud.asked("securitykey").await, 2);
    assert!(keys_used(&cloud).await.iter().all(|key| key == "AK-early"));
}

#[tokio::test]
async fn keys_that_have_ended_are_not_used() {
    let cloud = Cloud::start().await;
    one_port(&cloud).await;
    cloud.document_times("securitykey", keys("ended", -1), Some(1)).await;
    let huawei = cloud.connect().await;
    huawei.interfaces().await.expect("listed");
    let before = cloud.requests().await.len();
    let calls = join_all((0..5).map(|_| huawei.interfaces())).await;
    assert!(calls.iter().all(Result::is_ok));
    let used = keys_used(&cloud).await;
    assert!(used[before..].iter().all(|key| key == "AK-1"), "{used:?}");
}

#[tokio::test]
async fn refused_keys_are_replaced_once_and_the_call_is_made_again() {
    let cloud = Cloud::start().await;
    cloud.document_times("securitykey", keys("old", 60), Some(1)).await;
    let ports = json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))]);
    get("v1/ports")
        .respond_with(move |request: &wiremock::Request| match signed_with(request).as_str() {
            "AK-1" => ResponseTemplate::new(200)
                .set_body_json(json!({"ports": page(&ports, request, 2000)})),
            _ => refusal(401, &unsigned()),
        })
        .mount(&cloud.api)
        .await;
    cloud.list("publicips", json!([])).await;
    let huawei = cloud.connect().await;
    let calls = join_all((0..10).map(|_| huawei.interfaces())).await;
    assert!(calls.iter().all(Result::is_ok));
    assert_eq!(
        cloud.asked("securitykey").await,
        2,
        "once at first, once for all that were refused"
    );
}

#[tokio::test]
async fn keys_that_are_refused_for_good_are_an_error_and_no_loop() {
    let cloud = Cloud::start().await;
    cloud.refuse("GET", "v1/ports", 99, 401, &unsigned()).await;
    for options in [cloud.options(), cloud.by_hand()] {
        let before = cloud.requests().await.len();
        let error = connect(options).await.interfaces().await.err().expect("refused");
        assert_eq!((error.kind(), error.code()), (Kind::Denied, Some("APIGW.0301")));
        assert!(error.to_string().contains("request request-7"), "{error}");
        assert!(error.advice().expect("advice").contains("agency"), "{error}");
        // Good keys may be doubted for a moment: they are tried once more, and then no more.
        assert_eq!(cloud.requests().await.len() - before, 2);
    }
}

#[tokio::test]
async fn an_account_in_arrears_is_not_a_matter_of_keys() {
    let cloud = Cloud::start().await;
    let body = json!({"code": "VPC.0005", "message": "User restricted."});
    cloud.refuse("GET", "v1/ports", 99, 401, &body).await;
    let error = cloud.connect().await.interfaces().await.err().expect("refused");
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(cloud.asked("securitykey").await, 1);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_with_minutes_and_side() {
    for (sent, words) in [(17_i64, "17 minutes behind"), (-42, "42 minutes ahead of")] {
        let cloud = Cloud::start().await;
        let time = jiff::Timestamp::now()
            + jiff::SignedDuration::from_secs(sent * 60 + sent.signum() * 20);
        let date = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        get("v1/ports")
            .respond_with(refusal(401, &unsigned()).insert_header("Date", date.as_str()))
            .mount(&cloud.api)
            .await;
        let error = cloud.connect().await.interfaces().await.err().expect("refused");
        let advice = error.advice().expect("advice").to_owned();
        assert!(advice.contains(words) && advice.contains("set the clock"), "{error}");
    }
}

#[tokio::test]
async fn an_ecs_without_agency_is_told_to_get_one() {
    for (status, body) in [(404, ""), (401, "Please configure Cloud Service Agency first")] {
        let cloud = Cloud::start().await;
        cloud.metadata.reset().await;
        Mock::given(method("GET"))
            .and(path("/openstack/latest/securitykey"))
            .respond_with(ResponseTemplate::new(status).set_body_string(body))
            .mount(&cloud.metadata)
            .await;
        cloud.document("meta_data.json", crate::cloud::meta_data()).await;
        let error = cloud.connect().await.interfaces().await.err().expect("no keys");
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(error.advice().expect("advice").contains("agency"), "{error}");
        assert_eq!(cloud.asked("securitykey").await, 1, "{status}");
        // One at first; that there is no agency is no fault of the session's.
        assert_eq!(cloud.asked("token").await, 1, "{status}");
        assert!(cloud.requests().await.is_empty());
    }
}
