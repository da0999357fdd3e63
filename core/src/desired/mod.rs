//! What should be: a pure function from the configuration and the facts of cloud and host.

mod links;
mod rules;
mod sysctls;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde::Serialize;

pub use self::links::route_target;
use self::{
    links::{egress_link, named, own_address, port_of},
    rules::{Front, costs, ruleset},
    sysctls::sysctls,
};
use crate::{
    advise::{Warning, advise},
    cloud::{Instance, InterfaceFacts, OwnSubnet, TableFacts, TableSelector},
    config::{Config, InterfaceChoice, Neighbours, Takeover},
    error::{Error, Kind, Result},
    facts::Facts,
    host::SysctlKey,
    model::{InterfaceId, InterfaceName, RouteKey},
    neighbours::{Neighbour, Passage},
    persist::{Persistence, choose, lay_out},
    ruleset::{Rendering, Ruleset},
};

/// What should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// The rules, as a value and as text. `None`: no rules (the way down).
    pub rules: Option<Rules>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<SysctlKey, Setting>,
    /// Interfaces whose source/destination check is to be off.
    pub unchecked: BTreeSet<InterfaceId>,
    /// Routes that are to target this machine.
    pub routes: BTreeMap<RouteKey, RouteWish>,
    /// What is not done because it would do harm.
    pub refusals: Vec<Error>,
    /// What was asked for and can't be done. The rest is.
    pub problems: Vec<Error>,
    /// What an operator should know.
    pub warnings: Vec<Warning>,
    /// Routes were asked for.
    pub wants_routes: bool,
    /// The cloud drops what this machine forwards by its egress interface, and natd must not change
    /// that: nothing of what was asked for can be served.
    pub is_cut_off: bool,
    /// What other firewalls of this host are to let through.
    pub passages: BTreeMap<Neighbour, Passage>,
    /// What brings NAT back after a reboot.
    pub persistence: Persistence,
}

/// The rules, as a value and as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// The value.
    pub ruleset: Ruleset,
    /// The text.
    pub rendering: Rendering,
    /// The egress interface's own address.
    pub egress_address: Ipv4Addr,
    /// The interfaces by which private hosts' packets come in: those that routes target.
    pub entrances: BTreeSet<InterfaceName>,
    /// Why natd chose this back end; `None` if the operator did.
    pub chosen: Option<String>,
}

/// The value that a kernel parameter is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The value.
    pub value: String,
    /// What depends on it.
    pub weight: Weight,
}

/// What depends on a kernel parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Without it no packet is forwarded: no route is taken.
    Carries,
    /// Without it something works less well.
    Improves,
    /// The kernel may refuse it (a container, a network namespace); that is worth a warning.
    Optional,
}

/// A route that is to target this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteWish {
    /// The interface that it is to target.
    pub target: InterfaceId,
    /// What if it has another target.
    pub takeover: Takeover,
}

/// The tables that the configuration names. The table that serves the egress interface's subnet
/// has to be asked for besides: `desired` judges loops by it.
#[must_use]
pub fn tables_to_ask_for(config: &Config) -> TableSelector {
    let groups = config.routes.0.iter().map(|group| group.tables.selector());
    groups.fold(TableSelector::default(), |all, group| all.union(&group))
}

