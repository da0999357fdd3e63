//! The EC2 client: endpoint, credentials, retries and deadlines, all by the SDK's own means.

use std::sync::{Mutex, PoisonError};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, default_provider::credentials::DefaultCredentialsChain,
    imds, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_ec2::{
    Client,
    config::{self, IdentityCache},
    error::{ProvideErrorMetadata, SdkError},
    types::Filter,
};
use natd_core::{
    config::Aws,
    error::{Error, Kind, Result},
};

use super::{errors, panics::Caught, permissions::Action};
use crate::patience::Patience;

/// The client, with what its errors have to tell.
pub(super) struct Api {
    config: SdkConfig,
    ec2: Mutex<Client>,
    pub(super) patience: Patience,
    endpoint: String,
}

impl Api {
    /// The credentials come from the SDK's chain (environment, profile, web identity, container,
    /// instance role); the role's are read through `metadata`.
    pub(super) async fn new(
        options: &Aws,
        region: &str,
        metadata: imds::Client,
        patience: Patience,
    ) -> Result<Self> {
        let region = Region::new(region.to_owned());
        let mut credentials =
            DefaultCredentialsChain::builder().imds_client(metadata).region(region.clone());
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region.clone())
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(patience.attempts)
                    .with_initial_backoff(patience.initial_backoff),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(patience.connect)
                    .operation_attempt_timeout(patience.attempt)
                    .operation_timeout(patience.call)
                    .build(),
            );
        if let Some(profile) = &options.profile {
            credentials = credentials.profile_name(profile);
            loader = loader.profile_name(profile);
        }
        if let Some(url) = &options.endpoint {
            loader = loader.endpoint_url(checked_url("aws.endpoint", url)?);
        }
        let config =
            loader.credentials_provider(Caught::new(credentials.build().await)).load().await;
        let endpoint = options
            .endpoint
            .clone()
            .or_else(|| std::env::var("AWS_ENDPOINT_URL_EC2").ok())
            .or_else(|| config.endpoint_url().map(str::to_owned))
            .map_or_else(|| format!("the EC2 API of {region}"), |url| host(&url).to_owned());
        Ok(Self { ec2: Mutex::new(Client::new(&config)), config, patience, endpoint })
    }

    /// The client, with the credentials that it holds.
    pub(super) fn ec2(&self) -> Client {
        self.ec2.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the next call get credentials anew. The SDK keeps them until they end by the clock, and a clock
    /// that was set back since makes that hours too late.
    fn forget_credentials(&self) {
        let anew = config::Builder::from(&self.config)
            .identity_cache(IdentityCache::lazy().build())
            .build();
        *self.ec2.lock().unwrap_or_else(PoisonError::into_inner) = Client::from_conf(anew);
    }

    /// natd's error for a failed call; `doing` completes "could not …".
    pub(super) fn failure<E>(
        &self,
        action: Action,
        doing: impl Into<String>,
        error: &SdkError<E>,
    ) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if error.code().is_some_and(errors::refuses_credentials) {
            self.forget_credentials();
        }
        errors::explain(action, doing.into(), &self.endpoint, error)
    }
}

/// A condition of a Describe call: any of `values`.
pub(super) fn filter<V: Into<String>>(name: &str, values: impl IntoIterator<Item = V>) -> Filter {
    Filter::builder()
        .name(name)
        .set_values(Some(values.into_iter().map(Into::into).collect()))
        .build()
}

/// Refuses early what the SDK would refuse at the first call with an obscure message.
pub(super) fn checked_url<'a>(key: &str, url: &'a str) -> Result<&'a str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if rest.is_some_and(|rest| !rest.is_empty()) {
        Ok(url)
    } else {
        Err(Error::new(Kind::Invalid, format!("use {key} {url:?}"), "it is not a URL")
            .with_advice("write http://HOST[:PORT] or https://HOST[:PORT]"))
    }
}

/// Host and port of a URL, without the user and password that it may carry.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_by_its_host_alone() {
        assert_eq!(host("http://192.0.2.1:5000"), "192.0.2.1:5000");
        assert_eq!(host("https://user:secret@ec2.example/path@x"), "ec2.example");
    }

    #[test]
    fn an_endpoint_without_scheme_is_refused_by_name() {
        let error = checked_url("aws.endpoint", "localhost:5000").expect_err("no scheme");
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("aws.endpoint"), "{error}");
    }
}
