//! Lists of routes by address, as routers and subnets have them, read and changed: pure functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use natd_core::model::{InterfaceId, NextHop, Route, RouteOrigin, RouteState};

use super::wire::{ExtraRoute, Port};

/// How natd calls an address that is none of this server's.
const ADDRESS: &str = "address";
/// And several of them: one destination with several next hops.
const ADDRESSES: &str = "addresses";

/// The addresses of this server's ports.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnAddresses(BTreeMap<IpAddr, InterfaceId>);

impl OwnAddresses {
    pub(super) fn of(ports: &[Port]) -> Self {
        let addresses = |port: &Port| {
            let id = port.id.clone();
            let pair = move |ip: &super::wire::FixedIp| (ip.ip_address, id.clone());
            port.fixed_ips.iter().map(pair).collect::<Vec<_>>()
        };
        Self(ports.iter().flat_map(addresses).collect())
    }
}

/// The routes as natd sees them, one a destination. Where other next hops stand beside this server's,
/// the others are shown: half a route is none, and what is given back later are the others.
pub(super) fn read(routes: &[ExtraRoute], own: &OwnAddresses) -> Vec<Route> {
    let mut by_destination: BTreeMap<IpNet, BTreeSet<IpAddr>> = BTreeMap::new();
    for route in routes {
        by_destination.entry(route.destination.trunc()).or_default().insert(route.nexthop);
    }
    by_destination
        .into_iter()
        .map(|(destination, hops)| Route {
            destination,
            next_hop: hop(&hops, own),
            state: RouteState::Active,
            origin: RouteOrigin::Static,
        })
        .collect()
}

fn hop(hops: &BTreeSet<IpAddr>, own: &OwnAddresses) -> NextHop {
    let others: Vec<String> =
        hops.iter().filter(|hop| !own.0.contains_key(hop)).map(ToString::to_string).collect();
    match (others.as_slice(), hops.iter().find_map(|hop| own.0.get(hop))) {
        ([], Some(port)) => NextHop::Interface(port.clone()),
        ([one], _) => NextHop::Other { kind: ADDRESS.to_owned(), id: one.clone() },
        (several, _) => NextHop::Other { kind: ADDRESSES.to_owned(), id: several.join(",") },
    }
}

/// The addresses that a next hop of [`read`] stands for; `None` for any other.
pub(super) fn addresses(next_hop: &NextHop) -> Option<BTreeSet<IpAddr>> {
    let NextHop::Other { kind, id } = next_hop else { return None };
    if kind != ADDRESS && kind != ADDRESSES {
        return None;
    }
    id.split(',').map(|address| address.parse().ok()).collect()
}

/// The next hops of a destination.
pub(super) fn hops(routes: &[ExtraRoute], destination: IpNet) -> BTreeSet<IpAddr> {
    let of = |route: &&ExtraRoute| route.destination.trunc() == destination;
    routes.iter().filter(of).map(|route| route.nexthop).collect()
}

/// The list with these next hops for a destination, and everything else as it is.
pub(super) fn with(
    routes: &[ExtraRoute],
    destination: IpNet,
    wanted: &BTreeSet<IpAddr>,
) -> Vec<ExtraRoute> {
    let stays = |route: &&ExtraRoute| {
        route.destination.trunc() != destination || wanted.contains(&route.nexthop)
    };
    let there = hops(routes, destination);
    let new = wanted.difference(&there).map(|hop| route(destination, *hop));
    routes.iter().filter(stays).cloned().chain(new).collect()
}

/// What is left of a destination's next hops when its route is removed: of a route that this server
/// shares, the others'.
pub(super) fn left(there: &BTreeSet<IpAddr>, own: &OwnAddresses) -> BTreeSet<IpAddr> {
    if there.iter().any(|hop| own.0.contains_key(hop)) {
        there.iter().filter(|hop| !own.0.contains_key(hop)).copied().collect()
    } else {
        BTreeSet::new()
    }
}

/// A route as Neutron takes it.
pub(super) fn route(destination: IpNet, nexthop: IpAddr) -> ExtraRoute {
    ExtraRoute { destination, nexthop, more: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(routes: &[(&str, &str)]) -> Vec<ExtraRoute> {
        let parse = |(destination, hop): &(&str, &str)| {
            route(destination.parse().expect("block"), hop.parse().expect("address"))
        };
        routes.iter().map(parse).collect()
    }

    fn own() -> OwnAddresses {
        OwnAddresses([("10.0.0.5".parse().expect("address"), "port-1".parse().expect("id"))].into())
    }

    #[test]
    fn a_shared_route_shows_the_others_and_can_be_written_back() {
        let routes = list(&[
            ("0.0.0.0/0", "10.0.0.5"),
            ("0.0.0.0/0", "10.0.0.9"),
            ("198.51.100.0/24", "10.0.0.9"),
            ("198.51.100.0/24", "10.0.0.7"),
            ("192.0.2.0/24", "10.0.0.5"),
        ]);
        let shown: Vec<String> =
            read(&routes, &own()).iter().map(|route| route.next_hop.to_string()).collect();
        assert_eq!(shown, ["10.0.0.9 (address)", "port-1", "10.0.0.7,10.0.0.9 (addresses)"]);
        let block = "198.51.100.0/24".parse().expect("block");
        let written = addresses(&read(&routes, &own())[2].next_hop).expect("written back");
        assert_eq!(written, hops(&routes, block));
    }

    #[test]
    fn only_one_destination_changes() {
        let routes = list(&[("0.0.0.0/0", "10.0.0.9"), ("192.0.2.0/24", "10.0.0.9")]);
        let wanted = ["10.0.0.5".parse().expect("address")].into();
        let changed = with(&routes, "0.0.0.0/0".parse().expect("block"), &wanted);
        assert_eq!(changed, list(&[("192.0.2.0/24", "10.0.0.9"), ("0.0.0.0/0", "10.0.0.5")]));
    }

    #[test]
    fn of_a_shared_route_the_others_are_left() {
        let shared = ["10.0.0.5", "10.0.0.9"].map(|hop| hop.parse().expect("address")).into();
        assert_eq!(left(&shared, &own()), ["10.0.0.9".parse().expect("address")].into());
        let foreign = ["10.0.0.9".parse().expect("address")].into();
        assert!(left(&foreign, &own()).is_empty());
    }
}
