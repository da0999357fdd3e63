//! The cloud of a world.

use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    cloud::{
        CheckSettings, Instance, Interface, InterfaceFacts, Provider, RouteTable, RouteTables,
        TableFacts, TableSelector,
    },
    error::{Error, Kind, Result},
    model::{NextHop, Route, RouteKey, RouteOrigin, RouteState},
};

use super::World;

pub(super) struct Port {
    pub(super) world: World,
    pub(super) facts: InterfaceFacts,
}

#[async_trait]
impl Interface for Port {
    fn facts(&self) -> &InterfaceFacts {
        &self.facts
    }
    async fn set_source_dest_check(&self, enabled: bool, _: Option<&CheckSettings>) -> Result<()> {
        self.world.change(format!("check {} {enabled}", self.facts.id), |state| {
            state.checks.insert(self.facts.id.clone(), enabled);
        })
    }
    async fn source_dest_check(&self) -> Result<bool> {
        let Port { facts, .. } = self;
        self.world.ask("read a check")?;
        Ok(self.world.interfaces()[&facts.id].facts().source_dest_check.is_on())
    }
}

pub(super) struct Table {
    pub(super) world: World,
    pub(super) facts: TableFacts,
}

impl Table {
    fn is_own(&self, next_hop: &NextHop) -> bool {
        let state = self.world.state();
        state.checks.keys().any(|own| *next_hop == NextHop::Interface(own.clone()))
    }
}

#[async_trait]
impl RouteTable for Table {
    fn facts(&self) -> &TableFacts {
        &self.facts
    }
    async fn put(&self, destination: IpNet, next_hop: &NextHop) -> Result<()> {
        let key = RouteKey { table: self.facts.id.clone(), destination };
        let route = Route {
            destination,
            next_hop: next_hop.clone(),
            state: RouteState::Active,
            origin: RouteOrigin::Static,
        };
        let attracts = self.is_own(next_hop);
        if attracts && self.world.state().rules.is_empty() {
            self.world.inner().wrongs.push(format!("{key} is taken, and nothing translates"));
        }
        let verb = if attracts { "put" } else { "return" };
        self.world.change(format!("{verb} {key}"), |state| {
            state.routes.insert(key, route);
        })
    }
    async fn remove(&self, destination: IpNet) -> Result<()> {
        let key = RouteKey { table: self.facts.id.clone(), destination };
        self.world.change(format!("remove {key}"), |state| {
            state.routes.remove(&key);
        })
    }
}

#[async_trait]
impl Provider for World {
    fn name(&self) -> &'static str {
        "world"
    }
    async fn instance(&self) -> Result<Instance> {
        Err(Error::new(Kind::Unsupported, "tell who I am", "this world has no instances"))
    }
    async fn interfaces(&self) -> Result<Vec<Arc<dyn Interface>>> {
        Ok(World::interfaces(self).into_values().collect())
    }
    async fn route_tables(&self, _: &TableSelector) -> Result<RouteTables> {
        self.ask("list tables")?;
        Ok(RouteTables { found: self.tables().into_values().collect(), missing: Vec::new() })
    }
}
