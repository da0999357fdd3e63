//! Reads the state of the cloud back from Neutron, as a [`Picture`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde_json::Value;

use super::super::picture::{Picture, Port, Table, Target};
use super::api::{Api, items, text};
use super::groups::{Groups, fixed_addresses, pairs, unrestricted};
use super::seed::CLASSLESS_ROUTES;

const EVERYWHERE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
/// The table of a subnet that no router serves.
const NO_ROUTER: &str = "no router";
/// The owner of a port by which a router is in a subnet.
const ROUTER_INTERFACE: &str = "network:router_interface";

/// Describes all that belongs to the project.
pub fn read(api: &Api, project: &str) -> Result<Picture> {
    let state = State {
        ports: api.list("ports")?,
        subnets: by_id(api.list("subnets")?)?,
        routers: by_id(api.list("routers")?)?,
    };
    let groups = Groups::read(&api.list("security_groups")?, &state.ports)?;
    let mut ports = BTreeMap::new();
    for port in state.instances() {
        ports.insert(text(port, "id")?.to_owned(), state.port(port, &groups)?);
    }
    let mut tables = BTreeMap::from([(NO_ROUTER.to_owned(), Table::default())]);
    for id in state.routers.keys() {
        tables.insert(id.clone(), state.table(id)?);
    }
    // Each way on is known now. Everything else goes nowhere, rather than to whoever the next router knows.
    for table in tables.values_mut() {
        table.routes.entry(EVERYWHERE).or_insert(Target::Nowhere);
    }
    let mut networks = Vec::new();
    for subnet in state.subnets.values().filter(|subnet| subnet["project_id"] == project) {
        networks.push(block(subnet, "cidr")?);
    }
    networks.sort();
    Ok(Picture {
        network: project.to_owned(),
        networks,
        ports,
        tables,
        public: floating_addresses(&api.list("floatingips")?)?,
        public_outranks_default: false,
    })
}

fn by_id(objects: Vec<Value>) -> Result<BTreeMap<String, Value>> {
    objects.into_iter().map(|object| Ok((text(&object, "id")?.to_owned(), object))).collect()
}

struct State {
    ports: Vec<Value>,
    subnets: BTreeMap<String, Value>,
    routers: BTreeMap<String, Value>,
}

impl State {
    fn instances(&self) -> impl Iterator<Item = &Value> {
        let is_instance = |port: &&Value| {
            port["device_owner"].as_str().is_some_and(|of| of.starts_with("compute:"))
        };
        self.ports.iter().filter(is_instance)
    }

    fn port(&self, port: &Value, groups: &Groups) -> Result<Port> {
        let subnet = items(port, "fixed_ips").next().context("a port without addresses")?;
        let subnet = text(subnet, "subnet_id")?;
        let details = self.subnets.get(subnet).with_context(|| format!("no subnet {subnet}"))?;
        let secure = port["port_security_enabled"] != false;
        let own = items(port, "security_groups").filter_map(Value::as_str);
        let own: Vec<_> = own.map(str::to_owned).collect();
        Ok(Port {
            instance: text(port, "device_id")?.to_owned(),
            number: number(text(port, "name")?)?,
            alive: port["admin_state_up"] != false,
            mac: text(port, "mac_address")?.to_owned(),
            addresses: fixed_addresses(port)?,
            subnet: subnet.to_owned(),
            subnet_block: block(details, "cidr")?,
            table: self.gateway_of(details).unwrap_or(NO_ROUTER).to_owned(),
            source_check: secure,
            pairs: pairs(port)?,
            host_routes: host_routes(port, details)?,
            ingress: if secure { groups.ingress(&own) } else { unrestricted() },
            egress: if secure { groups.egress(&own) } else { unrestricted() },
            groups: own,
        })
    }

