//! What a plugin answers, in natd's own terms. An error says which field makes no sense.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    str::FromStr,
};

use ipnet::IpNet;
use natd_core::{
    cloud::{self, Instance, InterfaceFacts, TableFacts},
    error::{Error, Kind},
    model::{NextHop, Route, RouteOrigin, RouteState, RouteTableId, SubnetId, Tag},
};

use super::{envelope::shortened, wire};

type Result<T> = std::result::Result<T, String>;

pub(super) fn instance(answer: wire::InstanceResult) -> Result<Instance> {
    Ok(Instance {
        id: field("id", &answer.id)?,
        region: answer.region,
        zone: answer.zone,
        network: field("network", &answer.network)?,
        network_cidrs: blocks("network_cidrs", &answer.network_cidrs)?,
        subnets: subnets(&answer.subnets)?,
        own_subnet: match answer.own_subnet {
            wire::OwnSubnet::Loops => cloud::OwnSubnet::Loops,
            wire::OwnSubnet::PublicAddressOutranks => cloud::OwnSubnet::PublicAddressOutranks,
            wire::OwnSubnet::HostsDecide => cloud::OwnSubnet::HostsDecide,
        },
    })
}

pub(super) fn interface(answer: wire::Interface) -> Result<InterfaceFacts> {
    let address = |address: wire::Address| cloud::Address {
        private: address.private,
        public: address.public.map_or(cloud::PublicAddress::Unknown, Into::into),
    };
    let security = match (answer.security_error, answer.security) {
        (Some(error), _) => {
            let doing = format!("read the security groups of {}", shortened(&answer.id));
            Err(error.into_error(doing, "the plugin gives no reason"))
        }
        (None, Some(rules)) => Ok(cloud::SecurityRules {
            inbound: blocks("security.inbound", &rules.inbound)?.into_iter().collect(),
            inbound_by_reference: rules.inbound_by_reference,
            outbound: rules.outbound,
        }),
        (None, None) => Ok(cloud::SecurityRules::open()),
    };
    let check = match (answer.source_dest_check, answer.source_dest_check_error) {
        (false, _) => cloud::SourceDestCheck::Off,
        (true, None) => cloud::SourceDestCheck::On {
            overwrites: answer.check_settings.map(cloud::CheckSettings),
        },
        (true, Some(error)) => {
            let doing =
                format!("switch the source/destination check of {} off", shortened(&answer.id));
            cloud::SourceDestCheck::Locked(error.into_error(doing, "the plugin gives no reason"))
        }
    };
    Ok(InterfaceFacts {
        id: field("id", &answer.id)?,
        mac: field("mac", &answer.mac)?,
        addresses: answer.addresses.into_iter().map(address).collect(),
        subnet: field("subnet", &answer.subnet)?,
        source_dest_check: check,
        security,
    })
}

/// The tables that were asked for, in the order of their ids, and an error for each one that is
/// named and not among them.
pub(super) fn route_tables(
    answer: wire::RouteTablesResult,
    selector: &cloud::TableSelector,
) -> Result<(Vec<TableFacts>, Vec<Error>)> {
    let mut found = BTreeMap::new();
    for table in answer.found {
        let facts = table_facts(&table)?;
        if found.insert(facts.id.clone(), facts).is_some() {
            return Err(format!("it lists the table {} twice", shortened(&table.id)));
        }
    }
    found.retain(|_, table| selector.selects(table));
    let mut reasons: BTreeMap<String, _> =
        answer.missing.into_iter().map(|missing| (missing.id, missing.error)).collect();
    let served: BTreeSet<&SubnetId> = found.values().flat_map(|table| &table.subnets).collect();
    let mut missing = Vec::new();
    let mut explain = |id: &str, doing: String, absent: &str| {
        missing.push(match reasons.remove(id) {
            Some(error) => error.into_error(doing, absent),
            None => Error::new(Kind::NotFound, doing, absent),
        });
    };
    for id in selector.ids.iter().filter(|id| !found.contains_key(*id)) {
        explain(id.as_str(), format!("use route table {id}"), "the plugin doesn't know it");
    }
    for subnet in selector.subnets.iter().filter(|subnet| !served.contains(*subnet)) {
        let doing = format!("find the route table of {subnet}");
        explain(subnet.as_str(), doing, "the plugin knows no table that serves it");
    }
    Ok((found.into_values().collect(), missing))
}

