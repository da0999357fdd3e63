//! The way from what is to what should be, as a list of steps: a pure function.
//!
//! Guarantees, each held by a property test:
//! - nothing is planned where what is equals what should be;
//! - running the steps on a model reaches what should be;
//! - no step removes what is not ours: a route that somebody has changed since is theirs;
//! - routes are taken last, and given back first.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use crate::{
    advise::Warning,
    config::Takeover,
    desired::{Desired, Weight},
    error::{Error, Kind},
    host::SysctlKey,
    journal::{FileBefore, Journal, WrittenFile},
    model::{InterfaceId, NextHop, RouteKey, RouteOrigin, RouteState},
    observed::Observed,
    persist::{FileSeen, HostPath, Part, Persistence, ServiceName, diff, places},
    ruleset::FirewallKind,
    step::Step,
};

/// Something in the journal that is not ours to give back any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftAlone {
    /// What.
    pub what: Entry,
    /// Why.
    pub why: String,
}

/// Names an entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A route.
    Route(RouteKey),
    /// A source/destination check.
    Check(InterfaceId),
    /// A kernel parameter.
    Sysctl(SysctlKey),
    /// A service that natd had started at boot.
    Service(ServiceName),
    /// natd's own rules.
    Rules(FirewallKind),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(key) => write!(f, "{key}"),
            Self::Check(interface) => write!(f, "the source/destination check of {interface}"),
            Self::Sysctl(key) => write!(f, "{key}"),
            Self::Service(service) => write!(f, "the start of {service} at boot"),
            Self::Rules(kind) => write!(f, "natd's {kind} rules"),
        }
    }
}

/// What to do, and what not to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What is not done because it would do harm.
    pub refusals: Vec<Error>,
    /// What was asked for and can't be done.
    pub problems: Vec<Error>,
    /// What an operator should know.
    pub warnings: Vec<Warning>,
    /// Journal entries that are dropped without giving anything back.
    pub left_alone: Vec<LeftAlone>,
    /// Files whose part of natd's somebody has edited.
    pub edited: Vec<EditedFile>,
    /// Routes that are served, or will be once the steps are done.
    pub served: BTreeSet<RouteKey>,
    /// Nothing of what was asked for can be served: nothing is changed, and nothing is to be proven.
    #[serde(skip)]
    pub stands_still: bool,
}

/// A file whose part of natd's somebody has edited: that work is theirs, and natd goes on with it only
/// by the operator's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EditedFile {
    /// The file.
    pub path: HostPath,
    /// What natd would take away (`-`) and put there (`+`).
    pub diff: Vec<String>,
}

impl Plan {
    /// Leaves out what would overwrite somebody's edits.
    pub fn spare_edited(&mut self) {
        let is_edited = |path: &HostPath| self.edited.iter().any(|edited| edited.path == *path);
        self.steps.retain(|step| match step {
            Step::Persist { path, .. } | Step::Unpersist { path, .. } => !is_edited(path),
            _ => true,
        });
        self.warnings.extend(self.edited.iter().map(Warning::edited));
    }

    /// Whether what is equals what should be, as far as natd will go.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether something that was asked for is not done.
    #[must_use]
    pub fn falls_short(&self) -> bool {
        !self.refusals.is_empty() || !self.problems.is_empty()
    }
}

