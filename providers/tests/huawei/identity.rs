//! Who am I: from the metadata service in its versions, or by hand; the project and the VPC's blocks.

use natd_core::{
    cloud::{OwnSubnet, Provider},
    config,
    error::{Error, Kind},
};
use natd_providers::huawei::{Environment, Huawei};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path},
};

use crate::cloud::{
    Cloud, HASTY, INSTANCE, MAC, PROJECT, SESSION, VPC, connect, connect_in, get, in_project,
    meta_data, port, refusal,
};

async fn failure(options: config::Huawei) -> Error {
    let service = config::Service::default();
    match Huawei::connect_with(options, &service, &Environment::default(), HASTY).await {
        Ok(_) => panic!("there is nothing to connect to"),
        Err(error) => error,
    }
}

fn names_what_to_set_by_hand(error: &Error) {
    let advice = error.advice().expect("advice");
    for key in ["huawei.instance_id", "huawei.region", "huawei.vpc_id", "huawei.project_id"] {
        assert!(advice.contains(key), "{error}");
    }
}

async fn a_network(cloud: &Cloud) {
    cloud.list("ports", json!([port("port-1", MAC, "subnet-1", "10.0.0.5", &json!([]))])).await;
    cloud.list("publicips", json!([])).await;
    let vpc = json!({"vpc": {"id": VPC, "cidr": "10.0.0.0/16", "extend_cidrs": ["100.64.0.0/16"]}});
    cloud.answer("v3/vpc/vpcs/vpc-1", vpc).await;
    cloud.answer("v1/vpcs/vpc-1", json!({"vpc": {"id": VPC, "cidr": "10.0.0.0/16"}})).await;
}

