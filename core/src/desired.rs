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
    config::{self, Config, ConntrackMax, InterfaceChoice, Mode, NetworkSpec, Takeover},
    conntrack::{TableSize, size_for},
    error::{Error, Kind, Result},
    facts::{CloudFacts, Facts},
    host::SysctlKey,
    model::{InterfaceId, InterfaceName, RouteKey},
    network::{Link, Network},
    networks::Networks,
    persist::{Persistence, choose, lay_out},
    ruleset::{
        Cost, Family, FirewallKind, Forward, Pool, Protocol, Rendering, Ruleset, Translation,
    },
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
    /// The egress interface's own address.
    pub egress_address: Ipv4Addr,
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
    /// It is set only if this is what it is; whatever else it is stays.
    pub only_from: Option<String>,
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
    let front = Front { link: egress, port: egress_port, own_address: egress_address };
    let ruleset = ruleset(config, facts, &front, served.keys().cloned().collect(), &mut desired)?;
    desired.sysctls = sysctls(config, facts, &ruleset);
    desired.unchecked = served.values().flatten().map(|port| port.id.clone()).collect();
    let targets = desired.routes.values().map(|wish| &wish.target).collect();
    desired.warnings = advise(config, facts, egress, &ruleset, &targets);
    if facts.cloud.is_some() && !desired.wants_routes {
        desired.warnings.push(Warning::no_tables());
    }
    let rendering = ruleset.render_with(facts.firewall, facts.blocks);
    desired.warnings.extend(costs(&ruleset, &rendering));
    let chosen = facts.chosen.clone();
    let rules = Rules { ruleset, rendering, egress_address, chosen };
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

/// The side that the internet sees.
struct Front<'a> {
    link: &'a Link,
    port: Option<&'a InterfaceFacts>,
    own_address: Ipv4Addr,
}

impl Front<'_> {
    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.link.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    /// Its own addresses, and the public ones that the cloud translates to them.
    fn front(&self) -> BTreeSet<Ipv4Addr> {
        let public = self.port.into_iter().flat_map(|port| &port.addresses);
        let public = public.filter_map(|address| match address.public {
            Some(IpAddr::V4(public)) => Some(public),
            _ => None,
        });
        self.addresses().chain(public).collect()
    }
}

fn ruleset(
    config: &Config,
    facts: &Facts,
    front: &Front<'_>,
    ingress: BTreeSet<InterfaceName>,
    desired: &mut Desired,
) -> Result<Ruleset> {
    let sources = networks("nat.sources", &config.nat.sources, facts)?;
    let exclude = networks("nat.exclude", &config.nat.exclude, facts)?;
    if sources.iter().any(|net| net.addr().is_ipv4()) && exclude.is_all_v4() {
        return Err(Error::new(
            Kind::Invalid,
            "leave nat.exclude untranslated",
            "with the network's own blocks it covers every destination: nothing would be translated",
        )
        .with_advice("name fewer blocks in nat.exclude"));
    }
    let forwards = forwards(config, facts, &sources, desired)?;
    let families = [Family::V4, Family::V6].into_iter();
    Ok(Ruleset {
        egress: front.link.name.clone(),
        ingress,
        translation: translation(config, front)?,
        random_fully: config.nat.random_fully,
        front: if forwards.is_empty() { BTreeSet::new() } else { front.front() },
        forwards,
        clamp_mss: config.nat.clamp_mss,
        shut: families
            .filter(|family| !facts.forwards.contains(family) && family.is_in(&sources))
            .collect(),
        sources,
        exclude,
    })
}

