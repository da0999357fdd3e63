//! What there is: the cloud's lists, and the host's rules and kernel parameters.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::join;
use natd_core::{
    cloud::{Interface, InterfaceFacts, Provider, RouteTable, SourceDestCheck, TableSelector},
    config::Config,
    desired::Desired,
    error::{Kind, Result},
    facts::{CloudFacts, Facts},
    host::{Depth, Host, SysctlKey},
    journal::Journal,
    model::{InterfaceId, NextHop, Route, RouteKey, RouteOrigin, RouteState, RouteTableId},
    neighbours::Neighbour,
    network::Network,
    observed::Observed,
    persist::places,
    ruleset::FirewallKind,
    step::Step,
};

use crate::{firewall::Choice, forwarding, neighbours::obstacles};

/// What the cloud listed.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) facts: CloudFacts,
    pub(crate) interfaces: BTreeMap<InterfaceId, Arc<dyn Interface>>,
    pub(crate) tables: BTreeMap<RouteTableId, Arc<dyn RouteTable>>,
}

impl Listed {
    /// Notes a step that was done and seen to be done, for the time until the cloud is asked again.
    /// What a route was given back to only the cloud knows.
    pub(crate) fn note(&mut self, step: &Step) {
        match step {
            Step::SwitchCheckOff { interface, .. } => {
                self.set_check(interface, &SourceDestCheck::Off);
            }
            Step::SwitchCheckOn { interface, earlier } => {
                let on = SourceDestCheck::On { overwrites: earlier.clone() };
                self.set_check(interface, &on);
            }
            Step::TakeRoute { key, target, .. } => self.set_route(key, target),
            _ => {}
        }
    }

    fn set_check(&mut self, id: &InterfaceId, check: &SourceDestCheck) {
        for port in self.facts.interfaces.iter_mut().filter(|port| port.id == *id) {
            port.source_dest_check.clone_from(check);
        }
    }

    fn set_route(&mut self, key: &RouteKey, target: &InterfaceId) {
        for table in self.facts.tables.iter_mut().filter(|table| table.id == key.table) {
            table.routes.retain(|route| route.destination != key.destination);
            table.routes.push(Route {
                destination: key.destination,
                next_hop: NextHop::Interface(target.clone()),
                state: RouteState::Active,
                origin: RouteOrigin::Static,
            });
        }
    }
}

/// Asks the cloud for the tables that are wanted, and for those besides in which there is
/// something to give back.
///
/// The instance comes first, since only it knows which subnets are its own; then interfaces and
/// tables side by side.
pub(crate) async fn ask(
    provider: &dyn Provider,
    wanted: &TableSelector,
    touched: &BTreeSet<RouteTableId>,
) -> Result<Listed> {
    let instance = provider.instance().await?;
    let own = TableSelector { subnets: instance.subnets.clone(), ..TableSelector::default() };
    let asked = own.union(wanted);
    let (interfaces, tables) = join!(provider.interfaces(), provider.route_tables(&asked));
    let (interfaces, mut tables) = (interfaces?, tables?);
    if !tables.missing.is_empty() && !instance.subnets.is_subset(&wanted.subnets) {
        // The own subnets are asked for to judge loops. That no table serves one of them is a
        // problem only for who wants it served.
        tables.missing = provider.route_tables(wanted).await?.missing;
    }
    let seen: BTreeSet<_> = tables.found.iter().map(|table| table.facts().id.clone()).collect();
    let ids = touched
        .iter()
        .filter(|id| !seen.contains(id) && !wanted.ids.contains(id))
        .cloned()
        .collect();
    let besides = TableSelector { ids, ..TableSelector::default() };
    if besides != TableSelector::default() {
        // Of these nobody has asked for, so one that is gone is no problem.
        tables.found.extend(provider.route_tables(&besides).await?.found);
    }
    Ok(Listed {
        facts: CloudFacts {
            instance,
            interfaces: interfaces.iter().map(|interface| interface.facts().clone()).collect(),
            tables: tables.found.iter().map(|table| table.facts().clone()).collect(),
            missing: tables.missing,
        },
        interfaces: interfaces
            .into_iter()
            .map(|interface| (interface.facts().id.clone(), interface))
            .collect(),
        tables: tables.found.into_iter().map(|table| (table.facts().id.clone(), table)).collect(),
    })
}

