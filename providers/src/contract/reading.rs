//! Promises that asking alone shows: identity, interfaces, route tables.

use std::{collections::BTreeSet, sync::Arc};

use natd_core::{
    cloud::{Instance, Interface, Provider, RouteTable, TableFacts, TableSelector},
    error::{Kind, Result},
    model::{InterfaceId, MacAddress, RouteOrigin, RouteTableId, SubnetId},
};

use super::promise::{Breach, Finding, Promise, ensure};

/// Asks a provider everything that changes nothing. `selected` are the tables that the operator
/// wants served; the tables of the own subnets are asked for besides.
pub async fn read(provider: &dyn Provider, selected: &TableSelector) -> Vec<Finding> {
    vec![
        Finding::of(Promise::Identity, identity(provider)).await,
        Finding::of(Promise::Interfaces, interfaces(provider)).await,
        Finding::of(Promise::CheckIsShown, check_is_shown(provider)).await,
        Finding::of(Promise::NothingAskedNothingFound, nothing_asked(provider)).await,
        Finding::of(Promise::TablesBySubnet, tables_by_subnet(provider)).await,
        Finding::of(Promise::TablesById, tables_by_id(provider, selected)).await,
        Finding::of(Promise::AbsentTable, absent_table(provider, selected)).await,
        Finding::of(Promise::OneRouteADestination, one_route(provider, selected)).await,
    ]
}

async fn identity(provider: &dyn Provider) -> Result<(), Breach> {
    let first = provider.instance().await?;
    let again = provider.instance().await?;
    ensure(
        Instance { network_cidrs: first.network_cidrs.clone(), ..again.clone() } == first,
        || format!("asked twice, it says two things: {first:?} and {again:?}"),
    )?;
    ensure(!first.network_cidrs.is_empty(), || {
        format!("the network {} has no address block", first.network)
    })?;
    ensure(!first.subnets.is_empty(), || format!("{} is in no subnet", first.id))
}

async fn interfaces(provider: &dyn Provider) -> Result<(), Breach> {
    let own = provider.instance().await?.subnets;
    let listed = provider.interfaces().await?;
    ensure(!listed.is_empty(), || "it has none".to_owned())?;
    let mut ids: BTreeSet<&InterfaceId> = BTreeSet::new();
    let mut macs: BTreeSet<MacAddress> = BTreeSet::new();
    for facts in listed.iter().map(|interface| interface.facts()) {
        ensure(ids.insert(&facts.id), || format!("{} is listed twice", facts.id))?;
        ensure(macs.insert(facts.mac), || format!("two have the Ethernet address {}", facts.mac))?;
        ensure(!facts.addresses.is_empty(), || format!("{} has no address", facts.id))?;
        ensure(own.contains(&facts.subnet), || {
            format!("{} is in {}, which is no subnet of this machine's", facts.id, facts.subnet)
        })?;
    }
    Ok(())
}

async fn check_is_shown(provider: &dyn Provider) -> Result<(), Breach> {
    for interface in provider.interfaces().await? {
        let facts = interface.facts();
        let alone = interface.source_dest_check().await?;
        let listed = facts.source_dest_check.is_on();
        ensure(alone == listed, || {
            format!(
                "{}: {} in the list, and {} when asked alone",
                facts.id,
                on_or_off(listed),
                on_or_off(alone)
            )
        })?;
    }
    Ok(())
}

pub(super) fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

async fn nothing_asked(provider: &dyn Provider) -> Result<(), Breach> {
    let tables = provider.route_tables(&TableSelector::default()).await?;
    ensure(tables.found.is_empty() && tables.missing.is_empty(), || {
        format!("{} found, {} missing", tables.found.len(), tables.missing.len())
    })
}

async fn tables_by_subnet(provider: &dyn Provider) -> Result<(), Breach> {
    let subnets = provider.instance().await?.subnets;
    let tables = provider.route_tables(&of_subnets(&subnets)).await?;
    in_order(&tables.found)?;
    for subnet in &subnets {
        let serving: Vec<&RouteTableId> = tables
            .found
            .iter()
            .map(|table| table.facts())
            .filter(|facts| facts.subnets.contains(subnet))
            .map(|facts| &facts.id)
            .collect();
        let told = tables.missing.iter().any(|why| why.to_string().contains(subnet.as_str()));
        ensure(serving.len() == 1 || (serving.is_empty() && told), || match serving.len() {
            0 => format!("{subnet} has no table, and nothing says so"),
            _ => format!("{subnet} is served by {serving:?}"),
        })?;
    }
    Ok(())
}

