//! The tables that a selector names: routers, or subnets with their host routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};
use natd_core::{
    cloud::{RouteTable, RouteTables, TableFacts, TableSelector},
    config::OpenstackRoutes,
    error::{Error, Kind},
    model::{NextHop, Route, RouteOrigin, RouteState, RouteTableId, SubnetId, Tag},
};

use super::{
    extra_routes::{self, OwnAddresses},
    neutron::Api,
    table::{AddressTable, Sort},
    topology::Topology,
    wire::{ExtraRoute, Port, Router, Subnet},
};

/// Selects among what was listed: no call is made.
pub(super) fn select(
    api: &Api,
    kind: OpenstackRoutes,
    ports: &Arc<Vec<Port>>,
    topology: &Topology,
    selector: &TableSelector,
) -> RouteTables {
    let scope = Scope { ports, topology, own: OwnAddresses::of(ports) };
    let (sort, tables) = match kind {
        OpenstackRoutes::Router => (Sort::Router, scope.routers()),
        OpenstackRoutes::HostRoutes => (Sort::Subnet, scope.subnets()),
    };
    let mut missing = Vec::new();
    for id in selector.ids.iter().filter(|id| !tables.contains_key(id)) {
        missing.push(scope.explain_table(sort, id));
    }
    let served: BTreeSet<&SubnetId> =
        tables.values().flat_map(|table| &table.facts.subnets).collect();
    for subnet in selector.subnets.iter().filter(|subnet| !served.contains(subnet)) {
        missing.push(scope.explain_subnet(sort, subnet));
    }
    let found = tables
        .into_values()
        .filter(|table| selector.selects(&table.facts))
        .map(|Listed { facts, reached }| {
            let (ports, api) = (Arc::clone(ports), Arc::clone(api));
            Arc::new(AddressTable { facts, sort, reached, ports, api }) as Arc<dyn RouteTable>
        })
        .collect();
    RouteTables { found, missing }
}

/// The subnets that the server's ports are in.
pub(super) fn subnets_of(ports: &[Port]) -> BTreeSet<SubnetId> {
    ports.iter().flat_map(|port| &port.fixed_ips).map(|ip| ip.subnet_id.clone()).collect()
}

/// What can be served: tables that this server is a possible next hop of.
struct Scope<'a> {
    ports: &'a [Port],
    topology: &'a Topology,
    own: OwnAddresses,
}

struct Listed {
    facts: TableFacts,
    reached: BTreeSet<SubnetId>,
}

impl Scope<'_> {
    fn routers(&self) -> BTreeMap<RouteTableId, Listed> {
        let own = subnets_of(self.ports);
        let listed = |(id, router): (&RouteTableId, &Router)| {
            let reached = self.topology.reached_by(id);
            let facts = || TableFacts {
                id: id.clone(),
                subnets: self.topology.served_by(id),
                tags: tags(&router.tags),
                routes: self
                    .with_default(router.routes.as_deref().unwrap_or_default(), gateway_of(router)),
            };
            (!own.is_disjoint(&reached)).then(|| (id.clone(), Listed { facts: facts(), reached }))
        };
        self.topology.routers.iter().filter_map(listed).collect()
    }

    fn subnets(&self) -> BTreeMap<RouteTableId, Listed> {
        let own = subnets_of(self.ports);
        let listed = |subnet: &Subnet| {
            let id: RouteTableId = subnet.id.as_str().parse().ok()?;
            let reached = BTreeSet::from([subnet.id.clone()]);
            let facts = TableFacts {
                id: id.clone(),
                subnets: reached.clone(),
                tags: tags(&subnet.tags),
                routes: self.with_default(&subnet.host_routes, self.gateway_of_hosts(subnet)),
            };
            Some((id, Listed { facts, reached }))
        };
        let own = own.iter().filter_map(|id| self.topology.subnets.get(id));
        own.filter_map(listed).collect()
    }

    /// The routes, and the default where none of them is one: it can be overridden, but it is no route
    /// that could be made again.
    fn with_default(&self, routes: &[ExtraRoute], default: Option<NextHop>) -> Vec<Route> {
        let everywhere = IpNet::V4(Ipv4Net::default());
        let mut routes = extra_routes::read(routes, &self.own);
        if !routes.iter().any(|route| route.destination == everywhere) {
            routes.extend(default.map(|next_hop| Route {
                destination: everywhere,
                next_hop,
                state: RouteState::Active,
                origin: RouteOrigin::Propagated,
            }));
        }
        routes
    }

    /// Where a subnet's hosts go by default: to the internet, if their router has it.
    fn gateway_of_hosts(&self, subnet: &Subnet) -> Option<NextHop> {
        let gateway = subnet.gateway_ip.filter(std::net::IpAddr::is_ipv4)?;
        let router = self.topology.router_of(subnet).and_then(|id| self.topology.routers.get(id));
        let outside = router.and_then(gateway_of);
        Some(outside.unwrap_or_else(|| NextHop::Other {
            kind: "gateway".to_owned(),
            id: gateway.to_string(),
        }))
    }

    fn explain_table(&self, sort: Sort, id: &RouteTableId) -> Error {
        let (what, is_there) = match sort {
            Sort::Router => ("router", self.topology.routers.contains_key(id)),
            Sort::Subnet => (
                "subnet",
                self.topology.subnets.keys().any(|subnet| subnet.as_str() == id.as_str()),
            ),
        };
        let doing = format!("use {what} {id}");
        if is_there {
            self.out_of_reach(doing)
        } else {
            Error::new(Kind::NotFound, doing, "this project has none of that id")
        }
    }

    fn explain_subnet(&self, sort: Sort, id: &SubnetId) -> Error {
        let doing = match sort {
            Sort::Router => format!("find the router of subnet {id}"),
            Sort::Subnet => format!("use the host routes of subnet {id}"),
        };
        let Some(subnet) = self.topology.subnets.get(id) else {
            return Error::new(Kind::NotFound, doing, "this project has no such subnet");
        };
        if sort == Sort::Subnet {
            return self.out_of_reach(doing);
        }
        match self.topology.router_of(subnet) {
            None => Error::new(Kind::NotFound, doing, "no router has its gateway address"),
            Some(router) if !self.topology.routers.contains_key(router) => {
                let cause = format!("its router {router} is another project's");
                Error::new(Kind::NotFound, doing, cause)
            }
            Some(_) => self.out_of_reach(doing),
        }
    }

    fn out_of_reach(&self, doing: String) -> Error {
        let own = subnets_of(self.ports);
        let own: Vec<&str> = own.iter().map(SubnetId::as_str).collect();
        let cause = format!(
            "this server has no port there, so it can't be a next hop; its subnets are {}",
            own.join(", ")
        );
        Error::new(Kind::Invalid, doing, cause)
            .with_advice("give this server a port on a subnet of that router")
    }
}

/// A router's way to the internet.
fn gateway_of(router: &Router) -> Option<NextHop> {
    let gateway = router.external_gateway_info.as_ref()?;
    Some(NextHop::InternetGateway(gateway.network_id.clone()))
}

/// Neutron's tags are words; those of the form `KEY=VALUE` are natd's.
fn tags(words: &[String]) -> BTreeSet<Tag> {
    words.iter().filter_map(|word| word.parse().ok()).collect()
}