fn translation(config: &Config, front: &Front<'_>) -> Result<Translation> {
    let (first, others) = match (config.nat.mode, config.nat.addresses.split_first()) {
        (Mode::Masquerade, _) => return Ok(Translation::Masquerade),
        (Mode::Snat, None) => return Ok(Translation::to(front.own_address)),
        (Mode::Snat, Some(addresses)) => addresses,
    };
    let have: BTreeSet<Ipv4Addr> = front.addresses().collect();
    let list = |addresses: Vec<&Ipv4Addr>| {
        let addresses: Vec<String> = addresses.into_iter().map(ToString::to_string).collect();
        addresses.join(", ")
    };
    let lacking: Vec<&Ipv4Addr> =
        config.nat.addresses.iter().filter(|address| !have.contains(address)).collect();
    if lacking.is_empty() {
        return Ok(Translation::Snat(Pool::new(*first, others.iter().copied())));
    }
    let that = if lacking.len() == 1 { "that address" } else { "those addresses" };
    let name = &front.link.name;
    Err(Error::new(
        Kind::Invalid,
        format!("translate to {}", list(lacking)),
        format!("{name} doesn't have {that}; it has {}", list(front.addresses().collect::<Vec<_>>().iter().collect())),
    )
    .with_advice(format!(
        "correct nat.addresses, or add the address (ip address add ADDRESS/PREFIX dev {name}); without nat.addresses natd takes the primary private address"
    )))
}

/// The forwarded ports. One at which a program of this host listens is left out and refused: who
/// comes to that program must not end up elsewhere.
fn forwards(
    config: &Config,
    facts: &Facts,
    sources: &Networks,
    desired: &mut Desired,
) -> Result<Vec<Forward>> {
    let mut forwards = Vec::new();
    for forward in &config.nat.forward {
        let config::Forward { protocol, port, to, from } = forward;
        let doing = format!("forward {protocol} {port} to {}", String::from(*to));
        if !sources.contains(IpAddr::V4(to.address)) {
            return Err(Error::new(
                Kind::Invalid,
                doing,
                format!("{} is none of nat.sources", to.address),
            )
            .with_advice("forward to a private host that natd serves, or add it to nat.sources"));
        }
        let taken = facts.listening.iter().find(|taken| port.contains(**taken));
        if let (Protocol::Tcp, Some(taken)) = (protocol, taken) {
            desired.refusals.push(
                Error::new(
                    Kind::Conflict,
                    doing,
                    format!("a program of this host listens on port {taken}"),
                )
                .with_advice(format!(
                    "choose another port, or end that program (ss -ltnp 'sport = {taken}')"
                )),
            );
            continue;
        }
        let to_ports =
            to.port.map_or(Some(*port), |first| port.moved_to(first)).ok_or_else(|| {
                Error::new(Kind::Invalid, doing, "there are not as many ports from there on")
            })?;
        let from: Networks = from.iter().copied().collect();
        forwards.push(Forward {
            protocol: *protocol,
            ports: *port,
            to: to.address,
            to_ports,
            from: (!from.is_empty() && !from.is_all_v4()).then_some(from),
        });
    }
    Ok(forwards)
}

