//! Promises that take a write: routes are made, replaced and removed in one table, and all of it
//! is taken back.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use backon::{ConstantBuilder, Retryable as _};
use futures_util::future::try_join;
use ipnet::IpNet;
use natd_core::{
    cloud::{Provider, RouteTable, TableFacts},
    error::{Kind, Result},
    model::{NextHop, Route, RouteOrigin},
};

use super::{
    checking,
    promise::{Breach, Finding, Promise, ensure},
    reading::{made_up, of_ids},
    scratch::Scratch,
};

/// How often the cloud is asked whether a change shows.
const PAUSE: Duration = Duration::from_millis(200);

/// Tries every promise that takes a write, one after the other, and takes back what it wrote.
pub async fn write(provider: &dyn Provider, scratch: &Scratch) -> Vec<Finding> {
    let trial = Trial { provider, scratch };
    let before = match trial.begin().await {
        Ok(before) => before,
        Err(breach) => return vec![Finding::of(Promise::PutCreates, async { Err(breach) }).await],
    };
    let mut findings = vec![
        Finding::of(Promise::RemoveAbsent, trial.remove_absent()).await,
        Finding::of(Promise::PutCreates, trial.put_creates()).await,
        Finding::of(Promise::PutTwice, trial.put_twice()).await,
        Finding::of(Promise::PutReplaces, trial.put_replaces(&before)).await,
        Finding::of(Promise::PutGivesBack, trial.put_gives_back(&before)).await,
        Finding::of(Promise::PutRefusesNowhere, trial.put_refuses_nowhere()).await,
        Finding::of(Promise::StaleSnapshot, trial.stale_snapshot()).await,
        Finding::of(Promise::ConcurrentWriters, trial.concurrent_writers()).await,
        Finding::of(Promise::Remove, trial.remove()).await,
    ];
    // Whatever went wrong: nothing of it stays.
    let cleared = trial.clear().await;
    findings.push(Finding::of(Promise::OthersUntouched, trial.others_untouched(&before)).await);
    if let Err(breach) = cleared {
        findings.push(Finding::of(Promise::Remove, async { Err(breach) }).await);
    }
    for id in [&scratch.target].into_iter().chain(&scratch.others) {
        let check = checking::both_ways(provider, id, scratch.patience);
        findings.push(Finding::of(Promise::CheckBothWays, check).await);
    }
    findings
}

struct Trial<'a> {
    provider: &'a dyn Provider,
    scratch: &'a Scratch,
}

