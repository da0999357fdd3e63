//! Security groups: what they let through, and who would let everybody in by an open address pair.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use natd_core::{
    cloud::SecurityRules,
    error::{Error, Kind, Result},
};

use super::{
    neutron::{Call, Neutron},
    permissions::Action,
    wire::{Port, Rule},
};

/// The fields that are read, since a rule has many.
const FIELDS: [&str; 8] = [
    "id",
    "security_group_id",
    "direction",
    "ethertype",
    "protocol",
    "remote_ip_prefix",
    "remote_group_id",
    "remote_address_group_id",
];

/// The rules of security groups by the groups' ids.
pub(super) type Groups = BTreeMap<String, Vec<Rule>>;

/// Reads the groups of all ports in one list.
pub(super) async fn read(neutron: &Neutron, ports: &[Port]) -> Result<Groups> {
    let ids: BTreeSet<&str> =
        ports.iter().flat_map(|port| &port.security_groups).map(String::as_str).collect();
    let mut groups = Groups::new();
    for rule in rules(neutron, "security_group_id", &ids, "read the security groups").await? {
        groups.entry(rule.security_group_id.clone()).or_default().push(rule);
    }
    Ok(groups)
}

async fn rules(
    neutron: &Neutron,
    by: &str,
    ids: &BTreeSet<&str>,
    doing: &str,
) -> Result<Vec<Rule>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let call = Call { action: Action::ListSecurityGroupRules, doing, path: "security-group-rules" };
    let filter: Vec<(&str, &str)> =
        ids.iter().map(|id| (by, *id)).chain(FIELDS.map(|field| ("fields", field))).collect();
    neutron.list(call, &filter).await
}

/// What the groups of a port let through together: they only ever add. Without port security, all.
pub(super) fn of_port(groups: &Groups, port: &Port) -> SecurityRules {
    let unchecked = port.security == Some(false)
        || (port.security.is_none() && port.security_groups.is_empty());
    if unchecked {
        let all = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        return SecurityRules { inbound: all.into(), inbound_by_reference: false, outbound: true };
    }
    let rules = || port.security_groups.iter().filter_map(|id| groups.get(id)).flatten();
    let inbound = || rules().filter(|rule| rule.direction == "ingress" && opens_a_port(rule));
    SecurityRules {
        inbound: inbound().filter(|rule| !names_others(rule)).map(block).collect(),
        inbound_by_reference: inbound().any(names_others),
        outbound: rules().any(|rule| rule.direction == "egress"),
    }
}

/// Not so where only ICMP is let in.
fn opens_a_port(rule: &Rule) -> bool {
    let icmp = ["icmp", "1", "icmpv6", "ipv6-icmp", "58"];
    rule.protocol.as_deref().is_none_or(|protocol| !icmp.contains(&protocol))
}

fn names_others(rule: &Rule) -> bool {
    rule.remote_group_id.is_some() || rule.remote_address_group_id.is_some()
}

/// A rule without a block is for all addresses of its family.
fn block(rule: &Rule) -> IpNet {
    match (rule.remote_ip_prefix, rule.ethertype.as_deref()) {
        (Some(block), _) => block,
        (None, Some("IPv6")) => IpNet::V6(Ipv6Net::default()),
        (None, _) => IpNet::V4(Ipv4Net::default()),
    }
}

/// The rules that name a group of these ports as their remote group.
pub(super) async fn naming(
    neutron: &Neutron,
    ports: impl IntoIterator<Item = &Port>,
) -> Result<Vec<Rule>> {
    let groups: BTreeSet<&str> =
        ports.into_iter().flat_map(|port| &port.security_groups).map(String::as_str).collect();
    rules(neutron, "remote_group_id", &groups, "find out who refers to the security groups").await
}

/// Why a port must not get a pair for every address, if one of these rules names a group of its as
/// the remote group: Neutron counts the addresses of pairs among the group's members, and the rule
/// would let everybody in (or out). Rules for IPv6 are not touched by a pair for IPv4.
pub(super) fn trap(port: &Port, doing: &str, naming: &[Rule]) -> Option<Error> {
    let springs = |rule: &&Rule| {
        rule.ethertype.as_deref() != Some("IPv6")
            && rule.remote_group_id.as_ref().is_some_and(|id| port.security_groups.contains(id))
    };
    let rule = naming.iter().find(springs)?;
    let remote = rule.remote_group_id.as_deref().unwrap_or("the port's group");
    let cause = format!(
        "rule {} of security group {} names {remote}, a group of this port, as its remote group: with an address pair for every address it would let everybody through",
        rule.id, rule.security_group_id
    );
    Some(Error::new(Kind::Conflict, doing, cause).with_advice(
        "give the port a security group of its own that no rule refers to, or set openstack.source_check = \"port_security\"",
    ))
}
