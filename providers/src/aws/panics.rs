//! Panics of the SDK's, made errors: what a service answers must not end natd. `aws-config` 1.13 panics at a session
//! token of the metadata service's that isn't UTF-8.

use std::{future::Future, panic::AssertUnwindSafe};

use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future,
};
use futures_util::FutureExt as _;

/// What is told of it. What it panicked at may hold a secret, and isn't.
pub(super) const TOLD: &str = "the AWS SDK can't handle the answer (it panicked)";

/// The SDK panicked.
pub(super) struct Panicked;

/// What comes of a question to the SDK. Its clients keep no state that a panic could leave half changed: nothing
/// is stored before an answer is understood.
pub(super) async fn caught<T>(asked: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(asked).catch_unwind().await.map_err(|_panic| Panicked)
}

/// A chain of the SDK's, whose panics are errors.
#[derive(Debug)]
pub(super) struct Caught(SharedCredentialsProvider);

impl Caught {
    pub(super) fn new(chain: impl ProvideCredentials + 'static) -> Self {
        Self(SharedCredentialsProvider::new(chain))
    }
}

impl ProvideCredentials for Caught {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            caught(self.0.provide_credentials())
                .await
                .unwrap_or_else(|Panicked| Err(CredentialsError::provider_error(TOLD)))
        })
    }

    fn fallback_on_interrupt(&self) -> Option<aws_credential_types::Credentials> {
        self.0.fallback_on_interrupt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Panics;

    impl ProvideCredentials for Panics {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async { unreachable!("at a secret") })
        }
    }

    #[tokio::test]
    async fn a_chain_that_panics_has_failed_and_tells_no_secret() {
        let error = Caught::new(Panics).provide_credentials().await.expect_err("a panic");
        let told = format!("{error} {error:?}");
        assert!(told.contains(TOLD) && !told.contains("at a secret"), "{told}");
    }
}
