//! The instance metadata service, version 2 only.
//!
//! Every request carries a session token; a service that gives none is treated as absent, never
//! asked without (no fallback to `IMDSv1`).
//! Categories: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html>.

use std::{fmt::Display, future::Future, str::FromStr, time::Duration};

use aws_config::imds::client::{Client, error::ImdsError};
use natd_core::error::{Error, Kind, Result};
use tokio::time::timeout;

use super::{
    api::checked_url,
    errors::root_cause,
    panics::{self, Panicked, caught},
};

const BY_HAND: &str = "on EC2, enable the instance's metadata service (IMDSv2); elsewhere, set \
                       aws.instance_id, aws.region, aws.vpc_id and aws.vpc_cidrs by hand";

/// The metadata service as natd asks it.
pub(super) struct Metadata {
    client: Client,
    limit: Duration,
    disabled: bool,
}

impl Metadata {
    /// Without `endpoint`, the environment and the profile decide, as everywhere in AWS.
    pub(super) fn new(endpoint: Option<&str>, limit: Duration) -> Result<Self> {
        let second = Duration::from_secs(1).min(limit);
        let mut builder =
            Client::builder().connect_timeout(second).read_timeout(second).operation_timeout(limit);
        if let Some(url) = endpoint {
            builder =
                builder.endpoint(checked_url("aws.metadata_endpoint", url)?).map_err(|error| {
                    Error::new(Kind::Invalid, format!("use aws.metadata_endpoint {url:?}"), error)
                })?;
        }
        // The SDK's own providers honour the variable, its bare client does not.
        let disabled = std::env::var("AWS_EC2_METADATA_DISABLED")
            .is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(Self { client: builder.build(), limit, disabled })
    }

    /// The SDK's client, to be shared with its credentials provider.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Puts the one deadline over all that `asked` asks.
    ///
    /// # Errors
    /// `Unreachable` when it has passed; else those of `asked`.
    pub(super) async fn in_time<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.limit, asked).await.unwrap_or_else(|_elapsed| {
            Err(Error::new(
                Kind::Unreachable,
                "ask the EC2 metadata service",
                format!("no answer within {} s", self.limit.as_secs_f32()),
            )
            .with_advice(BY_HAND))
        })
    }

    /// The text of one category below `/latest/meta-data/`.
    pub(super) async fn text(&self, category: &str) -> Result<String> {
        if self.disabled {
            return Err(unanswered(category, "AWS_EC2_METADATA_DISABLED is true"));
        }
        // Boxed, since the SDK's future is large and several are joined.
        match caught(Box::pin(self.client.get(format!("/latest/meta-data/{category}")))).await {
            Ok(Ok(text)) => Ok(text.as_ref().trim().to_owned()),
            Ok(Err(error)) => Err(failure(category, &error)),
            Err(Panicked) => Err(unanswered(category, panics::TOLD)),
        }
    }

    /// The value of one category.
    pub(super) async fn value<T: FromStr<Err: Display>>(&self, category: &str) -> Result<T> {
        self.text(category).await?.parse().map_err(|error| malformed(category, error))
    }

    /// The values of a category that has one a line.
    pub(super) async fn values<T: FromStr<Err: Display>>(&self, category: &str) -> Result<Vec<T>> {
        let text = self.text(category).await?;
        text.lines()
            .map(|line| line.trim().parse().map_err(|error| malformed(category, error)))
            .collect()
    }
}

fn doing(category: &str) -> String {
    format!("read {category} from the EC2 metadata service")
}

fn unanswered(category: &str, cause: impl Display) -> Error {
    Error::new(Kind::Unreachable, doing(category), cause).with_advice(BY_HAND)
}

fn malformed(category: &str, cause: impl Display) -> Error {
    Error::new(Kind::Invalid, doing(category), cause).with_advice(BY_HAND)
}

fn failure(category: &str, error: &ImdsError) -> Error {
    match error {
        ImdsError::ErrorResponse(answer) => {
            let status = answer.response().status();
            let kind = match status.as_u16() {
                404 => Kind::NotFound,
                500.. => Kind::Unreachable,
                _ => Kind::Invalid,
            };
            Error::new(kind, doing(category), format!("it answered HTTP {status}"))
                .with_advice(BY_HAND)
        }
        ImdsError::FailedToLoadToken(_) => {
            unanswered(category, format!("it gave no IMDSv2 session token ({})", root_cause(error)))
        }
        _ => unanswered(category, root_cause(error)),
    }
}
