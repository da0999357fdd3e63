//! The metadata service: Nova's own format, and what of EC2's Nova has.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};

use super::super::fabric::Current;
use super::super::http::{Request, Response};
use super::super::picture::{Picture, Port};

/// What one port's instance is told.
#[derive(Debug)]
pub struct Service {
    port: String,
    current: Current,
    project: String,
    /// Networks by their subnet.
    networks: Arc<BTreeMap<String, String>>,
}

impl Service {
    pub fn new(
        port: &str,
        current: &Current,
        project: &str,
        networks: &Arc<BTreeMap<String, String>>,
    ) -> Self {
        Self {
            port: port.to_owned(),
            current: Arc::clone(current),
            project: project.to_owned(),
            networks: Arc::clone(networks),
        }
    }

    /// The answer to a request.
    pub fn answer(&self, request: &Request) -> Response {
        if request.method != "GET" {
            return Response::text(405, "");
        }
        let picture = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let Some(port) = picture.ports.get(&self.port) else {
            return Response::text(404, "");
        };
        let json = |body: &Value| Response::new(200, "application/json", body.to_string());
        match request.target.trim_end_matches('/') {
            "/openstack" => Response::text(200, "2018-08-27\nlatest"),
            "/openstack/latest" => Response::text(200, "meta_data.json\nnetwork_data.json"),
            "/openstack/latest/meta_data.json" => json(&self.meta_data(port)),
            "/openstack/latest/network_data.json" => json(&self.network_data(&picture, port)),
            target => match target.strip_prefix("/latest/meta-data/") {
                Some(name) => of_ec2(&picture, port, name)
                    .map_or_else(|| Response::text(404, ""), |text| Response::text(200, text)),
                None => Response::text(404, ""),
            },
        }
    }

    fn meta_data(&self, port: &Port) -> Value {
        json!({
            "uuid": port.instance,
            "name": "of-the-lab",
            "hostname": "of-the-lab.novalocal",
            "availability_zone": "nova",
            "project_id": self.project,
            "launch_index": 0,
            "devices": [],
        })
    }

    fn network_data(&self, picture: &Picture, port: &Port) -> Value {
        let mut ports: Vec<_> =
            picture.ports.iter().filter(|(_, of)| of.instance == port.instance).collect();
        ports.sort_by_key(|(_, of)| of.number);
        let (mut links, mut networks) = (Vec::new(), Vec::new());
        for (id, of) in ports {
            let link = format!("tap{}", id.chars().take(11).collect::<String>());
            for address in &of.addresses {
                networks.push(json!({
                    "id": format!("network{}", networks.len()),
                    "type": "ipv4",
                    "link": link,
                    "ip_address": address,
                    "netmask": of.subnet_block.netmask(),
                    "routes": [],
                    "network_id": self.networks.get(&of.subnet),
                    "services": [],
                }));
            }
            links.push(json!({
                "id": link,
                "vif_id": id,
                "type": "ovs",
                "mtu": 1500,
                "ethernet_mac_address": of.mac,
            }));
        }
        json!({ "links": links, "networks": networks, "services": [] })
    }
}

fn of_ec2(picture: &Picture, port: &Port, name: &str) -> Option<String> {
    let of_instance = |of: &&Port| of.instance == port.instance && of.number == 0;
    let first = picture.ports.values().find(of_instance).unwrap_or(port);
    let address: Ipv4Addr = first.addresses.first().copied()?;
    let public = || picture.public.iter().find(|(_, private)| **private == address);
    match name {
        // EC2's ids are Nova's own numbers, and no server's.
        "instance-id" => Some("i-00000001".to_owned()),
        "local-ipv4" => Some(address.to_string()),
        "public-ipv4" => public().map(|(public, _)| public.to_string()),
        "placement/availability-zone" => Some("nova".to_owned()),
        "mac" => Some(first.mac.clone()),
        _ => None,
    }
}
