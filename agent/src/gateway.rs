//! One gateway: looks at cloud and host, plans, converges, proves. The same code makes `plan`,
//! `apply`, `verify`, `status`, `down` and each tick of `run`.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use natd_core::{
    advise::{Warning, forgotten, stranded},
    apply::{Attempt, Cloud, Outcome, Tools, apply},
    cloud::{Instance, Provider},
    config::{Config, OnStop},
    desired::{Desired, desired, tables_to_ask_for},
    error::{Error, Kind, Result},
    facts::Facts,
    host::{Depth, Host},
    journal::{Journal, JournalFile},
    model::{NextHop, RouteKey, RouteTableId},
    network::Network,
    observed::Observed,
    plan::{Plan, plan},
    proof::{Course, Evidence, prove},
    step::{Phase, Step},
    verdict::{Judgement, Outstanding, Proof, judge},
};
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::{
    firewall::Choice,
    pace::Pace,
    survey::{self, Listed},
};

/// For how long a change may stay invisible in the cloud's answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether evidence was found just now.
pub type IsNew = bool;

/// Why a look came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The configuration contradicts what there is; only the operator can mend it.
    #[error("{0}")]
    Configuration(Error),
    /// Cloud or host didn't answer.
    #[error("{0}")]
    Failure(Error),
}

impl Trouble {
    /// The error that it is.
    #[must_use]
    pub fn error(&self) -> &Error {
        match self {
            Self::Configuration(error) | Self::Failure(error) => error,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failure(error)
    }
}

/// A gateway and all that it is made of.
pub struct Gateway {
    /// The configuration.
    pub config: Config,
    /// The host.
    pub host: Host,
    /// The cloud; `None` with `provider = "none"`.
    pub provider: Option<Arc<dyn Provider>>,
    /// The back end that is to hold the rules.
    pub firewall: Choice,
    /// When all of natd's rules was last read back and found to be whole, what their sets hold
    /// included.
    audited: Option<Instant>,
    /// The operator's word that what somebody has edited of natd's may be overwritten.
    pub force: bool,
    /// No routes are to lead here for now: what was proven lately is that they lead nowhere.
    pub withdrawn: bool,
    last: Option<Listed>,
    /// natd has changed something in the cloud since, or tried to.
    ask_again: bool,
    /// Why the cloud did not answer when it was asked last.
    unanswered: Option<Error>,
    pace: Pace,
}

/// How much of the world is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Cloud and host.
    Everything,
    /// The host; of the cloud, what was seen last. The cloud is asked if it was never seen.
    Host,
}

/// What was seen, and what follows.
pub struct View {
    /// What should be.
    pub desired: Desired,
    /// What is.
    pub observed: Observed,
    /// What to do.
    pub plan: Plan,
    /// The host's network.
    pub network: Network,
    listed: Option<Listed>,
    unanswered: Option<Error>,
}

/// What came of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The steps.
    pub steps: Vec<Attempt>,
    /// What was not done because it would do harm.
    pub refusals: Vec<Error>,
    /// What was asked for and can't be done.
    pub problems: Vec<Error>,
    /// What an operator should know.
    pub warnings: Vec<Warning>,
    /// Whether NAT works.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// The routes that lead here now.
    pub served: BTreeSet<RouteKey>,
    /// Why the cloud did not answer when it was asked last: the rest goes by what it said before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<Error>,
}

impl Report {
    /// Why the cloud won't be asked, if that doesn't pass by itself. A cloud that is down for a while
    /// is no reason to be taken out of service; one that refuses is for the operator to see to.
    #[must_use]
    pub fn refused(&self) -> Option<&Error> {
        self.unanswered.as_ref().filter(|error| !error.kind().is_transient())
    }

    /// The steps that did not come out.
    pub fn unfinished(&self) -> impl Iterator<Item = &Attempt> {
        self.steps
            .iter()
            .filter(|attempt| matches!(attempt.outcome, Outcome::Failed(_) | Outcome::Skipped))
    }
}