async fn blocks(huawei: &Huawei) -> Vec<String> {
    let instance = huawei.instance().await.expect("known");
    instance.network_cidrs.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn all_is_asked_of_the_metadata_service_with_one_token() {
    let cloud = Cloud::start().await;
    a_network(&cloud).await;
    let huawei = cloud.connect().await;
    assert!(cloud.requests().await.is_empty(), "no call is made before one is needed");
    let instance = huawei.instance().await.expect("known");
    assert_eq!(
        (instance.id.as_str(), instance.region.as_str(), instance.zone.as_str()),
        (INSTANCE, "eu-test-1", "eu-test-1a")
    );
    assert_eq!(instance.network.as_str(), VPC);
    assert_eq!(instance.own_subnet, OwnSubnet::PublicAddressOutranks);
    assert_eq!(instance.subnets, ["subnet-1".parse().expect("id")].into());
    assert_eq!(blocks(&huawei).await, ["10.0.0.0/16", "100.64.0.0/16"]);

    assert_eq!(cloud.asked("token").await, 1);
    let asked = cloud.metadata.received_requests().await.expect("recorded");
    let gets = asked.iter().filter(|request| request.method.as_str() == "GET");
    assert!(gets.clone().count() >= 3);
    assert!(gets.clone().all(|request| request.headers["x-metadata-token"] == SESSION));
    let project = &cloud.requests().await[0].headers["x-project-id"];
    assert_eq!(project, PROJECT);
}

#[tokio::test]
async fn a_service_without_tokens_is_asked_without() {
    for status in [404, 405, 503] {
        let cloud = Cloud::start().await;
        cloud.metadata.reset().await;
        Mock::given(method("PUT"))
            .respond_with(ResponseTemplate::new(status))
            .mount(&cloud.metadata)
            .await;
        cloud.document("meta_data.json", meta_data()).await;
        cloud.connect().await;
        let asked = cloud.metadata.received_requests().await.expect("recorded");
        assert!(asked.iter().all(|request| !request.headers.contains_key("x-metadata-token")));
        assert_eq!(cloud.asked("token").await, 1, "{status}");
    }
}

#[tokio::test]
async fn a_token_that_has_ended_is_replaced() {
    let cloud = Cloud::start().await;
    cloud.metadata.reset().await;
    let opening = |token: &str| {
        Mock::given(method("PUT"))
            .and(header("x-metadata-token-ttl-seconds", "21600"))
            .respond_with(ResponseTemplate::new(200).set_body_string(token))
    };
    opening("first").up_to_n_times(1).mount(&cloud.metadata).await;
    opening("second").mount(&cloud.metadata).await;
    Mock::given(method("GET"))
        .and(path("/openstack/latest/meta_data.json"))
        .and(header("x-metadata-token", "second"))
        .respond_with(ResponseTemplate::new(200).set_body_json(meta_data()))
        .mount(&cloud.metadata)
        .await;
    Mock::given(method("GET"))
        .and(header("x-metadata-token", "first"))
        .respond_with(ResponseTemplate::new(401))
        .mount(&cloud.metadata)
        .await;
    cloud.connect().await;
    assert_eq!(cloud.asked("token").await, 2);
}

#[tokio::test]
async fn nothing_is_asked_of_the_metadata_service_when_all_is_given() {
    let cloud = Cloud::start().await;
    a_network(&cloud).await;
    let options = config::Huawei {
        vpc_cidrs: vec!["10.9.0.0/16".parse().expect("block")],
        ..cloud.by_hand()
    };
    let huawei = connect(options).await;
    assert_eq!(blocks(&huawei).await, ["10.9.0.0/16"]);
    huawei.interfaces().await.expect("listed");
    assert!(cloud.metadata.received_requests().await.expect("recorded").is_empty());
}

#[tokio::test]
async fn an_absent_or_silent_metadata_service_is_reported_with_what_replaces_it() {
    let silent = MockServer::start().await;
    Mock::given(method("PUT"))
        .respond_with(ResponseTemplate::new(200).set_delay(std::time::Duration::from_mins(1)))
        .mount(&silent)
        .await;
    // Port 9 (discard) of loopback: nobody listens there.
    for url in ["http://127.0.0.1:9".to_owned(), silent.uri()] {
        let options = config::Huawei { metadata_endpoint: Some(url), ..config::Huawei::default() };
        let error = failure(options).await;
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
        names_what_to_set_by_hand(&error);
    }
}

#[tokio::test]
async fn a_metadata_service_that_stumbles_is_asked_again() {
    let cloud = Cloud::start().await;
    Mock::given(method("GET"))
        .and(path("/openstack/latest/meta_data.json"))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&cloud.metadata)
        .await;
    cloud.connect().await;
}

#[tokio::test]
async fn what_the_metadata_service_does_not_tell_is_named_with_its_key() {
    let without = |name: &str| {
        let mut told = meta_data();
        told.as_object_mut().expect("an object").remove(name);
        told
    };
    for (told, key) in [(without("region_id"), "huawei.region"), (without("meta"), "huawei.vpc_id")]
    {
        let cloud = Cloud::start().await;
        cloud.document_times("meta_data.json", told, Some(9)).await;
        let error = failure(cloud.options()).await;
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.advice().expect("advice").contains(key), "{error}");
    }
    let cloud = Cloud::start().await;
    cloud.document_times("meta_data.json", without("region_id"), Some(9)).await;
    let options = config::Huawei { region: Some("cn-north-4".to_owned()), ..cloud.options() };
    connect(options).await;
}

#[tokio::test]
async fn a_malformed_url_is_refused_by_name() {
    let cloud = Cloud::start().await;
    let bad = Some("localhost:80".to_owned());
    for (options, key) in [
        (config::Huawei { endpoint: bad.clone(), ..cloud.by_hand() }, "huawei.endpoint"),
        (config::Huawei { iam_endpoint: bad.clone(), ..cloud.by_hand() }, "huawei.iam_endpoint"),
        (config::Huawei { metadata_endpoint: bad, ..cloud.by_hand() }, "huawei.metadata_endpoint"),
    ] {
        let error = failure(options).await;
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(key), "{error}");
    }
}

