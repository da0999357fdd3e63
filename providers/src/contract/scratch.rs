//! Where the writing part of the contract writes.

use std::{collections::BTreeSet, time::Duration};

use ipnet::Ipv4Net;
use natd_core::{
    cloud::{Provider, TableFacts},
    error::{Error, Kind, Result},
    model::{InterfaceId, MacAddress, NextHop, RouteTableId},
};

use super::reading::of_ids;

/// Documentation addresses, to which nobody sends packets (RFC 5737), in halves.
const DOCUMENTATION: [&str; 6] = [
    "192.0.2.0/25",
    "192.0.2.128/25",
    "198.51.100.0/25",
    "198.51.100.128/25",
    "203.0.113.0/25",
    "203.0.113.128/25",
];

/// What may be written to.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// The table.
    pub table: RouteTableId,
    /// The interface of this machine that its routes target.
    pub target: InterfaceId,
    /// Its other interfaces.
    pub others: Vec<InterfaceId>,
    /// Two destinations to which the table has no route of anybody's.
    pub destinations: [Ipv4Net; 2],
    /// For how long a change may stay invisible in the cloud's answers.
    pub patience: Duration,
}

impl Scratch {
    /// Documentation addresses that are free in the table, and all interfaces of the machine. `target`
    /// is the Ethernet address of the one that routes target.
    ///
    /// # Errors
    /// `NotFound` without the table or the interface, `Conflict` where nothing is free, and of the cloud.
    pub async fn choose(
        provider: &dyn Provider,
        table: &RouteTableId,
        target: Option<MacAddress>,
        patience: Duration,
    ) -> Result<Self> {
        let answer = provider.route_tables(&of_ids(BTreeSet::from([table.clone()]))).await?;
        let found = answer.found.first().map(|found| found.facts().clone());
        let facts = match (found, answer.missing.into_iter().next()) {
            (Some(facts), _) => facts,
            (None, Some(error)) => return Err(error),
            (None, None) => {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("write to {table}"),
                    "it is not there",
                ));
            }
        };
        let interfaces = provider.interfaces().await?;
        let mut others: Vec<InterfaceId> = Vec::new();
        let mut targets: Vec<InterfaceId> = Vec::new();
        for interface in interfaces.iter().map(|interface| interface.facts()) {
            let chosen = target.is_none_or(|target| target == interface.mac) && targets.is_empty();
            if chosen { &mut targets } else { &mut others }.push(interface.id.clone());
        }
        let Some(target) = targets.pop() else {
            return Err(Error::new(
                Kind::NotFound,
                "find the interface that routes target",
                "the cloud lists none with its Ethernet address",
            )
            .with_advice("name it in routes.interface"));
        };
        let ours: Vec<NextHop> =
            others.iter().chain([&target]).cloned().map(NextHop::Interface).collect();
        let mut free = DOCUMENTATION
            .iter()
            .filter_map(|net| net.parse::<Ipv4Net>().ok())
            .filter(|net| is_free(&facts, *net, &ours));
        let (Some(first), Some(second)) = (free.next(), free.next()) else {
            return Err(Error::new(
                Kind::Conflict,
                format!("write to {table}"),
                "it has routes to all documentation addresses",
            )
            .with_advice("name another table"));
        };
        let destinations = [first, second];
        Ok(Self { table: table.clone(), target, others, destinations, patience })
    }
}
/// Without a route, or with one that an earlier check left that was cut short.
fn is_free(facts: &TableFacts, net: Ipv4Net, ours: &[NextHop]) -> bool {
    facts
        .routes
        .iter()
        .filter(|route| route.destination == net.into())
        .all(|route| ours.contains(&route.next_hop))
}