/// What natd knows of this host, beside what the cloud listed.
pub(crate) async fn facts(
    host: &Host,
    config: &Config,
    firewall: &Choice,
    network: Network,
    listed: Option<&Listed>,
    journal: &Journal,
) -> Result<Facts> {
    let forwarding = forwarding::look(host, &network, journal)?;
    Ok(Facts {
        network,
        firewall: firewall.kind,
        blocks: firewall.blocks,
        chosen: firewall.reason.clone(),
        forwards: forwarding.for_others,
        forwards_ipv6_by_interface: forwarding.ipv6_by_interface,
        advertised: forwarding.advertised,
        listening: if config.nat.forward.is_empty() {
            BTreeSet::new()
        } else {
            host.links.listening().await?
        },
        neighbours: neighbours(host).await,
        obstacles: obstacles().await,
        memory: memory(),
        boot: host.boot.facts(),
        cloud: listed.map(|listed| listed.facts.clone()),
    })
}

/// What is, as far as a plan towards `desired` needs it: natd's rules in the back ends `kinds`,
/// read back so deep, kernel parameters, and what the cloud listed.
pub(crate) async fn observe(
    host: &Host,
    desired: &Desired,
    journal: &Journal,
    listed: Option<&Listed>,
    kinds: &BTreeSet<FirewallKind>,
    depth: Depth,
) -> Result<Observed> {
    let mut observed = Observed::default();
    for kind in kinds {
        let Some(firewall) = host.firewalls.get(kind) else { continue };
        let is_wanted = desired.rules.as_ref().is_some_and(|rules| rules.rendering.kind == *kind);
        match firewall.loaded(depth).await {
            Ok(Some(loaded)) => drop(observed.rules.insert(*kind, loaded)),
            Ok(None) => {}
            // A back end that isn't installed and that natd never used holds no rules of natd's.
            Err(error)
                if error.kind() == Kind::NotFound
                    && !is_wanted
                    && !journal.firewalls.contains(kind) => {}
            Err(error) => return Err(error),
        }
    }
    for (who, neighbour) in &host.neighbours {
        match neighbour.passage(desired.passages.get(who)).await {
            Ok(Some(passage)) => drop(observed.passages.insert(*who, passage)),
            Ok(None) => {}
            // To open it will tell why, and keeps nothing else from being done.
            Err(error) => tracing::debug!(%error, "not looked at"),
        }
    }
    for (path, form) in places() {
        let seen = host.boot.look(&path, form);
        let is_wanted = desired.persistence.files.contains_key(&path);
        match seen {
            Ok(seen) if is_wanted || seen.own.is_some() => {
                observed.files.insert(path, seen);
            }
            Ok(_) => {}
            // To write it will tell why, and keeps nothing else from being done.
            Err(error) => tracing::debug!(%error, "not looked at"),
        }
    }
    for service in desired.persistence.services.iter().chain(&journal.services) {
        observed.services.insert(service.clone(), host.boot.is_enabled(service));
    }
    let global = SysctlKey::global("net/ipv4/ip_forward");
    for key in desired.sysctls.keys().chain(journal.sysctls.keys()).chain([&global]) {
        if let Some(value) = host.sysctl.read(key)? {
            observed.sysctls.insert(key.clone(), value);
        }
    }
    if let Some(Listed { facts, .. }) = listed {
        let check = |port: &InterfaceFacts| (port.id.clone(), port.source_dest_check.is_on());
        observed.checks = facts.interfaces.iter().map(check).collect();
        let settings = |port: &InterfaceFacts| {
            Some((port.id.clone(), port.source_dest_check.overwrites()?.clone()))
        };
        observed.check_settings = facts.interfaces.iter().filter_map(settings).collect();
        for table in &facts.tables {
            observed.tables.insert(table.id.clone());
            observed.routes.extend(table.routes.iter().map(|route| {
                let key = RouteKey { table: table.id.clone(), destination: route.destination };
                (key, route.clone())
            }));
        }
    }
    Ok(observed)
}

/// The other firewalls that are at work on this host.
async fn neighbours(host: &Host) -> BTreeSet<Neighbour> {
    let mut found = BTreeSet::new();
    for (who, neighbour) in &host.neighbours {
        match neighbour.is_running().await {
            Ok(true) => drop(found.insert(*who)),
            Ok(false) => {}
            // If it drops what natd forwards, the canary tells.
            Err(error) => tracing::debug!(%error, "taken not to run"),
        }
    }
    found
}

/// The machine's memory in bytes (`MemTotal` of `proc_meminfo(5)`, in kibibytes).
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
