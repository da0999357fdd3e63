//! A small cloud of canned answers: Keystone, Neutron, and the ports, routers and subnets of a server.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use natd_core::config;
use natd_providers::{
    openstack::{Environment, Openstack},
    patience::Patience,
};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, Respond, ResponseTemplate,
    matchers::{method, path, query_param},
};

pub const PASSWORD: &str = "password-of-the-test";
pub const SERVER: &str = "server-1";

/// Short waits, as many attempts as in production.
pub const HASTY: Patience = Patience {
    attempts: 6,
    initial_backoff: Duration::from_millis(1),
    connect: Duration::from_secs(3),
    attempt: Duration::from_secs(5),
    call: Duration::from_secs(30),
    metadata: Duration::from_secs(4),
};

/// The way out and the private side: `router-out` serves the first, `router-in` the second.
pub const OUTSIDE: &str = "subnet-out";
pub const INSIDE: &str = "subnet-in";

pub struct Cloud {
    pub keystone: MockServer,
    pub neutron: MockServer,
}

/// Tokens `token-1`, `token-2` …, each good for so many seconds.
struct Tokens {
    neutron: String,
    seconds: i64,
    given: AtomicU32,
}

impl Respond for Tokens {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
        let issued = jiff::Timestamp::now();
        let ends = issued + jiff::SignedDuration::from_secs(self.seconds);
        let endpoint = |interface: &str, region: &str, url: &str| json!({ "interface": interface, "region": region, "region_id": region, "url": url });
        let body = json!({ "token": {
            "issued_at": issued.to_string(), "expires_at": ends.to_string(),
            "catalog": [
                { "type": "compute", "endpoints": [endpoint("public", "one", "http://nova")] },
                { "type": "network", "endpoints": [
                    endpoint("public", "one", &self.neutron),
                    endpoint("internal", "one", "http://127.0.0.1:9"),
                    endpoint("public", "two", "http://127.0.0.1:9"),
                ] },
            ],
        } });
        ResponseTemplate::new(201)
            .insert_header("X-Subject-Token", format!("token-{number}"))
            .set_body_json(body)
    }
}

impl Cloud {
    /// Keystone gives tokens for an hour; Neutron knows nothing yet.
    pub async fn bare() -> Self {
        let cloud =
            Self { keystone: MockServer::start().await, neutron: MockServer::start().await };
        cloud.tokens(3600).await;
        cloud
    }

    /// A server with a port on each side, one with a floating IP, and no extra routes.
    pub async fn start() -> Self {
        let cloud = Self::bare().await;
        cloud
            .ports(&[port("port-out", OUTSIDE, "10.0.1.5"), port("port-in", INSIDE, "10.0.2.5")])
            .await;
        cloud.list("routers", &[router("router-in", &json!([])), outer_router()]).await;
        cloud.legs().await;
        cloud
            .list(
                "subnets",
                &[
                    subnet(OUTSIDE, "10.0.1.0/24", "10.0.1.1"),
                    subnet(INSIDE, "10.0.2.0/24", "10.0.2.1"),
                    subnet("subnet-far", "10.0.3.0/24", "10.0.3.1"),
                    subnet("subnet-alone", "10.0.4.0/24", "10.0.4.1"),
                ],
            )
            .await;
        let floating = json!({ "port_id": "port-out", "fixed_ip_address": "10.0.1.5", "floating_ip_address": "203.0.113.9" });
        cloud.list("floatingips", &[floating]).await;
        cloud.list("security-group-rules", &[rule("group-1", &json!({}))]).await;
        let extensions =
            ["extraroute-atomic", "port-security"].map(|alias| json!({ "alias": alias }));
        cloud.list("extensions", &extensions).await;
        cloud
    }

    pub async fn tokens(&self, seconds: i64) {
        let neutron = self.neutron.uri();
        Mock::given(method("POST"))
            .and(path("/v3/auth/tokens"))
            .respond_with(Tokens { neutron, seconds, given: AtomicU32::new(0) })
            .mount(&self.keystone)
            .await;
    }

    /// The ports of the server.
    pub async fn ports(&self, ports: &[Value]) {
        Mock::given(method("GET"))
            .and(path("/v2.0/ports"))
            .and(query_param("device_id", SERVER))
            .respond_with(ok("ports", &json!(ports)))
            .mount(&self.neutron)
            .await;
    }

    /// The ports of routers: `router-in` is on a further subnet too.
    async fn legs(&self) {
        let leg = |router: &str, subnet: &str, address: &str| {
            json!({ "id": format!("{router}-{subnet}"), "device_id": router,
                "fixed_ips": [{ "subnet_id": subnet, "ip_address": address }] })
        };
        let legs = json!([
            leg("router-out", OUTSIDE, "10.0.1.1"),
            leg("router-in", INSIDE, "10.0.2.1"),
            leg("router-in", "subnet-far", "10.0.3.1"),
        ]);
        Mock::given(method("GET"))
            .and(path("/v2.0/ports"))
            .and(query_param("device_owner", "network:router_interface"))
            .respond_with(ok("ports", &legs))
            .mount(&self.neutron)
            .await;
    }

    /// A collection as a whole.
    pub async fn list(&self, collection: &str, objects: &[Value]) {
        Mock::given(method("GET"))
            .and(path(format!("/v2.0/{collection}")))
            .respond_with(ok(&collection.replace('-', "_"), &json!(objects)))
            .mount(&self.neutron)
            .await;
    }

