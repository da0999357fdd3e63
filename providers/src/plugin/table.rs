//! A route table that a plugin has listed: its routes written and removed.

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    cloud::{RouteTable, TableFacts},
    error::Result,
    model::{NextHop, RouteKey},
};

use super::{lives::Caller, wire};

/// A route table as it was listed.
pub(super) struct Table {
    facts: TableFacts,
    caller: Caller,
}

impl Table {
    pub(super) fn new(facts: TableFacts, caller: Caller) -> Self {
        Self { facts, caller }
    }

    fn key(&self, destination: IpNet) -> RouteKey {
        RouteKey { table: self.facts.id.clone(), destination }
    }
}

#[async_trait]
impl RouteTable for Table {
    fn facts(&self) -> &TableFacts {
        &self.facts
    }

    async fn put(&self, destination: IpNet, next_hop: &NextHop) -> Result<()> {
        let key = self.key(destination.trunc());
        let doing = format!("point {key} at {next_hop}");
        let params = wire::PutParams {
            table: key.table.to_string(),
            destination: key.destination.to_string(),
            next_hop: next_hop.into(),
        };
        let wire::Nothing {} = self.caller.call(&doing, wire::PUT, &params).await?;
        Ok(())
    }

    async fn remove(&self, destination: IpNet) -> Result<()> {
        let key = self.key(destination.trunc());
        let doing = format!("delete {key}");
        let params = wire::RemoveParams {
            table: key.table.to_string(),
            destination: key.destination.to_string(),
        };
        let wire::Nothing {} = self.caller.call(&doing, wire::REMOVE, &params).await?;
        Ok(())
    }
}