impl Trial<'_> {
    fn first(&self) -> IpNet {
        let [first, _] = self.scratch.destinations;
        first.into()
    }

    fn second(&self) -> IpNet {
        let [_, second] = self.scratch.destinations;
        second.into()
    }

    fn target(&self) -> NextHop {
        NextHop::Interface(self.scratch.target.clone())
    }

    /// The other interfaces as next hops. Not every cloud lets routes target each of them.
    fn others(&self) -> impl Iterator<Item = NextHop> {
        self.scratch.others.iter().cloned().map(NextHop::Interface)
    }

    fn is_scratch(&self, route: &Route) -> bool {
        route.destination == self.first() || route.destination == self.second()
    }

    /// The table as it is before anything is written. What an earlier trial left that was cut
    /// short is cleared away; anything else at the scratch destinations is somebody's.
    async fn begin(&self) -> Result<TableFacts, Breach> {
        let targets: Vec<NextHop> = self.others().chain([self.target()]).collect();
        let facts = self.table().await?.facts().clone();
        for route in facts.routes.iter().filter(|route| self.is_scratch(route)) {
            if !targets.contains(&route.next_hop) {
                return Err(Breach::NotTried(format!(
                    "{} has a route to {} already",
                    facts.id, route.destination
                )));
            }
        }
        if facts.routes.iter().any(|route| self.is_scratch(route)) {
            self.clear().await?;
        }
        Ok(self.table().await?.facts().clone())
    }

    async fn table(&self) -> Result<Arc<dyn RouteTable>, Breach> {
        let id = &self.scratch.table;
        let answer = self.provider.route_tables(&of_ids(BTreeSet::from([id.clone()]))).await?;
        match (answer.found.into_iter().next(), answer.missing.into_iter().next()) {
            (Some(table), _) => Ok(table),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Err(Breach::Broken(format!("{id} is neither found nor missing"))),
        }
    }

    /// Waits until the table is as it should be; tells how it isn't otherwise.
    async fn until(&self, right: impl Fn(&TableFacts) -> Result<(), Breach>) -> Result<(), Breach> {
        let look = || async { right(self.table().await?.facts()) };
        let times = self.scratch.patience.as_millis() / PAUSE.as_millis();
        look.retry(
            ConstantBuilder::default()
                .with_delay(PAUSE)
                .with_max_times(usize::try_from(times).unwrap_or(usize::MAX)),
        )
        .when(|breach| matches!(breach, Breach::Broken(_)))
        .await
    }

    /// Waits until the route to `destination` is the one that is expected.
    async fn shows(&self, destination: IpNet, expected: Option<&NextHop>) -> Result<(), Breach> {
        self.until(|facts| {
            let there = facts.routes.iter().filter(|route| route.destination == destination);
            let hops: Vec<&NextHop> = there.map(|route| &route.next_hop).collect();
            ensure(hops == expected.as_slice(), || {
                format!("route {destination}: expected {expected:?}, the table shows {hops:?}")
            })
        })
        .await
    }

    async fn put(&self, destination: IpNet, hop: &NextHop) -> Result<(), Breach> {
        self.table().await?.put(destination, hop).await?;
        self.shows(destination, Some(hop)).await
    }

    async fn remove_absent(&self) -> Result<(), Breach> {
        self.table().await?.remove(self.first()).await?;
        self.shows(self.first(), None).await
    }

    async fn put_creates(&self) -> Result<(), Breach> {
        self.put(self.first(), &self.target()).await
    }

    async fn put_twice(&self) -> Result<(), Breach> {
        let target = self.target();
        self.put(self.first(), &target).await?;
        let once = self.table().await?.facts().clone();
        self.put(self.first(), &target).await?;
        self.until(|twice| {
            ensure(once == *twice, || format!("the table changed from {once:?} to {twice:?}"))
        })
        .await
    }

    /// To a target that the table has and back, or to another interface.
    async fn put_replaces(&self, before: &TableFacts) -> Result<(), Breach> {
        let target = self.target();
        let Some(other) = foreign_hops(before).into_iter().chain(self.others()).next() else {
            return Err(Breach::NotTried(
                "there is no second target: neither another interface nor a route of others"
                    .to_owned(),
            ));
        };
        self.put(self.first(), &target).await?;
        self.put(self.first(), &other).await?;
        self.put(self.first(), &target).await
    }

    async fn put_gives_back(&self, before: &TableFacts) -> Result<(), Breach> {
        let hops = foreign_hops(before);
        if hops.is_empty() {
            return Err(Breach::NotTried("the table has no static route of others".to_owned()));
        }
        for hop in hops {
            self.put(self.first(), &hop).await?;
        }
        Ok(())
    }

    async fn put_refuses_nowhere(&self) -> Result<(), Breach> {
        let nowhere = made_up(self.scratch.target.as_str())
            .parse()
            .map_err(|error| Breach::NotTried(format!("no id could be made up: {error}")))?;
        let destination = self.second();
        match self.table().await?.put(destination, &NextHop::Interface(nowhere)).await {
            Ok(()) => Err(Breach::Broken("a route to an interface that isn't there".to_owned())),
            Err(error)
                if matches!(
                    error.kind(),
                    Kind::NotFound | Kind::Invalid | Kind::Unsupported | Kind::Conflict
                ) =>
            {
                self.shows(destination, None).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Two snapshots; what is written through one is news to the other.
    async fn stale_snapshot(&self) -> Result<(), Breach> {
        let (target, destination) = (self.target(), self.first());
        self.table().await?.remove(destination).await?;
        self.shows(destination, None).await?;
        let (absent, other) = (self.table().await?, self.table().await?);
        other.put(destination, &target).await?;
        self.shows(destination, Some(&target)).await?;
        absent.put(destination, &target).await?;
        self.shows(destination, Some(&target)).await?;

        let present = self.table().await?;
        other.remove(destination).await?;
        self.shows(destination, None).await?;
        present.put(destination, &target).await?;
        self.shows(destination, Some(&target)).await?;

        let present = self.table().await?;
        other.remove(destination).await?;
        self.shows(destination, None).await?;
        present.remove(destination).await?;
        self.shows(destination, None).await
    }

    async fn concurrent_writers(&self) -> Result<(), Breach> {
        let target = self.target();
        let (one, other) = (self.table().await?, self.table().await?);
        try_join(one.put(self.first(), &target), other.put(self.second(), &target)).await?;
        self.shows(self.first(), Some(&target)).await?;
        self.shows(self.second(), Some(&target)).await?;
        let (one, other) = (self.table().await?, self.table().await?);
        try_join(one.remove(self.first()), other.put(self.second(), &target)).await?;
        self.shows(self.first(), None).await?;
        self.shows(self.second(), Some(&target)).await
    }

    async fn remove(&self) -> Result<(), Breach> {
        self.put(self.first(), &self.target()).await?;
        self.table().await?.remove(self.first()).await?;
        self.shows(self.first(), None).await
    }

    async fn clear(&self) -> Result<(), Breach> {
        for destination in [self.first(), self.second()] {
            self.table().await?.remove(destination).await?;
            self.shows(destination, None).await?;
        }
        Ok(())
    }

    async fn others_untouched(&self, before: &TableFacts) -> Result<(), Breach> {
        let others = |facts: &TableFacts| -> BTreeSet<Route> {
            facts.routes.iter().filter(|route| !self.is_scratch(route)).cloned().collect()
        };
        let was = others(before);
        self.until(|after| {
            let is = others(after);
            ensure(was == is, || {
                let gone: Vec<_> = was.difference(&is).collect();
                let new: Vec<_> = is.difference(&was).collect();
                format!("gone: {gone:?}; new: {new:?}")
            })
        })
        .await
    }
}

/// The targets of others' static routes, each once.
fn foreign_hops(facts: &TableFacts) -> BTreeSet<NextHop> {
    facts
        .routes
        .iter()
        .filter(|route| route.origin == RouteOrigin::Static && route.next_hop != NextHop::Local)
        .map(|route| route.next_hop.clone())
        .collect()
}