    /// One object, at the next `times` readings.
    pub async fn show(&self, collection: &str, times: u64, object: &Value) {
        let id = object["id"].as_str().expect("an id");
        Mock::given(method("GET"))
            .and(path(format!("/v2.0/{collection}s/{id}")))
            .respond_with(ok(collection, object))
            .up_to_n_times(times)
            .mount(&self.neutron)
            .await;
    }

    /// Every change is accepted.
    pub async fn accept(&self) {
        Mock::given(method("PUT"))
            .respond_with(ResponseTemplate::new(200).set_body_json(json!({})))
            .mount(&self.neutron)
            .await;
    }

    /// The next `times` calls are answered with an error of Neutron's.
    pub async fn refuse(&self, verb: &str, what: &str, times: u64, status: u16, kind: &str) {
        let body = json!({ "NeutronError": { "type": kind, "message": format!("this is {kind}."), "detail": "" } });
        Mock::given(method(verb))
            .and(path(format!("/v2.0/{what}")))
            .respond_with(
                ResponseTemplate::new(status)
                    .insert_header("X-Openstack-Request-Id", "req-7")
                    .set_body_json(body),
            )
            .up_to_n_times(times)
            .with_priority(1)
            .mount(&self.neutron)
            .await;
    }

    pub fn variables(&self) -> BTreeMap<String, String> {
        let auth_url = self.keystone.uri();
        [
            ("OS_AUTH_URL", auth_url.as_str()),
            ("OS_USERNAME", "natd"),
            ("OS_PASSWORD", PASSWORD),
            ("OS_PROJECT_NAME", "lab"),
            ("OS_REGION_NAME", "one"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    pub fn environment(&self) -> Environment {
        Environment { variables: self.variables(), folders: Vec::new() }
    }

    pub async fn connect(&self) -> Openstack {
        self.connect_as(options()).await
    }

    pub async fn connect_as(&self, options: config::Openstack) -> Openstack {
        Openstack::connect_with(options, self.environment(), HASTY).await.expect("all is given")
    }

    /// The calls of Neutron, as `GET ports`.
    pub async fn calls(&self) -> Vec<String> {
        let requests = self.neutron.received_requests().await.expect("recorded");
        let call = |request: &Request| {
            format!("{} {}", request.method, request.url.path().trim_start_matches("/v2.0/"))
        };
        requests.iter().map(call).collect()
    }

    /// The changes: what, the revision that they are for, and the body.
    pub async fn writes(&self) -> Vec<(String, String, Value)> {
        let requests = self.neutron.received_requests().await.expect("recorded");
        let writes = requests.iter().filter(|request| request.method.as_str() == "PUT");
        let write = |request: &Request| {
            let revision =
                request.headers.get("if-match").map(|value| value.to_str().expect("text"));
            (
                request.url.path().trim_start_matches("/v2.0/").to_owned(),
                revision.unwrap_or_default().to_owned(),
                request.body_json().expect("JSON"),
            )
        };
        writes.map(write).collect()
    }

    pub async fn logins(&self) -> Vec<Value> {
        let requests = self.keystone.received_requests().await.expect("recorded");
        requests.iter().map(|request| request.body_json().expect("JSON")).collect()
    }
}

pub fn options() -> config::Openstack {
    config::Openstack {
        instance_id: Some(SERVER.parse().expect("id")),
        ..config::Openstack::default()
    }
}

pub fn ok(name: &str, value: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ name: value }))
}

/// A port of the server, with port security and one group.
pub fn port(id: &str, subnet: &str, address: &str) -> Value {
    json!({
        "id": id, "network_id": subnet.replace("subnet", "network"),
        "mac_address": if id == "port-out" { "fa:16:3e:00:00:01" } else { "fa:16:3e:00:00:02" },
        "fixed_ips": [{ "subnet_id": subnet, "ip_address": address }],
        "security_groups": ["group-1"], "allowed_address_pairs": [],
        "port_security_enabled": true, "revision_number": 4, "created_at": "2026-01-01T00:00:00Z",
        "a_field_of_a_later_version": { "is": "passed over" },
    })
}

pub fn router(id: &str, routes: &Value) -> Value {
    json!({ "id": id, "routes": routes, "external_gateway_info": null,
        "tags": ["natd=managed", "plain"], "revision_number": 7 })
}

fn outer_router() -> Value {
    json!({ "id": "router-out", "routes": [], "tags": [], "revision_number": 2,
        "external_gateway_info": { "network_id": "internet", "enable_snat": true,
            "external_fixed_ips": [{ "subnet_id": "s", "ip_address": "203.0.113.1" }] } })
}

pub fn subnet(id: &str, cidr: &str, gateway: &str) -> Value {
    json!({ "id": id, "network_id": id.replace("subnet", "network"), "cidr": cidr,
        "gateway_ip": gateway, "host_routes": [], "tags": [], "revision_number": 3 })
}

/// A rule that lets 10.0.0.0/16 in, with other fields over it.
pub fn rule(group: &str, over: &Value) -> Value {
    let mut rule = json!({ "id": "rule-1", "security_group_id": group, "direction": "ingress",
        "ethertype": "IPv4", "protocol": null, "remote_ip_prefix": "10.0.0.0/16",
        "remote_group_id": null });
    for (key, value) in over.as_object().expect("a table") {
        rule[key] = value.clone();
    }
    rule
}

pub fn route(destination: &str, nexthop: &str) -> Value {
    json!({ "destination": destination, "nexthop": nexthop })
}