/// The way from `observed` to `desired`. What the journal says is natd's doing and `desired` no
/// longer wants is given back; so the plan for `Desired::default()` is the way down.
///
/// `contested` routes were lost to live targets too often and are left alone.
#[must_use]
pub fn plan(
    desired: &Desired,
    observed: &Observed,
    journal: &Journal,
    contested: &BTreeSet<RouteKey>,
    targets: &[String],
) -> Plan {
    let mut plan = Plan {
        refusals: desired.refusals.clone(),
        problems: desired.problems.clone(),
        warnings: desired.warnings.clone(),
        ..Plan::default()
    };
    take_routes(&mut plan, desired, observed, contested);
    let serves_nothing = desired.is_cut_off
        || (desired.wants_routes && plan.served.is_empty() && contested.is_empty());
    if serves_nothing && plan.falls_short() {
        plan.steps.clear();
        plan.stands_still = true;
        return plan;
    }
    let takes = plan.steps.iter().any(|step| matches!(step, Step::TakeRoute { .. }));
    if takes && desired.rules.is_some() {
        plan.steps.push(Step::ProveEgress { targets: targets.to_vec() });
    }
    carry(&mut plan, desired, observed, journal);
    passages(&mut plan, desired, observed);
    persist(&mut plan, desired, observed, journal);
    return_routes(&mut plan, desired, observed, journal);
    return_host(&mut plan, desired, observed, journal);
    plan.steps.sort_by_key(Step::phase);
    plan
}

fn take_routes(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    contested: &BTreeSet<RouteKey>,
) {
    for (key, wish) in &desired.routes {
        let found = observed.routes.get(key);
        let is_ours = found.is_some_and(|route| {
            route.next_hop == NextHop::Interface(wish.target.clone())
                && route.state == RouteState::Active
        });
        let foreign =
            found.filter(|route| route.next_hop != NextHop::Interface(wish.target.clone()));
        match (foreign, wish.takeover) {
            _ if is_ours => {
                plan.served.insert(key.clone());
            }
            (Some(route), _) if contested.contains(key) => plan.problems.push(
                Error::new(
                    Kind::Conflict,
                    format!("keep {key}"),
                    format!(
                        "somebody points it at {} again and again; natd has stopped taking it",
                        route.next_hop
                    ),
                )
                .with_advice(
                    "find the other owner; then reload natd (SIGHUP) to have it try again",
                ),
            ),
            (Some(route), Takeover::Refuse) => plan.refusals.push(
                Error::new(
                    Kind::Conflict,
                    format!("take {key}"),
                    format!("it targets {} and takeover is \"refuse\"", route.next_hop),
                )
                .with_advice("remove that route, or set routes.takeover = \"replace\""),
            ),
            _ => {
                plan.served.insert(key.clone());
                plan.steps.push(Step::TakeRoute {
                    key: key.clone(),
                    target: wish.target.clone(),
                    from: found.cloned(),
                });
            }
        }
    }
}

fn carry(plan: &mut Plan, desired: &Desired, observed: &Observed, journal: &Journal) {
    if let Some(rules) = &desired.rules {
        let loaded = observed.rules.get(&rules.rendering.kind);
        let as_wanted = loaded.is_some_and(|loaded| {
            loaded.digest.as_ref() == Some(&rules.rendering.digest) && loaded.damage.is_empty()
        });
        if !as_wanted {
            plan.steps.push(Step::LoadRules {
                rules: rules.clone(),
                damage: loaded.map(|loaded| loaded.damage.clone()).unwrap_or_default(),
                replaces: loaded.is_some(),
            });
        }
        if as_wanted && journal.stale_flows {
            plan.steps.push(Step::ClearStaleFlows { ruleset: rules.ruleset.clone() });
        }
    }
    // What keeps something working comes before what would break it without: switching IPv6
    // forwarding on drops the routes that router advertisements have made, unless `accept_ra` is 2.
    let mut sysctls: Vec<_> = desired.sysctls.iter().collect();
    sysctls.sort_by_key(|(_, setting)| setting.weight == Weight::Carries);
    for (key, setting) in sysctls {
        let found = observed.sysctls.get(key);
        if found != Some(&setting.value) {
            plan.steps.push(Step::SetSysctl {
                key: key.clone(),
                from: found.cloned(),
                to: setting.value.clone(),
                weight: setting.weight,
            });
        }
    }
    for interface in &desired.unchecked {
        if observed.checks.get(interface) == Some(&true) {
            plan.steps.push(Step::SwitchCheckOff {
                interface: interface.clone(),
                earlier: observed.check_settings.get(interface).cloned(),
            });
        }
    }
}

