//! The pace of writes: Huawei allows a few a minute, and says so only by refusing.
//!
//! While nothing is refused, writes go side by side. Once one is, all wait, longer each time; then
//! one goes alone, and only its success lets the others follow. Who would have to wait for too
//! long isn't sent at all.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use natd_core::error::{Error, Kind, Result};
use tokio::time::{Instant, sleep_until};

use crate::patience::Patience;

/// The first pause, as a multiple of the ordinary backoff; doubles with each refusal.
const LONGER: u32 = 10;

/// The longest pause.
const LONGEST: Duration = Duration::from_mins(1);

/// What all writes of a provider pass.
pub(super) struct Pace {
    state: Mutex<State>,
    /// Held by the one write that goes while writes are being refused.
    alone: tokio::sync::Mutex<()>,
    first: Duration,
    wait: Duration,
    attempts: u32,
}

#[derive(Default)]
struct State {
    /// Refusals since the last success.
    refusals: u32,
    until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            state: Mutex::default(),
            alone: tokio::sync::Mutex::default(),
            first: patience.initial_backoff * LONGER,
            wait: patience.call,
            attempts: patience.attempts,
        }
    }

    /// Writes, again after a pause if it was too often, in all as often as patience has attempts.
    ///
    /// # Errors
    /// Of `write`; `Throttled` without a call if the cloud has just refused others and the pause
    /// lasts longer than a call may take.
    pub(super) async fn keep<T, F: Future<Output = Result<T>>>(
        &self,
        doing: &str,
        write: impl Fn() -> F,
    ) -> Result<T> {
        let deadline = Instant::now() + self.wait;
        let mut attempts = 0;
        loop {
            let alone = self.pass(doing, deadline).await?;
            let sent = Instant::now();
            let result = write().await;
            attempts += 1;
            match &result {
                Err(error) if error.kind() == Kind::Throttled => {
                    self.refused(sent);
                    if attempts >= self.attempts {
                        return result;
                    }
                }
                // Another failure says nothing about the pace.
                Err(_) => return result,
                Ok(_) => {
                    *self.state() = State::default();
                    return result;
                }
            }
            drop(alone);
        }
    }

    /// Waits for the turn.
    async fn pass(
        &self,
        doing: &str,
        deadline: Instant,
    ) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>> {
        let too_long = || {
            let cause = "the cloud is asked too often by others of this machine's writes";
            Error::new(Kind::Throttled, doing, cause).with_advice("natd tries again by itself")
        };
        if self.state().refusals == 0 {
            return Ok(None);
        }
        let alone = tokio::time::timeout_at(deadline, self.alone.lock()).await;
        let alone = alone.map_err(|_elapsed| too_long())?;
        let until = self.state().until;
        match until {
            Some(until) if until > deadline => Err(too_long()),
            Some(until) => {
                sleep_until(until).await;
                Ok(Some(alone))
            }
            // While this one waited, another got through.
            None => Ok(None),
        }
    }

    /// Lengthens the pause; once for all writes that were under way together.
    fn refused(&self, sent: Instant) {
        let mut state = self.state();
        if state.until.is_some_and(|until| sent < until) {
            return;
        }
        let pause = self.first.saturating_mul(1 << state.refusals.min(16)).min(LONGEST);
        state.refusals += 1;
        state.until = Some(Instant::now() + pause);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
