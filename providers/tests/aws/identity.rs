//! Who am I, by IMDSv2 or by hand.

use natd_core::{
    cloud::{OwnSubnet, Provider},
    config,
    error::{Error, Kind},
};
use natd_providers::aws::Aws;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use crate::cloud::{Cloud, HASTY, MAC, eni, enis};

fn names_what_to_set_by_hand(error: &Error) {
    let advice = error.advice().expect("advice");
    for key in ["aws.instance_id", "aws.region", "aws.vpc_id", "aws.vpc_cidrs"] {
        assert!(advice.contains(key), "{error}");
    }
}

async fn failure(options: config::Aws) -> Error {
    match Aws::connect_with(options, HASTY).await {
        Ok(_) => panic!("there is nothing to connect to"),
        Err(error) => error,
    }
}

fn by_hand(cloud: &Cloud) -> config::Aws {
    config::Aws {
        instance_id: Some("i-9".parse().expect("id")),
        vpc_id: Some("vpc-1".parse().expect("id")),
        vpc_cidrs: vec!["10.9.0.0/16".parse().expect("block")],
        ..cloud.options()
    }
}

#[tokio::test]
async fn all_is_asked_of_the_metadata_service_with_one_token() {
    let cloud = Cloud::start().await;
    let other = "0a:00:00:00:00:02";
    let elsewhere = "0a:00:00:00:00:03";
    let gone = "0a:00:00:00:00:04";
    let options = config::Aws { region: None, ..cloud.options() };
    let aws = Aws::connect_with(options, HASTY).await.expect("the cloud answers");
    let instance = aws.instance().await.expect("the cloud answers");

    assert_eq!(instance.id.as_str(), "i-1");
    if std::env::var_os("AWS_REGION").is_none() && std::env::var_os("AWS_DEFAULT_REGION").is_none()
    {
        assert_eq!(instance.region, "eu-test-1");
    }
    assert_eq!(instance.zone, "eu-test-1a");
    assert_eq!(instance.network.as_str(), "vpc-1");
    assert_eq!(instance.own_subnet, OwnSubnet::Loops);
    let blocks: Vec<_> = instance.network_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.0.0.0/16", "100.64.0.0/16"]);
    assert_eq!(instance.subnets, ["subnet-own".parse().expect("id")].into());

    let asked = cloud.imds.received_requests().await.expect("recorded");
    let tokens = asked.iter().filter(|request| request.method.as_str() == "PUT").count();
    assert_eq!(tokens, 1);
    assert!(
        asked
            .iter()
            .filter(|request| request.method.as_str() == "GET")
            .all(|request| request.headers.contains_key("x-aws-ec2-metadata-token"))
    );
    assert!(cloud.calls().await.is_empty());

    // Interfaces and blocks that are added later are seen; other VPCs and the vanished are not.
    cloud.imds.reset().await;
    let grown = Cloud { imds: cloud.imds, ec2: cloud.ec2 };
    let macs = format!("{MAC}/\n{other}/\n{elsewhere}/\n{gone}/\n");
    let folder = |mac: &str, name: &str| format!("network/interfaces/macs/{mac}/{name}");
    grown.category("network/interfaces/macs/", &macs).await;
    for (mac, vpc, subnet) in [
        (MAC, "vpc-1", "subnet-own"),
        (other, "vpc-1", "subnet-2"),
        (elsewhere, "vpc-2", "subnet-3"),
    ] {
        grown.category(&folder(mac, "vpc-id"), vpc).await;
        grown.category(&folder(mac, "subnet-id"), subnet).await;
    }
    grown
        .category(&folder(MAC, "vpc-ipv4-cidr-blocks"), "10.0.0.0/16\n10.1.0.0/16\n10.2.0.0/16")
        .await;
    let instance = aws.instance().await.expect("the cloud answers");
    assert_eq!(instance.network_cidrs.len(), 3);
    let subnets: Vec<_> = instance.subnets.iter().map(ToString::to_string).collect();
    assert_eq!(subnets, ["subnet-2", "subnet-own"]);
}