impl View {
    /// What is to be proven, with these targets.
    fn course<'a>(&'a self, targets: &'a [String]) -> Option<Course<'a>> {
        let rules = self.desired.rules.as_ref().filter(|_| !self.plan.stands_still)?;
        Some(Course { rules, targets })
    }

    fn judge<'a>(
        &self,
        outstanding: impl IntoIterator<Item = Outstanding<'a>>,
        evidence: &Evidence,
    ) -> Judgement {
        judge(&self.desired, &self.plan, outstanding, evidence)
    }

    /// Whether NAT works, if nothing is changed.
    #[must_use]
    pub fn judgement(&self, evidence: &Evidence) -> Judgement {
        self.judge(self.plan.steps.iter().map(Outstanding::from), evidence)
    }
}

impl Gateway {
    /// A gateway that has not looked at anything yet.
    #[must_use]
    pub fn new(
        config: Config,
        host: Host,
        provider: Option<Arc<dyn Provider>>,
        firewall: Choice,
    ) -> Self {
        Self {
            config,
            host,
            provider,
            firewall,
            force: false,
            withdrawn: false,
            audited: None,
            last: None,
            ask_again: false,
            unanswered: None,
            pace: Pace::default(),
        }
    }

    /// The machine's id in its cloud, for the journal.
    ///
    /// # Errors
    /// Of the metadata service.
    pub async fn instance(&self) -> Result<Option<Instance>> {
        match &self.provider {
            Some(provider) => provider.instance().await.map(Some),
            None => Ok(None),
        }
    }

