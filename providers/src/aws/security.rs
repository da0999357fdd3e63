//! What security groups let through, reduced to what natd judges by.
//!
//! Rules: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html>.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{IpPermission, SecurityGroup};
use ipnet::IpNet;
use natd_core::{
    cloud::SecurityRules,
    error::{Error, Kind, Result},
};

use super::{
    api::{Api, filter},
    permissions::Action,
};

/// The rules of security groups by the groups' ids.
pub(super) type Groups = BTreeMap<String, SecurityRules>;

/// Reads the groups of all interfaces in one call.
pub(super) async fn read(api: &Api, ids: BTreeSet<String>) -> Result<Groups> {
    if ids.is_empty() {
        return Ok(Groups::new());
    }
    let groups = api
        .ec2()
        .describe_security_groups()
        .filters(filter("group-id", ids))
        .into_paginator()
        .items()
        .send()
        .try_collect()
        .await
        .map_err(|error| {
            api.failure(Action::DescribeSecurityGroups, "read the security groups", &error)
        })?;
    Ok(groups
        .iter()
        .filter_map(|group| Some((group.group_id()?.to_owned(), rules(group))))
        .collect())
}

/// What the groups of one interface let through together: security groups only ever add.
pub(super) fn together(groups: &Groups, ids: &BTreeSet<String>) -> Result<SecurityRules> {
    let mut sum =
        SecurityRules { inbound: BTreeSet::new(), inbound_by_reference: false, outbound: false };
    for id in ids {
        let rules = groups.get(id).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("read security group {id}"), "it is not listed")
        })?;
        sum.inbound.extend(&rules.inbound);
        sum.inbound_by_reference |= rules.inbound_by_reference;
        sum.outbound |= rules.outbound;
    }
    Ok(sum)
}

fn rules(group: &SecurityGroup) -> SecurityRules {
    let inbound = || group.ip_permissions().iter().filter(|permission| opens_a_port(permission));
    SecurityRules {
        inbound: inbound().flat_map(blocks).collect(),
        inbound_by_reference: inbound().any(names_others),
        outbound: group
            .ip_permissions_egress()
            .iter()
            .any(|permission| names_others(permission) || blocks(permission).next().is_some()),
    }
}

/// Not so where only ICMP (1) or `ICMPv6` (58) is let in.
fn opens_a_port(permission: &IpPermission) -> bool {
    !matches!(permission.ip_protocol(), Some("icmp" | "1" | "icmpv6" | "58"))
}

fn blocks(permission: &IpPermission) -> impl Iterator<Item = IpNet> {
    let v4 = permission.ip_ranges().iter().filter_map(|range| range.cidr_ip());
    let v6 = permission.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
    v4.chain(v6).filter_map(|block| block.parse().ok())
}

fn names_others(permission: &IpPermission) -> bool {
    !permission.user_id_group_pairs().is_empty() || !permission.prefix_list_ids().is_empty()
}
