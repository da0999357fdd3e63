//! Runs a plan's steps in order. What fails stops only what depends on it.
//!
//! Before a phase, what it is going to change is in the journal, on the disk. After a phase that
//! wrote to the cloud, the cloud is read back until it shows the change: clouds are eventually
//! consistent, and nothing may be built on a change that isn't there.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::{
    cloud::{CheckSettings, Interface, Provider, RouteTable},
    confirm::confirm,
    desired::{Rules, Weight},
    error::{Error, Kind, Result},
    host::{Depth, Host, NeighbouringFirewall, SysctlKey},
    journal::{EarlierSysctl, EarlierTarget, JournalFile, WrittenFile},
    model::{InterfaceId, NextHop, Route, RouteKey, RouteTableId},
    neighbours::{Neighbour, Passage},
    network::Network,
    plan::{Entry, Plan},
    proof::{Course, Evidence, prove},
    ruleset::{FirewallKind, Ruleset, Served},
    step::{Phase, Step},
    verdict::Proof,
};

/// What steps are done with.
pub struct Tools<'a> {
    /// The host.
    pub host: &'a Host,
    /// The cloud, with what it listed when the plan was made.
    pub cloud: Option<Cloud<'a>>,
    /// The host's network when the plan was made.
    pub network: &'a Network,
    /// What is to be proven before routes are taken.
    pub course: Option<Course<'a>>,
    /// What came of that, once it was tried.
    pub evidence: OnceCell<Evidence>,
    /// For how long a change may stay invisible in the cloud's answers.
    pub patience: Duration,
    /// How many cloud writes may be under way at once.
    pub concurrency: NonZeroUsize,
    /// Why nothing is to be written to the cloud now: its steps fail of that without a call.
    pub held_back: Option<&'a Error>,
}

/// A cloud and what it listed.
pub struct Cloud<'a> {
    /// The cloud.
    pub provider: &'a dyn Provider,
    /// Its interfaces.
    pub interfaces: BTreeMap<InterfaceId, Arc<dyn Interface>>,
    /// Its tables.
    pub tables: BTreeMap<RouteTableId, Arc<dyn RouteTable>>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done, and seen to be done.
    Done {
        /// What else there is to say: "3 connections".
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// Not done, and nothing depends on it.
    Warned(Error),
    /// Not done.
    Failed(Error),
    /// Not tried, because what it depends on failed.
    Skipped,
}

/// A step and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
}

/// Runs the plan. Every step gets an outcome; every change made is logged in one line. What did not
/// come out is for the caller to tell, who knows whether it has told that before.
pub async fn apply(plan: &Plan, tools: &Tools<'_>, journal: &mut JournalFile) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::with_capacity(plan.steps.len());
    let mut failed_phases = BTreeSet::new();
    for steps in plan.steps.chunk_by(|a, b| a.phase() == b.phase()) {
        let Some(phase) = steps.first().map(Step::phase) else { continue };
        let outcomes = if phase.needs().iter().any(|needed| failed_phases.contains(needed)) {
            vec![Outcome::Skipped; steps.len()]
        } else {
            run_phase(phase, steps, tools, journal).await
        };
        for (step, outcome) in steps.iter().zip(outcomes) {
            log(step, &outcome);
            if matches!(outcome, Outcome::Done { .. }) {
                settle(step, tools.network, journal);
            } else if step.is_needed() {
                failed_phases.insert(phase);
            }
            attempts.push(Attempt { step: step.clone(), outcome });
        }
    }
    for entry in &plan.left_alone {
        tracing::info!(what = %entry.what, why = %entry.why, "left alone");
        match &entry.what {
            Entry::Route(key) => drop(journal.journal.routes.remove(key)),
            Entry::Check(interface) => drop(journal.journal.checks.remove(interface)),
            Entry::Sysctl(key) => drop(journal.journal.sysctls.remove(key)),
            Entry::Service(service) => drop(journal.journal.services.remove(service)),
            Entry::Rules(kind) => journal.journal.forget_rules(*kind),
        }
    }
    if let Err(error) = journal.save() {
        // What it holds too much is harmless: giving back looks before it acts.
        tracing::warn!(%error, "the journal on the disk stays as it was");
    }
    attempts
}