async fn with_projects(projects: Value) -> (Cloud, config::Huawei) {
    let cloud = Cloud::start().await;
    a_network(&cloud).await;
    Mock::given(method("GET"))
        .and(path("/v3/projects"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"projects": projects})))
        .mount(&cloud.api)
        .await;
    let options = config::Huawei { project_id: None, ..cloud.by_hand() };
    (cloud, options)
}

#[tokio::test]
async fn the_project_is_asked_of_iam_once_if_nobody_tells_it() {
    let (cloud, options) = with_projects(json!([{"id": PROJECT, "name": "eu-test-1"}])).await;
    let huawei = connect(options.clone()).await;
    huawei.interfaces().await.expect("listed");
    huawei.interfaces().await.expect("listed");
    let calls = cloud.calls().await;
    assert_eq!(calls[0], "GET /v3/projects?name=eu-test-1");
    assert_eq!(calls.iter().filter(|call| call.contains("/v3/projects")).count(), 1);
    assert!(cloud.requests().await[0].headers.contains_key("authorization"));

    let environment = Environment::from_iter([("HUAWEICLOUD_SDK_PROJECT_ID", PROJECT)]);
    connect_in(options, &environment).await.interfaces().await.expect("listed");
    let calls = cloud.calls().await;
    assert_eq!(calls.iter().filter(|call| call.contains("/v3/projects")).count(), 1);
}

#[tokio::test]
async fn no_project_and_several_projects_are_errors_that_name_the_key() {
    for (projects, kind) in
        [(json!([]), Kind::NotFound), (json!([{"id": "p-1"}, {"id": "p-2"}]), Kind::Invalid)]
    {
        let (_cloud, options) = with_projects(projects).await;
        let error = connect(options).await.interfaces().await.err().expect("no project");
        assert_eq!(error.kind(), kind);
        assert!(error.advice().expect("advice").contains("huawei.project_id"), "{error}");
    }
}

#[tokio::test]
async fn without_version_3_the_first_block_alone_is_known() {
    let absent = json!({"error_code": "APIGW.0101", "error_msg": "The API does not exist"});
    let denied = json!({"error_code": "SYS.0403", "error_msg": "no"});
    for (status, body) in [(404, absent), (403, denied)] {
        let cloud = Cloud::start().await;
        cloud.refuse("GET", "v3/vpc/vpcs/vpc-1", 99, status, &body).await;
        a_network(&cloud).await;
        assert_eq!(blocks(&cloud.connect().await).await, ["10.0.0.0/16"]);
    }
}

#[tokio::test]
async fn a_version_3_that_is_down_for_a_while_does_not_make_blocks_vanish() {
    let cloud = Cloud::start().await;
    cloud.refuse("GET", "v3/vpc/vpcs/vpc-1", 2, 503, &json!({})).await;
    a_network(&cloud).await;
    let huawei = cloud.connect().await;
    assert_eq!(blocks(&huawei).await.len(), 2);
    cloud.refuse("GET", "v3/vpc/vpcs/vpc-1", 99, 503, &json!({})).await;
    assert_eq!(huawei.instance().await.expect_err("down").kind(), Kind::Unreachable);
}

#[tokio::test]
async fn a_denied_look_at_the_vpc_names_the_action() {
    let cloud = Cloud::start().await;
    a_network(&cloud).await;
    let denied = json!({"code": "VPC.2201", "message": "Policy doesn't allow it"});
    for place in ["v3/vpc/vpcs/vpc-1", "v1/vpcs/vpc-1"] {
        Mock::given(path(in_project(place)))
            .respond_with(refusal(403, &denied))
            .with_priority(1)
            .mount(&cloud.api)
            .await;
    }
    let error = cloud.connect().await.instance().await.expect_err("denied");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("vpc:vpcs:get"), "{error}");
}

#[tokio::test]
async fn an_ecs_that_the_project_does_not_have_is_an_error_that_says_so() {
    let cloud = Cloud::start().await;
    get("v1/ports")
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"ports": []})))
        .mount(&cloud.api)
        .await;
    let error = cloud.connect().await.interfaces().await.err().expect("no ports");
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.advice().expect("advice").contains("huawei.project_id"), "{error}");
}
