//! Two owners of one route must not fight: who loses a route three times to a live target leaves it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use natd_core::{
    advise::Warning,
    model::{NextHop, Route, RouteKey, RouteState},
    observed::Observed,
};

/// After that many losses natd stops taking a route.
const LOSSES: u32 = 3;

/// After that many losses to live targets it is told that somebody else wants the route, too.
const RIVALRY: u32 = 2;

/// A route that was held for that long without a loss is nobody else's any more.
const PEACE: Duration = Duration::from_hours(1);

/// What natd remembers of its routes from tick to tick.
#[derive(Debug, Default)]
pub struct Contest {
    held: BTreeSet<RouteKey>,
    losses: BTreeMap<RouteKey, (u32, Instant)>,
}

impl Contest {
    /// Counts the held routes that have a live target of somebody else's by now, and gives the
    /// routes that are to be left alone.
    pub fn look(
        &mut self,
        observed: &Observed,
        is_ours: impl Fn(&NextHop) -> bool,
        now: Instant,
    ) -> BTreeSet<RouteKey> {
        let taken = |route: &Route| route.state == RouteState::Active && !is_ours(&route.next_hop);
        self.losses.retain(|_, (_, last)| now.duration_since(*last) < PEACE);
        for key in std::mem::take(&mut self.held) {
            if observed.routes.get(&key).is_some_and(taken) {
                let (count, last) = self.losses.entry(key).or_insert((0, now));
                *count += 1;
                *last = now;
            }
        }
        self.losses
            .iter_mut()
            .filter(|(key, (count, _))| {
                *count >= LOSSES && observed.routes.get(key).is_some_and(taken)
            })
            .map(|(key, (_, last))| {
                // Peace begins when the other lets go, not while it holds the route.
                *last = now;
                key.clone()
            })
            .collect()
    }

    /// The routes that somebody else seems to want, too, and that natd still takes.
    pub fn alarms(&self) -> impl Iterator<Item = Warning> {
        let is_contested =
            |(_, (count, _)): &(&RouteKey, &(u32, Instant))| (RIVALRY..LOSSES).contains(count);
        self.losses.iter().filter(is_contested).map(|(key, _)| Warning::contested(key))
    }

    /// Notes the routes that are held now.
    pub fn hold(&mut self, held: BTreeSet<RouteKey>) {
        self.held = held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use natd_core::model::RouteOrigin;

    fn key() -> RouteKey {
        RouteKey {
            table: "rtb-1".parse().expect("an id"),
            destination: "0.0.0.0/0".parse().expect("a net"),
        }
    }

    fn seen(target: &str, state: RouteState) -> Observed {
        let next_hop = NextHop::Interface(target.parse().expect("an id"));
        let route =
            Route { destination: key().destination, next_hop, state, origin: RouteOrigin::Static };
        Observed { routes: BTreeMap::from([(key(), route)]), ..Observed::default() }
    }

    /// Loses the route that often, taking it back each time; tells whether it is left alone at last.
    fn after(losses: u32, state: RouteState, pause: Duration) -> bool {
        let ours = NextHop::Interface("eni-ours".parse().expect("an id"));
        let mut contest = Contest::default();
        let mut now = Instant::now();
        let mut left = BTreeSet::new();
        for _ in 0..losses {
            contest.hold(BTreeSet::from([key()]));
            now += pause;
            left = contest.look(&seen("eni-theirs", state), |hop| *hop == ours, now);
        }
        left.contains(&key())
    }

    #[test]
    fn the_third_loss_to_a_live_target_ends_it() {
        assert!(!after(2, RouteState::Active, Duration::from_secs(30)));
        assert!(after(3, RouteState::Active, Duration::from_secs(30)));
    }

    #[test]
    fn that_somebody_wants_it_too_is_told_after_the_second_loss_until_natd_leaves_it() {
        let mut contest = Contest::default();
        let now = Instant::now();
        let told: Vec<usize> = (0..4)
            .map(|_| {
                contest.hold(BTreeSet::from([key()]));
                contest.look(&seen("eni-theirs", RouteState::Active), |_| false, now);
                contest.alarms().count()
            })
            .collect();
        assert_eq!(told, [0, 1, 0, 0]);
        assert!(Contest::default().alarms().next().is_none());
    }

    #[test]
    fn a_dead_target_is_no_rival_and_peace_forgets() {
        assert!(!after(5, RouteState::Blackhole, Duration::from_secs(30)));
        assert!(!after(5, RouteState::Active, Duration::from_secs(3700)));
    }

    #[test]
    fn a_route_left_alone_stays_so_while_the_rival_holds_it_and_is_free_when_it_lets_go() {
        let ours = NextHop::Interface("eni-ours".parse().expect("an id"));
        let mut contest = Contest::default();
        let mut now = Instant::now();
        for _ in 0..3 {
            contest.hold(BTreeSet::from([key()]));
            contest.look(&seen("eni-theirs", RouteState::Active), |hop| *hop == ours, now);
        }
        for _ in 0..10 {
            now += Duration::from_mins(50);
            let left =
                contest.look(&seen("eni-theirs", RouteState::Active), |hop| *hop == ours, now);
            assert!(left.contains(&key()));
        }
        let left =
            contest.look(&seen("eni-theirs", RouteState::Blackhole), |hop| *hop == ours, now);
        assert!(left.is_empty());
    }
}