async fn run_phase(
    phase: Phase,
    steps: &[Step],
    tools: &Tools<'_>,
    journal: &mut JournalFile,
) -> Vec<Outcome> {
    if let Some(why) = tools.held_back.filter(|_| phase.writes_to_the_cloud()) {
        return vec![Outcome::Failed(why.clone()); steps.len()];
    }
    let steps = &appeared(steps, tools).await;
    let before = journal.journal.clone();
    for step in steps {
        enter(step, journal);
    }
    if let Err(error) = journal.save() {
        if phase.is_journalled() {
            // What is not done is not noted either: what is there now may be another by the next try.
            journal.journal = before;
            return vec![Outcome::Failed(error); steps.len()];
        }
        tracing::warn!(%error, "going on with what needs no entry");
    }
    let earlier = journal.journal.served.clone();
    // Writes to the cloud go side by side; the host's few are in order.
    let width = if phase.writes_to_the_cloud() { tools.concurrency.get() } else { 1 };
    let results: Vec<_> = stream::iter(steps.iter().map(|step| run(step, tools, earlier.as_ref())))
        .buffered(width)
        .collect()
        .await;
    let mut outcomes: Vec<Outcome> = steps
        .iter()
        .zip(results)
        .map(|(step, result)| match result {
            Ok(detail) => Outcome::Done { detail },
            Err(error) if matches!(step, Step::SetSysctl { weight: Weight::Optional, .. }) => {
                Outcome::Warned(error)
            }
            Err(error) => Outcome::Failed(error),
        })
        .collect();
    if let Some(cloud) = &tools.cloud {
        let done: Vec<(&Step, &mut Outcome)> = steps
            .iter()
            .zip(&mut outcomes)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Done { .. }))
            .collect();
        let written: Vec<&Step> = done.iter().map(|(step, _)| *step).collect();
        let shown = confirm(&written, cloud.provider, &cloud.interfaces, tools.patience).await;
        for ((_, outcome), shown) in done.into_iter().zip(shown) {
            if let Err(error) = shown {
                *outcome = Outcome::Failed(error);
            }
        }
    }
    outcomes
}

/// Kernel parameters that were not there when the plan was made and are now, with what they are: those
/// of connection tracking come with its module, which natd's rules or, if need be, natd loads.
async fn appeared(steps: &[Step], tools: &Tools<'_>) -> Vec<Step> {
    let mut steps = steps.to_vec();
    let mut asked = false;
    for step in &mut steps {
        let Step::SetSysctl { key, from: from @ None, .. } = step else { continue };
        let read = || tools.host.sysctl.read(key).ok().flatten();
        *from = read();
        if from.is_none() && key.is_conntrack() && !asked {
            asked = true;
            if let Err(error) = tools.host.conntrack.load().await {
                tracing::warn!(%error, "parameters of connection tracking are left as they are");
            }
            *from = read();
        }
    }
    steps
}

/// Notes what the step is going to change.
fn enter(step: &Step, file: &mut JournalFile) {
    let journal = &mut file.journal;
    match step {
        Step::LoadRules { rules, .. } => {
            journal.firewalls.insert(rules.rendering.kind);
            journal.stale_flows = true;
        }
        Step::SetSysctl { key, from: Some(earlier), to, .. } => {
            let earlier = EarlierSysctl { earlier: earlier.clone(), ours: to.clone() };
            journal.sysctls.entry(key.clone()).or_insert(earlier).ours.clone_from(to);
        }
        Step::Persist { path, part, before, .. } => {
            let entry = journal.files.entry(path.clone()).or_insert_with(|| WrittenFile {
                before: before.clone(),
                ..WrittenFile::default()
            });
            entry.before.mode = entry.before.mode.or(before.mode);
            entry.ours.insert(part.digest.clone());
        }
        Step::EnableService { service } => drop(journal.services.insert(service.clone())),
        Step::SwitchCheckOff { interface, earlier } => {
            journal.checks.insert(interface.clone(), earlier.clone());
        }
        Step::TakeRoute { key, target, from } => {
            let entry = journal.routes.entry(key.clone()).or_default();
            // Back from another NAT instance that wanted it, too: what was there before both of them
            // counts. To whoever else has a route, it was given on purpose.
            let is_rivals = |route: &&Route| {
                !entry.ours.is_empty() && matches!(route.next_hop, NextHop::Interface(_))
            };
            let found = from.as_ref().filter(|route| !is_rivals(route));
            let found = found.filter(|route| !entry.is_ours(&route.next_hop));
            entry.ours.insert(target.clone());
            if let Some(route) = found {
                entry.earlier =
                    Some(EarlierTarget { next_hop: route.next_hop.clone(), origin: route.origin });
            }
        }
        _ => {}
    }
}

