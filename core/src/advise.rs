//! What stands in the way of packets and isn't natd's to change: warnings, as a pure function.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    cloud::{InterfaceFacts, OwnSubnet, PublicAddress},
    config::Config,
    error::Kind,
    facts::{CloudFacts, Facts},
    journal::Journal,
    model::{InterfaceId, NextHop, Route, RouteState},
    network::Link,
    observed::Observed,
    plan::EditedFile,
    ruleset::{Cost, Ruleset, Translation},
};

/// Something that an operator should know. Nothing is done about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// A stable name for programs: `no-public-address`.
    pub code: &'static str,
    /// What it is, what follows, and what to do.
    pub message: String,
}

impl Warning {
    /// Somebody has edited what natd wrote.
    pub(crate) fn edited(EditedFile { path, diff }: &EditedFile) -> Self {
        Self {
            code: "edited",
            message: format!(
                "somebody has edited natd's part of {path}, and natd leaves it as it is; natd apply --force replaces it:\n    {}",
                diff.join("\n    ")
            ),
        }
    }

    /// Nothing brings this machine anything to translate.
    pub(crate) fn no_tables() -> Self {
        Self {
            code: "no-tables",
            message: "no route tables are configured: natd translates, and no route brings it anything to translate; see routes.tables".to_owned(),
        }
    }
}

impl Warning {
    /// The back end holds many blocks as rules.
    pub(crate) fn many_rules(blocks: usize, cost: Cost) -> Self {
        Self {
            code: "many-rules",
            message: format!(
                "iptables holds these {blocks} blocks as {cost}: loading them takes seconds, each look at them some megabytes, and a new connection passes dozens of rules; install ipset, or set nat.firewall = \"nftables\", and it is one look-up"
            ),
        }
    }
}

/// Routes that lead to this machine and that the journal doesn't know: somebody else made them, or
/// the journal is lost. They are not natd's to give back, and after `natd down` nothing carries what
/// they bring.
#[must_use]
pub fn stranded(observed: &Observed, journal: &Journal) -> Vec<Warning> {
    let leads_here =
        |hop: &NextHop| observed.checks.keys().any(|own| *hop == NextHop::Interface(own.clone()));
    observed
        .routes
        .iter()
        .filter(|(key, route)| leads_here(&route.next_hop) && !journal.routes.contains_key(key))
        .map(|(key, _)| Warning {
            code: "stranded-route",
            message: format!(
                "{key} leads here, and the journal has no earlier target for it: natd leaves it, and its hosts have no way out by this machine any more"
            ),
        })
        .collect()
}

/// Everything worth a warning, in the order of a packet's way: in, out, back.
pub(crate) fn advise(
    config: &Config,
    facts: &Facts,
    egress: &Link,
    ruleset: &Ruleset,
    targets: &BTreeSet<&InterfaceId>,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code, message: String| warnings.push(Warning { code, message });

    if let Some(cloud) = &facts.cloud {
        for port in cloud.interfaces.iter().filter(|port| targets.contains(&port.id)) {
            match &port.security {
                Ok(rules) if !rules.inbound_by_reference => {
                    let shut_out: Vec<String> = ruleset
                        .sources
                        .iter()
                        .filter(|source| !rules.inbound.iter().any(|net| overlaps(*net, *source)))
                        .map(|source| source.to_string())
                        .collect();
                    if !shut_out.is_empty() {
                        warn(
                            "security-group-in",
                            format!(
                                "the security groups of {} let {} in by no port: allow the private hosts' traffic there",
                                port.id,
                                some_of(&shut_out)
                            ),
                        );
                    }
                }
                Ok(_) => {}
                // A provider that never reads them says so in its documentation, once and for all.
                Err(error) if error.kind() == Kind::Unsupported => {}
                Err(error) => warn(
                    "security-groups-unread",
                    format!("security groups are not judged: {error}"),
                ),
            }
        }
        if let Some(port) = cloud.port_of(egress.mac) {
            if port.security.as_ref().is_ok_and(|rules| !rules.outbound) {
                warn(
                    "security-group-out",
                    format!(
                        "the security groups of {} let nothing out: allow traffic to the internet there",
                        port.id
                    ),
                );
            }
            let translated: Vec<IpAddr> = match &ruleset.translation {
                Translation::Snat(pool) => {
                    pool.addresses().iter().copied().map(IpAddr::V4).collect()
                }
                Translation::Masquerade => {
                    port.addresses.first().map(|address| address.private).into_iter().collect()
                }
            };
            let public = |private: &IpAddr| {
                let known = port.addresses.iter().find(|address| address.private == *private);
                known.map_or(PublicAddress::Absent, |address| address.public)
            };
            let private: Vec<String> = translated
                .iter()
                .filter(|address| is_private(**address) && public(address) == PublicAddress::Absent)
                .map(ToString::to_string)
                .collect();
            if !private.is_empty() || translated.is_empty() {
                let addresses = match private.as_slice() {
                    [] => String::new(),
                    private => format!(" ({})", some_of(private)),
                };
                warn(
                    "no-public-address",
                    format!(
                        "the egress interface {}{addresses} has no public address: nothing comes back from the internet until it has one",
                        port.id
                    ),
                );
            }
            if is_without_way_out(cloud, port) {
                warn(
                    "no-internet-route",
                    format!(
                        "the route table of {}, the egress interface's subnet, has no route to an internet gateway: packets would leave and nothing would come back",
                        port.subnet
                    ),
                );
            }
        }
    }
    if config.verify.targets.is_empty() {
        warn("unproven", "verify.targets is empty: that packets get out stays unproven".to_owned());
    }
    warnings
}

/// Whether the table that decides over that port's packets is seen to lead none of them to the internet.
fn is_without_way_out(cloud: &CloudFacts, port: &InterfaceFacts) -> bool {
    // A cloud that doesn't know what the internet sees doesn't know where it begins, either.
    let is_blind = port.addresses.iter().any(|address| address.public == PublicAddress::Unknown);
    let leads_out = |route: &Route| {
        route.state == RouteState::Active
            && match route.next_hop {
                NextHop::InternetGateway(_) => true,
                NextHop::Other { .. } => is_blind && route.destination.prefix_len() == 0,
                NextHop::Interface(_) | NextHop::Local => false,
            }
    };
    // Where a public address outranks the table, no route is needed.
    cloud.instance.own_subnet == OwnSubnet::Loops
        && cloud.table_of(port).is_some_and(|table| !table.routes.iter().any(leads_out))
}

/// The first few, and how many more there are.
fn some_of(all: &[String]) -> String {
    const FEW: usize = 5;
    let shown: Vec<&str> = all.iter().take(FEW).map(String::as_str).collect();
    match all.len().checked_sub(FEW) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Not to be seen on the internet as it is: RFC 1918, shared with a carrier (RFC 6598), link-local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || address.is_link_local() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

fn overlaps(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}
