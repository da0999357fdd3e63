//! A plugin's program over all its lives: started when it is needed, again with backoff after it has
//! ended, and never more than once at a time.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder, Retryable as _};
use natd_core::{
    config,
    error::{Error, Kind, Result},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::Instant};

use super::{
    Limits,
    envelope::shortened,
    session::{Session, in_words},
    wire::{self, InitializeParams, InitializeResult},
};

/// The program and how it is called in texts.
pub(super) struct Lives {
    name: String,
    command: Vec<String>,
    settings: BTreeMap<String, Value>,
    timeout: Duration,
    limits: Limits,
    life: Mutex<Life>,
    has_lived: AtomicBool,
}

/// Where the program is between its first start and natd's end.
struct Life {
    session: Option<Arc<Session>>,
    backoff: ExponentialBackoff,
    /// When it may be started again, and why it is not running.
    down: Option<(Instant, String)>,
}

impl Lives {
    /// # Errors
    /// `Invalid` for an empty command.
    pub(super) fn new(options: config::Plugin, limits: Limits) -> Result<Self> {
        let name = options
            .command
            .first()
            .map(|program| program.rsplit('/').next().unwrap_or(program).to_owned())
            .ok_or_else(|| {
                Error::new(Kind::Invalid, "start the plugin", "plugin.command is empty")
            })?;
        Ok(Self {
            name,
            command: options.command,
            settings: options.settings.expose().clone(),
            timeout: options.timeout,
            life: Mutex::new(Life { session: None, backoff: backoff(&limits), down: None }),
            limits,
            has_lived: AtomicBool::new(false),
        })
    }

    async fn call(&self, doing: &str, method: &str, params: &Value) -> Result<Value> {
        let session = self.session(doing).await?;
        session.call(doing, method, params, self.timeout).await
    }

    /// The running program; started if there is none and it may be.
    async fn session(&self, doing: &str) -> Result<Arc<Session>> {
        let mut life = self.life.lock().await;
        if let Some(session) = life.session.take() {
            let Some(why) = session.epitaph() else {
                return Ok(Arc::clone(life.session.insert(session)));
            };
            if session.since.elapsed() > self.limits.longest_backoff {
                life.backoff = backoff(&self.limits);
            }
            life.falls(why);
        }
        if let Some((until, why)) = &life.down
            && let Some(wait) = until.checked_duration_since(Instant::now())
        {
            let cause = format!("the plugin {} is down: {why}", self.name);
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let wait = in_words(Duration::from_millis(millis));
            return Err(Error::new(Kind::Unreachable, doing, cause)
                .with_advice(format!("it is started again in {wait}")));
        }
        match self.begin().await {
            Ok(session) => {
                life.down = None;
                Ok(Arc::clone(life.session.insert(Arc::new(session))))
            }
            Err(error) => {
                life.falls(error.to_string());
                Err(error)
            }
        }
    }

    /// Starts the program and agrees with it on the protocol.
    async fn begin(&self) -> Result<Session> {
        let doing = "start the plugin";
        let session = Session::start(&self.name, &self.command, &self.limits)?;
        match self.shake_hands(doing, &session).await {
            Ok(answer) => {
                session.widen(answer.concurrency.map_or(1, NonZeroU16::get));
                let name = shortened(&answer.name);
                let version = shortened(&answer.version.unwrap_or_default());
                if self.has_lived.swap(true, Ordering::Relaxed) {
                    tracing::debug!(plugin = self.name, name, version, "the plugin is ready again");
                } else {
                    tracing::info!(plugin = self.name, name, version, "the plugin is ready");
                }
                Ok(session)
            }
            Err(error) => {
                session.condemn(&error).await;
                Err(error)
            }
        }
    }

