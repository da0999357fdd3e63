//! The targets that AWS routes can have, read and written.
//!
//! Read: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Route.html>; written:
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateRoute.html>.

use aws_sdk_ec2::types::Route;
use natd_core::model::NextHop;

/// A parameter of `CreateRoute` and `ReplaceRoute` that takes the target's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Interface,
    Instance,
    /// An internet gateway or a virtual private gateway.
    Gateway,
    VpcEndpoint,
    NatGateway,
    TransitGateway,
    VpcPeeringConnection,
    EgressOnlyInternetGateway,
    CarrierGateway,
    LocalGateway,
    CoreNetwork,
    OdbNetwork,
}

const VIRTUAL_PRIVATE_GATEWAY: &str = "virtual-private-gateway";

/// How natd calls the targets for which its model has no word of its own.
const KINDS: [(&str, Target); 11] = [
    ("instance", Target::Instance),
    (VIRTUAL_PRIVATE_GATEWAY, Target::Gateway),
    ("vpc-endpoint", Target::VpcEndpoint),
    ("nat-gateway", Target::NatGateway),
    ("transit-gateway", Target::TransitGateway),
    ("vpc-peering-connection", Target::VpcPeeringConnection),
    ("egress-only-internet-gateway", Target::EgressOnlyInternetGateway),
    ("carrier-gateway", Target::CarrierGateway),
    ("local-gateway", Target::LocalGateway),
    ("core-network", Target::CoreNetwork),
    ("odb-network", Target::OdbNetwork),
];

impl Target {
    /// The parameter and its value for a next hop; `None` where AWS takes none in a write.
    pub(super) fn of(next_hop: &NextHop) -> Option<(Self, &str)> {
        match next_hop {
            NextHop::Interface(id) => Some((Self::Interface, id.as_str())),
            NextHop::InternetGateway(id) => Some((Self::Gateway, id)),
            NextHop::Local => None,
            NextHop::Other { kind, id } => KINDS
                .iter()
                .find(|(name, _)| name == kind)
                .map(|(_, target)| (*target, id.as_str())),
        }
    }

    fn hop(self, id: &str) -> NextHop {
        let name =
            KINDS.iter().find(|(_, target)| *target == self).map_or("gateway", |(name, _)| name);
        other(name, id)
    }
}

/// Where a route leads. What natd doesn't know is carried through as `unknown`.
pub(super) fn read(route: &Route) -> NextHop {
    if let Some(id) = route.network_interface_id().and_then(|id| id.parse().ok()) {
        return NextHop::Interface(id);
    }
    let named = [
        (Target::NatGateway, route.nat_gateway_id()),
        (Target::TransitGateway, route.transit_gateway_id()),
        (Target::VpcPeeringConnection, route.vpc_peering_connection_id()),
        (Target::EgressOnlyInternetGateway, route.egress_only_internet_gateway_id()),
        (Target::CarrierGateway, route.carrier_gateway_id()),
        (Target::LocalGateway, route.local_gateway_id()),
        (Target::CoreNetwork, route.core_network_arn()),
        (Target::OdbNetwork, route.odb_network_arn()),
        (Target::Instance, route.instance_id()),
    ];
    let named = named.into_iter().find_map(|(target, id)| Some(target.hop(id?)));
    named
        .or_else(|| route.gateway_id().map(gateway))
        .or_else(|| route.ip_address().map(|address| other("route-server", address)))
        .unwrap_or_else(|| other("unknown", "?"))
}

/// `GatewayId` is shared by several sorts of target, told apart by the id's prefix.
fn gateway(id: &str) -> NextHop {
    match id.split_once('-').map_or(id, |(prefix, _)| prefix) {
        "local" => NextHop::Local,
        "igw" => NextHop::InternetGateway(id.to_owned()),
        "vgw" => other(VIRTUAL_PRIVATE_GATEWAY, id),
        "vpce" => Target::VpcEndpoint.hop(id),
        _ => other("gateway", id),
    }
}

fn other(kind: &str, id: &str) -> NextHop {
    NextHop::Other { kind: kind.to_owned(), id: id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_can_be_written_back_to_the_same_parameter() {
        let route = Route::builder;
        for (read_as, parameter, id) in [
            (route().network_interface_id("eni-1").instance_id("i-1"), Target::Interface, "eni-1"),
            (route().instance_id("i-1"), Target::Instance, "i-1"),
            (route().gateway_id("igw-1"), Target::Gateway, "igw-1"),
            (route().gateway_id("vgw-1"), Target::Gateway, "vgw-1"),
            (route().gateway_id("vpce-1"), Target::VpcEndpoint, "vpce-1"),
            (route().nat_gateway_id("nat-1"), Target::NatGateway, "nat-1"),
            (route().transit_gateway_id("tgw-1"), Target::TransitGateway, "tgw-1"),
            (route().vpc_peering_connection_id("pcx-1"), Target::VpcPeeringConnection, "pcx-1"),
            (
                route().egress_only_internet_gateway_id("eigw-1"),
                Target::EgressOnlyInternetGateway,
                "eigw-1",
            ),
            (route().carrier_gateway_id("cagw-1"), Target::CarrierGateway, "cagw-1"),
            (route().local_gateway_id("lgw-1"), Target::LocalGateway, "lgw-1"),
            (route().core_network_arn("arn:core"), Target::CoreNetwork, "arn:core"),
            (route().odb_network_arn("arn:odb"), Target::OdbNetwork, "arn:odb"),
        ] {
            assert_eq!(Target::of(&read(&read_as.build())), Some((parameter, id)));
        }
    }

    #[test]
    fn what_only_aws_makes_is_read_and_never_written() {
        for (route, shown) in [
            (Route::builder().gateway_id("local"), "local"),
            (Route::builder().ip_address("10.0.0.9"), "10.0.0.9 (route-server)"),
            (Route::builder().gateway_id("new-1"), "new-1 (gateway)"),
            (Route::builder(), "? (unknown)"),
        ] {
            let hop = read(&route.build());
            assert_eq!(hop.to_string(), shown);
            assert_eq!(Target::of(&hop), None);
        }
    }
}