/// Drops what is done with.
fn settle(step: &Step, network: &Network, file: &mut JournalFile) {
    let journal = &mut file.journal;
    match step {
        Step::LoadRules { rules: Rules { ruleset, .. }, .. }
        | Step::ClearStaleFlows { ruleset } => {
            journal.stale_flows = false;
            journal.served = Some(ruleset.served(network));
        }
        Step::ReturnRoute { key, .. } => drop(journal.routes.remove(key)),
        Step::SwitchCheckOn { interface, .. } => drop(journal.checks.remove(interface)),
        Step::RestoreSysctl { key, .. } => drop(journal.sysctls.remove(key)),
        Step::Persist { path, part, .. } => {
            if let Some(entry) = journal.files.get_mut(path) {
                entry.ours = [part.digest.clone()].into();
            }
        }
        Step::Unpersist { path, .. } => drop(journal.files.remove(path)),
        Step::DisableService { service } => drop(journal.services.remove(service)),
        Step::UnloadRules { kind } => journal.forget_rules(*kind),
        _ => {}
    }
}

/// One line for a change made, none for what changed nothing.
fn log(step: &Step, outcome: &Outcome) {
    match outcome {
        Outcome::Done { .. } if !step.is_change() => tracing::debug!("done: {step}"),
        Outcome::Done { detail: None } => tracing::info!("done: {step}{}", found(step)),
        Outcome::Done { detail: Some(detail) } => {
            tracing::info!("done: {step}{}; {detail}", found(step));
        }
        Outcome::Warned(error) => tracing::debug!(%error, "not done: {step}"),
        Outcome::Failed(error) => tracing::debug!(%error, "failed: {step}"),
        Outcome::Skipped => tracing::debug!("skipped: {step}"),
    }
}

/// What was there before, for the log.
fn found(step: &Step) -> String {
    match step {
        Step::LoadRules { damage, .. } | Step::OpenPassage { damage, .. } if !damage.is_empty() => {
            format!(" ({})", damage.join(", "))
        }
        Step::SetSysctl { from: Some(from), .. } => format!(" (was {from})"),
        Step::TakeRoute { from: Some(route), .. } => format!(" (was {})", route.next_hop),
        _ => String::new(),
    }
}

async fn run(step: &Step, tools: &Tools<'_>, earlier: Option<&Served>) -> Result<Option<String>> {
    match step {
        Step::LoadRules { rules, .. } => load_rules(rules, tools, earlier).await,
        Step::ClearStaleFlows { ruleset } => clear_stale(ruleset, tools, earlier).await,
        Step::UnloadRules { kind } => firewall(*kind, tools)?.unload().await.map(|()| None),
        Step::SetSysctl { key, to, .. } | Step::RestoreSysctl { key, to, .. } => {
            write_sysctl(key, to, tools).map(|()| None)
        }
        Step::OpenPassage { who, passage, .. } => open_passage(*who, passage, tools).await,
        Step::ClosePassage { who } => neighbour(*who, tools)?.close().await.map(|()| None),
        Step::Persist { path, part, .. } => tools.host.boot.write(path, part).map(|()| None),
        Step::Unpersist { path, form, before } => {
            tools.host.boot.remove(path, *form, before.mode, &before.missing).map(|()| None)
        }
        Step::EnableService { service } => {
            tools.host.boot.enable(service, true).await.map(|()| None)
        }
        Step::DisableService { service } => {
            tools.host.boot.enable(service, false).await.map(|()| None)
        }
        Step::SwitchCheckOff { interface, .. } => switch_check(interface, false, None, tools).await,
        Step::SwitchCheckOn { interface, earlier } => {
            switch_check(interface, true, earlier.as_ref(), tools).await
        }
        Step::ProveEgress { .. } => prove_step(tools).await,
        Step::TakeRoute { key, target, .. } => {
            let next_hop = NextHop::Interface(target.clone());
            table(key, tools)?.put(key.destination, &next_hop).await.map(|()| None)
        }
        Step::ReturnRoute { key, to, .. } => return_route(key, to.as_ref(), tools).await,
    }
}

fn firewall<'a>(kind: FirewallKind, tools: &'a Tools<'_>) -> Result<&'a dyn crate::host::Firewall> {
    tools.host.firewalls.get(&kind).map(AsRef::as_ref).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("use {kind}"), "this host doesn't have it")
    })
}

async fn load_rules(
    rules: &Rules,
    tools: &Tools<'_>,
    earlier: Option<&Served>,
) -> Result<Option<String>> {
    let firewall = firewall(rules.rendering.kind, tools)?;
    firewall.load(&rules.rendering).await?;
    let doing = || format!("load natd's {} rules", rules.rendering.kind);
    match firewall.loaded(Depth::Rules).await? {
        Some(loaded)
            if loaded.digest.as_ref() == Some(&rules.rendering.digest)
                && loaded.damage.is_empty() => {}
        Some(loaded) => {
            let damage = if loaded.damage.is_empty() {
                "they are other rules".to_owned()
            } else {
                loaded.damage.join(", ")
            };
            return Err(Error::new(Kind::Conflict, doing(), format!("read back, {damage}"))
                .with_advice("something else on this host changes natd's rules: find it"));
        }
        None => {
            return Err(Error::new(Kind::Conflict, doing(), "read back, they are not there")
                .with_advice("something else on this host removes natd's rules: find it"));
        }
    }
    clear_stale(&rules.ruleset, tools, earlier).await
}

