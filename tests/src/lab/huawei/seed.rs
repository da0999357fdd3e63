//! Makes the lab's topology in an empty project, past the API, and keeps the ids that it gave.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};

use super::super::ids::Ids;
use super::super::topology::{Instance, Interface, NETWORKS, Role, Topology, interface_name};
use super::{PROJECT, REGION, ZONE};

const MADE: &str = "2024-01-01T00:00:00Z";

/// What the topology is in the stand-in's words, and the ids in it.
#[derive(Debug)]
pub struct Seeded {
    pub ids: Ids,
    pub state: Value,
}

/// By kind and id.
struct Resources {
    of: Map<String, Value>,
    made: u32,
}

impl Resources {
    /// An id in the form that the cloud's have.
    fn id(&mut self) -> String {
        self.made += 1;
        format!("5f9b8e2a-71c4-4d0e-9a36-{:012x}", 0xfa16_3e00_0000_u64 + u64::from(self.made))
    }

    fn put(&mut self, kind: &str, id: &str, mut resource: Value) {
        resource["id"] = id.into();
        let kind = self.of.entry(kind).or_insert_with(|| json!({}));
        kind[id] = resource;
    }

    fn make(&mut self, kind: &str, resource: Value) -> String {
        let id = self.id();
        self.put(kind, &id, resource);
        id
    }
}

/// The whole of it.
pub fn seed(topology: &Topology) -> Result<Seeded> {
    let mut resources = Resources { of: Map::new(), made: 0 };
    let mut ids = Ids::default();
    let [first, others @ ..] = NETWORKS.map(|block| block.to_string());
    ids.network = resources.make(
        "vpcs",
        json!({
            "name": "lab", "description": "", "cidr": first, "extend_cidrs": others, "status": "OK",
            "enterprise_project_id": "0", "created_at": MADE, "updated_at": MADE,
        }),
    );
    ids.elsewhere = resources.make("targets", json!({ "type": "peering" }));
    for subnet in &topology.subnets {
        let id = resources.id();
        resources.put("subnets", &id, subnet_of(subnet.name, subnet.block, &id, &ids.network));
        let serves = std::slice::from_ref(&id);
        let table = resources.make("routetables", table(subnet.name, false, &ids.network, serves));
        ids.tables.insert(subnet.name.to_owned(), table);
        ids.subnets.insert(subnet.name.to_owned(), id);
    }
    let main = resources.make("routetables", table("rtb-lab", true, &ids.network, &[]));
    ids.tables.insert("main".to_owned(), main);
    let inward = NETWORKS.map(|block| block.to_string());
    for (name, ingress) in [("clients", &[][..]), ("nat", &inward)] {
        let rules = json!({ "name": name, "ingress": ingress, "egress": [Ipv4Net::default()] });
        ids.groups.insert(name.to_owned(), resources.make("security_groups", rules));
    }
    for instance in &topology.instances {
        launch(&mut resources, &mut ids, instance)?;
    }
    let state = json!({
        "settings": { "region": REGION, "project_id": PROJECT },
        "resources": resources.of,
    });
    Ok(Seeded { ids, state })
}

fn subnet_of(name: &str, block: Ipv4Net, id: &str, network: &str) -> Value {
    json!({
        "name": name, "description": "", "cidr": block, "gateway_ip": block.hosts().next(),
        "ipv6_enable": false, "dhcp_enable": true, "dns_list": [], "availability_zone": "",
        "vpc_id": network, "status": "ACTIVE", "neutron_network_id": id, "neutron_subnet_id": id,
        "tenant_id": PROJECT, "created_at": MADE, "updated_at": MADE,
    })
}

/// A table that leads nowhere but within the network.
pub fn table(name: &str, default: bool, network: &str, subnets: &[String]) -> Value {
    json!({
        "name": name, "description": "", "default": default, "vpc_id": network,
        "subnets": subnets, "routes": [], "created_at": MADE, "updated_at": MADE,
    })
}

fn launch(resources: &mut Resources, ids: &mut Ids, instance: &Instance) -> Result<()> {
    let server = resources.id();
    let group = ids.group(if instance.role == Role::Nat { "nat" } else { "clients" }).to_owned();
    for (number, interface) in instance.interfaces.iter().enumerate() {
        let subnet = ids.subnet(interface.subnet).to_owned();
        let port_id = resources.id();
        let port = port(interface, number, &port_id, &server, &subnet, &group)?;
        resources.put("ports", &port_id, port);
        if let Some(public) = interface.public {
            public_address(resources, public, &port_id);
        }
        ids.interfaces.insert(interface_name(&instance.name, number), port_id);
    }
    let zone =
        json!({ "name": instance.name, "status": "ACTIVE", "OS-EXT-AZ:availability_zone": ZONE });
    resources.put("servers", &server, zone);
    ids.instances.insert(instance.name.clone(), server);
    Ok(())
}

fn port(
    interface: &Interface,
    number: usize,
    id: &str,
    server: &str,
    subnet: &str,
    group: &str,
) -> Result<Value> {
    let addresses = [&[interface.address][..], &interface.secondary].concat();
    let fixed: Vec<_> = addresses
        .iter()
        .map(|address| json!({ "ip_address": address, "subnet_id": subnet }))
        .collect();
    Ok(json!({
        "name": "", "network_id": subnet, "admin_state_up": true, "mac_address": mac(id)?,
        "fixed_ips": fixed, "device_id": server, "device_owner": format!("compute:{ZONE}"),
        "tenant_id": PROJECT, "status": "ACTIVE", "security_groups": [group],
        "allowed_address_pairs": [], "extra_dhcp_opts": [], "binding:vnic_type": "normal",
        "binding:vif_details": { "primary_interface": number == 0 }, "binding:profile": {},
        "dns_assignment": [], "dns_name": "", "instance_id": server, "instance_type": "",
        "port_security_enabled": true, "zone_id": ZONE,
    }))
}

/// Ends as the port's id does.
fn mac(id: &str) -> Result<String> {
    let digits = id.rsplit('-').next().context("an id without a last part")?.as_bytes();
    let octets: Vec<_> = digits.chunks(2).map(String::from_utf8_lossy).collect();
    Ok(octets.join(":"))
}

fn public_address(resources: &mut Resources, public: Ipv4Addr, port: &str) {
    resources.make(
        "publicips",
        json!({ "public_ip_address": public, "port_id": port, "create_time": MADE }),
    );
}
