//! Reads the state of the cloud back from the EC2 API, as a [`Picture`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use super::super::picture::{Picture, Port, Table, Target};
use super::api::Api;
use super::groups::Groups;
use super::xml::Xml;

/// Describes everything in `vpc`.
pub fn read(api: &Api, vpc: &str) -> Result<Picture> {
    let of_vpc =
        |action| api.call(action, &[("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", vpc)]);
    let interfaces = of_vpc("DescribeNetworkInterfaces")?;
    let tables = of_vpc("DescribeRouteTables")?;
    let surroundings = Surroundings {
        running: running(&api.call("DescribeInstances", &[])?),
        blocks: subnet_blocks(&of_vpc("DescribeSubnets")?)?,
        table_of: table_of_subnets(&tables),
        groups: Groups::read(&of_vpc("DescribeSecurityGroups")?, &interfaces)?,
    };
    let gateways = attached_gateways(&api.call("DescribeInternetGateways", &[])?, vpc);
    let mut ports = BTreeMap::new();
    for item in interfaces.items("networkInterfaceSet") {
        ports.insert(item.need("networkInterfaceId")?.to_owned(), surroundings.port(item)?);
    }
    Ok(Picture {
        network: vpc.to_owned(),
        networks: network_blocks(&api.call("DescribeVpcs", &[("VpcId.1", vpc)])?)?,
        public_outranks_default: false,
        public: public_addresses(&api.call("DescribeAddresses", &[])?, &ports)?,
        tables: route_tables(&tables, &gateways)?,
        ports,
    })
}

/// What an interface's own description doesn't say about it.
struct Surroundings {
    running: BTreeSet<String>,
    blocks: BTreeMap<String, Ipv4Net>,
    table_of: TableOf,
    groups: Groups,
}

impl Surroundings {
    fn port(&self, item: &Xml) -> Result<Port> {
        let subnet = item.need("subnetId")?.to_owned();
        let instance = item.text("attachment/instanceId").unwrap_or_default().to_owned();
        let attached = item.text("attachment/status") == Some("attached");
        let groups: Vec<String> = item
            .items("groupSet")
            .filter_map(|group| Some(group.text("groupId")?.to_owned()))
            .collect();
        Ok(Port {
            number: item
                .text("attachment/deviceIndex")
                .unwrap_or("0")
                .parse()
                .context("deviceIndex")?,
            alive: attached && self.running.contains(&instance),
            mac: item.need("macAddress")?.to_owned(),
            addresses: private_addresses(item)?,
            subnet_block: *self
                .blocks
                .get(&subnet)
                .with_context(|| format!("no subnet {subnet}"))?,
            table: self
                .table_of
                .subnet(&subnet)
                .with_context(|| format!("no table for {subnet}"))?
                .to_owned(),
            // Only a plain "false" switches it off.
            source_check: item.text("sourceDestCheck") != Some("false"),
            pairs: BTreeSet::new(),
            host_routes: BTreeMap::new(),
            ingress: self.groups.ingress(&groups),
            egress: self.groups.egress(&groups),
            instance,
            subnet,
            groups,
        })
    }
}