fn table_facts(table: &wire::RouteTable) -> Result<TableFacts> {
    let id: RouteTableId = field("id", &table.id)?;
    let within = |why: String| format!("table {id}: {why}");
    let tag = |tag: &wire::Tag| Tag { key: tag.key.clone(), value: tag.value.clone() };
    Ok(TableFacts {
        subnets: subnets(&table.subnets).map_err(within)?,
        tags: table.tags.iter().map(tag).collect(),
        routes: table.routes.iter().map(route).collect::<Result<_>>().map_err(within)?,
        id,
    })
}

fn route(route: &wire::Route) -> Result<Route> {
    Ok(Route {
        destination: field::<IpNet>("destination", &route.destination)?.trunc(),
        next_hop: next_hop(&route.next_hop)?,
        state: match route.state {
            wire::RouteState::Active => RouteState::Active,
            wire::RouteState::Blackhole => RouteState::Blackhole,
        },
        origin: match route.origin {
            wire::RouteOrigin::Static => RouteOrigin::Static,
            wire::RouteOrigin::Propagated => RouteOrigin::Propagated,
        },
    })
}

const INTERFACE: &str = "interface";
const INTERNET_GATEWAY: &str = "internet-gateway";
const LOCAL: &str = "local";

/// What natd doesn't know is carried through.
pub(super) fn next_hop(hop: &wire::NextHop) -> Result<NextHop> {
    Ok(match hop.kind.as_str() {
        INTERFACE => NextHop::Interface(field("next_hop.id", &hop.id)?),
        INTERNET_GATEWAY => NextHop::InternetGateway(hop.id.clone()),
        LOCAL => NextHop::Local,
        kind => NextHop::Other { kind: kind.to_owned(), id: hop.id.clone() },
    })
}

impl From<&NextHop> for wire::NextHop {
    fn from(hop: &NextHop) -> Self {
        let (kind, id) = match hop {
            NextHop::Interface(id) => (INTERFACE, id.as_str()),
            NextHop::InternetGateway(id) => (INTERNET_GATEWAY, id.as_str()),
            NextHop::Local => (LOCAL, ""),
            NextHop::Other { kind, id } => (kind.as_str(), id.as_str()),
        };
        Self { kind: kind.to_owned(), id: id.to_owned() }
    }
}

impl From<&cloud::TableSelector> for wire::TableSelector {
    fn from(selector: &cloud::TableSelector) -> Self {
        let tag = |tag: &Tag| wire::Tag { key: tag.key.clone(), value: tag.value.clone() };
        Self {
            ids: selector.ids.iter().map(ToString::to_string).collect(),
            tags: selector.tags.iter().map(tag).collect(),
            subnets: selector.subnets.iter().map(ToString::to_string).collect(),
        }
    }
}

fn subnets(ids: &BTreeSet<String>) -> Result<BTreeSet<SubnetId>> {
    ids.iter().map(|id| field("subnets", id)).collect()
}

fn blocks(name: &str, blocks: &[String]) -> Result<Vec<IpNet>> {
    blocks.iter().map(|block| field::<IpNet>(name, block).map(|block| block.trunc())).collect()
}

fn field<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|error: T::Err| format!("{name} is {:?}: {error}", shortened(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_next_hop_goes_to_natd_and_back_unchanged() {
        for (kind, id) in [
            ("interface", "port-1"),
            ("internet-gateway", "the internet"),
            ("local", ""),
            ("nat-gateway", "nat-1"),
            ("blackhole", ""),
            ("route", "via 10.0.0.1 dev eth0 metric 100"),
        ] {
            let written = wire::NextHop { kind: kind.to_owned(), id: id.to_owned() };
            let read = next_hop(&written).expect("well formed");
            assert_eq!(wire::NextHop::from(&read), written);
        }
        let nameless = wire::NextHop { kind: INTERFACE.to_owned(), id: String::new() };
        assert!(next_hop(&nameless).expect_err("no id").contains("next_hop.id"));
    }
}
