//! The pace of writes: as long as the cloud says that it is asked too often, natd writes ever more
//! seldom, whatever brings ticks about. Each single call has its own retries besides.

use std::time::{Duration, Instant};

use natd_core::{
    apply::{Attempt, Outcome},
    error::{Error, Kind},
};

/// The first pause; doubles with each further refusal.
const FIRST: Duration = Duration::from_secs(2);

/// The longest pause: for so long natd may come late when the storm is over.
const LONGEST: Duration = Duration::from_secs(30);

/// What natd knows of the cloud's patience.
#[derive(Debug, Default)]
pub struct Pace(Option<Refused>);

#[derive(Debug)]
struct Refused {
    why: Error,
    times: u32,
    until: Instant,
}

impl Pace {
    /// Why nothing is to be written now.
    #[must_use]
    pub fn holds_back(&self, now: Instant) -> Option<&Error> {
        self.0.as_ref().filter(|refused| now < refused.until).map(|refused| &refused.why)
    }

    /// Notes what came of writes that were not held back.
    pub fn note(&mut self, attempts: &[Attempt], now: Instant) {
        let mut writes =
            attempts.iter().filter(|attempt| attempt.step.phase().writes_to_the_cloud()).peekable();
        let is_idle = writes.peek().is_none();
        let mut gets_through = false;
        let mut throttled = None;
        for Attempt { outcome, .. } in writes {
            match outcome {
                Outcome::Failed(error) if error.kind() == Kind::Throttled => {
                    throttled = Some(error);
                }
                Outcome::Done { .. } => gets_through = true,
                _ => {}
            }
        }
        if let Some(why) = throttled {
            let times = self.0.as_ref().map_or(0, |refused| refused.times);
            let pause = FIRST.saturating_mul(1 << times.min(16)).min(LONGEST);
            self.0 = Some(Refused { why: why.clone(), times: times + 1, until: now + pause });
        } else if is_idle || gets_through {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use natd_core::step::Step;

    use super::*;

    fn attempt(outcome: Outcome) -> Attempt {
        let key = natd_core::model::RouteKey {
            table: "rtb-1".parse().expect("an id"),
            destination: "0.0.0.0/0".parse().expect("a block"),
        };
        let target = "eni-1".parse().expect("an id");
        Attempt { step: Step::TakeRoute { key, target, from: None }, outcome }
    }

    fn failed(kind: Kind) -> Attempt {
        attempt(Outcome::Failed(Error::new(kind, "write", "no")))
    }

    #[test]
    fn pauses_grow_to_a_bound_and_end_with_the_storm() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut now = start;
        let mut writes = 0;
        // A tick every second, for ten minutes.
        for _ in 0..600 {
            if pace.holds_back(now).is_none() {
                writes += 1;
                pace.note(&[failed(Kind::Throttled)], now);
                assert_eq!(pace.holds_back(now).map(Error::kind), Some(Kind::Throttled));
            }
            now += Duration::from_secs(1);
        }
        // After 0, 2, 6, 14, 30 s, and then every 30.
        assert_eq!(writes, 5 + (599 - 30) / 30);

        now += LONGEST;
        assert!(pace.holds_back(now).is_none());
        // One that gets through beside one that doesn't is no end yet.
        pace.note(&[attempt(Outcome::Done { detail: None }), failed(Kind::Throttled)], now);
        assert!(pace.holds_back(now + LONGEST.saturating_sub(Duration::from_secs(1))).is_some());
        pace.note(&[attempt(Outcome::Done { detail: None })], now);
        assert!(pace.holds_back(now).is_none());
        pace.note(&[failed(Kind::Throttled)], now);
        assert!(pace.holds_back(now + FIRST).is_none(), "it begins anew");
    }

    #[test]
    fn other_failures_say_nothing_about_the_pace() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for kind in [Kind::Unreachable, Kind::Denied] {
            pace.note(&[failed(kind)], now);
            assert!(pace.holds_back(now).is_none());
        }
    }
}
