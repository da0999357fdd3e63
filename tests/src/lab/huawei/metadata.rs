//! The metadata service of an ECS, with and without session tokens, and its agency's keys.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::super::fabric::Current;
use super::super::http::{Request, Response};
use super::super::picture::{Picture, Port};
use super::owner::Owner;
use super::{PROJECT, REGION, ZONE};

const TOKEN_PATH: &str = "/meta-data/latest/api/token";
/// The longest life of a token, in seconds.
const LONGEST: u32 = 21_600;

/// Which versions of the service there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// A token first, then answers.
    #[default]
    TokensOnly,
    /// No tokens: their path isn't there, which some deployments tell by 404 and others by 405.
    NoTokens { status: u16 },
}

/// How the service is set, for all instances.
#[derive(Clone, Debug, Default)]
pub struct Settings(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    version: Version,
    agency: bool,
    tokens: BTreeSet<String>,
    issued: u32,
}

impl Default for Inner {
    fn default() -> Self {
        Self { version: Version::default(), agency: true, tokens: BTreeSet::new(), issued: 0 }
    }
}

impl Settings {
    pub fn set_version(&self, version: Version) {
        self.lock().version = version;
    }

    /// Whether instances have an agency, and so keys.
    pub fn set_agency(&self, agency: bool) {
        self.lock().agency = agency;
    }

    /// Has no token be good any more.
    pub fn forget_tokens(&self) {
        self.lock().tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, request: &Request) -> Response {
        let mut inner = self.lock();
        if let Version::NoTokens { status } = inner.version {
            return Response::text(status, "");
        }
        let lifetime = request.header("x-metadata-token-ttl-seconds");
        let lifetime = lifetime.and_then(|text| text.parse().ok());
        if !lifetime.is_some_and(|seconds: u32| (1..=LONGEST).contains(&seconds)) {
            return Response::text(400, "");
        }
        inner.issued += 1;
        let token = format!("DgAAXn{:010}==", inner.issued);
        inner.tokens.insert(token.clone());
        Response::text(200, token)
    }

    fn lets_in(&self, request: &Request) -> bool {
        let inner = self.lock();
        let token = request.header("x-metadata-token").unwrap_or_default();
        inner.version != Version::TokensOnly || inner.tokens.contains(token)
    }
}

/// The service of one port.
#[derive(Debug)]
pub struct Service {
    pub port: String,
    pub current: Current,
    pub settings: Settings,
    pub owner: Owner,
}

impl Service {
    pub fn answer(&self, request: &Request) -> Response {
        match (request.method.as_str(), request.target.as_str()) {
            ("PUT", TOKEN_PATH) => self.settings.issue(request),
            ("GET", _) if !self.settings.lets_in(request) => Response::text(401, ""),
            ("GET", path) => self.look_up(path).unwrap_or_else(|| Response::text(404, "")),
            _ => Response::text(405, ""),
        }
    }

    fn look_up(&self, path: &str) -> Option<Response> {
        let picture = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let instance = &picture.ports.get(&self.port)?.instance;
        let ports: Vec<_> =
            picture.ports.iter().filter(|(_, port)| port.instance == *instance).collect();
        let (_, first) = ports.iter().find(|(_, port)| port.number == 0)?;
        let address = first.addresses.first()?;
        let json = |value: &Value| Response::new(200, "application/json", value.to_string());
        Some(match path {
            "/openstack/latest/meta_data.json" => json(&meta_data(instance, &picture)),
            "/openstack/latest/network_data.json" => json(&network_data(ports)),
            "/openstack/latest/securitykey" => self.security_key(instance),
            "/latest/meta-data/local-ipv4" => Response::text(200, address.to_string()),
            "/latest/meta-data/public-ipv4" => {
                Response::text(200, public_of(&picture, *address)?.to_string())
            }
            _ => return None,
        })
    }

    fn security_key(&self, instance: &str) -> Response {
        if !self.settings.lock().agency {
            return Response::text(401, "Please configure Cloud Service Agency first");
        }
        match self.owner.get(&format!("/securitykey/{instance}")) {
            Ok(key) => Response::new(200, "application/json", key.to_string()),
            Err(error) => Response::text(500, format!("{error:#}")),
        }
    }
}

fn meta_data(instance: &str, picture: &Picture) -> Value {
    json!({
        "uuid": instance, "availability_zone": ZONE, "enterprise_project_id": "0",
        "hostname": "ecs-lab.novalocal", "name": "ecs-lab", "region_id": REGION,
        "project_id": PROJECT, "meta": { "vpc_id": picture.network, "os_type": "Linux" },
    })
}

/// The links in the order of the interfaces.
fn network_data(mut ports: Vec<(&String, &Port)>) -> Value {
    ports.sort_by_key(|(_, port)| port.number);
    let link_id = |id: &str| format!("tap{}", id.get(..11).unwrap_or(id));
    let link = |(id, port): &(&String, &Port)| {
        json!({
            "vif_id": id, "ethernet_mac_address": port.mac, "mtu": null, "type": "cascading",
            "id": link_id(id),
        })
    };
    let network = |(row, (id, port)): (usize, &(&String, &Port))| {
        json!({
            "network_id": port.subnet, "type": "ipv4_dhcp", "link": link_id(id),
            "id": format!("network{row}"),
        })
    };
    json!({
        "services": [{ "type": "dns", "address": "100.125.21.250" }],
        "networks": ports.iter().enumerate().map(network).collect::<Vec<_>>(),
        "links": ports.iter().map(link).collect::<Vec<_>>(),
    })
}

fn public_of(picture: &Picture, private: Ipv4Addr) -> Option<Ipv4Addr> {
    let mut all = picture.public.iter();
    all.find(|(_, of)| **of == private).map(|(public, _)| *public)
}
