//! One route table of a VPC: its routes read, written and removed.
//!
//! Calls: <https://support.huaweicloud.com/intl/en-us/api-vpc/vpc_apiroutetab_0004.html>. There is
//! one call for all changes, and three words in it: `add`, `mod` and `del`.

use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    cloud::{RouteTable, TableFacts},
    error::{Error, Kind, Result},
    model::{NetworkId, NextHop, Route, RouteKey, RouteOrigin, RouteTableId},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    api::{Api, Call},
    next_hop::Here,
    permissions::Action,
    rotation::Rotation,
};

/// A first write and three corrections: who loses so often is in a fight.
const WRITES: u32 = 4;

/// What routes that natd adds are described as. One that it changes keeps its own description.
const DESCRIPTION: &str = "natd";

/// A route as the cloud writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct WireRoute {
    #[serde(rename = "type")]
    kind: String,
    destination: String,
    #[serde(default)]
    nexthop: String,
}

/// A table with its routes.
#[derive(Deserialize)]
pub(super) struct WireTable {
    pub(super) vpc_id: Option<NetworkId>,
    #[serde(default)]
    pub(super) routes: Vec<WireRoute>,
}

#[derive(Deserialize)]
struct OneTable {
    routetable: WireTable,
}

impl WireRoute {
    /// As natd sees it; `None` for a route to what is no block of addresses.
    pub(super) fn read(&self, here: &Here) -> Option<Route> {
        let destination = self.block()?;
        let (next_hop, state) = here.read(&self.kind, &self.nexthop);
        Some(Route { destination, next_hop, state, origin: RouteOrigin::Static })
    }

    fn block(&self) -> Option<IpNet> {
        let Ok(block) = self.destination.parse::<IpNet>() else {
            tracing::debug!(
                destination = self.destination,
                "a route to what is no block of addresses was passed over"
            );
            return None;
        };
        Some(block.trunc())
    }
}

/// Reads a table, in one call.
pub(super) async fn read(api: &Api, id: &RouteTableId) -> Result<WireTable> {
    let path = ["routetables", id.as_str()];
    let call = Call::v1(Action::RouteTablesGet, format!("read the routes of {id}"), &path);
    Ok(api.read::<OneTable>(call).await?.routetable)
}

/// A route table as it was listed.
pub(super) struct VpcRouteTable {
    pub(super) facts: TableFacts,
    pub(super) api: Arc<Api>,
    pub(super) rotation: Arc<Rotation>,
    pub(super) here: Arc<Here>,
}

/// Which word a write takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Mod,
}

impl VpcRouteTable {
    fn key(&self, destination: IpNet) -> RouteKey {
        RouteKey { table: self.facts.id.clone(), destination }
    }

    /// The destination's route as it is now: its type and next hop.
    async fn now(&self, destination: IpNet) -> Result<Option<WireRoute>> {
        let table = read(&self.api, &self.facts.id).await?;
        Ok(table.routes.into_iter().find(|route| route.block() == Some(destination)))
    }

    async fn change(&self, doing: &str, change: &Value) -> Result<()> {
        let body = json!({"routetable": {"routes": change}});
        let path = ["routetables", self.facts.id.as_str()];
        // Noted before: after a write that was cut off, nobody knows.
        self.rotation.written(&self.facts.id);
        self.api.write(Call::v1(Action::RouteTablesUpdate, doing, &path), &body).await.map(drop)
    }
}

#[async_trait]
impl RouteTable for VpcRouteTable {
    fn facts(&self) -> &TableFacts {
        &self.facts
    }

    /// One write, by the word that the snapshot asks for. If it is refused, the table is read: if it
    /// asks for the other word by now, that is used; if it shows the route already, all is well;
    /// else the refusal stands.
    async fn put(&self, destination: IpNet, next_hop: &NextHop) -> Result<()> {
        let destination = destination.trunc();
        let doing = format!("point {} at {next_hop}", self.key(destination));
        let (kind, target) = self.here.write(next_hop)?;
        let is_there = |route: &WireRoute| route.kind == kind && route.nexthop == target;
        let shown = self.facts.routes.iter().find(|route| route.destination == destination);
        let mut verb = if shown.is_some() { Verb::Mod } else { Verb::Add };
        let mut unanswered = None;
        for write in 0..WRITES {
            if write > 1 {
                sleep(self.api.patience().initial_backoff).await;
            }
            let to = destination.to_string();
            let change = match verb {
                Verb::Mod => json!({"mod": [{
                    "type": kind, "destination": to, "nexthop": target,
                }]}),
                Verb::Add => json!({"add": [{
                    "type": kind, "destination": to, "nexthop": target,
                    "description": DESCRIPTION,
                }]}),
            };
            let Err(refusal) = self.change(&doing, &change).await else { return Ok(()) };
            // The word may have been the wrong one, and an answer that was lost may have been a yes.
            let may_be_the_word =
                matches!(refusal.kind(), Kind::Invalid | Kind::Conflict | Kind::NotFound);
            if !may_be_the_word && refusal.kind() != Kind::Unreachable {
                return Err(refusal);
            }
            let now = self.now(destination).await?;
            if now.as_ref().is_some_and(is_there) {
                return Ok(());
            }
            let needed = if now.is_some() { Verb::Mod } else { Verb::Add };
            if needed == verb && may_be_the_word {
                return Err(refusal);
            }
            verb = needed;
            unanswered = (!may_be_the_word).then_some(refusal);
        }
        if let Some(error) = unanswered {
            return Err(error);
        }
        let cause = format!("the route came or went before each of {WRITES} writes");
        Err(Error::new(Kind::Conflict, doing, cause)
            .with_advice("find out who else changes this route"))
    }

    async fn remove(&self, destination: IpNet) -> Result<()> {
        let destination = destination.trunc();
        let doing = format!("delete {}", self.key(destination));
        let change = json!({"del": [{"destination": destination.to_string()}]});
        let Err(refusal) = self.change(&doing, &change).await else { return Ok(()) };
        match refusal.kind() {
            Kind::Invalid | Kind::Conflict | Kind::NotFound | Kind::Unreachable => {
                match self.now(destination).await? {
                    None => Ok(()),
                    Some(_) => Err(refusal),
                }
            }
            _ => Err(refusal),
        }
    }
}