    async fn shake_hands(&self, doing: &str, session: &Session) -> Result<InitializeResult> {
        let params = InitializeParams {
            protocol: wire::PROTOCOL,
            natd: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.settings.clone(),
        };
        let params = serde_json::to_value(params)
            .map_err(|error| Error::new(Kind::Invalid, doing, error))?;
        let answer = session.call(doing, wire::INITIALIZE, &params, self.timeout).await?;
        // Of another version only this much is certain.
        let version = answer.get("protocol").and_then(Value::as_u64);
        if let Some(version) = version.filter(|version| *version != u64::from(wire::PROTOCOL)) {
            let cause = format!(
                "the plugin {} speaks version {version} of the protocol, and this natd version {}",
                self.name,
                wire::PROTOCOL
            );
            return Err(Error::new(Kind::Unsupported, doing, cause)
                .with_advice("install a plugin and a natd that go together"));
        }
        self.read(doing, wire::INITIALIZE, answer)
    }

    fn read<T: DeserializeOwned>(&self, doing: &str, method: &str, answer: Value) -> Result<T> {
        let text = answer.to_string();
        // What has nothing to tell may say null.
        let answer = if answer.is_null() { Value::Object(Map::new()) } else { answer };
        // A list would do for serde, its elements taken for fields.
        let fits = if answer.is_object() {
            serde_json::from_value(answer).map_err(|why| why.to_string())
        } else {
            Err("it is no object".to_owned())
        };
        fits.map_err(|why| self.nonsense(doing, method, &format!("{why}: {}", shortened(&text))))
    }

    fn nonsense(&self, doing: &str, method: &str, why: &str) -> Error {
        let cause = format!(
            "what the plugin {} answered to {method} doesn't fit the protocol: {why}",
            self.name
        );
        Error::new(Kind::Invalid, doing, cause).with_advice("the plugin is at fault")
    }
}

impl Life {
    /// Notes why it is down, and for how long.
    fn falls(&mut self, why: String) {
        let wait = self.backoff.next().unwrap_or_default();
        self.down = Some((Instant::now() + wait, why));
    }
}

fn backoff(limits: &Limits) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(limits.first_backoff)
        .with_max_delay(limits.longest_backoff)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Asks the program, for everything that was made of its answers.
#[derive(Clone)]
pub(super) struct Caller(Arc<Lives>);

impl Caller {
    pub(super) fn new(lives: Lives) -> Self {
        Self(Arc::new(lives))
    }

    /// Starts the program now.
    ///
    /// # Errors
    /// As for [`super::Plugin::connect`].
    pub(super) async fn start(&self) -> Result<()> {
        self.0.session("start the plugin").await.map(drop)
    }

    /// Calls a method. What is throttled is tried again, nothing else is: the program knows its
    /// cloud better.
    ///
    /// # Errors
    /// What the plugin says; `Unreachable` if it is down, ends, or doesn't answer in time; `Invalid`
    /// if its answer doesn't fit the protocol, with the answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        doing: &str,
        method: &'static str,
        params: &impl Serialize,
    ) -> Result<T> {
        let params = serde_json::to_value(params)
            .map_err(|error| Error::new(Kind::Invalid, doing, error))?;
        let limits = &self.0.limits;
        let patience = ExponentialBuilder::default()
            .with_min_delay(limits.first_retry)
            .with_max_times(limits.attempts.saturating_sub(1))
            .with_jitter();
        let once = || self.once(doing, method, &params);
        let answer =
            once.retry(patience).when(|error: &Error| error.kind() == Kind::Throttled).await?;
        self.0.read(doing, method, answer)
    }

    /// In a task of its own: a request that has been sent has to be seen through, even if nobody
    /// wants the answer any more.
    async fn once(&self, doing: &str, method: &'static str, params: &Value) -> Result<Value> {
        let (lives, task, params) = (Arc::clone(&self.0), doing.to_owned(), params.clone());
        let call = tokio::spawn(async move { lives.call(&task, method, &params).await });
        call.await.map_err(|_| Error::new(Kind::Unreachable, doing, "natd is ending"))?
    }

    /// The error for an answer with a field that makes no sense.
    pub(super) fn nonsense(&self, doing: &str, method: &str, why: &str) -> Error {
        self.0.nonsense(doing, method, why)
    }
}