/// What should be.
///
/// # Errors
/// `Invalid` if the configuration contradicts the facts: an interface or address that isn't there,
/// `"vpc"` without a cloud. Nothing can be done then.
pub fn desired(config: &Config, facts: &Facts) -> Result<Desired> {
    let egress = egress_link(config, &facts.network)?;
    let egress_port = match &facts.cloud {
        Some(cloud) => Some(port_of(cloud, egress)?),
        None => None,
    };
    let mut served = BTreeMap::from([(egress.name.clone(), egress_port)]);
    let mut entrances = BTreeSet::new();
    let is_locked = |port: &InterfaceFacts| port.source_dest_check.lock().is_some();
    let mut desired =
        Desired { is_cut_off: egress_port.is_some_and(is_locked), ..Desired::default() };

    for group in &config.routes.0 {
        let target = match &group.interface {
            InterfaceChoice::Auto => egress,
            InterfaceChoice::Named(name) => named(&facts.network, name, "routes.interface")?,
        };
        let target_port = match &facts.cloud {
            Some(cloud) => Some(port_of(cloud, target)?),
            None => None,
        };
        served.insert(target.name.clone(), target_port);
        entrances.insert(target.name.clone());
        if let (Some(cloud), Some(target), Some(egress)) = (&facts.cloud, target_port, egress_port)
        {
            let selector = group.tables.selector();
            desired.wants_routes |= selector != TableSelector::default();
            for tag in &selector.tags {
                if !cloud.tables.iter().any(|table| table.tags.contains(tag)) {
                    desired.problems.push(Error::new(
                        Kind::NotFound,
                        format!("serve the route tables tagged {tag}"),
                        format!("{} has none", cloud.instance.network),
                    ));
                }
            }
            if desired.is_cut_off || is_locked(target) {
                continue;
            }
            for table in cloud.tables.iter().filter(|table| selector.selects(table)) {
                if loops(&cloud.instance, egress, table) {
                    desired.refusals.push(loop_refused(&cloud.instance, egress, table));
                    continue;
                }
                for destination in &group.destinations {
                    let key = RouteKey { table: table.id.clone(), destination: *destination };
                    let wish = RouteWish { target: target.id.clone(), takeover: group.takeover };
                    desired.routes.insert(key, wish);
                }
            }
        }
    }
    if let Some(cloud) = &facts.cloud {
        desired.problems.extend(cloud.missing.iter().cloned());
    }

    let egress_address = own_address(egress, egress_port)?;
    let front = Front { link: egress, port: egress_port, own_address: egress_address };
    let ruleset = ruleset(config, facts, &front, served.keys().cloned().collect(), &mut desired)?;
    desired.sysctls = sysctls(config, facts, &ruleset);
    for port in served.values().flatten() {
        match port.source_dest_check.lock() {
            Some(why) => desired.refusals.push(why.clone()),
            None => drop(desired.unchecked.insert(port.id.clone())),
        }
    }
    let targets = desired.routes.values().map(|wish| &wish.target).collect();
    desired.warnings = advise(config, facts, egress, &ruleset, &targets);
    if facts.cloud.is_some() && !desired.wants_routes {
        desired.warnings.push(Warning::no_tables());
    }
    let rendering = ruleset.render_with(facts.firewall, facts.blocks);
    desired.warnings.extend(costs(&ruleset, &rendering));
    let chosen = facts.chosen.clone();
    let rules = Rules { ruleset, rendering, egress_address, entrances, chosen };
    let passage = Passage::of(&rules.ruleset, &rules.entrances);
    if config.nat.neighbours == Neighbours::Pass {
        desired.passages = facts.neighbours.iter().map(|who| (*who, passage.clone())).collect();
    }
    let is_asked = |who: &Neighbour| desired.passages.contains_key(who);
    let left = facts
        .obstacles
        .iter()
        .filter(|obstacle| obstacle.concerns(&passage) && !obstacle.asked.iter().any(is_asked));
    let in_the_way = left.map(|obstacle| Warning::in_the_way(obstacle, &passage));
    desired.warnings.extend(in_the_way);
    desired.persistence = persistence(config, facts, &rules, &desired.sysctls);
    desired.rules = Some(rules);
    Ok(desired)
}

/// Rules that can't be brought back after a reboot are no reason not to have them now.
fn persistence(
    config: &Config,
    facts: &Facts,
    rules: &Rules,
    sysctls: &BTreeMap<SysctlKey, Setting>,
) -> Persistence {
    match choose(config.nat.persist, rules.rendering.kind, &facts.boot) {
        Ok((Some(kind), why)) => lay_out(kind, why, rules, sysctls, &facts.boot),
        Ok((None, why)) => Persistence { why, ..Persistence::default() },
        Err(error) => {
            Persistence { why: error.to_string(), problem: Some(error), ..Persistence::default() }
        }
    }
}

/// Whether a route in that table that targets us would take our own translated packets back to us.
fn loops(instance: &Instance, egress: &InterfaceFacts, table: &TableFacts) -> bool {
    let own = table.subnets.contains(&egress.subnet);
    let has_public = egress.addresses.iter().any(|address| address.public.known().is_some());
    match instance.own_subnet {
        OwnSubnet::Loops => own,
        OwnSubnet::PublicAddressOutranks => own && !has_public,
        OwnSubnet::HostsDecide => false,
    }
}

fn loop_refused(instance: &Instance, egress: &InterfaceFacts, table: &TableFacts) -> Error {
    let advice = match instance.own_subnet {
        OwnSubnet::Loops | OwnSubnet::HostsDecide => {
            "give the private hosts a subnet and a route table of their own"
        }
        OwnSubnet::PublicAddressOutranks => {
            "give the egress interface a public address, or the private hosts a subnet of their own"
        }
    };
    Error::new(
        Kind::Conflict,
        format!("take the routes of {}", table.id),
        format!(
            "it serves {}, the subnet of the egress interface {}: translated packets would come back to this machine for ever",
            egress.subnet, egress.id
        ),
    )
    .with_advice(advice)
}
