//! What stands in the way of packets and isn't natd's to change: warnings, as a pure function.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    cloud::{InterfaceFacts, OwnSubnet, PublicAddress},
    config::Config,
    desired::Desired,
    error::Kind,
    facts::{CloudFacts, Facts},
    journal::Journal,
    model::{InterfaceId, NextHop, Route, RouteKey, RouteState},
    neighbours::{Obstacle, Passage, advice},
    network::Link,
    observed::Observed,
    persist::{Form, HostPath},
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

    /// What others have in a file that is read at boot is not all there.
    pub(crate) fn unended(path: &HostPath, section: &str) -> Self {
        Self {
            code: "cut-off",
            message: format!(
                "{path} ends within {section}, before its COMMIT: nothing of it will be loaded at boot, and natd doesn't complete what others wrote; save the rules anew, or bring the file back from a backup"
            ),
        }
    }

    /// Somebody else takes a route that natd holds.
    #[must_use]
    pub fn contested(key: &RouteKey) -> Self {
        Self {
            code: "contested-route",
            message: format!(
                "somebody points {key} elsewhere again and again, as another natd would: let one of them alone have it; after the next time natd leaves it to them"
            ),
        }
    }

    /// What [`Warning::in_the_way`] is called.
    pub const IN_THE_WAY: &str = "in-the-way";

    /// Another firewall of this host drops what it isn't told to let through.
    pub(crate) fn in_the_way(obstacle: &Obstacle, passage: &Passage) -> Self {
        let advice = advice(obstacle, passage).map(|advice| format!("; {advice}"));
        Self {
            code: Self::IN_THE_WAY,
            message: format!(
                "{} drops whatever no rule there lets through, so natd's traffic, too, if none does{}",
                obstacle.rule,
                advice.unwrap_or_default()
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

/// What natd may have changed, and what was there before is not known any more, since the journal
/// that knew it is gone or could not be used. It is never guessed: it stays as it is.
///
/// `wanted` is what natd would have here, and `observed` holds what there is of that.
#[must_use]
pub fn forgotten(wanted: &Desired, observed: &Observed, journal: &Journal) -> Vec<Warning> {
    // Rules of natd's in the kernel are always in its journal first, but for a full disk.
    let has_unknown_rules = observed.rules.keys().any(|kind| !journal.firewalls.contains(kind));
    if journal.predecessor.is_none() && !has_unknown_rules {
        return Vec::new();
    }
    let sysctls = wanted
        .sysctls
        .iter()
        .filter(|(key, setting)| observed.sysctls.get(key) == Some(&setting.value))
        .filter(|(key, _)| !journal.sysctls.contains_key(key))
        .map(|(key, setting)| format!("{key} = {}", setting.value));
    let checks = wanted
        .unchecked
        .iter()
        .filter(|id| observed.checks.get(id) == Some(&false) && !journal.checks.contains_key(id))
        .map(|id| format!("the source/destination check of {id} (off)"));
    let services = wanted
        .persistence
        .services
        .iter()
        .filter(|service| observed.services.get(service) == Some(&true))
        .filter(|service| !journal.services.contains(service))
        .map(|service| format!("the start of {service} at boot"));
    let modes = observed
        .files
        .iter()
        .filter(|(path, seen)| {
            let is_shared = seen.form != Form::Whole && seen.own.is_some();
            is_shared
                && seen.mode.is_some_and(|mode| mode & 0o111 != 0)
                && !journal.files.contains_key(path)
        })
        .map(|(path, _)| format!("the run bits of {path}"));
    let all: Vec<String> = sysctls.chain(checks).chain(services).chain(modes).collect();
    if all.is_empty() {
        return Vec::new();
    }
    let kept = match &journal.predecessor {
        Some(path) => {
            format!("the journal that knew it could not be used and is {}", path.display())
        }
        None => "there is no journal that knows it".to_owned(),
    };
    vec![Warning {
        code: "not-remembered",
        message: format!(
            "natd can't tell what was there before it, and leaves as they are: {}; {kept}: set them as you want them",
            all.join(", ")
        ),
    }]
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