    /// The router that has the gateway's address of a subnet.
    fn gateway_of(&self, subnet: &Value) -> Option<&str> {
        let is_gateway = |fixed: &Value| {
            fixed["subnet_id"] == subnet["id"] && fixed["ip_address"] == subnet["gateway_ip"]
        };
        let found = self
            .ports
            .iter()
            .filter(|port| port["device_owner"] == ROUTER_INTERFACE)
            .find(|port| items(port, "fixed_ips").any(is_gateway))?;
        found["device_id"].as_str()
    }

    /// What a router knows: the subnets that it is in, its gateway to the internet, and the routes that it was given.
    fn table(&self, router: &str) -> Result<Table> {
        let details = &self.routers[router];
        if details["admin_state_up"] == false {
            return Ok(Table::default());
        }
        let mut table = Table::default();
        let interfaces = self
            .ports
            .iter()
            .filter(|port| port["device_owner"] == ROUTER_INTERFACE && port["device_id"] == router);
        let mut subnets = BTreeSet::new();
        for fixed in interfaces.flat_map(|port| items(port, "fixed_ips")) {
            subnets.insert(text(fixed, "subnet_id")?);
        }
        for subnet in &subnets {
            table.routes.insert(block(&self.subnets[*subnet], "cidr")?, Target::Local);
        }
        if details["external_gateway_info"].is_object() {
            table.routes.insert(EVERYWHERE, Target::Internet);
        }
        for route in items(details, "routes") {
            let next: Ipv4Addr = text(route, "nexthop")?.parse().context("nexthop")?;
            let target = self.owner_of(next, &subnets)?.map_or(Target::Nowhere, Target::Port);
            table.routes.insert(block(route, "destination")?, target);
        }
        Ok(table)
    }

    /// The instance's port that has an address in one of these subnets. A route by another router leads nowhere here.
    fn owner_of(&self, address: Ipv4Addr, subnets: &BTreeSet<&str>) -> Result<Option<String>> {
        for port in self.instances() {
            let in_reach = items(port, "fixed_ips").any(|fixed| {
                fixed["subnet_id"].as_str().is_some_and(|subnet| subnets.contains(subnet))
            });
            if in_reach && fixed_addresses(port)?.contains(&address) {
                return Ok(Some(text(port, "id")?.to_owned()));
            }
        }
        Ok(None)
    }
}

fn block(object: &Value, field: &str) -> Result<Ipv4Net> {
    let block: Ipv4Net = text(object, field)?.parse().with_context(|| field.to_owned())?;
    Ok(block.trunc())
}

/// Only Nova knows an instance's order of ports; the lab writes it into their names.
fn number(name: &str) -> Result<u32> {
    let (_, number) = name.rsplit_once("/eth").with_context(|| format!("a port called {name}"))?;
    number.parse().with_context(|| format!("a port called {name}"))
}

/// What DHCP tells an instance beside the default route, which is by the router.
fn host_routes(port: &Value, subnet: &Value) -> Result<BTreeMap<Ipv4Net, Ipv4Addr>> {
    let has_its_own =
        items(port, "extra_dhcp_opts").any(|option| option["opt_name"] == CLASSLESS_ROUTES);
    let mut routes = BTreeMap::new();
    if has_its_own || subnet["enable_dhcp"] == false {
        return Ok(routes);
    }
    for route in items(subnet, "host_routes") {
        let next = text(route, "nexthop")?.parse().context("nexthop")?;
        routes.insert(block(route, "destination")?, next);
    }
    Ok(routes)
}

/// A floating address that belongs to no port stands for nobody.
fn floating_addresses(all: &[Value]) -> Result<BTreeMap<Ipv4Addr, Ipv4Addr>> {
    let mut public = BTreeMap::new();
    for floating in all {
        let Some(private) = floating["fixed_ip_address"].as_str() else {
            continue;
        };
        let address = text(floating, "floating_ip_address")?;
        public.insert(
            address.parse().context("floating_ip_address")?,
            private.parse().context("fixed_ip_address")?,
        );
    }
    Ok(public)
}
