//! The VPC's route tables: all listed in every tick, their routes read in turn.
//!
//! Which table serves a subnet: the one that it is associated with, else the VPC's default table
//! (<https://support.huaweicloud.com/intl/en-us/usermanual-vpc/vpc_route01_0001.html>).

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use natd_core::{
    cloud::{RouteTable, RouteTables, TableFacts, TableSelector},
    error::{Error, Kind, Result},
    model::{NetworkId, RouteTableId, SubnetId},
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    api::{Api, Call, Identified},
    next_hop::Here,
    permissions::Action,
    rotation::Rotation,
    subnets::Subnets,
    table::{VpcRouteTable, WireRoute, read},
};

/// A table as the list has it: without its routes.
#[derive(Deserialize)]
struct Listed {
    id: RouteTableId,
    vpc_id: Option<NetworkId>,
    /// Missing in some answers.
    #[serde(default)]
    default: Option<bool>,
    name: Option<String>,
    #[serde(default)]
    subnets: Vec<Associated>,
    updated_at: Option<String>,
}

#[derive(Deserialize)]
struct Associated {
    id: SubnetId,
}

impl Identified for Listed {
    fn id(&self) -> &str {
        self.id.as_str()
    }
}

/// What the tables of one VPC are read with.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) api: &'a Arc<Api>,
    pub(super) network: &'a NetworkId,
    pub(super) subnets: &'a Subnets,
    pub(super) rotation: &'a Arc<Rotation>,
    pub(super) concurrency: NonZeroUsize,
}

