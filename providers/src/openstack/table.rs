//! One table: a router's extra routes, or a subnet's host routes, written without losing anybody's.
//!
//! A route that is new or goes is added or removed by itself where the server can do that
//! (`extraroute-atomic`, <https://docs.openstack.org/api-ref/network/v2/#extra-routes-extension>).
//! Everything else replaces the list under the revision that it was read with: in particular a next hop
//! is replaced in one write, so that there is neither a moment without a route nor, after a kill in
//! between, a route with both next hops.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    cloud::{RouteTable, TableFacts},
    error::{Error, Kind, Result},
    model::{InterfaceId, NextHop, RouteKey, SubnetId},
};
use serde_json::json;

use super::{
    extra_routes::{self, OwnAddresses},
    neutron::{Api, Call, Written},
    permissions::Action,
    wire::{ExtraRoute, Port, Router, Subnet},
};

/// A first write and nineteen more: who loses so often is in a fight.
const WRITES: u32 = 20;

/// What the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Router,
    Subnet,
}

/// A router or a subnet as it was listed.
pub(super) struct AddressTable {
    pub(super) facts: TableFacts,
    pub(super) sort: Sort,
    /// The subnets that next hops can be on.
    pub(super) reached: BTreeSet<SubnetId>,
    pub(super) ports: Arc<Vec<Port>>,
    pub(super) api: Api,
}

/// The list as it is now.
struct Current {
    routes: Vec<ExtraRoute>,
    revision: Option<u64>,
}

impl AddressTable {
    fn key(&self, destination: IpNet) -> RouteKey {
        RouteKey { table: self.facts.id.clone(), destination }
    }

    fn path(&self) -> String {
        match self.sort {
            Sort::Router => format!("routers/{}", self.facts.id),
            Sort::Subnet => format!("subnets/{}", self.facts.id),
        }
    }

    async fn read(&self, doing: &str) -> Result<Current> {
        let path = self.path();
        match self.sort {
            Sort::Router => {
                let call = Call { action: Action::ShowRouter, doing, path: &path };
                let shown: Router = self.api.show(call, "router").await?;
                let routes = shown.routes.ok_or_else(|| {
                    let cause = "this Neutron has no routes on routers (extension extraroute)";
                    Error::new(Kind::Unsupported, doing, cause)
                        .with_advice("set openstack.routes = \"host_routes\"")
                })?;
                Ok(Current { routes, revision: shown.revision_number })
            }
            Sort::Subnet => {
                let call = Call { action: Action::ShowSubnet, doing, path: &path };
                let subnet: Subnet = self.api.show(call, "subnet").await?;
                Ok(Current { routes: subnet.host_routes, revision: subnet.revision_number })
            }
        }
    }

    /// Replaces the list, if it is still the one that was read.
    async fn replace(
        &self,
        doing: &str,
        routes: &[ExtraRoute],
        revision: Option<u64>,
    ) -> Result<Written> {
        let path = self.path();
        let (action, body) = match self.sort {
            Sort::Router => (Action::UpdateRouter, json!({ "router": { "routes": routes } })),
            Sort::Subnet => (Action::UpdateSubnet, json!({ "subnet": { "host_routes": routes } })),
        };
        self.api.put(Call { action, doing, path: &path }, &body, revision).await
    }

    /// Adds or removes routes beside the others.
    async fn one_by_one(
        &self,
        doing: &str,
        action: Action,
        routes: &[ExtraRoute],
    ) -> Result<Written> {
        let verb = if action == Action::AddExtraRoutes { "add" } else { "remove" };
        let path = format!("{}/{verb}_extraroutes", self.path());
        let body = json!({ "router": { "routes": routes } });
        self.api.put(Call { action, doing, path: &path }, &body, None).await
    }

    /// Makes `wanted` of what is there the next hops of a destination.
    async fn write(
        &self,
        doing: &str,
        destination: IpNet,
        wanted: impl Fn(&BTreeSet<IpAddr>) -> BTreeSet<IpAddr>,
    ) -> Result<()> {
        let _turn = self.api.turn(&self.path()).await;
        for write in 0..WRITES {
            if write > 0 {
                tokio::time::sleep(self.api.pause() * write.min(5)).await;
            }
            let now = self.read(doing).await?;
            let there = extra_routes::hops(&now.routes, destination);
            let wanted = wanted(&there);
            if there == wanted {
                return Ok(());
            }
            let added: Vec<ExtraRoute> = wanted
                .difference(&there)
                .map(|hop| extra_routes::route(destination, *hop))
                .collect();
            let gone: Vec<ExtraRoute> = now
                .routes
                .iter()
                .filter(|route| {
                    route.destination.trunc() == destination && !wanted.contains(&route.nexthop)
                })
                // Neutron finds it by these two and takes nothing else.
                .map(|route| extra_routes::route(route.destination, route.nexthop))
                .collect();
            let alone = (added.is_empty() || gone.is_empty())
                && self.sort == Sort::Router
                && self.api.has("extraroute-atomic").await?;
            let written = if alone && gone.is_empty() {
                self.one_by_one(doing, Action::AddExtraRoutes, &added).await?
            } else if alone {
                self.one_by_one(doing, Action::RemoveExtraRoutes, &gone).await?
            } else {
                let routes = extra_routes::with(&now.routes, destination, &wanted);
                self.replace(doing, &routes, now.revision).await?
            };
            if written == Written::Done {
                return Ok(());
            }
        }
        let cause = format!("the list was changed before each of {WRITES} writes");
        Err(Error::new(Kind::Conflict, doing, cause).with_advice("find out who else changes it"))
    }

    /// The address by which hosts or router reach a port.
    async fn address_of(&self, doing: &str, id: &InterfaceId) -> Result<IpAddr> {
        let asked;
        let port = if let Some(port) = self.ports.iter().find(|port| port.id == *id) {
            port
        } else {
            let path = format!("ports/{id}");
            let call = Call { action: Action::ShowPort, doing, path: &path };
            asked = self.api.show::<Port>(call, "port").await?;
            &asked
        };
        let reached = port.fixed_ips.iter().find(|ip| self.reached.contains(&ip.subnet_id));
        reached.map(|ip| ip.ip_address).ok_or_else(|| {
            let subnets: Vec<&str> = self.reached.iter().map(SubnetId::as_str).collect();
            let cause = format!(
                "the next hop must be on one of its subnets ({}), and {id} has no address there",
                subnets.join(", ")
            );
            Error::new(Kind::Invalid, doing, cause)
                .with_advice("set routes.interface to the interface whose port is on such a subnet")
        })
    }
}

#[async_trait]
impl RouteTable for AddressTable {
    fn facts(&self) -> &TableFacts {
        &self.facts
    }

    async fn put(&self, destination: IpNet, next_hop: &NextHop) -> Result<()> {
        let destination = destination.trunc();
        let doing = format!("point {} at {next_hop}", self.key(destination));
        let wanted = match next_hop {
            NextHop::Interface(id) => Some([self.address_of(&doing, id).await?].into()),
            other => extra_routes::addresses(other),
        };
        let wanted = wanted.ok_or_else(|| {
            let cause = "OpenStack's routes lead to addresses; a gateway has none of its own";
            Error::new(Kind::Unsupported, doing.clone(), cause)
        })?;
        self.write(&doing, destination, |_| wanted.clone()).await
    }

    async fn remove(&self, destination: IpNet) -> Result<()> {
        let destination = destination.trunc();
        let doing = format!("remove {}", self.key(destination));
        let own = OwnAddresses::of(&self.ports);
        self.write(&doing, destination, |there| extra_routes::left(there, &own)).await
    }
}
