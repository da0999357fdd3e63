//! What the daemon says of itself: to the control socket, to health checks, to metrics.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use natd_core::{apply::Outcome, error::Error, verdict::Verdict};
use serde::Serialize;

use crate::{
    gateway::{Look, Report, Trouble},
    standing::Figures,
};

/// The daemon's state after its last tick.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The daemon's process id.
    pub process: u32,
    /// natd's version.
    pub version: &'static str,
    /// When the last tick ended, in seconds since 1970.
    pub last_tick: Option<u64>,
    /// What it came to.
    pub report: Option<Report>,
    /// Why it came to nothing.
    pub trouble: Option<Error>,
    /// Counted since the start.
    pub counts: Counts,
    /// What the proofs of late add up to.
    pub proofs: Figures,
    #[serde(skip)]
    ticked: Instant,
    #[serde(skip)]
    interval: Duration,
}

/// What is counted since the start.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Counts {
    /// Ticks that looked at cloud and host.
    pub full_ticks: u64,
    /// Ticks that looked at the host alone.
    pub host_ticks: u64,
    /// Ticks that came to nothing.
    pub failed_ticks: u64,
    /// Steps done.
    pub steps_done: u64,
    /// Steps that failed.
    pub steps_failed: u64,
}

impl Status {
    /// Before the first tick.
    #[must_use]
    pub fn starting(version: &'static str, interval: Duration) -> Self {
        Self {
            process: std::process::id(),
            version,
            last_tick: None,
            report: None,
            trouble: None,
            counts: Counts::default(),
            proofs: Figures::default(),
            ticked: Instant::now(),
            interval,
        }
    }

    /// Notes what a tick came to.
    pub fn note(&mut self, outcome: Result<Report, Trouble>, look: Look, proofs: Figures) {
        self.proofs = proofs;
        self.ticked = Instant::now();
        self.last_tick =
            SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        match look {
            Look::Everything => self.counts.full_ticks += 1,
            Look::Host => self.counts.host_ticks += 1,
        }
        match outcome {
            Ok(report) => {
                for attempt in &report.steps {
                    match attempt.outcome {
                        Outcome::Done { .. } => self.counts.steps_done += 1,
                        Outcome::Failed(_) => self.counts.steps_failed += 1,
                        Outcome::Warned(_) | Outcome::Skipped => {}
                    }
                }
                self.report = Some(report);
                self.trouble = None;
            }
            Err(Trouble::Configuration(error) | Trouble::Failure(error)) => {
                self.counts.failed_ticks += 1;
                self.trouble = Some(error);
            }
        }
    }

    /// Whether the loop still turns: three intervals and a minute are more than any tick takes.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.ticked.elapsed() < self.interval.saturating_mul(3) + Duration::from_mins(1)
    }

    /// Whether the last tick found NAT to work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.trouble.is_none()
            && self.report.as_ref().is_some_and(|report| {
                matches!(report.judgement.verdict, Verdict::Works | Verdict::Unproven)
                    && report.refused().is_none()
            })
    }

    /// In a line, for people.
    #[must_use]
    pub fn headline(&self) -> String {
        match (&self.trouble, &self.report) {
            (Some(error), _) => format!("NAT may not work: {error}"),
            (None, Some(report)) => match report.refused() {
                Some(error) => format!("NAT may not work: {error}"),
                None => report.judgement.headline.clone(),
            },
            (None, None) => "natd is starting".to_owned(),
        }
    }
}