    /// Looks at cloud and host and plans. Changes nothing.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn look(
        &mut self,
        journal: &Journal,
        look: Look,
        contested: impl FnOnce(&Observed, &Desired) -> BTreeSet<RouteKey>,
    ) -> Result<View, Trouble> {
        let network = self.host.links.network().await?;
        let listed = match (&self.provider, &self.last) {
            (None, _) => None,
            (Some(_), Some(last)) if look == Look::Host && !self.ask_again => Some(last.clone()),
            (Some(provider), last) => match self.ask(provider.as_ref(), journal).await {
                Ok(listed) => {
                    self.ask_again = false;
                    self.unanswered = None;
                    Some(listed)
                }
                // The host is mended whether or not the cloud answers.
                Err(error) => {
                    let Some(last) = last.clone() else { return Err(error.into()) };
                    self.unanswered = Some(error);
                    Some(last)
                }
            },
        };
        self.last.clone_from(&listed);
        let facts = self.facts(network, listed.as_ref(), journal).await?;
        let mut desired = desired(&self.config, &facts).map_err(|error| match error.kind() {
            Kind::Invalid => Trouble::Configuration(error),
            _ => Trouble::Failure(error),
        })?;
        if self.withdrawn {
            desired.routes.clear();
            desired.wants_routes = false;
        }
        let kinds = journal.firewalls.iter().copied().chain([self.firewall.kind]).collect();
        let depth = self.depth();
        let observed =
            survey::observe(&self.host, &desired, journal, listed.as_ref(), &kinds, depth).await?;
        if depth == Depth::Elements {
            let whole = observed.rules.values().all(|loaded| loaded.damage.is_empty());
            self.audited = whole.then(Instant::now);
        }
        let contested = contested(&observed, &desired);
        let mut plan = plan(&desired, &observed, journal, &contested, &self.config.verify.targets);
        if !self.force {
            plan.spare_edited();
        }
        let unanswered = self.unanswered.clone();
        Ok(View { desired, observed, plan, network: facts.network, listed, unanswered })
    }

    /// Looks at what natd has changed and plans to give it back. Changes nothing.
    ///
    /// # Errors
    /// Of cloud or host.
    pub async fn look_down(&mut self, journal: &Journal) -> Result<View> {
        let network = self.host.links.network().await?;
        let listed = match &self.provider {
            Some(provider) => match self.ask(provider.as_ref(), journal).await {
                Ok(listed) => Some(listed),
                Err(error) if journal.needs_cloud() => return Err(error),
                // The host's part can be given back without.
                Err(error) => {
                    tracing::warn!(%error, "whether routes still lead here is not known");
                    None
                }
            },
            None if journal.needs_cloud() => {
                return Err(Error::new(
                    Kind::Invalid,
                    "give routes back",
                    "no provider is configured",
                )
                .with_advice("give --provider, or the configuration that natd ran with"));
            }
            _ => None,
        };
        // What natd would have here, if that can be said: what it may have changed and can't know.
        let facts = self.facts(network.clone(), listed.as_ref(), journal).await;
        let wanted = facts.and_then(|facts| desired(&self.config, &facts)).unwrap_or_default();
        let kinds = self.host.firewalls.keys().copied().collect();
        let observed =
            survey::observe(&self.host, &wanted, journal, listed.as_ref(), &kinds, Depth::Rules)
                .await?;
        let desired = Desired::default();
        let mut plan = plan(&desired, &observed, journal, &BTreeSet::new(), &[]);
        plan.warnings = stranded(&observed, journal);
        plan.warnings.extend(forgotten(&wanted, &observed, journal));
        if !self.force {
            plan.spare_edited();
        }
        Ok(View { desired, observed, plan, network, listed, unanswered: None })
    }

    /// Runs the view's plan and judges what came of it, by that evidence or by new one, as `weigh`
    /// has it.
    pub async fn converge(
        &mut self,
        view: &View,
        journal: &mut JournalFile,
        evidence: Option<Evidence>,
        weigh: impl FnOnce(Evidence, IsNew) -> Evidence,
    ) -> Report {
        let held_back = self.pace.holds_back(Instant::now()).cloned();
        let tools = Tools {
            host: &self.host,
            cloud: self.provider.as_deref().zip(view.listed.as_ref()).map(|(provider, listed)| {
                Cloud {
                    provider,
                    interfaces: listed.interfaces.clone(),
                    tables: listed.tables.clone(),
                }
            }),
            network: &view.network,
            course: view.course(&self.config.verify.targets),
            evidence: OnceCell::new(),
            patience: PATIENCE,
            concurrency: self.config.service.concurrency,
            held_back: held_back.as_ref(),
        };
        let steps = apply(&view.plan, &tools, journal).await;
        let found = tools.evidence.into_inner();
        if held_back.is_none() {
            self.pace.note(&steps, Instant::now());
        }
        for Attempt { step, outcome } in &steps {
            self.ask_again |= step.phase().writes_to_the_cloud() && held_back.is_none();
            if let (Outcome::Done { .. }, Some(last)) = (outcome, &mut self.last) {
                last.note(step);
            }
        }
        let evidence = match (found, evidence) {
            (Some(found), _) => weigh(found, true),
            (None, Some(evidence)) => weigh(evidence, false),
            (None, None) => weigh(self.prove(view).await, true),
        };
        report(view, steps, &evidence)
    }

    /// Runs the plan of [`Gateway::look_down`].
    pub async fn give_back(&mut self, view: &View, journal: &mut JournalFile) -> Report {
        let unproven = Some(Proof::Unproven.into());
        let report = self.converge(view, journal, unproven, |evidence, _| evidence).await;
        if report.unfinished().next().is_none() {
            journal.journal.forget_predecessor();
            if let Err(error) = journal.save() {
                tracing::warn!(%error, "the journal on the disk stays as it was");
            }
        }
        report
    }

    /// Judges without changing anything.
    pub async fn inspect(&self, view: &View) -> Report {
        let evidence = self.prove(view).await;
        let judgement = view.judgement(&evidence);
        let served = served(view, view.plan.steps.iter());
        Report { judgement, served, ..report(view, Vec::new(), &evidence) }
    }

    /// Sends a canary out.
    async fn prove(&self, view: &View) -> Evidence {
        match view.course(&self.config.verify.targets) {
            Some(course) => prove(&course, &self.host).await,
            None => Proof::Unproven.into(),
        }
    }

    /// Has the next look read back what sets hold, too: somebody has changed it.
    pub fn audit(&mut self) {
        self.audited = None;
    }

    /// What sets hold costs too much to be read back at every look.
    fn depth(&self) -> Depth {
        let fresh = |at: Instant| at.elapsed() < self.config.service.audit;
        if self.audited.is_some_and(fresh) { Depth::Rules } else { Depth::Elements }
    }

    async fn facts(
        &self,
        network: Network,
        listed: Option<&Listed>,
        journal: &Journal,
    ) -> Result<Facts> {
        survey::facts(&self.host, &self.config, &self.firewall, network, listed, journal).await
    }

    async fn ask(&self, provider: &dyn Provider, journal: &Journal) -> Result<Listed> {
        survey::ask(provider, &tables_to_ask_for(&self.config), &tables_in(journal)).await
    }

    /// What SIGTERM does: gives back the routes of the groups with `on_stop = "restore"`, and
    /// leaves the rest of the data path as it runs.
    ///
    /// # Errors
    /// Of the cloud.
    pub async fn restore_on_stop(
        &mut self,
        journal: &mut JournalFile,
    ) -> Result<Vec<Attempt>, Trouble> {
        if self.config.routes.0.iter().all(|group| group.on_stop == OnStop::Keep) {
            return Ok(Vec::new());
        }
        self.config.routes.0.retain(|group| group.on_stop == OnStop::Keep);
        // There is no later.
        self.pace = Pace::default();
        let mut view =
            self.look(&journal.journal, Look::Everything, |_, _| BTreeSet::new()).await?;
        view.plan.steps.retain(|step| step.phase() == Phase::ReturnRoutes);
        view.plan.left_alone.clear();
        let report = self
            .converge(&view, journal, Some(Proof::Unproven.into()), |evidence, _| evidence)
            .await;
        Ok(report.steps)
    }
}