async fn tables_by_id(provider: &dyn Provider, selected: &TableSelector) -> Result<(), Breach> {
    let first = some_tables(provider, selected).await?;
    let ids: BTreeSet<_> = first.iter().map(|table| table.facts().id.clone()).collect();
    let again = provider.route_tables(&of_ids(ids.clone())).await?;
    in_order(&again.found)?;
    let found: BTreeSet<_> = again.found.iter().map(|table| table.facts().id.clone()).collect();
    ensure(found == ids, || format!("asked for {ids:?}, got {found:?}"))?;
    for (one, other) in first.iter().zip(&again.found) {
        let (one, other) = (one.facts(), other.facts());
        ensure(routes_of(one) == routes_of(other) && one.tags == other.tags, || {
            format!("{} looks one way by subnet and another by id: {one:?} and {other:?}", one.id)
        })?;
    }
    Ok(())
}

async fn absent_table(provider: &dyn Provider, selected: &TableSelector) -> Result<(), Breach> {
    let tables = some_tables(provider, selected).await?;
    let Some(present) = tables.first().map(|table| table.facts().id.clone()) else {
        return Err(Breach::NotTried("there is no table".to_owned()));
    };
    let absent = made_up(present.as_str())
        .parse()
        .map_err(|error| Breach::NotTried(format!("no id could be made up: {error}")))?;
    let asked = of_ids(BTreeSet::from([present.clone(), absent]));
    let answer = provider.route_tables(&asked).await?;
    let found: Vec<_> = answer.found.iter().map(|table| table.facts().id.clone()).collect();
    ensure(found == [present.clone()], || format!("{present} is there, found was {found:?}"))?;
    match answer.missing.as_slice() {
        [error] => ensure(error.kind() == Kind::NotFound, || {
            format!("it is told as {:?}, not as absent: {error}", error.kind())
        }),
        missing => ensure(false, || format!("{} errors, and not one: {missing:?}", missing.len())),
    }
}

async fn one_route(provider: &dyn Provider, selected: &TableSelector) -> Result<(), Breach> {
    for table in some_tables(provider, selected).await? {
        let facts = table.facts();
        let mut seen = BTreeSet::new();
        for route in facts.routes.iter().filter(|route| route.origin == RouteOrigin::Static) {
            ensure(seen.insert(route.destination), || {
                format!("{} has two static routes to {}", facts.id, route.destination)
            })?;
        }
    }
    Ok(())
}

/// The tables that the operator wants served; without any, those of the own subnets.
async fn some_tables(
    provider: &dyn Provider,
    selected: &TableSelector,
) -> Result<Vec<Arc<dyn RouteTable>>, Breach> {
    let own = of_subnets(&provider.instance().await?.subnets);
    let found = provider.route_tables(&own.union(selected)).await?.found;
    if found.is_empty() {
        return Err(Breach::NotTried("there is no table".to_owned()));
    }
    Ok(found)
}

fn in_order(tables: &[Arc<dyn RouteTable>]) -> Result<(), Breach> {
    let ids: Vec<_> = tables.iter().map(|table| table.facts().id.clone()).collect();
    ensure(ids.is_sorted_by(|one, next| one < next), || {
        format!("the tables come in no order, or twice: {ids:?}")
    })
}

fn of_subnets(subnets: &BTreeSet<SubnetId>) -> TableSelector {
    TableSelector { subnets: subnets.clone(), ..TableSelector::default() }
}

pub(super) fn of_ids(ids: BTreeSet<RouteTableId>) -> TableSelector {
    TableSelector { ids, ..TableSelector::default() }
}

/// A table's routes in an order of their own.
pub(super) fn routes_of(facts: &TableFacts) -> BTreeSet<&natd_core::model::Route> {
    facts.routes.iter().collect()
}

/// An id of the same form that nothing has: the last eight characters are other ones.
pub(super) fn made_up(id: &str) -> String {
    let kept = id.chars().count().saturating_sub(8);
    let tail = if id.ends_with("00000000") { "11111111" } else { "00000000" };
    id.chars().take(kept).chain(tail.chars()).collect()
}

/// One of the machine's interfaces by its id.
pub(super) async fn interface(
    provider: &dyn Provider,
    id: &InterfaceId,
) -> Result<Arc<dyn Interface>, Breach> {
    let listed = provider.interfaces().await?;
    listed
        .into_iter()
        .find(|interface| interface.facts().id == *id)
        .ok_or_else(|| Breach::Broken(format!("{id} is not listed any more")))
}
