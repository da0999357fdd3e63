//! Neutron's objects, as far as natd reads them: <https://docs.openstack.org/api-ref/network/v2/>.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use natd_core::model::{InterfaceId, MacAddress, NetworkId, RouteTableId, SubnetId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A port.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Port {
    pub(super) id: InterfaceId,
    pub(super) network_id: NetworkId,
    pub(super) mac_address: MacAddress,
    #[serde(default)]
    pub(super) fixed_ips: Vec<FixedIp>,
    #[serde(default)]
    pub(super) security_groups: Vec<String>,
    /// `None` without the extension. As they are, so that others' can be written back verbatim.
    pub(super) allowed_address_pairs: Option<Vec<Value>>,
    /// `None` without the extension.
    #[serde(rename = "port_security_enabled")]
    pub(super) security: Option<bool>,
    pub(super) revision_number: Option<u64>,
    #[serde(default)]
    pub(super) created_at: Option<String>,
}

/// An address of a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct FixedIp {
    pub(super) subnet_id: SubnetId,
    pub(super) ip_address: IpAddr,
}

/// A router's port on a network, in the fields that are asked for.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Leg {
    /// The router.
    pub(super) device_id: RouteTableId,
    pub(super) fixed_ips: Vec<FixedIp>,
}

/// A subnet.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Subnet {
    pub(super) id: SubnetId,
    pub(super) network_id: NetworkId,
    pub(super) cidr: IpNet,
    pub(super) gateway_ip: Option<IpAddr>,
    #[serde(default)]
    pub(super) host_routes: Vec<ExtraRoute>,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    pub(super) revision_number: Option<u64>,
}

/// A router.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Router {
    pub(super) id: RouteTableId,
    /// `None` without the extension `extraroute`.
    pub(super) routes: Option<Vec<ExtraRoute>>,
    pub(super) external_gateway_info: Option<ExternalGateway>,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    pub(super) revision_number: Option<u64>,
}

/// A router's way to the internet.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ExternalGateway {
    pub(super) network_id: String,
    /// Whether what has no floating IP is translated to the router's address.
    pub(super) enable_snat: Option<bool>,
    #[serde(default)]
    pub(super) external_fixed_ips: Vec<ExternalAddress>,
}

/// The router's own address outside.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ExternalAddress {
    pub(super) ip_address: IpAddr,
}

/// An extra route of a router, or a host route of a subnet. Several of one destination are one route
/// with several next hops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExtraRoute {
    pub(super) destination: IpNet,
    pub(super) nexthop: IpAddr,
    /// What later versions add, to be written back as it is.
    #[serde(flatten)]
    pub(super) more: BTreeMap<String, Value>,
}

/// A floating IP.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct FloatingIp {
    pub(super) port_id: Option<InterfaceId>,
    pub(super) fixed_ip_address: Option<IpAddr>,
    #[serde(rename = "floating_ip_address")]
    pub(super) address: IpAddr,
}

/// A security group rule.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) security_group_id: String,
    pub(super) direction: String,
    pub(super) ethertype: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) remote_ip_prefix: Option<IpNet>,
    pub(super) remote_group_id: Option<String>,
    #[serde(default)]
    pub(super) remote_address_group_id: Option<String>,
}

/// A security group, in the fields that are asked for.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Group {
    pub(super) id: String,
}
