//! Keystone's and Neutron's answers by kind, with code, request id and what the operator can do.
//!
//! Types: <https://opendev.org/openstack/neutron-lib/src/branch/master/neutron_lib/exceptions>. Of an
//! answer only what the error documents say is told, and that is cut to a length.

use natd_core::error::{Error, Kind};
use serde::Deserialize;

use super::permissions::Action;
use crate::http::Answer;

/// As much of a message as is told, in characters.
const MESSAGE: usize = 300;

/// Both services' error documents.
#[derive(Default, Deserialize)]
struct Document {
    #[serde(rename = "NeutronError")]
    neutron: Option<NeutronError>,
    error: Option<KeystoneError>,
}

#[derive(Deserialize)]
struct NeutronError {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct KeystoneError {
    #[serde(default)]
    title: String,
    #[serde(default)]
    message: String,
}

/// What an answer says went wrong.
struct Said {
    code: Option<String>,
    message: String,
}

fn said(host: &str, answer: &Answer) -> Said {
    let document: Document = serde_json::from_slice(&answer.body).unwrap_or_default();
    let (code, message) = match document {
        Document { neutron: Some(error), .. } => (error.kind, error.message),
        Document { error: Some(error), .. } => (error.title, error.message),
        _ => (String::new(), String::new()),
    };
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    Said {
        code: (!code.is_empty()).then_some(code),
        message: if message.is_empty() {
            format!("{host} answered HTTP {}", answer.status.as_u16())
        } else {
            message.trim_end_matches('.').chars().take(MESSAGE).collect()
        },
    }
}

fn error(kind: Kind, doing: &str, said: Said, answer: &Answer) -> Error {
    let error = Error::new(kind, doing, said.message);
    let error = match said.code {
        Some(code) => error.with_code(code),
        None => error,
    };
    let id = answer.headers.get("x-openstack-request-id").and_then(|id| id.to_str().ok());
    match id {
        Some(id) => error.with_request_id(id),
        None => error,
    }
}

/// An answer of Keystone that is no token.
pub(super) fn keystone(doing: &str, url: &str, answer: &Answer) -> Error {
    let status = answer.status.as_u16();
    let (kind, advice) = match status {
        401 => (
            Kind::Denied,
            Some(
                "check user and password, or the application credential: it may have expired or been deleted",
            ),
        ),
        403 => (Kind::Denied, Some("give the user a role in the project")),
        429 => (Kind::Throttled, None),
        408 | 500.. => (Kind::Unreachable, None),
        300..=399 | 404 | 405 => {
            (Kind::Invalid, Some("check auth_url: it is Keystone's, as https://HOST:5000/v3"))
        }
        _ => (Kind::Invalid, Some("check the names and ids of user, project and domains")),
    };
    let error = error(kind, doing, said(url, answer), answer);
    match advice {
        Some(advice) => error.with_advice(advice),
        None => error,
    }
}

/// An answer of Neutron that is no success.
pub(super) fn neutron(action: Action, doing: &str, url: &str, answer: &Answer) -> Error {
    let said = said(url, answer);
    let (kind, advice) = judge(action, answer.status.as_u16(), said.code.as_deref().unwrap_or(""));
    let error = error(kind, doing, said, answer);
    match advice {
        Some(advice) => error.with_advice(advice),
        None => error,
    }
}

/// What sort of failure it is, and what helps against it.
fn judge(action: Action, status: u16, code: &str) -> (Kind, Option<String>) {
    let rule = action.access_rule();
    let text = |advice: &str| Some(advice.to_owned());
    match (status, code) {
        (401, _) => (
            Kind::Denied,
            Some(format!(
                "Neutron refuses a fresh token too: if the application credential has access rules, make one that has {rule} as well"
            )),
        ),
        (403, _) if action == Action::UpdatePort => (
            Kind::Denied,
            Some(format!(
                "address pairs and port security may be changed only by the network's owner, and this port's network may be another project's: ask its owner to do it, use a network of your own project, or have Neutron's policy allow it ({rule})"
            )),
        ),
        (403, _) => (
            Kind::Denied,
            Some(format!("allow {rule} (the user's role in the project, or Neutron's policy)")),
        ),
        (_, "OverQuota" | "RoutesExhausted" | "HostRoutesExhausted") => (
            Kind::Conflict,
            text(
                "the cloud allows no more routes there: remove some, or have max_routes (max_subnet_host_routes) raised",
            ),
        ),
        (_, "InvalidRoutes") => (
            Kind::Invalid,
            text(
                "the next hop must be an address on one of the router's subnets: set routes.interface to a port there",
            ),
        ),
        (_, "PortSecurityPortHasSecurityGroup" | "AddressPairAndPortSecurityRequired") => {
            (Kind::Conflict, text("somebody changed the port in between; natd tries again"))
        }
        (404, "" | "HTTPNotFound") => (
            Kind::Unsupported,
            Some(format!("this Neutron has no {}: is its extension loaded?", action.path())),
        ),
        (404, _) => (Kind::NotFound, None),
        (409, _) => (Kind::Conflict, None),
        (412, _) => (
            Kind::Conflict,
            text("somebody changes the same object all the time: find out who; natd tries again"),
        ),
        (413 | 429, _) => (Kind::Throttled, None),
        (408 | 500.., _) => (Kind::Unreachable, None),
        _ => (Kind::Invalid, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sort_of_answer_has_its_kind() {
        for (status, code, expected) in [
            (401, "", Kind::Denied),
            (403, "PolicyNotAuthorized", Kind::Denied),
            (404, "PortNotFound", Kind::NotFound),
            (404, "HTTPNotFound", Kind::Unsupported),
            (400, "InvalidRoutes", Kind::Invalid),
            (409, "OverQuota", Kind::Conflict),
            (409, "AddressPairAndPortSecurityRequired", Kind::Conflict),
            (412, "RevisionNumberConstraintFailed", Kind::Conflict),
            (429, "", Kind::Throttled),
            (413, "OverLimit", Kind::Throttled),
            (500, "", Kind::Unreachable),
            (503, "ServiceUnavailable", Kind::Unreachable),
            (400, "HTTPBadRequest", Kind::Invalid),
        ] {
            assert_eq!(judge(Action::UpdateRouter, status, code).0, expected, "{status} {code}");
        }
    }

    #[test]
    fn a_denial_names_the_access_rule() {
        let (_, advice) = judge(Action::AddExtraRoutes, 401, "");
        let advice = advice.expect("advice");
        let rule =
            r#"{"service":"network","method":"PUT","path":"/v2.0/routers/*/add_extraroutes"}"#;
        assert!(advice.contains(rule), "{advice}");
    }
}
