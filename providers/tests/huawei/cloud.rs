//! A small Huawei Cloud: one server for the services, one for the metadata service.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use natd_core::config;
use natd_providers::{
    huawei::{Environment, Huawei},
    patience::Patience,
};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

pub const INSTANCE: &str = "server-1";
pub const VPC: &str = "vpc-1";
pub const PROJECT: &str = "project-1";
pub const MAC: &str = "fa:16:3e:00:00:01";
pub const SESSION: &str = "session-token-of-the-test";
/// All secrets of the tests hold this.
pub const SECRET: &str = "hunter2";

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
    pub api: MockServer,
    pub metadata: MockServer,
}

impl Cloud {
    /// An ECS with one port in `vpc-1`, whose agency gives keys for an hour.
    pub async fn start() -> Self {
        let cloud = Self { api: MockServer::start().await, metadata: MockServer::start().await };
        Mock::given(method("PUT"))
            .and(path("/meta-data/latest/api/token"))
            .respond_with(ResponseTemplate::new(200).set_body_string(SESSION))
            .mount(&cloud.metadata)
            .await;
        cloud.document("meta_data.json", meta_data()).await;
        let network = json!({"links": [
            {"id": "tap1", "vif_id": "port-1", "ethernet_mac_address": MAC, "mtu": null, "type": "cascading"}
        ], "networks": []});
        cloud.document("network_data.json", network).await;
        cloud.document("securitykey", keys("1", 60)).await;
        cloud
    }

    /// Serves a document of the metadata service.
    pub async fn document(&self, name: &str, content: Value) {
        self.document_times(name, content, None).await;
    }

    /// As `document`, but only so many times if a number is given.
    pub async fn document_times(&self, name: &str, content: Value, times: Option<u64>) {
        let mock = Mock::given(method("GET"))
            .and(path(format!("/openstack/latest/{name}")))
            .respond_with(ResponseTemplate::new(200).set_body_json(content));
        match times {
            Some(times) => mock.up_to_n_times(times).with_priority(1).mount(&self.metadata).await,
            None => mock.mount(&self.metadata).await,
        }
    }

    /// Answers a GET below the project.
    pub async fn answer(&self, place: &str, content: Value) {
        let answer = ResponseTemplate::new(200).set_body_json(content);
        get(place).respond_with(answer).mount(&self.api).await;
    }

    /// Answers a list: all of it, and nothing behind its last element.
    pub async fn list(&self, name: &'static str, items: Value) {
        get(&format!("v1/{name}"))
            .respond_with(move |request: &Request| {
                ResponseTemplate::new(200).set_body_json(json!({name: page(&items, request, 2000)}))
            })
            .mount(&self.api)
            .await;
    }

    /// Answers the next `times` calls with an error, whatever else is mounted.
    pub async fn refuse(&self, verb: &str, place: &str, times: u64, status: u16, body: &Value) {
        Mock::given(method(verb))
            .and(path(in_project(place)))
            .respond_with(refusal(status, body))
            .up_to_n_times(times)
            .with_priority(1)
            .mount(&self.api)
            .await;
    }

    pub fn options(&self) -> config::Huawei {
        config::Huawei {
            endpoint: Some(self.api.uri()),
            iam_endpoint: Some(self.api.uri()),
            metadata_endpoint: Some(self.metadata.uri()),
            ..config::Huawei::default()
        }
    }

    /// All that the metadata service would tell, by hand; with permanent keys.
    pub fn by_hand(&self) -> config::Huawei {
        config::Huawei {
            instance_id: Some(INSTANCE.parse().expect("id")),
            region: Some("eu-test-1".to_owned()),
            vpc_id: Some(VPC.parse().expect("id")),
            project_id: Some(PROJECT.to_owned()),
            access_key: Some("AK-OF-CONFIGURATION".to_owned()),
            secret_key: Some(format!("{SECRET}-configuration").into()),
            ..self.options()
        }
    }

    pub async fn connect(&self) -> Huawei {
        connect(self.options()).await
    }

    /// Method, path and query of the calls to the services, in order.
    pub async fn calls(&self) -> Vec<String> {
        let told = |request: Request| {
            let query = request.url.query().map_or_else(String::new, |query| format!("?{query}"));
            let path = request.url.path();
            let path = path.replace(&format!("/{PROJECT}/"), "/");
            format!("{} {path}{query}", request.method)
        };
        self.requests().await.into_iter().map(told).collect()
    }

    pub async fn requests(&self) -> Vec<Request> {
        self.api.received_requests().await.expect("recorded")
    }

    /// How often the metadata service was asked for what ends so.
    pub async fn asked(&self, end: &str) -> usize {
        let asked = self.metadata.received_requests().await.expect("recorded");
        asked.iter().filter(|request| request.url.path().ends_with(end)).count()
    }
}

pub async fn connect(options: config::Huawei) -> Huawei {
    connect_in(options, &Environment::default()).await
}

pub async fn connect_in(options: config::Huawei, environment: &Environment) -> Huawei {
    Huawei::connect_with(options, &config::Service::default(), environment, HASTY)
        .await
        .expect("connected")
}

pub fn meta_data() -> Value {
    json!({"uuid": INSTANCE, "availability_zone": "eu-test-1a", "region_id": "eu-test-1",
           "project_id": PROJECT, "meta": {"vpc_id": VPC, "os_type": "Linux"}, "name": "natd"})
}

/// Keys of an agency that end in so many minutes.
pub fn keys(name: &str, minutes: i64) -> Value {
    let end = Timestamp::now() + SignedDuration::from_mins(minutes);
    json!({"credential": {
        "access": format!("AK-{name}"), "secret": format!("{SECRET}-secret-{name}"),
        "securitytoken": format!("{SECRET}-token-{name}"), "expires_at": end.to_string(),
    }})
}

/// A page of a list, as `limit` and `marker` ask for it.
pub fn page(items: &Value, request: &Request, longest: usize) -> Vec<Value> {
    let asked = |name: &str| {
        request.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let all = items.as_array().expect("a list");
    let start = asked("marker").map_or(0, |marker| {
        all.iter().position(|item| item["id"] == marker).map_or(all.len(), |at| at + 1)
    });
    let limit = asked("limit").map_or(longest, |limit| limit.parse().expect("a number"));
    all[start..].iter().take(limit.min(longest)).cloned().collect()
}

pub fn refusal(status: u16, body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(status).insert_header("X-Request-Id", "request-7").set_body_json(body)
}

pub fn get(place: &str) -> wiremock::MockBuilder {
    Mock::given(method("GET")).and(path(in_project(place)))
}

/// `v1/ports` as it is on the wire.
pub fn in_project(place: &str) -> String {
    let (version, rest) = place.split_once('/').expect("a version");
    format!("/{version}/{PROJECT}/{rest}")
}

/// The key that a request was signed with.
pub fn signed_with(request: &Request) -> String {
    let header = request.headers["authorization"].to_str().expect("text").to_owned();
    let (_, rest) = header.split_once("Access=").expect("an access key");
    rest.split(',').next().unwrap_or_default().to_owned()
}

pub fn port(id: &str, mac: &str, subnet: &str, address: &str, pairs: &Value) -> Value {
    json!({"id": id, "mac_address": mac, "network_id": subnet, "device_id": INSTANCE,
           "fixed_ips": [{"ip_address": address, "subnet_id": "neutron-subnet"}],
           "allowed_address_pairs": pairs, "status": "ACTIVE", "something_new": {"a": 1}})
}
