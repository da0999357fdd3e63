//! Exit codes, and how a run's outcome maps to them.

use std::process::ExitCode;

use natd_agent::gateway::{Report, Trouble};
use natd_core::apply::Outcome;

/// The codes that scripts may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done or converged.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Changes are pending (`plan --detailed-exitcode` only).
    Pending = 2,
    /// Refused for safety; nothing was changed.
    Refused = 3,
    /// Some is served, some was refused or failed.
    Partly = 4,
    /// Usage or configuration error.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// Of `apply`.
    pub fn of_report(report: &Report) -> Self {
        let unfinished = report.unfinished().next().is_some();
        let short = !report.refusals.is_empty() || !report.problems.is_empty();
        match (unfinished, short) {
            (false, false) => Self::Done,
            _ if !report.served.is_empty() => Self::Partly,
            (false, true) if !report.refusals.is_empty() => Self::Refused,
            _ => Self::Failed,
        }
    }

    /// Of `down`.
    pub fn of_return(report: &Report) -> Self {
        let done =
            report.steps.iter().any(|attempt| matches!(attempt.outcome, Outcome::Done { .. }));
        match report.unfinished().next() {
            None => Self::Done,
            Some(_) if done => Self::Partly,
            Some(_) => Self::Failed,
        }
    }

    /// Of a look that came to nothing.
    pub fn of_trouble(trouble: &Trouble) -> Self {
        match trouble {
            Trouble::Configuration(_) => Self::Usage,
            Trouble::Failure(_) => Self::Failed,
        }
    }
}
