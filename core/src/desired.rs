//! What should be: a pure function from the configuration and the facts of cloud and host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

use crate::{
    advise::{Warning, advise},
    cloud::{Instance, InterfaceFacts, OwnSubnet, TableFacts, TableSelector},
    config::{Config, ConntrackMax, InterfaceChoice, Mode, NetworkSpec, Takeover},
    error::{Error, Kind, Result},
    facts::{CloudFacts, Facts},
    host::SysctlKey,
    model::{InterfaceId, InterfaceName, RouteKey},
    network::{Link, Network},
    persist::{Persistence, choose, lay_out},
    ruleset::{Rendering, Ruleset, Translation},
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
    /// The egress interface's own address: what masquerading gives.
    pub egress_address: Ipv4Addr,
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
    let mut desired = Desired::default();

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
    let ruleset = ruleset(config, facts, egress, egress_address, served.keys().cloned().collect())?;
    desired.sysctls = sysctls(config, served.keys());
    desired.unchecked = served.values().flatten().map(|port| port.id.clone()).collect();
    let targets = desired.routes.values().map(|wish| &wish.target).collect();
    desired.warnings = advise(config, facts, egress, &ruleset, &targets);
    if facts.cloud.is_some() && !desired.wants_routes {
        desired.warnings.push(Warning::no_tables());
    }
    let rules = Rules { rendering: ruleset.render(facts.firewall), ruleset, egress_address };
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

/// The link that translated packets leave by.
fn egress_link<'a>(config: &Config, network: &'a Network) -> Result<&'a Link> {
    if let InterfaceChoice::Named(name) = &config.nat.interface {
        return named(network, name, "nat.interface");
    }
    let default = network.routes.get(&IpNet::V4(Ipv4Net::default())).ok_or_else(|| {
        Error::new(Kind::Invalid, "find the egress interface", "this host has no default route")
            .with_advice("add one, or name the interface in nat.interface")
    })?;
    named(network, default, "nat.interface")
}

fn named<'a>(network: &'a Network, name: &InterfaceName, key: &str) -> Result<&'a Link> {
    network.link(name).ok_or_else(|| {
        let names: Vec<&str> = network.links.iter().map(|link| link.name.as_str()).collect();
        Error::new(Kind::Invalid, format!("use the interface {name}"), "this host doesn't have it")
            .with_advice(format!("{key} can be one of: {}", names.join(", ")))
    })
}

fn port_of<'a>(cloud: &'a CloudFacts, link: &Link) -> Result<&'a InterfaceFacts> {
    cloud.port_of(link.mac).ok_or_else(|| {
        let ports: Vec<String> =
            cloud.interfaces.iter().map(|port| format!("{} ({})", port.id, port.mac)).collect();
        let mac = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        Error::new(
            Kind::Invalid,
            format!("find the cloud's side of {}", link.name),
            format!(
                "its Ethernet address ({mac}) is none of {}: {}",
                cloud.instance.id,
                ports.join(", ")
            ),
        )
        .with_advice("name the right interface in nat.interface and routes.interface")
    })
}

/// The egress interface's own address: the first that the cloud knows too, else the first.
fn own_address(link: &Link, port: Option<&InterfaceFacts>) -> Result<Ipv4Addr> {
    let own = || {
        link.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    };
    let known = |address: &Ipv4Addr| {
        port.is_some_and(|port| {
            port.addresses.iter().any(|known| known.private == IpAddr::V4(*address))
        })
    };
    own().find(known).or_else(|| own().next()).ok_or_else(|| {
        Error::new(
            Kind::Invalid,
            format!("translate to an address of {}", link.name),
            "it has no IPv4 address",
        )
    })
}

