//! The loop of `natd run`: a tick at every interval, at every kernel event, at every signal.
//!
//! A tick looks, plans, converges and proves; what proofs add up to is told in [`crate::standing`]. One
//! that changes nothing logs nothing. Between ticks the process sleeps.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use natd_core::{
    apply::Outcome,
    error::{Error, Kind, Result},
    journal::JournalFile,
    model::RouteKey,
    step::Step,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{sleep, sleep_until},
};

use crate::{
    contest::Contest,
    events::{Change, Events},
    gateway::{Gateway, Look, Report, targets_us},
    notify::Manager,
    standing::Standing,
    status::Status,
    told::Told,
};

/// Kernel events come in bursts: one tick answers them all.
const BURST: Duration = Duration::from_millis(200);

/// After the host's network has changed, the cloud is asked again; not more often than this.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// After a failed tick the next comes after this, then after twice this, up to the interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The daemon.
pub struct Daemon<Reload> {
    gateway: Gateway,
    journal: JournalFile,
    reload: Reload,
    status: watch::Sender<Status>,
    contest: Contest,
    standing: Standing,
    failures: u32,
    told: Told,
    manager: Manager,
}

/// What ended a sleep.
enum Wake {
    Tick(Look),
    /// Something on the host has changed.
    Changes(Vec<Change>),
    /// Nothing: only to show that the loop turns.
    Turn,
    Reload,
    Stop,
}