impl Reader<'_> {
    /// The tables that `selector` names. One call for the list, one a table that is read, and one
    /// for each subnet that is seen for the first time and that no table is associated with.
    ///
    /// Who names tables by their ids alone wants to know how they are now: they are all read.
    pub(super) async fn select(
        self,
        here: &Arc<Here>,
        selector: &TableSelector,
    ) -> Result<RouteTables> {
        if *selector == TableSelector::default() {
            return Ok(RouteTables::default());
        }
        let network = self.network;
        let call = Call::v1(
            Action::RouteTablesList,
            format!("list the route tables of {network}"),
            &["routetables"],
        );
        let mut listed: Vec<Listed> =
            self.api.list(call.by("vpc_id", network.as_str()), "routetables").await?;
        // A service that doesn't know the filter lists those of other VPCs too.
        listed.retain(|table| table.vpc_id.as_ref().is_none_or(|vpc| vpc == network));

        let default = default_table(&listed).map(|table| table.id.clone());
        let mut tables: BTreeMap<RouteTableId, (BTreeSet<SubnetId>, Option<String>)> = listed
            .into_iter()
            .map(|table| {
                let subnets = table.subnets.into_iter().map(|subnet| subnet.id).collect();
                (table.id, (subnets, table.updated_at))
            })
            .collect();
        self.rotation.keep(|id| tables.contains_key(id));
        let associated: BTreeSet<_> =
            tables.values().flat_map(|(subnets, _)| subnets).cloned().collect();
        let mut missing = self.explain_strangers(selector, |id| tables.contains_key(id)).await;
        let mut by_default = BTreeSet::new();
        for subnet in selector.subnets.difference(&associated) {
            match self.served_by_default(default.as_ref(), subnet).await {
                Ok(()) => _ = by_default.insert(subnet.clone()),
                Err(error) => missing.push(error),
            }
        }
        if let Some((subnets, _)) = default.and_then(|id| tables.get_mut(&id)) {
            subnets.append(&mut by_default);
        }
        missing.extend(selector.tags.iter().map(|tag| {
            Error::new(
                Kind::Unsupported,
                format!("serve the route tables tagged {tag}"),
                "route tables have no tags on Huawei Cloud",
            )
            .with_advice("name them in routes.tables by their ids or by their subnets")
        }));
        tables.retain(|id, (subnets, _)| {
            selector.ids.contains(id) || !selector.subnets.is_disjoint(subnets)
        });
        let (found, vanished) = self.read(here, selector, tables).await?;
        missing.extend(vanished);
        Ok(RouteTables { found, missing })
    }

    /// Reads those that are due; of the others, what was read last stands.
    async fn read(
        self,
        here: &Arc<Here>,
        selector: &TableSelector,
        tables: BTreeMap<RouteTableId, (BTreeSet<SubnetId>, Option<String>)>,
    ) -> Result<(Vec<Arc<dyn RouteTable>>, Vec<Error>)> {
        let due = if selector.subnets.is_empty() {
            tables.keys().cloned().collect()
        } else {
            let updated =
                tables.iter().map(|(id, (_, updated))| (id.clone(), updated.clone())).collect();
            self.rotation.due(&updated, Instant::now())
        };
        let reads = tables.into_iter().map(|(id, (subnets, updated))| {
            let known = if due.contains(&id) { None } else { self.rotation.last(&id) };
            async move {
                let routes = match known {
                    Some(routes) => routes,
                    None => self.read_one(&id, updated).await?,
                };
                Ok((id, subnets, routes))
            }
        });
        let width = self.concurrency.get();
        let results: Vec<Result<_>> = stream::iter(reads).buffered(width).collect().await;
        let (mut found, mut vanished) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok((id, subnets, routes)) => {
                    let routes = routes.iter().filter_map(|route| route.read(here)).collect();
                    let tags = BTreeSet::new();
                    let table = VpcRouteTable {
                        facts: TableFacts { id, subnets, tags, routes },
                        api: Arc::clone(self.api),
                        rotation: Arc::clone(self.rotation),
                        here: Arc::clone(here),
                    };
                    found.push(Arc::new(table) as Arc<dyn RouteTable>);
                }
                // Between the list and the read.
                Err(error) if error.kind() == Kind::NotFound => vanished.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((found, vanished))
    }

    async fn read_one(self, id: &RouteTableId, updated: Option<String>) -> Result<Vec<WireRoute>> {
        let asked = Instant::now();
        let table = read(self.api, id).await?;
        self.rotation.note(id, &table.routes, updated, asked);
        Ok(table.routes)
    }

    /// One error for each id that is no table of this VPC.
    async fn explain_strangers(
        self,
        selector: &TableSelector,
        is_here: impl Fn(&RouteTableId) -> bool,
    ) -> Vec<Error> {
        let mut errors = Vec::new();
        for id in selector.ids.iter().filter(|id| !is_here(id)) {
            let doing = format!("use route table {id}");
            errors.push(match read(self.api, id).await {
                Ok(table) => {
                    let other =
                        table.vpc_id.map_or("another VPC".to_owned(), |vpc| vpc.to_string());
                    let cause = format!("it is in {other}; natd serves {}", self.network);
                    Error::new(Kind::Invalid, doing, cause)
                }
                Err(error) if error.kind() == Kind::NotFound => {
                    let gone = Error::new(Kind::NotFound, doing, "it does not exist");
                    match error.code() {
                        Some(code) => gone.with_code(code),
                        None => gone,
                    }
                }
                Err(error) => error,
            });
        }
        errors
    }

    /// Whether the default table serves a subnet that no table is associated with.
    async fn served_by_default(
        self,
        default: Option<&RouteTableId>,
        subnet: &SubnetId,
    ) -> Result<()> {
        let network = self.network;
        let doing = format!("find the route table of {subnet}");
        match self.subnets.network(self.api, subnet).await? {
            None => Err(Error::new(Kind::NotFound, doing, "the subnet does not exist")),
            Some(other) if other != *network => {
                let cause = format!("the subnet is in {other}; natd serves {network}");
                Err(Error::new(Kind::Invalid, doing, cause))
            }
            Some(_) if default.is_none() => {
                let cause = format!(
                    "no table is associated with it, and which one is the default table of {network} is not told"
                );
                Err(Error::new(Kind::NotFound, doing, cause)
                    .with_advice("name the table in routes.tables by its id"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// The VPC's default table. Where the answers don't say which it is: the only one that there is, or
/// the only one that is named as Huawei names it.
fn default_table(listed: &[Listed]) -> Option<&Listed> {
    if listed.iter().any(|table| table.default.is_some()) {
        return listed.iter().find(|table| table.default == Some(true));
    }
    if let [only] = listed {
        return Some(only);
    }
    let mut named = listed
        .iter()
        .filter(|table| table.name.as_deref().is_some_and(|name| name.starts_with("rtb-vpc")));
    named.next().filter(|_| named.next().is_none())
}
