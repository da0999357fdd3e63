//! Security groups, as Neutron describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde_json::Value;

use super::super::picture::{Allow, Ports, Traffic};
use super::api::{items, text};

const EVERYWHERE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);

/// The rules of every group, with references to groups replaced by the addresses of their members.
#[derive(Debug, Default)]
pub struct Groups {
    ingress: BTreeMap<String, BTreeSet<Allow>>,
    egress: BTreeMap<String, BTreeSet<Allow>>,
}

impl Groups {
    /// From the descriptions of the groups and of the ports that are in them.
    pub fn read(groups: &[Value], ports: &[Value]) -> Result<Self> {
        let members = members(ports)?;
        let mut read = Self::default();
        for group in groups {
            let id = text(group, "id")?;
            for rule in items(group, "security_group_rules") {
                if rule["ethertype"] != "IPv4" {
                    continue;
                }
                let side = match text(rule, "direction")? {
                    "ingress" => &mut read.ingress,
                    _ => &mut read.egress,
                };
                let allow = Allow { traffic: traffic(rule)?, peers: peers(rule, &members)? };
                side.entry(id.to_owned()).or_default().insert(allow);
            }
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

/// Everything, as where port security is off.
pub fn unrestricted() -> BTreeSet<Allow> {
    BTreeSet::from([Allow { traffic: Traffic::All, peers: BTreeSet::from([EVERYWHERE]) }])
}

type Members = BTreeMap<String, BTreeSet<Ipv4Net>>;

/// A member's address pairs count as its addresses, in Neutron too: a pair for everything makes everybody a member.
fn members(ports: &[Value]) -> Result<Members> {
    let mut members = Members::new();
    for port in ports {
        let addresses = fixed_addresses(port)?.into_iter().map(Ipv4Net::from);
        let addresses: Vec<_> = addresses.chain(pairs(port)?).collect();
        for group in items(port, "security_groups").filter_map(Value::as_str) {
            members.entry(group.to_owned()).or_default().extend(&addresses);
        }
    }
    Ok(members)
}

/// A port's own IPv4 addresses, in order.
pub fn fixed_addresses(port: &Value) -> Result<Vec<Ipv4Addr>> {
    let of = |fixed: &Value| text(fixed, "ip_address").map(str::to_owned);
    let all: Vec<_> = items(port, "fixed_ips").map(of).collect::<Result<_>>()?;
    Ok(all.iter().filter_map(|address| address.parse().ok()).collect())
}

/// The blocks of a port's IPv4 address pairs. A pair of another hardware address is of no use to its instance.
pub fn pairs(port: &Value) -> Result<BTreeSet<Ipv4Net>> {
    let mut pairs = BTreeSet::new();
    for pair in items(port, "allowed_address_pairs") {
        let block = text(pair, "ip_address")?;
        let block = if block.contains('/') { block.to_owned() } else { format!("{block}/32") };
        if let Some(block) =
            block.parse::<Ipv4Net>().ok().filter(|_| pair["mac_address"] == port["mac_address"])
        {
            pairs.insert(block.trunc());
        }
    }
    Ok(pairs)
}

/// Address groups as peers are passed over: the lab has none.
fn peers(rule: &Value, members: &Members) -> Result<BTreeSet<Ipv4Net>> {
    match (&rule["remote_ip_prefix"], &rule["remote_group_id"]) {
        (Value::String(prefix), _) => {
            let prefix: Ipv4Net = prefix.parse().context("remote_ip_prefix")?;
            Ok(BTreeSet::from([prefix.trunc()]))
        }
        (_, Value::String(group)) => Ok(members.get(group).cloned().unwrap_or_default()),
        _ => Ok(BTreeSet::from([EVERYWHERE])),
    }
}

fn traffic(rule: &Value) -> Result<Traffic> {
    Ok(match &rule["protocol"] {
        Value::Null => Traffic::All,
        Value::String(protocol) => match protocol.as_str() {
            "tcp" | "6" => Traffic::Tcp(ports(rule)?),
            "udp" | "17" => Traffic::Udp(ports(rule)?),
            // The lower bound is the ICMP type here.
            "icmp" | "1" => {
                let kind = rule["port_range_min"].as_u64();
                Traffic::Icmp { kind: kind.map(u8::try_from).transpose().context("ICMP type")? }
            }
            other => Traffic::Other(other.to_owned()),
        },
        other => anyhow::bail!("protocol {other}"),
    })
}

fn ports(rule: &Value) -> Result<Ports> {
    let port = |field: &str, missing| match rule[field].as_u64() {
        None => Ok(missing),
        Some(number) => u16::try_from(number).with_context(|| format!("{field} {number}")),
    };
    Ok(Ports { first: port("port_range_min", 0)?, last: port("port_range_max", u16::MAX)? })
}
