//! The rules that should be: sources, translation, forwarded ports.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use super::Desired;
use crate::{
    advise::Warning,
    cloud::InterfaceFacts,
    config::{self, Config, Mode, NetworkSpec},
    error::{Error, Kind, Result},
    facts::Facts,
    model::InterfaceName,
    network::Link,
    networks::Networks,
    ruleset::{
        Cost, Family, FirewallKind, Forward, Pool, Protocol, Rendering, Ruleset, Translation,
    },
};

/// The side that the internet sees.
pub(super) struct Front<'a> {
    pub(super) link: &'a Link,
    pub(super) port: Option<&'a InterfaceFacts>,
    pub(super) own_address: Ipv4Addr,
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
        let public = public.filter_map(|address| match address.public.known() {
            Some(IpAddr::V4(public)) => Some(public),
            _ => None,
        });
        self.addresses().chain(public).collect()
    }
}

pub(super) fn ruleset(
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
pub(super) fn costs(ruleset: &Ruleset, rendering: &Rendering) -> Option<Warning> {
    let cost = Cost::of(rendering);
    if rendering.kind != FirewallKind::Iptables || cost.rules < MANY_RULES {
        return None;
    }
    Some(Warning::many_rules(ruleset.sources.len() + ruleset.exclude.len(), cost))
}
