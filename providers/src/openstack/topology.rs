//! Which router serves which subnet, read in three lists, whatever the number of routers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use natd_core::{
    cloud::PublicAddress,
    error::Result,
    model::{NetworkId, RouteTableId, SubnetId},
};
use tokio::try_join;

use super::{
    neutron::{Call, Neutron},
    permissions::Action,
    wire::{FixedIp, Leg, Port, Router, Subnet},
};

/// The owners of ports by which a router serves a network: `ROUTER_INTERFACE_OWNERS` of neutron-lib.
/// Distributed and highly available routers have the second and the third.
const ROUTER_INTERFACES: [&str; 3] = [
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
];

/// Routers, their ports and the subnets that this project sees.
pub(super) struct Topology {
    pub(super) routers: BTreeMap<RouteTableId, Router>,
    pub(super) subnets: BTreeMap<SubnetId, Subnet>,
    legs: Vec<Leg>,
}

impl Topology {
    pub(super) async fn read(neutron: &Neutron) -> Result<Self> {
        let routers = Call {
            action: Action::ListRouters,
            doing: "list the routers of this project",
            path: "routers",
        };
        let legs =
            Call { action: Action::ListPorts, doing: "list the ports of routers", path: "ports" };
        let subnets = Call {
            action: Action::ListSubnets,
            doing: "list the subnets of this project",
            path: "subnets",
        };
        let mut of_routers = ROUTER_INTERFACES.map(|owner| ("device_owner", owner)).to_vec();
        of_routers.extend(["id", "device_id", "fixed_ips"].map(|field| ("fields", field)));
        let (routers, legs, subnets) = try_join!(
            neutron.list::<Router>(routers, &[]),
            neutron.list::<Leg>(legs, &of_routers),
            neutron.list::<Subnet>(subnets, &[]),
        )?;
        Ok(Self {
            routers: routers.into_iter().map(|router| (router.id.clone(), router)).collect(),
            subnets: subnets.into_iter().map(|subnet| (subnet.id.clone(), subnet)).collect(),
            legs,
        })
    }

    /// The router that has a subnet's default gateway: it decides over its hosts' packets. A router
    /// that is on the subnet with another address does not. A host route of the default goes before
    /// the subnet's gateway (RFC 3442), unless it leads to no router: that may be natd's own.
    pub(super) fn router_of(&self, subnet: &Subnet) -> Option<&RouteTableId> {
        let with = |address: IpAddr| {
            let here = |ip: &FixedIp| ip.subnet_id == subnet.id && ip.ip_address == address;
            let leg = self.legs.iter().find(|leg| leg.fixed_ips.iter().any(here));
            leg.map(|leg| &leg.device_id)
        };
        let defaults =
            subnet.host_routes.iter().filter(|route| route.destination.prefix_len() == 0);
        defaults.map(|route| route.nexthop).chain(subnet.gateway_ip).find_map(with)
    }

    /// The subnets whose default gateway a router is.
    pub(super) fn served_by(&self, router: &RouteTableId) -> BTreeSet<SubnetId> {
        let of = |subnet: &&Subnet| self.router_of(subnet) == Some(router);
        self.subnets.values().filter(of).map(|subnet| subnet.id.clone()).collect()
    }

    /// The subnets that a router is on: its next hops must be there.
    pub(super) fn reached_by(&self, router: &RouteTableId) -> BTreeSet<SubnetId> {
        let legs = self.legs.iter().filter(|leg| leg.device_id == *router);
        legs.flat_map(|leg| &leg.fixed_ips).map(|ip| ip.subnet_id.clone()).collect()
    }

    /// The address blocks of this server's networks and of all subnets on the routers that are there.
    pub(super) fn blocks(&self, ports: &[Port]) -> Vec<IpNet> {
        let networks: BTreeSet<&NetworkId> = ports.iter().map(|port| &port.network_id).collect();
        let own: BTreeSet<SubnetId> = self
            .subnets
            .values()
            .filter(|subnet| networks.contains(&subnet.network_id))
            .map(|subnet| subnet.id.clone())
            .collect();
        let routers: BTreeSet<&RouteTableId> = self
            .legs
            .iter()
            .filter(|leg| leg.fixed_ips.iter().any(|ip| own.contains(&ip.subnet_id)))
            .map(|leg| &leg.device_id)
            .collect();
        let mut all = own;
        all.extend(routers.into_iter().flat_map(|router| self.reached_by(router)));
        let blocks: BTreeSet<IpNet> =
            all.iter().filter_map(|id| Some(self.subnets.get(id)?.cidr.trunc())).collect();
        blocks.into_iter().collect()
    }

    /// The address that the internet sees of what a router translates for a subnet. What becomes of
    /// packets whose router this project doesn't see (another project's, or none of Neutron's: a
    /// provider network) is not known.
    pub(super) fn translated_to(&self, subnet: &SubnetId) -> PublicAddress {
        let id = self.subnets.get(subnet).and_then(|subnet| self.router_of(subnet));
        let Some(router) = id.and_then(|id| self.routers.get(id)) else {
            return PublicAddress::Unknown;
        };
        let translating =
            router.external_gateway_info.as_ref().filter(|way| way.enable_snat == Some(true));
        let outside = translating.into_iter().flat_map(|way| &way.external_fixed_ips);
        outside.map(|ip| ip.ip_address).find(IpAddr::is_ipv4).into()
    }
}
