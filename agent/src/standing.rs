//! What the daemon's proofs of late add up to: when the next is due, which evidence the verdict goes
//! by, and whether routes are given back.

use std::time::{Duration, Instant};

use natd_core::{canary::Outcome, config::Verify, proof::Evidence, streak::Streak};
use serde::Serialize;

/// The proofs of late.
pub struct Standing {
    interval: Duration,
    withdraw: bool,
    streak: Streak,
    latest: Option<(Evidence, Instant)>,
    /// When a proof last counted.
    counted: Option<Instant>,
    /// The last that came out.
    good: Option<Evidence>,
    /// The last that failed.
    bad: Option<Evidence>,
    figures: Figures,
}

/// What is told of it.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Figures {
    /// How many proofs have failed in a row; 0 if the last came out.
    pub failures: u32,
    /// Routes are given back until proofs come out again.
    pub withdrawn: bool,
    /// Canaries that came through, since the start.
    pub returned: u64,
    /// Canaries that were lost.
    pub lost: u64,
    /// Canaries that could not be sent.
    pub unsent: u64,
}

impl Standing {
    /// Before the first proof.
    #[must_use]
    pub fn new(config: &Verify) -> Self {
        Self {
            interval: config.interval,
            withdraw: config.withdraw,
            streak: Streak::new(config.fall, config.rise),
            latest: None,
            counted: None,
            good: None,
            bad: None,
            figures: Figures::default(),
        }
    }

    /// When the next proof is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.latest.as_ref().map(|(_, at)| *at + self.interval)
    }

    /// Evidence that needn't be sought again yet. What has failed is tried again at every occasion.
    #[must_use]
    pub fn fresh(&self) -> Option<&Evidence> {
        let (evidence, at) = self.latest.as_ref()?;
        (evidence.is_good() == Some(true) && at.elapsed() < self.interval).then_some(evidence)
    }

    /// Whether routes are to be given back.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.withdraw && self.streak.fallen
    }

    /// What is told of it, and of whether routes are given back by now.
    #[must_use]
    pub fn figures(&self, withdrawn: bool) -> Figures {
        let failures = if self.streak.good == Some(false) { self.streak.length } else { 0 };
        Figures { failures, withdrawn, ..self.figures }
    }

    /// Takes note of evidence, and gives that which the verdict is to go by: the last that came out,
    /// until failures in a row count; the last that failed, until successes in a row do.
    pub fn weigh(&mut self, evidence: Evidence, is_new: bool, now: Instant) -> Evidence {
        let good = evidence.is_good();
        // If this proof ends that, no route is taken yet.
        let withdrawn = self.is_withdrawn();
        if is_new {
            self.note(&evidence, good, now);
        }
        match (good, self.streak.fallen || withdrawn) {
            (Some(false), false) => self.good.clone().unwrap_or(evidence),
            (Some(true), true) => self.bad.clone().unwrap_or(evidence),
            _ => evidence,
        }
    }

    fn note(&mut self, evidence: &Evidence, good: Option<bool>, now: Instant) {
        match evidence.canary.as_ref().map(|flown| &flown.outcome) {
            Some(Outcome::Returned { .. } | Outcome::Left { .. }) => self.figures.returned += 1,
            Some(Outcome::Lost(_)) => self.figures.lost += 1,
            Some(Outcome::Unsent(_)) => self.figures.unsent += 1,
            None => {}
        }
        self.latest = Some((evidence.clone(), now));
        let Some(good) = good else { return };
        let before = (self.streak, self.is_withdrawn());
        // Ticks are not on the second.
        let due = self.counted.is_none_or(|at| now.duration_since(at) >= self.interval * 9 / 10);
        self.streak.note(good, due);
        if self.streak != before.0 || due {
            self.counted = Some(now);
            self.tell(evidence, before.1);
        }
        let last = if good { &mut self.good } else { &mut self.bad };
        *last = Some(evidence.clone());
    }

    fn tell(&self, evidence: &Evidence, was_withdrawn: bool) {
        let Streak { length, fallen, .. } = self.streak;
        if let Some(error) = evidence.failure() {
            if !fallen && self.good.is_some() {
                tracing::warn!(%error, "a proof failed, {length} in a row: natd waits for more");
            }
        } else if fallen {
            tracing::info!("a proof came out again, {length} in a row: natd waits for more");
        }
        match (was_withdrawn, self.is_withdrawn()) {
            (false, true) => tracing::error!(
                "the routes are given back: {length} proofs in a row have failed (verify.withdraw)"
            ),
            (true, false) => {
                tracing::info!("the routes are taken again: {length} proofs in a row came out");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use natd_core::{
        error::{Error, Kind},
        verdict::Proof,
    };

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn good() -> Evidence {
        Proof::Reached("198.51.100.10:80".to_owned()).into()
    }

    fn bad() -> Evidence {
        Proof::Failed(Error::new(Kind::Unreachable, "reach it", "silence")).into()
    }

    /// What the verdict goes by after each of these, an interval apart.
    fn weighed(standing: &mut Standing, proofs: &[Evidence]) -> Vec<Option<bool>> {
        let start = standing.due().unwrap_or_else(Instant::now);
        let times = (0..).map(|n| start + INTERVAL * n);
        let weigh =
            |(evidence, now): (&Evidence, _)| standing.weigh(evidence.clone(), true, now).is_good();
        proofs.iter().zip(times).map(weigh).collect()
    }

    fn standing() -> Standing {
        Standing::new(&Verify { interval: INTERVAL, withdraw: true, ..Verify::default() })
    }

    #[test]
    fn the_verdict_falls_late_and_rises_late() {
        let mut standing = standing();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(
            weighed(&mut standing, &[good(), bad(), bad(), good(), bad(), bad(), bad()]),
            [yes, yes, yes, yes, yes, yes, no]
        );
        assert!(standing.is_withdrawn() && standing.figures(true).failures == 3);
        // The fourth has the routes taken again, which is not done yet.
        assert_eq!(weighed(&mut standing, &[good(), bad(), good(), good()]), [no; 4]);
        assert!(!standing.is_withdrawn());
        assert_eq!(standing.weigh(good(), false, Instant::now()).is_good(), yes);
    }

    #[test]
    fn before_the_first_good_proof_there_is_nothing_to_go_by() {
        let mut standing = standing();
        assert_eq!(weighed(&mut standing, &[bad(), good()]), [Some(false), Some(true)]);
        assert!(!standing.is_withdrawn());
    }

    #[test]
    fn evidence_that_is_used_again_doesnt_count_again() {
        let mut standing = standing();
        weighed(&mut standing, &[good(), bad(), bad()]);
        let now = standing.due().expect("there was one");
        for _ in 0..9 {
            standing.weigh(bad(), false, now);
        }
        assert_eq!((standing.figures(false).failures, standing.is_withdrawn()), (2, false));
    }
}
