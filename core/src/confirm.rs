//! Reads back what was written to a cloud, until it shows: clouds are eventually consistent, and
//! nothing may be built on a change that isn't there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::try_join_all;

use crate::{
    cloud::{Interface, Provider, TableSelector},
    error::{Error, Kind, Result},
    model::{InterfaceId, NextHop, RouteKey},
    step::Step,
};

/// Asks the cloud until it shows each of the steps, or patience ends; tells for each whether it does.
pub(crate) async fn confirm(
    steps: &[&Step],
    provider: &dyn Provider,
    interfaces: &BTreeMap<InterfaceId, Arc<dyn Interface>>,
    patience: Duration,
) -> Vec<Result<()>> {
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(3))
        .with_total_delay(Some(patience))
        .without_max_times()
        .with_jitter()
        .build();
    loop {
        let seen = Seen::ask(steps, provider, interfaces).await;
        let shown = |step: &&Step| match &seen {
            Ok(seen) if seen.shows(step) => Ok(()),
            Ok(_) => Err(Error::new(
                Kind::Conflict,
                step.to_string(),
                format!("the cloud accepted it and doesn't show it after {} s", patience.as_secs()),
            )
            .with_advice("something else may be changing it back: find it; natd tries again")),
            Err(error) => Err(error.clone()),
        };
        let results: Vec<Result<()>> = steps.iter().map(shown).collect();
        match delays.next() {
            Some(delay) if results.iter().any(Result::is_err) => tokio::time::sleep(delay).await,
            _ => return results,
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
    async fn ask(
        steps: &[&Step],
        provider: &dyn Provider,
        interfaces: &BTreeMap<InterfaceId, Arc<dyn Interface>>,
    ) -> Result<Self> {
        let mut tables = TableSelector::default();
        let mut checked = BTreeMap::new();
        for step in steps {
            match step {
                Step::TakeRoute { key, .. } | Step::ReturnRoute { key, .. } => {
                    tables.ids.insert(key.table.clone());
                }
                Step::SwitchCheckOff { interface, .. } | Step::SwitchCheckOn { interface, .. } => {
                    checked.extend(interfaces.get_key_value(interface));
                }
                _ => {}
            }
        }
        let answers = checked.into_iter().map(|(id, interface)| async move {
            interface.source_dest_check().await.map(|on| (id.clone(), on))
        });
        let checks = try_join_all(answers).await?.into_iter().collect();
        let mut seen = Self { checks, ..Self::default() };
        if tables != TableSelector::default() {
            for table in provider.route_tables(&tables).await?.found {
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
            Step::SwitchCheckOff { interface, .. } => self.checks.get(interface) == Some(&false),
            Step::SwitchCheckOn { interface, .. } => self.checks.get(interface) == Some(&true),
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