async fn clear_stale(
    ruleset: &Ruleset,
    tools: &Tools<'_>,
    earlier: Option<&Served>,
) -> Result<Option<String>> {
    let network = tools.network;
    let deleted = tools
        .host
        .conntrack
        .delete_where(&|flow| ruleset.makes_stale(flow, network, earlier))
        .await?;
    Ok((deleted > 0).then(|| {
        format!("{deleted} connections are not as these rules make them and were deleted")
    }))
}

fn neighbour<'a>(who: Neighbour, tools: &'a Tools<'_>) -> Result<&'a dyn NeighbouringFirewall> {
    tools.host.neighbours.get(&who).map(AsRef::as_ref).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("ask {who}"), "this natd doesn't know how")
    })
}

async fn open_passage(
    who: Neighbour,
    passage: &Passage,
    tools: &Tools<'_>,
) -> Result<Option<String>> {
    let neighbour = neighbour(who, tools)?;
    neighbour.open(passage).await?;
    let cause = match neighbour.passage(Some(passage)).await? {
        Some(open) if open.damage.is_empty() && open.digest == Some(passage.digest()) => {
            return Ok(None);
        }
        Some(open) if open.damage.is_empty() => "read back, it is another passage".to_owned(),
        Some(open) => format!("read back, {}", open.damage.join(", ")),
        None => "read back, it is not there".to_owned(),
    };
    let doing = format!("have {who} let natd's traffic through");
    Err(Error::new(Kind::Conflict, doing, cause)
        .with_advice("something else on this host changes it: find it"))
}

fn write_sysctl(key: &SysctlKey, to: &str, tools: &Tools<'_>) -> Result<()> {
    let sysctl = &tools.host.sysctl;
    sysctl.write(key, to)?;
    match sysctl.read(key)? {
        Some(now) if now == to => Ok(()),
        now => Err(Error::new(
            Kind::Conflict,
            format!("set {key} = {to}"),
            format!("read back, it is {}", now.as_deref().unwrap_or("gone")),
        )),
    }
}

fn cloud<'a, 'b>(tools: &'a Tools<'b>) -> Result<&'a Cloud<'b>> {
    tools.cloud.as_ref().ok_or_else(|| {
        Error::new(
            Kind::Unsupported,
            "change routes and interfaces",
            "provider = \"none\" has no cloud",
        )
    })
}

fn table<'a>(key: &RouteKey, tools: &'a Tools<'_>) -> Result<&'a dyn RouteTable> {
    cloud(tools)?.tables.get(&key.table).map(AsRef::as_ref).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("change {key}"), "the table was not listed")
    })
}

async fn switch_check(
    id: &InterfaceId,
    enabled: bool,
    earlier: Option<&CheckSettings>,
    tools: &Tools<'_>,
) -> Result<Option<String>> {
    let interface = cloud(tools)?.interfaces.get(id).ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("change the source/destination check of {id}"),
            "it is not attached",
        )
    })?;
    interface.set_source_dest_check(enabled, earlier).await.map(|()| None)
}

async fn return_route(
    key: &RouteKey,
    to: Option<&NextHop>,
    tools: &Tools<'_>,
) -> Result<Option<String>> {
    let table = table(key, tools)?;
    let Some(next_hop) = to else {
        return table.remove(key.destination).await.map(|()| None);
    };
    match table.put(key.destination, next_hop).await {
        // Its earlier target is gone: a black hole in its place would serve nobody.
        Err(error) if error.kind() == Kind::NotFound => {
            table.remove(key.destination).await?;
            Ok(Some(format!("its earlier target {next_hop} is gone, so the route is removed")))
        }
        result => result.map(|()| None),
    }
}

async fn prove_step(tools: &Tools<'_>) -> Result<Option<String>> {
    let course = tools.course.as_ref().ok_or_else(|| {
        Error::new(Kind::Invalid, "prove the way out", "the egress interface is not known")
    })?;
    let found = tools.evidence.get_or_init(|| prove(course, tools.host)).await;
    if let Some(error) = found.failure() {
        let why = "no route is taken while no packet gets out and back by this machine";
        let advice = match error.advice() {
            Some(advice) => format!("{why}; {advice}"),
            None => why.to_owned(),
        };
        return Err(error.with_advice(advice));
    }
    Ok(match &found.proof {
        Proof::Reached(target) => Some(target.clone()),
        Proof::Failed(_) | Proof::Unproven => None,
    })
}