fn return_routes(plan: &mut Plan, desired: &Desired, observed: &Observed, journal: &Journal) {
    for (key, entry) in &journal.routes {
        if desired.routes.contains_key(key) {
            continue;
        }
        let leave = |why: String| LeftAlone { what: Entry::Route(key.clone()), why };
        match observed.routes.get(key) {
            _ if !observed.tables.contains(&key.table) => {
                plan.left_alone.push(leave("the table is gone".to_owned()));
            }
            None => plan.left_alone.push(leave("somebody has removed it".to_owned())),
            Some(route) if !entry.is_ours(&route.next_hop) => {
                plan.left_alone
                    .push(leave(format!("somebody has pointed it at {}", route.next_hop)));
            }
            Some(_) => plan.steps.push(Step::ReturnRoute {
                key: key.clone(),
                to: entry
                    .earlier
                    .as_ref()
                    .filter(|target| target.origin == RouteOrigin::Static)
                    .map(|target| target.next_hop.clone()),
            }),
        }
    }
}

fn return_host(plan: &mut Plan, desired: &Desired, observed: &Observed, journal: &Journal) {
    for (interface, earlier) in &journal.checks {
        if desired.unchecked.contains(interface) {
            continue;
        }
        let leave =
            |why: &str| LeftAlone { what: Entry::Check(interface.clone()), why: why.to_owned() };
        match observed.checks.get(interface) {
            Some(false) => plan.steps.push(Step::SwitchCheckOn {
                interface: interface.clone(),
                earlier: earlier.clone(),
            }),
            Some(true) => plan.left_alone.push(leave("it is on already")),
            None => plan.left_alone.push(leave("the interface is not attached any more")),
        }
    }
    for (key, entry) in &journal.sysctls {
        if desired.sysctls.contains_key(key) {
            continue;
        }
        let leave = |why: String| LeftAlone { what: Entry::Sysctl(key.clone()), why };
        match observed.sysctls.get(key) {
            None => plan.left_alone.push(leave("the kernel doesn't have it any more".to_owned())),
            Some(now) if *now == entry.earlier => {
                plan.left_alone.push(leave(format!("it is {now} already")));
            }
            Some(now) if *now != entry.ours => {
                plan.left_alone.push(leave(format!("somebody has set it to {now}")));
            }
            Some(_) if key.is_ipv4_forwarding() && observed.forwards_everywhere() => {
                plan.left_alone.push(leave("net.ipv4.ip_forward is 1 by now".to_owned()));
            }
            Some(now) => plan.steps.push(Step::RestoreSysctl {
                key: key.clone(),
                from: now.clone(),
                to: entry.earlier.clone(),
            }),
        }
    }
    let wanted = desired.rules.as_ref().map(|rules| rules.rendering.kind);
    for kind in observed.rules.keys().filter(|kind| Some(**kind) != wanted) {
        plan.steps.push(Step::UnloadRules { kind: *kind });
    }
    for kind in journal
        .firewalls
        .iter()
        .filter(|kind| Some(**kind) != wanted && !observed.rules.contains_key(kind))
    {
        plan.left_alone
            .push(LeftAlone { what: Entry::Rules(*kind), why: "they are gone already".to_owned() });
    }
}

/// What other firewalls are to let through, and what natd has there that isn't to be.
fn passages(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    for (who, passage) in &desired.passages {
        let open = observed.passages.get(who);
        let damage = open.map(|open| open.damage.clone()).unwrap_or_default();
        let digest = open.and_then(|open| open.digest.as_ref());
        if digest != Some(&passage.digest()) || !damage.is_empty() {
            plan.steps.push(Step::OpenPassage {
                who: *who,
                passage: passage.clone(),
                damage,
                replaces: open.is_some(),
            });
        }
    }
    for who in observed.passages.keys().filter(|who| !desired.passages.contains_key(who)) {
        plan.steps.push(Step::ClosePassage { who: *who });
    }
}

