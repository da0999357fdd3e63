//! The SDK's errors by kind, with code, request id and what the operator can do.
//!
//! Codes: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>. Nothing is
//! taken from `Debug` output, which may hold requests: no secret reaches the text.

use std::error::Error as StdError;

use aws_config::imds::client::error::ImdsError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::{
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
};
use natd_core::error::{Error, Kind};

use super::permissions::Action;

const CREDENTIALS: &str = "attach a role to the instance, or set AWS_PROFILE or AWS_ACCESS_KEY_ID \
                           and AWS_SECRET_ACCESS_KEY";
const NO_WAY: &str = "check the way to the EC2 API: a public address or a VPC endpoint for EC2, the \
                      security group's outbound rules, the name server";

/// Turns a failed call into natd's error.
pub(super) fn explain<E>(
    action: Action,
    doing: String,
    endpoint: &str,
    error: &SdkError<E>,
) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let explained = refused(action, doing, endpoint, answer.err(), status);
            match error.request_id() {
                Some(id) => explained.with_request_id(id),
                None => explained,
            }
        }
        SdkError::ResponseError(answer) => Error::new(
            Kind::Unreachable,
            doing,
            format!("{endpoint} sent a broken answer, HTTP {}", answer.raw().status()),
        ),
        SdkError::TimeoutError(_) => {
            Error::new(Kind::Unreachable, doing, format!("{endpoint} did not answer in time"))
                .with_advice(NO_WAY)
        }
        // A connection that breaks before the answer is `other`, and known to be worth another try.
        SdkError::DispatchFailure(failure)
            if !failure.is_other() || failure.as_other().is_some() =>
        {
            Error::new(
                Kind::Unreachable,
                doing,
                format!("{endpoint} can't be reached: {}", root_cause(error)),
            )
            .with_advice(NO_WAY)
        }
        other => unsent(doing, other),
    }
}

/// The API has answered with an error.
fn refused(
    action: Action,
    doing: String,
    endpoint: &str,
    error: &impl ProvideErrorMetadata,
    status: u16,
) -> Error {
    let Some(code) = error.code() else {
        let kind = if status >= 500 { Kind::Unreachable } else { Kind::Invalid };
        return Error::new(kind, doing, format!("{endpoint} answered HTTP {status}"));
    };
    let (kind, advice) = judge(action, code, status);
    let explained = Error::new(kind, doing, brief(error.message().unwrap_or(code))).with_code(code);
    match advice {
        Some(advice) => explained.with_advice(advice),
        None => explained,
    }
}

/// Whether other credentials may be taken where these were not.
pub(super) fn refuses_credentials(code: &str) -> bool {
    matches!(
        code,
        "AuthFailure"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidClientTokenId"
            | "RequestExpired"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException"
    )
}

/// What sort of failure a code is, and what helps against it.
fn judge(action: Action, code: &str, status: u16) -> (Kind, Option<String>) {
    match code {
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            let action = action.name();
            (Kind::Denied, Some(format!("allow {action} (the policy of the instance's role)")))
        }
        "RequestExpired" => {
            (Kind::Denied, Some(format!("set the clock; if it is right, {CREDENTIALS}")))
        }
        "AuthFailure"
        | "Blocked"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "OptInRequired"
        | "PendingVerification"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => (Kind::Denied, Some(CREDENTIALS.to_owned())),
        "EC2ThrottledException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException" => (Kind::Throttled, None),
        "RequestTimeout" | "RequestTimeoutException" | "Unavailable" => (Kind::Unreachable, None),
        "RouteAlreadyExists" | "IncorrectState" | "DependencyViolation" => (Kind::Conflict, None),
        "RouteNotSupported" | "UnsupportedOperation" => (Kind::Unsupported, None),
        absent if absent.ends_with(".NotFound") => (Kind::NotFound, None),
        _ if status >= 500 => (Kind::Unreachable, None),
        _ => (Kind::Invalid, None),
    }
}

/// The request never left: most often for want of credentials to sign it with.
fn unsent<E: StdError + Send + Sync + 'static>(doing: String, error: &SdkError<E>) -> Error {
    let Some(credentials) = chain(error).find_map(|link| link.downcast_ref::<CredentialsError>())
    else {
        return Error::new(Kind::Invalid, doing, root_cause(error));
    };
    match credentials {
        CredentialsError::ProviderTimedOut(_) => {
            Error::new(Kind::Unreachable, doing, "the credentials could not be loaded in time")
        }
        CredentialsError::CredentialsNotLoaded(_) => Error::new(
            Kind::Denied,
            doing,
            "there are no credentials in the environment, the shared files or the metadata service",
        )
        .with_advice(CREDENTIALS),
        other => Error::new(
            Kind::Denied,
            doing,
            format!("the credentials could not be loaded: {}", root_cause(other)),
        )
        .with_advice(CREDENTIALS),
    }
}

/// The message without the encoded details that AWS appends to a denial, a screen full of base64
/// which only `aws sts decode-authorization-message` can read.
fn brief(message: &str) -> &str {
    message.split("Encoded authorization failure message").next().unwrap_or(message).trim_end()
}

/// An error and its causes, outermost first.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let link = next?;
        next = link.source();
        Some(link)
    })
}

/// The innermost cause, which says most in fewest words.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    match chain(error).last().unwrap_or(error) {
        link if let Some(ImdsError::ErrorResponse(answer)) = link.downcast_ref() => {
            // Its own text is the whole response.
            format!("the metadata service answered HTTP {}", answer.response().status())
        }
        link => link.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sort_of_code_has_its_kind() {
        let kind = |code, status| judge(Action::CreateRoute, code, status).0;
        for (code, status, expected) in [
            ("UnauthorizedOperation", 403, Kind::Denied),
            ("AuthFailure", 401, Kind::Denied),
            ("RequestExpired", 400, Kind::Denied),
            ("RequestLimitExceeded", 503, Kind::Throttled),
            ("Throttling", 400, Kind::Throttled),
            ("InternalError", 500, Kind::Unreachable),
            ("Unavailable", 503, Kind::Unreachable),
            ("InvalidRouteTableID.NotFound", 400, Kind::NotFound),
            ("RouteAlreadyExists", 400, Kind::Conflict),
            ("UnsupportedOperation", 400, Kind::Unsupported),
            ("RouteLimitExceeded", 400, Kind::Invalid),
            ("InvalidParameterValue", 400, Kind::Invalid),
        ] {
            assert_eq!(kind(code, status), expected, "{code}");
        }
    }

    #[test]
    fn the_encoded_half_of_a_denial_is_left_out() {
        let message = "You are not authorized. Encoded authorization failure message: pBDSjuyG";
        assert_eq!(brief(message), "You are not authorized.");
        assert_eq!(brief("plain"), "plain");
    }
}
