//! Security groups, as the EC2 API describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use super::super::picture::{Allow, Ports, Traffic};
use super::xml::Xml;

/// The rules of every group, with references to groups replaced by the addresses of their members.
pub struct Groups {
    ingress: BTreeMap<String, BTreeSet<Allow>>,
    egress: BTreeMap<String, BTreeSet<Allow>>,
}

impl Groups {
    /// From the descriptions of the groups and of the interfaces that are in them.
    pub fn read(groups: &Xml, interfaces: &Xml) -> Result<Self> {
        let members = members(interfaces)?;
        let mut read = Self { ingress: BTreeMap::new(), egress: BTreeMap::new() };
        for group in groups.items("securityGroupInfo") {
            let id = group.need("groupId")?;
            read.ingress.insert(id.to_owned(), permissions(group, "ipPermissions", &members)?);
            read.egress.insert(id.to_owned(), permissions(group, "ipPermissionsEgress", &members)?);
        }
        Ok(read)
    }

    pub fn ingress(&self, groups: &[String]) -> BTreeSet<Allow> {
        groups.iter().filter_map(|group| self.ingress.get(group)).flatten().cloned().collect()
    }

    pub fn egress(&self, groups: &[String]) -> BTreeSet<Allow> {
        groups.iter().filter_map(|group| self.egress.get(group)).flatten().cloned().collect()
    }
}

type Members = BTreeMap<String, BTreeSet<Ipv4Net>>;

fn members(interfaces: &Xml) -> Result<Members> {
    let mut members = Members::new();
    for interface in interfaces.items("networkInterfaceSet") {
        for address in interface.items("privateIpAddressesSet") {
            let address: Ipv4Addr =
                address.need("privateIpAddress")?.parse().context("privateIpAddress")?;
            for group in interface.items("groupSet").filter_map(|group| group.text("groupId")) {
                members.entry(group.to_owned()).or_default().insert(address.into());
            }
        }
    }
    Ok(members)
}

fn permissions(group: &Xml, list: &str, members: &Members) -> Result<BTreeSet<Allow>> {
    let mut allowed = BTreeSet::new();
    for item in group.items(list) {
        let mut peers = BTreeSet::new();
        for range in item.items("ipRanges") {
            peers.insert(range.need("cidrIp")?.parse::<Ipv4Net>().context("cidrIp")?.trunc());
        }
        for referred in item.items("groups").filter_map(|group| group.text("groupId")) {
            peers.extend(members.get(referred).into_iter().flatten());
        }
        if !peers.is_empty() {
            allowed.insert(Allow { traffic: traffic(item)?, peers });
        }
    }
    Ok(allowed)
}

fn traffic(item: &Xml) -> Result<Traffic> {
    Ok(match item.need("ipProtocol")? {
        "-1" => Traffic::All,
        "tcp" | "6" => Traffic::Tcp(ports(item)?),
        "udp" | "17" => Traffic::Udp(ports(item)?),
        // The "from port" is the ICMP type here, and -1 is any.
        "icmp" | "1" => {
            Traffic::Icmp { kind: item.text("fromPort").and_then(|kind| kind.parse().ok()) }
        }
        other => Traffic::Other(other.to_owned()),
    })
}

fn ports(item: &Xml) -> Result<Ports> {
    let port = |path, missing| match item.text(path) {
        None | Some("-1") => Ok(missing),
        Some(number) => number.parse().with_context(|| format!("{path} {number}")),
    };
    Ok(Ports { first: port("fromPort", 0)?, last: port("toPort", u16::MAX)? })
}