/// Whether a route in that table that targets us would take our own translated packets back to us.
fn loops(instance: &Instance, egress: &InterfaceFacts, table: &TableFacts) -> bool {
    let own = table.subnets.contains(&egress.subnet);
    let has_public = egress.addresses.iter().any(|address| address.public.is_some());
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

fn ruleset(
    config: &Config,
    facts: &Facts,
    egress: &Link,
    own_address: Ipv4Addr,
    ingress: BTreeSet<InterfaceName>,
) -> Result<Ruleset> {
    let translation = match (config.nat.mode, config.nat.addresses.first()) {
        (Mode::Masquerade, _) => Translation::Masquerade,
        (Mode::Snat, None) => Translation::Snat(own_address),
        (Mode::Snat, Some(&address)) => {
            if !egress.addresses.iter().any(|net| net.addr() == IpAddr::V4(address)) {
                let have: Vec<String> = egress
                    .addresses
                    .iter()
                    .map(IpNet::addr)
                    .filter(IpAddr::is_ipv4)
                    .map(|own| own.to_string())
                    .collect();
                return Err(Error::new(
                    Kind::Invalid,
                    format!("translate to {address}"),
                    format!(
                        "{} doesn't have that address; it has {}",
                        egress.name,
                        have.join(", ")
                    ),
                )
                .with_advice(
                    "correct nat.addresses, or leave it out for the primary private address",
                ));
            }
            Translation::Snat(address)
        }
    };
    Ok(Ruleset {
        egress: egress.name.clone(),
        ingress,
        sources: networks("nat.sources", &config.nat.sources, facts)?,
        exclude: networks("nat.exclude", &config.nat.exclude, facts)?,
        translation,
        random_fully: config.nat.random_fully,
    })
}

/// CIDRs and `"vpc"` as disjoint blocks.
fn networks(key: &str, specs: &[NetworkSpec], facts: &Facts) -> Result<BTreeSet<Ipv4Net>> {
    let mut nets = Vec::new();
    for spec in specs {
        match (spec, &facts.cloud) {
            (NetworkSpec::Net(IpNet::V4(net)), _) => nets.push(*net),
            (NetworkSpec::Net(IpNet::V6(_)), _) => {}
            (NetworkSpec::Vpc, Some(cloud)) => {
                nets.extend(cloud.instance.network_cidrs.iter().filter_map(|net| match net {
                    IpNet::V4(net) => Some(*net),
                    IpNet::V6(_) => None,
                }));
            }
            // The default of `exclude` goes with any provider.
            (NetworkSpec::Vpc, None) if key == "nat.exclude" => {}
            (NetworkSpec::Vpc, None) => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!("expand \"vpc\" in {key}"),
                    "there is no cloud to ask with provider = \"none\"",
                )
                .with_advice(format!("write CIDRs in {key}")));
            }
        }
    }
    if nets.is_empty() && key == "nat.sources" {
        return Err(Error::new(
            Kind::Invalid,
            format!("expand {key}"),
            "the cloud names no IPv4 address block of this network",
        )
        .with_advice(format!("write CIDRs in {key}")));
    }
    Ok(Ipv4Net::aggregate(&nets).into_iter().collect())
}

/// Forwarding on the interfaces that natd serves and on no other; no redirects; loose reverse-path
/// filtering. Kernel documentation, `networking/ip-sysctl`: `forwarding` is per input interface,
/// `send_redirects` is on if it is for `all` or for the interface, `rp_filter` is the maximum of both.
fn sysctls<'a>(
    config: &Config,
    served: impl Iterator<Item = &'a InterfaceName>,
) -> BTreeMap<SysctlKey, Setting> {
    let setting = |value: &str, weight| Setting { value: value.to_owned(), weight };
    let mut sysctls = BTreeMap::from([(
        SysctlKey::global("net/ipv4/conf/all/send_redirects"),
        setting("0", Weight::Improves),
    )]);
    for interface in served {
        sysctls.extend([
            (SysctlKey::ipv4(interface, "forwarding"), setting("1", Weight::Carries)),
            (SysctlKey::ipv4(interface, "send_redirects"), setting("0", Weight::Improves)),
            (SysctlKey::ipv4(interface, "rp_filter"), setting("2", Weight::Improves)),
        ]);
    }
    if let Some(ConntrackMax::Entries(entries)) = config.conntrack.max {
        sysctls.insert(
            SysctlKey::global("net/netfilter/nf_conntrack_max"),
            setting(&entries.to_string(), Weight::Optional),
        );
    }
    sysctls
}
