//! Reads the state of the cloud back from its owner's side, as a [`Picture`].

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde_json::Value;

use super::super::ids::Ids;
use super::super::picture::{Allow, Picture, Port, Table, Target, Traffic};

/// The device owner of a virtual address.
const VIRTUAL: &str = "neutron:VIP_PORT";

/// The picture of what is in `state`. Which interface of its instance a port is tell the `ids`.
pub fn read(state: &Value, ids: &Ids) -> Result<Picture> {
    let resources = Resources(&state["resources"]);
    let vpc = &resources.0["vpcs"][&ids.network];
    let mut networks = vec![parsed(vpc, "cidr")?];
    networks.extend(blocks(vpc, "extend_cidrs")?);
    let mut ports = BTreeMap::new();
    for (name, id) in &ids.interfaces {
        if let Some(port) = resources.0["ports"].get(id) {
            let (_, number) = name.rsplit_once("eth").context("an interface without a number")?;
            ports.insert(id.clone(), resources.port(port, number.parse()?)?);
        }
    }
    let mut tables = BTreeMap::new();
    for (id, table) in resources.all("routetables") {
        tables.insert(id.clone(), resources.table(table, &ports)?);
    }
    Ok(Picture {
        network: ids.network.clone(),
        networks,
        public: resources.public(&ports)?,
        public_outranks_default: true,
        tables,
        ports,
    })
}

/// The port that a route leads to, if it leads to one.
pub fn port_of_route(state: &Value, route: &Value) -> Option<String> {
    let resources = Resources(&state["resources"]);
    let next_hop = route["nexthop"].as_str()?;
    match route["type"].as_str()? {
        "eni" => Some(next_hop.to_owned()),
        "ecs" => {
            let is_first = |port: &Value| {
                port["device_id"] == next_hop
                    && port["binding:vif_details"]["primary_interface"] == true
            };
            resources.all("ports").find(|(_, port)| is_first(port)).map(|(id, _)| id.clone())
        }
        "vip" => resources.behind(next_hop),
        _ => None,
    }
}

struct Resources<'a>(&'a Value);

impl Resources<'_> {
    fn all(&self, kind: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.0[kind].as_object().into_iter().flatten()
    }

    fn port(&self, port: &Value, number: u32) -> Result<Port> {
        let instance = text(port, "device_id")?;
        let subnet = text(port, "network_id")?;
        let serves = |table: &Value| {
            table["subnets"].as_array().is_some_and(|all| all.contains(&Value::from(subnet)))
        };
        let own = self.all("routetables").find(|(_, table)| serves(table));
        let default = || self.all("routetables").find(|(_, table)| table["default"] == true);
        let (table, _) = own.or_else(default).context("no table serves the subnet")?;
        let groups: Vec<String> = list(port, "security_groups")?
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let pairs = list(port, "allowed_address_pairs")?.iter();
        let pairs = pairs.map(|pair| block(text(pair, "ip_address")?));
        let addresses = list(port, "fixed_ips")?.iter().map(|fixed| parsed(fixed, "ip_address"));
        Ok(Port {
            instance: instance.to_owned(),
            number,
            alive: self.0["servers"][instance]["status"] == "ACTIVE",
            mac: text(port, "mac_address")?.to_owned(),
            addresses: addresses.collect::<Result<_>>()?,
            subnet: subnet.to_owned(),
            subnet_block: parsed(&self.0["subnets"][subnet], "cidr")?,
            table: table.clone(),
            source_check: true,
            pairs: pairs.collect::<Result<_>>()?,
            host_routes: BTreeMap::new(),
            ingress: self.rules(&groups, "ingress")?,
            egress: self.rules(&groups, "egress")?,
            groups,
        })
    }

    fn rules(&self, groups: &[String], direction: &str) -> Result<BTreeSet<Allow>> {
        let mut peers = BTreeSet::new();
        for group in groups {
            peers.extend(blocks(&self.0["security_groups"][group], direction)?);
        }
        let allow = Allow { traffic: Traffic::All, peers };
        Ok(if allow.peers.is_empty() { BTreeSet::new() } else { BTreeSet::from([allow]) })
    }

    /// A route to each of the network's subnets is the system's own.
    fn table(&self, table: &Value, ports: &BTreeMap<String, Port>) -> Result<Table> {
        let mut read = Table::default();
        for (_, subnet) in self.all("subnets") {
            read.routes.insert(parsed(subnet, "cidr")?, Target::Local);
        }
        for route in table["routes"].as_array().into_iter().flatten() {
            let next_hop = text(route, "nexthop")?;
            let target = match text(route, "type")? {
                "ecs" => Target::Instance(next_hop.to_owned()),
                "eni" if ports.contains_key(next_hop) => Target::Port(next_hop.to_owned()),
                "vip" => self.behind(next_hop).map_or(Target::Nowhere, Target::Port),
                _ => Target::Nowhere,
            };
            read.routes.insert(parsed(route, "destination")?, target);
        }
        Ok(read)
    }

    /// The port that a virtual address leads to: the first that it is bound to, by a pair of its own.
    fn behind(&self, address: &str) -> Option<String> {
        let has = |port: &Value, list: &str, wanted: &Value| {
            let all = port[list].as_array();
            all.is_some_and(|all| all.iter().any(|entry| entry["ip_address"] == *wanted))
        };
        let is_it = |port: &&Value| {
            port["device_owner"] == VIRTUAL && has(port, "fixed_ips", &address.into())
        };
        let (_, virtual_port) = self.all("ports").find(|(_, port)| is_it(port))?;
        virtual_port["allowed_address_pairs"].as_array()?.iter().find_map(|pair| {
            let is_behind = |port: &Value| has(port, "fixed_ips", &pair["ip_address"]);
            self.all("ports").find(|(_, port)| is_behind(port)).map(|(id, _)| id.clone())
        })
    }

    fn public(&self, ports: &BTreeMap<String, Port>) -> Result<BTreeMap<Ipv4Addr, Ipv4Addr>> {
        let mut public = BTreeMap::new();
        for (_, eip) in self.all("publicips") {
            let port = ports.get(text(eip, "port_id")?);
            if let Some(private) = port.and_then(|port| port.addresses.first()) {
                public.insert(parsed(eip, "public_ip_address")?, *private);
            }
        }
        Ok(public)
    }
}

fn text<'a>(of: &'a Value, field: &str) -> Result<&'a str> {
    of[field].as_str().with_context(|| format!("no {field} in {of}"))
}

fn parsed<T>(of: &Value, field: &str) -> Result<T>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    text(of, field)?.parse().with_context(|| format!("{field} in {of}"))
}

fn list<'a>(of: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    of[field].as_array().with_context(|| format!("no {field} in {of}"))
}

fn blocks(of: &Value, field: &str) -> Result<Vec<Ipv4Net>> {
    list(of, field)?.iter().map(|text| block(text.as_str().unwrap_or_default())).collect()
}

/// A block, or one address.
fn block(text: &str) -> Result<Ipv4Net> {
    let whole = if text.contains('/') { text.to_owned() } else { format!("{text}/32") };
    whole.parse().with_context(|| format!("the block {text}"))
}