/// CIDRs and `"vpc"` as disjoint blocks.
fn networks(key: &str, specs: &[NetworkSpec], facts: &Facts) -> Result<Networks> {
    let mut nets = Vec::new();
    let is_exclude = key == "nat.exclude";
    for spec in specs {
        match (spec, &facts.cloud) {
            (NetworkSpec::Net(net), _) => nets.push(*net),
            // A network's IPv6 addresses are public: nobody has to translate them.
            (NetworkSpec::Vpc, Some(cloud)) => nets.extend(
                cloud
                    .instance
                    .network_cidrs
                    .iter()
                    .filter(|net| is_exclude || net.addr().is_ipv4()),
            ),
            // The default of `exclude` goes with any provider.
            (NetworkSpec::Vpc, None) if is_exclude => {}
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
    Ok(nets.into_iter().collect())
}

/// As many rules cost a back end little.
const MANY_RULES: usize = 2000;

/// What many blocks cost where they are not in a set.
fn costs(ruleset: &Ruleset, rendering: &Rendering) -> Option<Warning> {
    let cost = Cost::of(rendering);
    if rendering.kind != FirewallKind::Iptables || cost.rules < MANY_RULES {
        return None;
    }
    Some(Warning::many_rules(ruleset.sources.len() + ruleset.exclude.len(), cost))
}

/// The size of the table of connections, and how long they are kept.
fn conntrack(config: &Config, memory: Option<u64>) -> impl Iterator<Item = (SysctlKey, Setting)> {
    let table = |name: &str, value: u32| {
        (SysctlKey::global(&format!("net/netfilter/nf_conntrack_{name}")), value.to_string())
    };
    let size = match (config.conntrack.max, memory) {
        (Some(ConntrackMax::Entries(entries)), _) => vec![table("max", entries)],
        (Some(ConntrackMax::Auto), Some(memory)) => {
            let TableSize { connections, buckets } = size_for(memory);
            vec![table("buckets", buckets), table("max", connections)]
        }
        (Some(ConntrackMax::Auto) | None, _) => Vec::new(),
    };
    let timeouts = config.conntrack.timeouts.iter();
    let timeouts = timeouts.map(|(timeout, time)| (timeout.key(), time.0.as_secs().to_string()));
    // The table's size is the whole kernel's: a container or a namespace can't write it.
    size.into_iter()
        .chain(timeouts)
        .map(|(key, value)| (key, Setting { value, weight: Weight::Optional, only_from: None }))
}

/// Forwarding on the interfaces that natd serves and on no other; no redirects; loose reverse-path
/// filtering. Kernel documentation, `networking/ip-sysctl`: `forwarding` is per input interface,
/// `send_redirects` is on if it is for `all` or for the interface, `rp_filter` is the maximum of both.
fn sysctls(config: &Config, facts: &Facts, ruleset: &Ruleset) -> BTreeMap<SysctlKey, Setting> {
    let setting =
        |value: &str, weight| Setting { value: value.to_owned(), weight, only_from: None };
    let mut sysctls = BTreeMap::from([(
        SysctlKey::global("net/ipv4/conf/all/send_redirects"),
        setting("0", Weight::Improves),
    )]);
    for interface in &ruleset.ingress {
        sysctls.extend([
            (SysctlKey::ipv4(interface, "forwarding"), setting("1", Weight::Carries)),
            (SysctlKey::ipv4(interface, "send_redirects"), setting("0", Weight::Improves)),
            (SysctlKey::ipv4(interface, "rp_filter"), setting("2", Weight::Improves)),
        ]);
    }
    if Family::V6.is_in(&ruleset.sources) {
        sysctls.extend(ipv6_sysctls(facts, ruleset));
    }
    sysctls.extend(conntrack(config, facts.memory));
    sysctls
}

/// Before Linux 6.17 IPv6 is forwarded by all interfaces or by none, and one that forwards takes no
/// router advertisements, unless its `accept_ra` is 2. Where it is 0, something else (networkd)
/// looks after them.
fn ipv6_sysctls(facts: &Facts, ruleset: &Ruleset) -> Vec<(SysctlKey, Setting)> {
    let setting = |value: &str, weight, only_from: Option<&str>| Setting {
        value: value.to_owned(),
        weight,
        only_from: only_from.map(str::to_owned),
    };
    if facts.forwards.contains(&Family::V6) {
        return Vec::new();
    }
    if facts.forwards_ipv6_by_interface {
        let forced = |interface| {
            (SysctlKey::ipv6(interface, "force_forwarding"), setting("1", Weight::Carries, None))
        };
        return ruleset.ingress.iter().map(forced).collect();
    }
    let links = facts.network.links.iter().filter(|link| link.mac.is_some());
    let advertised = links.map(|link| {
        (SysctlKey::ipv6(&link.name, "accept_ra"), setting("2", Weight::Improves, Some("1")))
    });
    let global = SysctlKey::global("net/ipv6/conf/all/forwarding");
    advertised.chain([(global, setting("1", Weight::Carries, None))]).collect()
}