#[tokio::test]
async fn nothing_is_asked_of_the_metadata_service_when_all_is_given() {
    let cloud = Cloud::start().await;
    cloud.answer("DescribeNetworkInterfaces", &enis(&[eni("eni-1", 0, MAC, "subnet-a", "")])).await;
    let aws = Aws::connect_with(by_hand(&cloud), HASTY).await.expect("all is given");
    assert!(cloud.imds.received_requests().await.expect("recorded").is_empty());

    for _ in 0..2 {
        let instance = aws.instance().await.expect("all is given");
        assert_eq!((instance.id.as_str(), instance.zone.as_str()), ("i-9", ""));
        assert_eq!(instance.network_cidrs, ["10.9.0.0/16".parse().expect("block")]);
        assert_eq!(instance.subnets, ["subnet-a".parse().expect("id")].into());
    }
    let asked = cloud.imds.received_requests().await.expect("recorded");
    let identity = |request: &&wiremock::Request| {
        request.method.as_str() == "GET" && !request.url.path().contains("/iam/")
    };
    assert_eq!(asked.iter().find(identity).map(|request| request.url.to_string()), None);
    assert_eq!(cloud.calls().await, ["DescribeNetworkInterfaces"]);
}

#[tokio::test]
async fn an_absent_metadata_service_is_reported_with_what_replaces_it() {
    // Port 9 (discard) of loopback: nobody listens there.
    let options = config::Aws {
        metadata_endpoint: Some("http://127.0.0.1:9".to_owned()),
        ..config::Aws::default()
    };
    let error = failure(options).await;
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    names_what_to_set_by_hand(&error);
}

#[tokio::test]
async fn a_silent_metadata_service_is_given_up() {
    let silent = MockServer::start().await;
    Mock::given(method("PUT"))
        .respond_with(ResponseTemplate::new(200).set_delay(std::time::Duration::from_mins(1)))
        .mount(&silent)
        .await;
    let options = config::Aws { metadata_endpoint: Some(silent.uri()), ..config::Aws::default() };
    let error = failure(options).await;
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    names_what_to_set_by_hand(&error);
}

#[tokio::test]
async fn a_service_that_speaks_version_1_only_is_never_asked_without_token() {
    for status in [404, 405, 403, 200] {
        let v1 = MockServer::start().await;
        Mock::given(method("PUT"))
            .and(path("/latest/api/token"))
            .respond_with(ResponseTemplate::new(status))
            .mount(&v1)
            .await;
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(200).set_body_string("i-1"))
            .mount(&v1)
            .await;
        let options = config::Aws { metadata_endpoint: Some(v1.uri()), ..config::Aws::default() };
        let error = failure(options).await;
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
        names_what_to_set_by_hand(&error);
        let asked = v1.received_requests().await.expect("recorded");
        assert!(asked.iter().all(|request| request.method.as_str() == "PUT"), "{status}");
    }
}

#[tokio::test]
async fn a_malformed_url_is_refused_by_name() {
    let cloud = Cloud::start().await;
    let options =
        config::Aws { metadata_endpoint: Some("localhost:80".to_owned()), ..cloud.options() };
    let error = failure(options).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("aws.metadata_endpoint"), "{error}");

    let options = config::Aws { endpoint: Some("ec2.example".to_owned()), ..by_hand(&cloud) };
    let error = failure(options).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("aws.endpoint"), "{error}");
}

#[tokio::test]
async fn a_metadata_service_that_stumbles_is_asked_again() {
    let cloud = Cloud::start().await;
    Mock::given(method("GET"))
        .and(path("/latest/meta-data/instance-id"))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&cloud.imds)
        .await;
    assert_eq!(cloud.connect().await.instance().await.expect("known").id.as_str(), "i-1");
}

#[tokio::test]
async fn a_malformed_value_is_refused_by_name() {
    let cloud = Cloud::start().await;
    Mock::given(method("GET"))
        .and(path("/latest/meta-data/mac"))
        .respond_with(ResponseTemplate::new(200).set_body_string("no address"))
        .with_priority(1)
        .mount(&cloud.imds)
        .await;
    let error = failure(cloud.options()).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("read mac from"), "{error}");
}

/// The SDK itself panics at one.
#[tokio::test]
async fn a_token_that_is_no_text_is_an_error() {
    let cloud = Cloud::start().await;
    cloud.imds.reset().await;
    Mock::given(method("PUT"))
        .and(path("/latest/api/token"))
        .respond_with(
            ResponseTemplate::new(200)
                .insert_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
                .set_body_bytes(*b"token\xc8"),
        )
        .mount(&cloud.imds)
        .await;
    let error = failure(cloud.options()).await;
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.to_string().contains("the AWS SDK can't handle the answer"), "{error}");
    names_what_to_set_by_hand(&error);
}
