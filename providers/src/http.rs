//! HTTP to a cloud's own API, for the clouds without an SDK: bounded in time, tried again by kind.
//!
//! What is sent and what an answer means is the cloud's affair: this file knows no service.

use std::{future::Future, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use natd_core::error::{Error, Kind, Result};
use reqwest::{Certificate, Client, Request, StatusCode, header::HeaderMap, redirect::Policy};

use crate::patience::Patience;

/// Who natd says it is.
const USER_AGENT: &str = concat!("natd/", env!("CARGO_PKG_VERSION"));

/// How much longer to wait when a cloud says that it is asked too often.
const THROTTLED: u32 = 5;

/// The longest answer that is read, in bytes: no list that natd asks for comes near.
const LONGEST_ANSWER: usize = 64 << 20;

/// A client that follows no redirects: a signed request is for one host.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    /// How long and how often to try.
    pub(crate) patience: Patience,
}

/// What a server said.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Http {
    /// For an API; further certificate authorities are trusted beside the system's own.
    pub(crate) fn api(patience: Patience, authorities: Vec<Certificate>) -> Result<Self> {
        let builder = authorities
            .into_iter()
            .fold(Client::builder(), reqwest::ClientBuilder::add_root_certificate);
        Self::build(builder, patience)
    }

    /// For an API whose certificate is not verified, by the operator's word.
    pub(crate) fn unverified(patience: Patience) -> Result<Self> {
        Self::build(Client::builder().tls_danger_accept_invalid_certs(true), patience)
    }

    /// For a metadata service, which is a neighbour and never behind a proxy.
    pub(crate) fn neighbour(patience: Patience) -> Result<Self> {
        Self::build(Client::builder().no_proxy(), patience)
    }

    fn build(builder: reqwest::ClientBuilder, patience: Patience) -> Result<Self> {
        let client = builder
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .connect_timeout(patience.connect)
            .timeout(patience.attempt)
            .build()
            .map_err(|error| Error::new(Kind::Invalid, "prepare HTTPS", root_cause(&error)))?;
        Ok(Self { client, patience })
    }

    /// Sends once. Any answer is an answer, whatever its status.
    ///
    /// # Errors
    /// `Unreachable`, with the host and nothing else of the URL.
    pub(crate) async fn send(&self, doing: &str, request: Request) -> Result<Answer> {
        let host = host(&request);
        let failed = |error: reqwest::Error| {
            let cause = if error.is_timeout() {
                format!("{host} did not answer in time")
            } else if error.is_connect() {
                format!("{host} can't be reached: {}", root_cause(&error))
            } else {
                format!("{host} broke off: {}", root_cause(&error))
            };
            Error::new(Kind::Unreachable, doing, cause)
        };
        let mut response = self.client.execute(request).await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(Error::new(
                    Kind::Invalid,
                    doing,
                    format!("{host} sends more than {LONGEST_ANSWER} bytes"),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }
}

/// Tries again while the failure is one that may pass ([`Kind::is_transient`]), with exponential
/// backoff and jitter, a longer one where the cloud is asked too often, until the attempts or the
/// time that patience allows are used up.
pub(crate) async fn patiently<T, F, A>(patience: &Patience, attempt: A) -> Result<T>
where
    A: FnMut() -> F,
    F: Future<Output = Result<T>>,
{
    let backoff = ExponentialBuilder::default()
        .with_min_delay(patience.initial_backoff)
        .with_max_delay(patience.call)
        .with_max_times(patience.attempts.saturating_sub(1) as usize)
        .with_total_delay(Some(patience.call))
        .with_jitter();
    let began = tokio::time::Instant::now();
    attempt
        .retry(backoff)
        .when(|error: &Error| error.kind().is_transient())
        .adjust(|error: &Error, delay: Option<Duration>| {
            let longer = if error.kind() == Kind::Throttled { THROTTLED } else { 1 };
            delay
                .map(|delay| delay.saturating_mul(longer))
                .filter(|delay| began.elapsed() + *delay <= patience.call)
        })
        .await
}

/// Host and port of a request.
fn host(request: &Request) -> String {
    let url = request.url();
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "the server".to_owned(),
    }
}

/// The innermost reason, which names no URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
