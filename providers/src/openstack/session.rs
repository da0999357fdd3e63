//! The token in use: fetched by one caller at a time, renewed before it ends, replaced when refused.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use natd_core::{config, error::Result};
use tokio::time::Instant;

use super::{
    access::Access,
    environment::Environment,
    keystone::{self, Token},
};
use crate::http::{Http, patiently};

/// A token is renewed when less than this is left of it, or a quarter of its life if that is shorter.
const RENEWED_BEFORE: Duration = Duration::from_mins(5);

/// After a renewal ahead of time has failed, the next one waits for so long: the token is still good.
const NEXT_TRY: Duration = Duration::from_secs(20);

/// Logs in with what files and variables hold at that moment, so that rotated credentials are seen.
pub(super) struct Session {
    http: Http,
    options: config::Openstack,
    environment: Environment,
    current: Mutex<Option<Arc<Held>>>,
    /// Held by the one caller that logs in.
    login: tokio::sync::Mutex<()>,
    /// The last renewal ahead of time has failed.
    fails: AtomicBool,
}

/// A token with its times.
pub(super) struct Held {
    pub(super) token: Token,
    renewed_from: Mutex<Instant>,
    ends: Instant,
}

impl Session {
    pub(super) fn new(http: Http, options: config::Openstack, environment: Environment) -> Self {
        let (current, login) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { http, options, environment, current, login, fails: AtomicBool::new(false) }
    }

    /// A token that is good. Callers wait for each other only if there is none: while one renews the
    /// token ahead of time, the others go on with it.
    pub(super) async fn token(&self) -> Result<Arc<Held>> {
        let Some(held) = self.good() else {
            let _alone = self.login.lock().await;
            return match self.good() {
                Some(held) => Ok(held),
                None => patiently(&self.http.patience, || self.log_in()).await,
            };
        };
        if Instant::now() < *locked(&held.renewed_from) {
            return Ok(held);
        }
        let Ok(_alone) = self.login.try_lock() else { return Ok(held) };
        // Somebody else may have been quicker.
        if let Some(now) = self.good().filter(|now| !Arc::ptr_eq(now, &held)) {
            return Ok(now);
        }
        match self.log_in().await {
            Ok(renewed) => {
                if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!("the token is renewed again");
                }
                Ok(renewed)
            }
            Err(error) => {
                if self.fails.swap(true, Ordering::Relaxed) {
                    tracing::debug!(%error, "still not renewed");
                } else {
                    tracing::warn!(%error, "the token could not be renewed ahead of time");
                }
                *locked(&held.renewed_from) = Instant::now() + NEXT_TRY;
                Ok(held)
            }
        }
    }

    /// Another token in place of one that was refused.
    pub(super) async fn replace(&self, refused: &Arc<Held>) -> Result<Arc<Held>> {
        let _alone = self.login.lock().await;
        if let Some(held) = self.good().filter(|held| !Arc::ptr_eq(held, refused)) {
            return Ok(held);
        }
        patiently(&self.http.patience, || self.log_in()).await
    }

    async fn log_in(&self) -> Result<Arc<Held>> {
        let access = Access::read(&self.options, &self.environment)?;
        // Counted from before it was issued, by a clock that nobody sets.
        let asked = Instant::now();
        let token = keystone::log_in(&self.http, &access).await?;
        let ends = asked + token.lifetime;
        let ahead = RENEWED_BEFORE.min(token.lifetime / 4);
        let held = Arc::new(Held {
            token,
            renewed_from: Mutex::new(ends.checked_sub(ahead).unwrap_or(asked)),
            ends,
        });
        *locked(&self.current) = Some(Arc::clone(&held));
        Ok(held)
    }

    /// The current token, if it hasn't ended.
    fn good(&self) -> Option<Arc<Held>> {
        locked(&self.current).clone().filter(|held| Instant::now() < held.ends)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