/// The primary address first.
fn private_addresses(item: &Xml) -> Result<Vec<Ipv4Addr>> {
    let mut addresses = vec![item.need("privateIpAddress")?.parse().context("privateIpAddress")?];
    for further in item.items("privateIpAddressesSet") {
        let address = further.need("privateIpAddress")?.parse().context("privateIpAddress")?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn running(answer: &Xml) -> BTreeSet<String> {
    answer
        .items("reservationSet")
        .flat_map(|reservation| reservation.items("instancesSet"))
        .filter(|instance| instance.text("instanceState/name") == Some("running"))
        .filter_map(|instance| Some(instance.text("instanceId")?.to_owned()))
        .collect()
}

fn subnet_blocks(answer: &Xml) -> Result<BTreeMap<String, Ipv4Net>> {
    let of = |item: &Xml| Ok((item.need("subnetId")?.to_owned(), item.need("cidrBlock")?.parse()?));
    answer.items("subnetSet").map(of).collect()
}

fn network_blocks(answer: &Xml) -> Result<Vec<Ipv4Net>> {
    answer
        .items("vpcSet")
        .flat_map(|vpc| vpc.items("cidrBlockAssociationSet"))
        .map(|association| association.need("cidrBlock")?.parse().context("cidrBlock"))
        .collect()
}

/// Which table serves which subnet: its own, or the network's main table.
#[derive(Default)]
struct TableOf {
    own: BTreeMap<String, String>,
    main: Option<String>,
}

impl TableOf {
    fn subnet(&self, subnet: &str) -> Option<&str> {
        self.own.get(subnet).or(self.main.as_ref()).map(String::as_str)
    }
}

fn table_of_subnets(answer: &Xml) -> TableOf {
    let mut found = TableOf::default();
    for association in answer.items("routeTableSet").flat_map(|table| table.items("associationSet"))
    {
        let Some(table) = association.text("routeTableId") else {
            continue;
        };
        match association.text("subnetId") {
            Some(subnet) => {
                found.own.insert(subnet.to_owned(), table.to_owned());
            }
            None if association.text("main") == Some("true") => found.main = Some(table.to_owned()),
            None => {}
        }
    }
    found
}

fn attached_gateways(answer: &Xml, vpc: &str) -> BTreeSet<String> {
    answer
        .items("internetGatewaySet")
        .filter(|gateway| {
            gateway.items("attachmentSet").any(|attachment| attachment.text("vpcId") == Some(vpc))
        })
        .filter_map(|gateway| Some(gateway.text("internetGatewayId")?.to_owned()))
        .collect()
}

/// IPv6 routes and prefix lists are passed over: the lab has neither.
fn route_tables(answer: &Xml, gateways: &BTreeSet<String>) -> Result<BTreeMap<String, Table>> {
    let mut tables = BTreeMap::new();
    for item in answer.items("routeTableSet") {
        let mut table = Table::default();
        for route in item.items("routeSet") {
            let Some(destination) = route.text("destinationCidrBlock") else {
                continue;
            };
            table.routes.insert(
                destination.parse().context("destinationCidrBlock")?,
                target(route, gateways),
            );
        }
        tables.insert(item.need("routeTableId")?.to_owned(), table);
    }
    Ok(tables)
}

/// A route by instance is answered with an interface as well by EC2, and by moto with the instance alone.
fn target(route: &Xml, gateways: &BTreeSet<String>) -> Target {
    match (route.text("gatewayId"), route.text("networkInterfaceId"), route.text("instanceId")) {
        (Some("local"), ..) => Target::Local,
        (Some(gateway), ..) if gateways.contains(gateway) => Target::Internet,
        (None, Some(port), _) => Target::Port(port.to_owned()),
        (None, None, Some(instance)) => Target::Instance(instance.to_owned()),
        _ => Target::Nowhere,
    }
}

/// The tag of a public address that stands for another than its port's primary private address: moto can't hold that.
pub const STANDS_FOR: &str = "natd-lab:private-address";

/// An address that is associated with no port in this network stands for nobody.
fn public_addresses(
    answer: &Xml,
    ports: &BTreeMap<String, Port>,
) -> Result<BTreeMap<Ipv4Addr, Ipv4Addr>> {
    let mut public = BTreeMap::new();
    for item in answer.items("addressesSet") {
        let port = item.text("networkInterfaceId").and_then(|id| ports.get(id));
        let tag = item.items("tagSet").find(|tag| tag.text("key") == Some(STANDS_FOR));
        let private = tag.map_or_else(|| item.text("privateIpAddress"), |tag| tag.text("value"));
        let (Some(port), Some(private)) = (port, private) else {
            continue;
        };
        let private = private.parse().context("privateIpAddress")?;
        if port.addresses.contains(&private) {
            public.insert(item.need("publicIp")?.parse().context("publicIp")?, private);
        }
    }
    Ok(public)
}
