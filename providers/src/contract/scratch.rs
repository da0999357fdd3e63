//! Where the writing part of the contract writes.

use std::{collections::BTreeSet, time::Duration};

use ipnet::Ipv4Net;
use natd_core::{
    cloud::{Provider, TableFacts},
    error::{Error, Kind, Result},
    model::{InterfaceId, NextHop, RouteTableId},
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
    /// The interfaces of this machine that routes may target, the usual one first.
    pub targets: Vec<InterfaceId>,
    /// Two destinations to which the table has no route of anybody's.
    pub destinations: [Ipv4Net; 2],
    /// For how long a change may stay invisible in the cloud's answers.
    pub patience: Duration,
}

impl Scratch {
    /// Documentation addresses that are free in the table, and all interfaces of the machine.
    ///
    /// # Errors
    /// `NotFound` without the table, `Conflict` where nothing is free, and of the cloud.
    pub async fn choose(
        provider: &dyn Provider,
        table: &RouteTableId,
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
        let targets: Vec<_> =
            interfaces.iter().map(|interface| interface.facts().id.clone()).collect();
        let ours: Vec<NextHop> = targets.iter().cloned().map(NextHop::Interface).collect();
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
        Ok(Self { table: table.clone(), targets, destinations: [first, second], patience })
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