/// The tables in which natd has changed something.
fn tables_in(journal: &Journal) -> BTreeSet<RouteTableId> {
    journal.routes.keys().map(|key| key.table.clone()).collect()
}

fn outstanding(Attempt { step, outcome }: &Attempt) -> Outstanding<'_> {
    let why = match outcome {
        Outcome::Failed(error) | Outcome::Warned(error) => Some(error),
        Outcome::Done { .. } | Outcome::Skipped => None,
    };
    Outstanding { step, why }
}

fn report(view: &View, steps: Vec<Attempt>, evidence: &Evidence) -> Report {
    let left = || steps.iter().filter(|attempt| !matches!(attempt.outcome, Outcome::Done { .. }));
    Report {
        judgement: view.judge(left().map(outstanding), evidence),
        served: served(view, left().map(|attempt| &attempt.step)),
        unanswered: view.unanswered.clone(),
        steps,
        refusals: view.plan.refusals.clone(),
        problems: view
            .plan
            .problems
            .iter()
            .chain(&view.desired.persistence.problem)
            .cloned()
            .collect(),
        warnings: warnings(view, evidence),
    }
}

/// What may be in the way isn't, where the canary came by.
fn warnings(view: &View, evidence: &Evidence) -> Vec<Warning> {
    let is_by = evidence.canary.as_ref().and_then(|flown| flown.outcome.is_good()) == Some(true);
    let mut warnings = view.plan.warnings.clone();
    warnings.retain(|warning| !is_by || warning.code != Warning::IN_THE_WAY);
    warnings
}

/// Whether a next hop is one of the interfaces that this machine's routes target.
pub fn targets_us(desired: &Desired) -> impl Fn(&NextHop) -> bool {
    |hop| desired.routes.values().any(|wish| *hop == NextHop::Interface(wish.target.clone()))
}

fn served<'a>(view: &View, outstanding: impl Iterator<Item = &'a Step>) -> BTreeSet<RouteKey> {
    let mut served = view.plan.served.clone();
    for step in outstanding {
        if let Step::TakeRoute { key, .. } = step {
            served.remove(key);
        }
    }
    served
}
