//! A small cloud of canned answers: one server for the EC2 API, one for the metadata service.

use std::time::Duration;

use natd_core::config;
use natd_providers::{aws::Aws, patience::Patience};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_string_contains, header, method, path},
};

pub const TOKEN: &str = "session-token-of-the-test";
pub const SECRET: &str = "secret-key-of-the-test";
pub const MAC: &str = "0a:00:00:00:00:01";
pub const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// Short waits, as many attempts as in production.
pub const HASTY: Patience = Patience {
    attempts: 6,
    initial_backoff: Duration::from_millis(1),
    connect: Duration::from_secs(3),
    attempt: Duration::from_secs(5),
    call: Duration::from_secs(30),
    metadata: Duration::from_secs(4),
};

pub struct Cloud {
    pub ec2: MockServer,
    pub imds: MockServer,
}

impl Cloud {
    /// An instance with one interface in `vpc-1`, whose role gives credentials.
    pub async fn start() -> Self {
        let cloud = Self { ec2: MockServer::start().await, imds: MockServer::start().await };
        let ttl = "x-aws-ec2-metadata-token-ttl-seconds";
        Mock::given(method("PUT"))
            .and(path("/latest/api/token"))
            .respond_with(
                ResponseTemplate::new(200).insert_header(ttl, "21600").set_body_string(TOKEN),
            )
            .mount(&cloud.imds)
            .await;
        let role = format!(
            r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIATEST","Token":"t",
                "LastUpdated":"2026-01-01T00:00:00Z","SecretAccessKey":"{SECRET}",
                "Expiration":"2126-01-01T00:00:00Z"}}"#
        );
        cloud.category("instance-id", "i-1").await;
        cloud.category("placement/region", "eu-test-1").await;
        cloud.category("placement/availability-zone", "eu-test-1a").await;
        cloud.category("mac", MAC).await;
        cloud.category("network/interfaces/macs/", &format!("{MAC}/")).await;
        cloud.category(&format!("network/interfaces/macs/{MAC}/vpc-id"), "vpc-1").await;
        cloud.category(&format!("network/interfaces/macs/{MAC}/subnet-id"), "subnet-own").await;
        cloud
            .category(
                &format!("network/interfaces/macs/{MAC}/vpc-ipv4-cidr-blocks"),
                "10.0.0.0/16\n100.64.0.0/16",
            )
            .await;
        cloud.category("iam/security-credentials/", "natd").await;
        cloud.category("iam/security-credentials/natd", &role).await;
        cloud
    }

    /// Serves one category, to requests with the session token only.
    pub async fn category(&self, name: &str, value: &str) {
        Mock::given(method("GET"))
            .and(path(format!("/latest/meta-data/{name}")))
            .and(header("x-aws-ec2-metadata-token", TOKEN))
            .respond_with(ResponseTemplate::new(200).set_body_string(value))
            .mount(&self.imds)
            .await;
    }

    /// Answers an action with the content of its response element.
    pub async fn answer(&self, action: &str, content: &str) {
        self.answer_if(action, "", content).await;
    }

    /// As `answer`, to requests whose form contains `part`.
    pub async fn answer_if(&self, action: &str, part: &str, content: &str) {
        call(action)
            .and(body_string_contains(part))
            .respond_with(success(action, content))
            .mount(&self.ec2)
            .await;
    }

    /// Answers the next `times` calls of an action with an error; the earliest mounted goes first.
    pub async fn refuse(&self, action: &str, times: u64, status: u16, code: &str, message: &str) {
        call(action)
            .respond_with(refusal(status, code, message))
            .up_to_n_times(times)
            .mount(&self.ec2)
            .await;
    }

    pub fn options(&self) -> config::Aws {
        config::Aws {
            endpoint: Some(self.ec2.uri()),
            metadata_endpoint: Some(self.imds.uri()),
            region: Some("eu-test-1".to_owned()),
            ..config::Aws::default()
        }
    }

    pub async fn connect(&self) -> Aws {
        Aws::connect_with(self.options(), HASTY).await.expect("the cloud answers")
    }

    /// The EC2 actions that were called, in order.
    pub async fn calls(&self) -> Vec<String> {
        self.forms().await.into_iter().map(|form| field(&form, "Action").to_owned()).collect()
    }

    /// The decoded forms of the EC2 calls, in order.
    pub async fn forms(&self) -> Vec<String> {
        let requests = self.ec2.received_requests().await.expect("recorded");
        requests
            .iter()
            .map(|request| {
                String::from_utf8_lossy(&request.body).replace("%2F", "/").replace("%3A", ":")
            })
            .collect()
    }
}

/// The value of one field of a form.
pub fn field<'a>(form: &'a str, name: &str) -> &'a str {
    form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or("")
}

fn call(action: &str) -> wiremock::MockBuilder {
    Mock::given(method("POST")).and(body_string_contains(format!("Action={action}&")))
}

fn success(action: &str, content: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(format!(
        r#"<{action}Response xmlns="{NAMESPACE}"><requestId>r</requestId>{content}</{action}Response>"#
    ))
}

fn refusal(status: u16, code: &str, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).insert_header("x-amzn-requestid", "request-7").set_body_string(format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>request-7</RequestID></Response>"
    ))
}

/// One entry of `DescribeNetworkInterfaces`.
pub fn eni(id: &str, device: u32, mac: &str, subnet: &str, addresses: &str) -> String {
    format!(
        "<item><networkInterfaceId>{id}</networkInterfaceId><macAddress>{mac}</macAddress>\
         <subnetId>{subnet}</subnetId><vpcId>vpc-1</vpcId><sourceDestCheck>true</sourceDestCheck>\
         <groupSet><item><groupId>sg-1</groupId></item></groupSet>\
         <attachment><deviceIndex>{device}</deviceIndex><status>attached</status></attachment>\
         <privateIpAddressesSet>{addresses}</privateIpAddressesSet></item>"
    )
}

/// A list of `DescribeNetworkInterfaces`.
pub fn enis(items: &[String]) -> String {
    format!("<networkInterfaceSet>{}</networkInterfaceSet>", items.concat())
}

/// One entry of `DescribeRouteTables`.
pub fn table(id: &str, vpc: &str, associations: &str, routes: &str) -> String {
    format!(
        "<item><routeTableId>{id}</routeTableId><vpcId>{vpc}</vpcId>\
         <associationSet>{associations}</associationSet><routeSet>{routes}</routeSet>\
         <tagSet><item><key>name</key><value>{id}</value></item></tagSet></item>"
    )
}

/// A list of `DescribeRouteTables`.
pub fn tables(items: &[String]) -> String {
    format!("<routeTableSet>{}</routeTableSet>", items.concat())
}

/// An association of a route table with a subnet.
pub fn association(subnet: &str) -> String {
    format!(
        "<item><main>false</main><subnetId>{subnet}</subnetId>\
         <associationState><state>associated</state></associationState></item>"
    )
}

pub const MAIN: &str = "<item><main>true</main></item>";

/// A static route.
pub fn route(destination: &str, target: &str) -> String {
    format!(
        "<item><destinationCidrBlock>{destination}</destinationCidrBlock>{target}\
         <state>active</state><origin>CreateRoute</origin></item>"
    )
}
