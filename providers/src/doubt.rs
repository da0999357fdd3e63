//! A cloud that refuses good credentials and takes them, or new ones, at once: one accident, however many
//! calls it befalls.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Refusals that come no longer than this after one another are one accident.
const APART: Duration = Duration::from_mins(5);

/// When credentials were last refused.
#[derive(Default)]
pub(crate) struct Doubt(Mutex<Option<Instant>>);

impl Doubt {
    /// Notes a refusal. Tells whether it is the first of an accident.
    pub(crate) fn begins(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace(now).is_none_or(|last| now.duration_since(last) > APART)
    }
}
