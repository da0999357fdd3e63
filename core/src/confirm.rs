//! Reads back what was written to a cloud, until it shows: clouds are eventually consistent, and
//! nothing may be built on a change that isn't there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::try_join_all;

use crate::{
    apply::{Cloud, Outcome},
    cloud::TableSelector,
    error::{Error, Kind, Result},
    model::{InterfaceId, NextHop, RouteKey},
    step::Step,
};

/// Asks the cloud until it shows what was written, or patience ends.
pub(crate) async fn confirm(steps: &[Step], outcomes: &mut [Outcome], cloud: &Cloud<'_>, patience: Duration) {
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(3))
        .with_total_delay(Some(patience))
        .without_max_times()
        .with_jitter()
        .build();
    loop {
        let seen = Seen::ask(steps, outcomes, cloud).await;
        let mut waiting = false;
        let delay = delays.next();
        for (step, outcome) in steps.iter().zip(outcomes.iter_mut()) {
            if !matches!(outcome, Outcome::Done { .. }) {
                continue;
            }
            match seen.as_ref().map(|seen| seen.shows(step)) {
                Ok(true) => {}
                _ if delay.is_some() => waiting = true,
                Ok(false) => {
                    *outcome = Outcome::Failed(
                        Error::new(
                            Kind::Conflict,
                            step.to_string(),
                            format!("the cloud accepted it and doesn't show it after {} s", patience.as_secs()),
                        )
                        .with_advice("something else may be changing it back: find it; natd tries again"),
                    );
                }
                Err(error) => *outcome = Outcome::Failed(error.clone()),
            }
        }
        match delay {
            Some(delay) if waiting => tokio::time::sleep(delay).await,
            _ => return,
        }
    }
}

/// What the cloud shows after a write.
#[derive(Default)]
struct Seen {
    checks: BTreeMap<InterfaceId, bool>,
    routes: BTreeMap<RouteKey, NextHop>,
}

impl Seen {
    async fn ask(steps: &[Step], outcomes: &[Outcome], cloud: &Cloud<'_>) -> Result<Self> {
        let mut tables = TableSelector::default();
        let mut checks = BTreeSet::new();
        for (step, outcome) in steps.iter().zip(outcomes) {
            match (step, outcome) {
                (Step::TakeRoute { key, .. } | Step::ReturnRoute { key, .. }, Outcome::Done { .. }) => {
                    tables.ids.insert(key.table.clone());
                }
                (
                    Step::SwitchCheckOff { interface } | Step::SwitchCheckOn { interface },
                    Outcome::Done { .. },
                ) => {
                    checks.insert(interface);
                }
                _ => {}
            }
        }
        let mut seen = Self::default();
        let checked = cloud.interfaces.iter().filter(|(id, _)| checks.contains(id));
        let answers = checked.map(|(id, interface)| async move {
            interface.source_dest_check().await.map(|on| (id.clone(), on))
        });
        seen.checks = try_join_all(answers).await?.into_iter().collect();
        if tables != TableSelector::default() {
            for table in cloud.provider.route_tables(&tables).await?.found {
                let facts = table.facts();
                seen.routes.extend(facts.routes.iter().map(|route| {
                    let key = RouteKey { table: facts.id.clone(), destination: route.destination };
                    (key, route.next_hop.clone())
                }));
            }
        }
        Ok(seen)
    }

    fn shows(&self, step: &Step) -> bool {
        match step {
            Step::SwitchCheckOff { interface } => self.checks.get(interface) == Some(&false),
            Step::SwitchCheckOn { interface } => self.checks.get(interface) == Some(&true),
            Step::TakeRoute { key, target, .. } => {
                self.routes.get(key) == Some(&NextHop::Interface(target.clone()))
            }
            // What it went back to may be a propagated route or, its target being gone, nothing.
            Step::ReturnRoute { key, to, .. } => match to {
                Some(next_hop) => self.routes.get(key).is_none_or(|now| now == next_hop),
                None => !matches!(self.routes.get(key), Some(NextHop::Interface(_))),
            },
            _ => true,
        }
    }
}