/// What is to be there after a reboot, and what natd has there that isn't to be.
fn persist(plan: &mut Plan, desired: &Desired, observed: &Observed, journal: &Journal) {
    let Persistence { files, services, .. } = &desired.persistence;
    for (path, form) in places() {
        let entry = journal.files.get(&path);
        let seen = observed.files.get(&path);
        let wanted = files.get(&path);
        let Some(part) = wanted else {
            let is_natds = |seen: &FileSeen| {
                !seen.is_foreign() && seen.own.as_ref().is_some_and(|own| !own.is_empty())
            };
            if entry.is_some() || seen.is_some_and(is_natds) {
                note_edit(plan, &path, entry, seen, None);
                let before = entry.map(|entry| entry.before.clone()).unwrap_or_default();
                plan.steps.push(Step::Unpersist { path, form, before });
            }
            continue;
        };
        if let Some(section) = seen.and_then(|seen| seen.unended.as_ref()) {
            plan.warnings.push(Warning::unended(&path, section));
        }
        let runs = |mode: u32| !part.is_executable() || mode & 0o111 != 0;
        let own = seen.and_then(FileSeen::digest);
        // What of others is not all there natd can't mend.
        let cut_off = seen.is_some_and(|seen| seen.cut_off && seen.unended.is_none());
        let is_there = seen.is_some_and(|seen| seen.in_place && seen.mode.is_some_and(runs))
            && own.as_ref() == Some(&part.digest)
            && !cut_off;
        if !is_there {
            note_edit(plan, &path, entry, seen, Some(part));
            let mode = seen.and_then(|seen| seen.mode).filter(|mode| !runs(*mode));
            let missing = seen.map(|seen| seen.missing.clone()).unwrap_or_default();
            plan.steps.push(Step::Persist {
                path,
                part: part.clone(),
                before: FileBefore { mode, missing },
                replaces: own.is_some(),
                cut_off,
            });
        }
    }
    // Away they go in the other order: what refers to a file goes before it.
    let mut steps = std::mem::take(&mut plan.steps);
    let away: Vec<Step> =
        steps.extract_if(.., |step| matches!(step, Step::Unpersist { .. })).collect();
    steps.extend(away.into_iter().rev());
    plan.steps = steps;
    for service in services {
        if observed.services.get(service) == Some(&false) {
            plan.steps.push(Step::EnableService { service: service.clone() });
        }
    }
    for enabled in journal.services.difference(services) {
        if observed.services.get(enabled) == Some(&true) {
            plan.steps.push(Step::DisableService { service: enabled.clone() });
        } else {
            plan.left_alone.push(LeftAlone {
                what: Entry::Service(enabled.clone()),
                why: "somebody has disabled it".to_owned(),
            });
        }
    }
}

/// Whether somebody has edited natd's part of a file: it says neither what natd wrote nor what it is
/// to say. Without a journal only a foreign file is told from one of natd's.
fn note_edit(
    plan: &mut Plan,
    path: &HostPath,
    entry: Option<&WrittenFile>,
    seen: Option<&FileSeen>,
    part: Option<&Part>,
) {
    let Some((seen, digest)) = seen.and_then(|seen| Some((seen, seen.digest()?))) else { return };
    let is_wanted = part.is_some_and(|part| part.digest == digest || part.alike.contains(&digest));
    let is_ours = match entry {
        // A power failure is nobody's edit.
        Some(entry) => entry.ours.contains(&digest) || seen.cut_off,
        None => !seen.is_foreign(),
    };
    if !is_wanted && !is_ours {
        let there = seen.own.as_deref().unwrap_or_default();
        let wanted = part.map(|part| part.form.normal(&part.text)).unwrap_or_default();
        plan.edited.push(EditedFile { path: path.clone(), diff: diff(there, &wanted) });
    }
}
