//! What the daemon has logged: a trouble in one line when it begins and one when it is over, however
//! many calls and ticks it lasts. Repeats are told at debug.

use std::collections::BTreeSet;

use natd_core::{
    advise::Warning,
    apply::{Attempt, Outcome},
    error::{Error, Sort},
    verdict::{Judgement, Verdict},
};

use crate::gateway::{Report, Trouble};

/// What has been logged.
#[derive(Default)]
pub(crate) struct Told {
    judgement: Option<Judgement>,
    warnings: BTreeSet<Warning>,
    /// Why the cloud can't be asked, since it could be asked last.
    looks: BTreeSet<Sort>,
    /// Why steps fail, since all came out last.
    steps: BTreeSet<Sort>,
    /// That the cloud can't be asked has a line of its own, so that its end needs one too.
    is_away: bool,
}

impl Told {
    /// Logs what is news: a verdict, a warning, a trouble that begins or is over.
    pub(crate) fn tell(&mut self, outcome: &Result<Report, Trouble>) {
        match outcome {
            Ok(report) => self.report(report),
            Err(trouble) => {
                // Whatever comes next is news.
                self.judgement = None;
                if self.looks.insert(trouble.error().sort()) {
                    tracing::error!("{trouble}");
                } else {
                    tracing::debug!("{trouble}");
                }
            }
        }
    }

    fn report(&mut self, report: &Report) {
        self.judge(&report.judgement);
        self.attempts(&report.steps);
        self.answers(report.unanswered.as_ref());
        let warnings: BTreeSet<Warning> = report.warnings.iter().cloned().collect();
        for warning in warnings.difference(&self.warnings) {
            tracing::warn!(code = warning.code, "{}", warning.message);
        }
        self.warnings = warnings;
    }

    fn judge(&mut self, judgement: &Judgement) {
        let headline = &judgement.headline;
        let is_news = self.judgement.as_ref().is_none_or(|last| !last.says_the_same(judgement));
        match judgement.verdict {
            _ if !is_news => tracing::debug!("{headline}"),
            Verdict::Works | Verdict::Unproven => tracing::info!("{headline}"),
            Verdict::Partly | Verdict::Broken => tracing::error!("{headline}"),
        }
        self.judgement = Some(judgement.clone());
    }

    /// What failed by the trouble that the headline tells has been told.
    pub(crate) fn attempts(&mut self, attempts: &[Attempt]) {
        let failure = |attempt: &Attempt| {
            matches!(attempt.outcome, Outcome::Failed(_) | Outcome::Warned(_) | Outcome::Skipped)
        };
        if !attempts.iter().any(failure) {
            self.steps.clear();
        }
        self.steps.extend(self.judgement.iter().filter_map(|judgement| judgement.told.clone()));
        for Attempt { step, outcome } in attempts {
            match outcome {
                Outcome::Failed(error) if self.begins(error) => {
                    tracing::error!(%error, "failed: {step}");
                }
                Outcome::Warned(error) if self.begins(error) => {
                    tracing::warn!(%error, "not done: {step}");
                }
                _ => {}
            }
        }
    }

    /// Whether nothing was told of that trouble yet.
    fn begins(&mut self, error: &Error) -> bool {
        !self.looks.contains(&error.sort()) && self.steps.insert(error.sort())
    }

    fn answers(&mut self, unanswered: Option<&Error>) {
        match unanswered {
            None => {
                self.looks.clear();
                if std::mem::take(&mut self.is_away) {
                    tracing::info!("the cloud answers again");
                }
            }
            Some(error) => {
                let sort = error.sort();
                if !self.steps.contains(&sort) && self.looks.insert(sort) {
                    tracing::warn!(%error, "going by what the cloud said last");
                    self.is_away = true;
                } else {
                    tracing::debug!(%error, "still going by what the cloud said last");
                }
            }
        }
    }
}