impl<Reload, Answer> Daemon<Reload>
where
    Reload: FnMut() -> Answer,
    Answer: Future<Output = Result<Gateway, String>>,
{
    /// A daemon over a gateway. `reload` makes a gateway of the configuration as it is then, or
    /// says why that can't be done.
    pub fn new(
        gateway: Gateway,
        journal: JournalFile,
        reload: Reload,
        status: watch::Sender<Status>,
        manager: Manager,
    ) -> Self {
        Self {
            standing: Standing::new(&gateway.config.verify),
            gateway,
            journal,
            reload,
            status,
            contest: Contest::default(),
            failures: 0,
            told: Told::default(),
            manager,
        }
    }

    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// If signals or kernel events can't be had. What goes wrong in a tick is logged and tried again.
    pub async fn run(mut self) -> Result<()> {
        let mut events = Events::open()?;
        let mut signals = Signals::open()?;
        let mut full = Instant::now();
        let mut look = Look::Everything;
        // The network has changed, and the cloud was not asked since it had been lately.
        let mut asks_soon = false;
        loop {
            let began = Instant::now();
            // What the tick changes comes back as events, and the look that they bring finds nothing
            // to do. To drain them would be to miss what somebody else changed meanwhile.
            self.tick(look).await;
            if look == Look::Everything {
                full = began;
                asks_soon = false;
            }
            let mut due = full + self.pause();
            if asks_soon {
                due = due.min(full + ASK_AGAIN);
            }
            look = loop {
                match self.sleep(due, &mut events, &mut signals).await {
                    Wake::Tick(look) => break look,
                    Wake::Changes(changes) => {
                        // Somebody has changed what natd's sets hold, or it is not known whether.
                        if changes.contains(&Change::Elements) {
                            self.gateway.audit();
                        }
                        let network = changes.contains(&Change::Network);
                        let asked_lately = full.elapsed() < ASK_AGAIN;
                        asks_soon |= network && asked_lately;
                        break if network && !asked_lately { Look::Everything } else { Look::Host };
                    }
                    Wake::Turn => self.manager.alive(),
                    Wake::Reload => {
                        self.manager.reloading();
                        if self.reload().await {
                            break Look::Everything;
                        }
                        let headline = self.status.borrow().headline();
                        self.manager.ready(&headline);
                        due = full + self.pause();
                    }
                    Wake::Stop => return self.stop().await,
                }
            };
        }
    }

    /// How long after a full tick the next one is due.
    fn pause(&self) -> Duration {
        let interval = self.gateway.config.service.interval;
        match self.failures {
            0 => interval,
            n => interval.min(FIRST_RETRY.saturating_mul(1 << (n - 1).min(16))),
        }
    }

    async fn sleep(&self, due: Instant, events: &mut Events, signals: &mut Signals) -> Wake {
        let proof_due = self.standing.due().unwrap_or(due);
        let turn = async {
            match self.manager.turn() {
                Some(turn) => sleep(turn).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Signals first: a storm of events must not keep the daemon from stopping.
            biased;
            _ = signals.terminate.recv() => Wake::Stop,
            _ = signals.interrupt.recv() => Wake::Stop,
            _ = signals.hangup.recv() => Wake::Reload,
            () = sleep_until(due.into()) => Wake::Tick(Look::Everything),
            () = sleep_until(proof_due.into()) => Wake::Tick(Look::Host),
            () = turn => Wake::Turn,
            change = events.next() => {
                sleep(BURST).await;
                let mut changes = events.drain();
                changes.push(change);
                Wake::Changes(changes)
            }
        }
    }

    async fn tick(&mut self, look: Look) {
        self.converge(look).await;
        // What that proved may have changed what is to be.
        let withdrawn = self.standing.is_withdrawn();
        if withdrawn != self.gateway.withdrawn {
            self.gateway.withdrawn = withdrawn;
            self.converge(Look::Everything).await;
        }
    }

    async fn converge(&mut self, look: Look) {
        let contest = &mut self.contest;
        let now = Instant::now();
        let seen = self
            .gateway
            .look(&self.journal.journal, look, |observed, desired| {
                contest.look(observed, targets_us(desired), now)
            })
            .await;
        let outcome = match seen {
            Ok(mut view) => {
                view.plan.warnings.extend(self.contest.alarms());
                let fresh = self.standing.fresh().filter(|_| view.plan.is_empty()).cloned();
                let standing = &mut self.standing;
                let weigh = |evidence, is_new| standing.weigh(evidence, is_new, Instant::now());
                let report = self.gateway.converge(&view, &mut self.journal, fresh, weigh).await;
                self.contest.hold(held(&report));
                Ok(report)
            }
            Err(trouble) => Err(trouble),
        };
        self.told.tell(&outcome);
        let failed = match &outcome {
            Ok(report) => report.unfinished().next().is_some(),
            Err(_) => true,
        };
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        let proofs = self.standing.figures(self.gateway.withdrawn);
        self.status.send_modify(|status| status.note(outcome, look, proofs));
        let headline = self.status.borrow().headline();
        self.manager.ready(&headline);
    }

    /// Takes the new configuration, or refuses it and goes on with the old one.
    async fn reload(&mut self) -> bool {
        match (self.reload)().await {
            Ok(gateway) => {
                tracing::info!("configuration reloaded");
                self.gateway = gateway;
                self.contest = Contest::default();
                self.standing = Standing::new(&self.gateway.config.verify);
                true
            }
            Err(why) => {
                tracing::error!("configuration not reloaded, the old one stays in force: {why}");
                false
            }
        }
    }

    async fn stop(mut self) -> Result<()> {
        self.manager.stopping();
        match self.gateway.restore_on_stop(&mut self.journal).await {
            Ok(steps) if steps.is_empty() => {
                tracing::info!("stopped; the data path stays as it is");
            }
            Ok(steps) => {
                self.told.attempts(&steps);
                if steps.iter().all(|attempt| matches!(attempt.outcome, Outcome::Done { .. })) {
                    tracing::info!("stopped; the routes are given back");
                } else {
                    tracing::error!(
                        "stopped; not all routes are given back: natd down does it later"
                    );
                }
            }
            Err(trouble) => {
                return Err(Error::new(Kind::Unreachable, "give the routes back", trouble)
                    .with_advice("natd down gives them back later"));
            }
        }
        Ok(())
    }
}

/// The routes that lead here, and those that natd has pointed here and that were elsewhere again before
/// it could see that.
fn held(report: &Report) -> BTreeSet<RouteKey> {
    let lost = report.steps.iter().filter_map(|attempt| match (&attempt.step, &attempt.outcome) {
        (Step::TakeRoute { key, .. }, Outcome::Failed(error)) => {
            (error.kind() == Kind::Conflict).then(|| key.clone())
        }
        _ => None,
    });
    report.served.iter().cloned().chain(lost).collect()
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn open() -> Result<Self> {
        let open = |kind| {
            signal(kind).map_err(|error| Error::new(Kind::Unsupported, "listen to signals", error))
        };
        Ok(Self {
            terminate: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
            hangup: open(SignalKind::hangup())?,
        })
    }
}
