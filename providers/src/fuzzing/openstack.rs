//! OpenStack: every answer of Keystone and Neutron, errors too.

use std::collections::BTreeMap;

use natd_core::config::{self, OpenstackRoutes, OpenstackSourceCheck};
use serde_json::Value;

use super::{
    HASTY, SECRET,
    drive::{drive, others_stay, told},
    server::serve,
    shared::{head, pieces, text},
};
use crate::openstack::{Environment, Openstack, catalogue};

/// A token, if the input has none.
const USUAL: &str = "POST /v3/auth/tokens 201
X-Subject-Token: token-of-the-fuzzer

{\"token\": {\"issued_at\": \"2026-01-01T00:00:00Z\", \"expires_at\": \"2126-01-01T00:00:00Z\"}}";

/// `port-security` and `host-routes` on the first line choose how natd works; answers follow, as `server` reads them.
pub fn openstack(input: &[u8]) {
    if text(input).contains(SECRET) {
        return;
    }
    let (ways, _) = head(input);
    let ways = text(ways);
    let takes = |way: &str| ways.contains(way);
    // Where natd is sent by a catalogue, it is not followed: that may be anywhere.
    for piece in pieces(input) {
        let body =
            piece.windows(2).position(|ends| ends == b"\n\n").and_then(|at| piece.get(at + 2..));
        if let Some(Err(error)) = body.map(catalogue) {
            told(&error);
        }
    }
    serve(input, USUAL, false, async |server| {
        let options = config::Openstack {
            endpoint: Some(server.url.clone()),
            instance_id: "server-1".parse().ok(),
            source_check: if takes("port-security") {
                OpenstackSourceCheck::PortSecurity
            } else {
                OpenstackSourceCheck::AddressPairs
            },
            routes: if takes("host-routes") {
                OpenstackRoutes::HostRoutes
            } else {
                OpenstackRoutes::Router
            },
            ..config::Openstack::default()
        };
        let variables = [
            ("OS_AUTH_URL", server.url.as_str()),
            ("OS_USERNAME", "natd"),
            ("OS_PASSWORD", SECRET),
            ("OS_PROJECT_NAME", "lab"),
        ];
        let environment = Environment {
            variables: BTreeMap::from(
                variables.map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
            folders: Vec::new(),
        };
        match Openstack::connect_with(options, environment, HASTY).await {
            Ok(openstack) => drive(&openstack).await,
            Err(error) => told(&error),
        }
        let exchanges = server.exchanges();
        others_stay(&exchanges, &[("router", "routes"), ("subnet", "host_routes")], is_written);
        if !takes("port-security") {
            others_stay(&exchanges, &[("port", "allowed_address_pairs")], is_open);
        }
    });
}

/// A route to where the target writes.
fn is_written(route: &Value) -> bool {
    let destination = route.get("destination").and_then(Value::as_str).unwrap_or_default();
    destination
        .parse::<ipnet::IpNet>()
        .is_ok_and(|net| ["0.0.0.0/0", "192.0.2.0/24"].contains(&net.trunc().to_string().as_str()))
}

/// A pair for every address, of whichever Ethernet address.
fn is_open(pair: &Value) -> bool {
    pair.get("ip_address").and_then(Value::as_str).is_some_and(|address| address.ends_with("/0"))
}
