//! The VPC's route tables, listed in one call and selected in memory.
//!
//! Which table serves a subnet: the one that it is associated with, else the VPC's main table
//! (<https://docs.aws.amazon.com/vpc/latest/userguide/RouteTables.html>).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_sdk_ec2::types::{self, RouteTableAssociation, RouteTableAssociationStateCode};
use natd_core::{
    cloud::{RouteTable, RouteTables, TableFacts, TableSelector},
    error::{Error, Kind, Result},
    model::{NetworkId, RouteTableId, SubnetId, Tag},
};
use tokio::join;

use super::{
    api::{Api, filter},
    permissions::Action,
    subnets::Subnets,
    table::{self, VpcRouteTable},
};

/// The tables of `network` that `selector` names. Costs one call; a second one for ids that are
/// not tables of this VPC, and one for subnets that are seen for the first time.
pub(super) async fn list(
    api: &Arc<Api>,
    network: &NetworkId,
    subnets: &Subnets,
    selector: &TableSelector,
) -> Result<RouteTables> {
    if *selector == TableSelector::default() {
        return Ok(RouteTables::default());
    }
    let doing = format!("list the route tables of {network}");
    let listed = describe(api, "vpc-id", [network.as_str()], doing).await?;
    let main = listed.iter().find(|table| is_main(table)).and_then(id);
    let mut tables: BTreeMap<RouteTableId, TableFacts> =
        listed.iter().filter_map(facts).map(|facts| (facts.id.clone(), facts)).collect();

    let associated: BTreeSet<_> =
        tables.values().flat_map(|table| &table.subnets).cloned().collect();
    for subnet in &associated {
        subnets.learn(subnet.clone(), network.clone());
    }
    let strangers = selector.ids.iter().filter(|id| !tables.contains_key(id)).cloned().collect();
    let unassociated = selector.subnets.difference(&associated).cloned().collect();
    let (mut missing, networks) =
        join!(explain_strangers(api, network, strangers), subnets.networks(api, &unassociated));

    let mut by_main = BTreeSet::new();
    for subnet in unassociated {
        match served_by_main(network, main.as_ref(), &subnet, &networks) {
            Ok(()) => _ = by_main.insert(subnet),
            Err(error) => missing.push(error),
        }
    }
    if let Some(table) = main.and_then(|id| tables.get_mut(&id)) {
        table.subnets.append(&mut by_main);
    }
    let found = tables
        .into_values()
        .filter(|table| selector.selects(table))
        .map(|facts| Arc::new(VpcRouteTable::new(facts, Arc::clone(api))) as Arc<dyn RouteTable>)
        .collect();
    Ok(RouteTables { found, missing })
}

async fn describe<V: Into<String>>(
    api: &Api,
    by: &str,
    values: impl IntoIterator<Item = V>,
    doing: String,
) -> Result<Vec<types::RouteTable>> {
    api.ec2()
        .describe_route_tables()
        .filters(filter(by, values))
        .into_paginator()
        .items()
        .send()
        .try_collect()
        .await
        .map_err(|error| api.failure(Action::DescribeRouteTables, doing, &error))
}

/// One error for each id that is no table of this VPC. Asked by filter: a list of ids fails as a
/// whole for one that doesn't exist.
async fn explain_strangers(
    api: &Api,
    network: &NetworkId,
    ids: BTreeSet<RouteTableId>,
) -> Vec<Error> {
    if ids.is_empty() {
        return Vec::new();
    }
    let doing = "find route tables".to_owned();
    let elsewhere = match describe(api, "route-table-id", ids.iter().cloned(), doing).await {
        Ok(tables) => tables,
        Err(error) => return vec![error; ids.len()],
    };
    let explain = |wanted: &RouteTableId| {
        let doing = format!("use route table {wanted}");
        match elsewhere.iter().find(|table| id(table).as_ref() == Some(wanted)) {
            None => Error::new(Kind::NotFound, doing, "it does not exist")
                .with_code("InvalidRouteTableID.NotFound"),
            Some(table) => {
                let other = table.vpc_id().unwrap_or("another VPC");
                Error::new(Kind::Invalid, doing, format!("it is in {other}; natd serves {network}"))
            }
        }
    };
    ids.iter().map(explain).collect()
}

/// Whether the main table serves a subnet that no table is associated with.
fn served_by_main(
    network: &NetworkId,
    main: Option<&RouteTableId>,
    subnet: &SubnetId,
    networks: &Result<BTreeMap<SubnetId, NetworkId>>,
) -> Result<()> {
    let doing = format!("find the route table of {subnet}");
    match networks.as_ref().map(|networks| networks.get(subnet)) {
        Err(error) => Err(error.clone()),
        Ok(None) => Err(Error::new(Kind::NotFound, doing, "the subnet does not exist")
            .with_code("InvalidSubnetID.NotFound")),
        Ok(Some(other)) if other != network => {
            let cause = format!("the subnet is in {other}; natd serves {network}");
            Err(Error::new(Kind::Invalid, doing, cause))
        }
        Ok(Some(_)) if main.is_none() => {
            let cause = format!("no table is associated with it and {network} has no main table");
            Err(Error::new(Kind::NotFound, doing, cause))
        }
        Ok(Some(_)) => Ok(()),
    }
}

fn id(table: &types::RouteTable) -> Option<RouteTableId> {
    table.route_table_id()?.parse().ok()
}

fn facts(table: &types::RouteTable) -> Option<TableFacts> {
    let tag = |tag: &types::Tag| {
        Some(Tag { key: tag.key()?.to_owned(), value: tag.value().unwrap_or_default().to_owned() })
    };
    Some(TableFacts {
        id: id(table)?,
        subnets: associations(table)
            .filter_map(|association| association.subnet_id()?.parse().ok())
            .collect(),
        tags: table.tags().iter().filter_map(tag).collect(),
        routes: table.routes().iter().filter_map(table::route).collect(),
    })
}

fn is_main(table: &types::RouteTable) -> bool {
    associations(table).any(|association| association.main().unwrap_or_default())
}

/// The associations that are in force.
fn associations(table: &types::RouteTable) -> impl Iterator<Item = &RouteTableAssociation> {
    use RouteTableAssociationStateCode::{Disassociated, Disassociating, Failed};
    table.associations().iter().filter(|association| {
        let state = association.association_state().and_then(|state| state.state());
        !matches!(state, Some(Disassociated | Disassociating | Failed))
    })
}
