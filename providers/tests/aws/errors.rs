//! Failures by kind, what is tried again, and what an error tells.

use natd_core::{
    cloud::{Provider, TableSelector},
    config,
    error::{Error, Kind},
};
use natd_providers::aws::Aws;

use crate::cloud::{Cloud, HASTY, SECRET, TOKEN, enis};

async fn interfaces_fail(cloud: &Cloud) -> Error {
    cloud.connect().await.interfaces().await.err().expect("a failure")
}

#[tokio::test]
async fn throttling_is_waited_out() {
    let cloud = Cloud::start().await;
    cloud.refuse("DescribeNetworkInterfaces", 2, 503, "RequestLimitExceeded", "slow down").await;
    cloud.answer("DescribeNetworkInterfaces", &enis(&[])).await;
    cloud.connect().await.interfaces().await.expect("at the third attempt");
    assert_eq!(cloud.calls().await.len(), 3);
}

#[tokio::test]
async fn throttling_without_end_is_reported_as_such() {
    let cloud = Cloud::start().await;
    cloud.refuse("DescribeNetworkInterfaces", 99, 503, "RequestLimitExceeded", "slow down").await;
    assert_eq!(interfaces_fail(&cloud).await.kind(), Kind::Throttled);
    assert_eq!(cloud.calls().await.len(), 6);
}

#[tokio::test]
async fn nothing_else_is_tried_again() {
    let cloud = Cloud::start().await;
    cloud.refuse("DescribeNetworkInterfaces", 99, 400, "InvalidParameterValue", "nonsense").await;
    assert_eq!(interfaces_fail(&cloud).await.kind(), Kind::Invalid);
    assert_eq!(cloud.calls().await.len(), 1);
}

#[tokio::test]
async fn a_denial_names_the_action_and_hides_the_encoded_part() {
    let cloud = Cloud::start().await;
    let message = "You are not authorized to perform this operation. \
                   Encoded authorization failure message: pBDSjuyG";
    cloud.refuse("DescribeRouteTables", 9, 403, "UnauthorizedOperation", message).await;
    let selector =
        TableSelector { ids: ["rtb-1".parse().expect("id")].into(), ..TableSelector::default() };
    let error = cloud.connect().await.route_tables(&selector).await.err().expect("denied");
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(
        error.to_string(),
        "could not list the route tables of vpc-1: You are not authorized to perform this operation. \
         [UnauthorizedOperation, request request-7]; \
         allow ec2:DescribeRouteTables (the policy of the instance's role)"
    );
}

#[tokio::test]
async fn bad_credentials_are_told_from_missing_permissions() {
    let cloud = Cloud::start().await;
    cloud.refuse("DescribeNetworkInterfaces", 9, 401, "AuthFailure", "not able to validate").await;
    let error = interfaces_fail(&cloud).await;
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.advice().expect("advice").contains("AWS_PROFILE"), "{error}");
}

#[tokio::test]
async fn an_instance_without_role_is_told_to_get_one() {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some() || std::env::var_os("AWS_PROFILE").is_some()
    {
        return;
    }
    let cloud = Cloud::start().await;
    let bare = Cloud::start().await;
    bare.imds.reset().await;
    let options = config::Aws {
        instance_id: Some("i-1".parse().expect("id")),
        vpc_id: Some("vpc-1".parse().expect("id")),
        vpc_cidrs: vec!["10.0.0.0/16".parse().expect("block")],
        metadata_endpoint: Some(bare.imds.uri()),
        ..cloud.options()
    };
    let aws = Aws::connect_with(options, HASTY).await.expect("all is given");
    let error = aws.interfaces().await.err().expect("no credentials");
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(error.advice().expect("advice").contains("attach a role"), "{error}");
}

#[tokio::test]
async fn an_api_that_hangs_up_is_unreachable() {
    let cloud = Cloud::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.readable().await.expect("a request");
        }
    });
    let options = config::Aws { endpoint: Some(endpoint), ..cloud.options() };
    let aws = Aws::connect_with(options, HASTY).await.expect("the metadata service answers");
    let error = aws.interfaces().await.err().expect("no answer");
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
}

#[tokio::test]
async fn an_api_that_nobody_serves_is_unreachable_by_name() {
    let cloud = Cloud::start().await;
    let options =
        config::Aws { endpoint: Some("http://127.0.0.1:9".to_owned()), ..cloud.options() };
    let aws = Aws::connect_with(options, HASTY).await.expect("the metadata service answers");
    let error = aws.interfaces().await.err().expect("nobody there");
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_no_xml_is_judged_by_its_status() {
    for (status, kind) in [(502, Kind::Unreachable), (403, Kind::Invalid)] {
        let cloud = Cloud::start().await;
        wiremock::Mock::given(wiremock::matchers::method("POST"))
            .respond_with(wiremock::ResponseTemplate::new(status).set_body_string("<html>proxy"))
            .mount(&cloud.ec2)
            .await;
        assert_eq!(interfaces_fail(&cloud).await.kind(), kind, "{status}");
    }
}

#[tokio::test]
async fn no_secret_reaches_an_error() {
    let cloud = Cloud::start().await;
    let answers = [
        (401, "AuthFailure", "no"),
        (403, "UnauthorizedOperation", "no"),
        (500, "InternalError", "no"),
        (200, "not an error", "no"),
    ];
    for (status, code, message) in answers {
        cloud.ec2.reset().await;
        cloud.refuse("DescribeNetworkInterfaces", 99, status, code, message).await;
        let Err(error) = cloud.connect().await.interfaces().await else { continue };
        for text in [error.to_string(), format!("{error:?}")] {
            for secret in [SECRET, TOKEN, "ASIATEST", "AWS4-HMAC-SHA256"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}

/// The SDK keeps credentials until they end by the clock of this machine, which may be set back meanwhile.
#[tokio::test]
async fn credentials_that_are_refused_are_had_anew_and_those_that_are_taken_are_kept() {
    let cloud = Cloud::start().await;
    let aws = cloud.connect().await;
    let had = async || {
        let requests = cloud.imds.received_requests().await.expect("recorded");
        requests.iter().filter(|request| request.url.path().ends_with("/natd")).count()
    };
    for code in ["RequestExpired", "ExpiredToken", "AuthFailure"] {
        cloud.refuse("DescribeNetworkInterfaces", 1, 400, code, "it has expired").await;
        assert_eq!(aws.interfaces().await.err().expect("refused").kind(), Kind::Denied);
        let before = had().await;
        cloud.answer("DescribeNetworkInterfaces", &enis(&[])).await;
        aws.interfaces().await.expect("with others");
        assert_eq!(had().await, before + 1, "{code}");
        aws.interfaces().await.expect("with the same");
        assert_eq!(had().await, before + 1, "{code}");
        cloud.ec2.reset().await;
    }
}
