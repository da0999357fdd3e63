//! What the services answer when they refuse: every shape read, every code judged.
//!
//! Codes: <https://support.huaweicloud.com/intl/en-us/api-vpc/vpc_api_0003.html> and, of the
//! gateway in front of all services, <https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-errorcode.html>.

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use natd_core::error::{Error, Kind};
use reqwest::header::{DATE, HeaderMap};
use serde_json::Value;

use super::{credentials, permissions::Action};
use crate::http::Answer;

/// In characters: as much of a message as an error line takes.
const LONGEST_MESSAGE: usize = 300;

/// The cloud refuses at 15 minutes; what is below this explains nothing.
const SKEWED: SignedDuration = SignedDuration::from_mins(5);

/// The gateway's word for a signature that it can't accept: key, clock, or signature.
const UNSIGNED: &str = "APIGW.0301";

/// What an answer says, whatever its shape.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refusal {
    code: Option<String>,
    message: Option<String>,
    /// The type of a `NeutronError` that is wrapped in another error.
    neutron: Option<String>,
}

/// Turns an answer that is no success into natd's error. What is in `secrets` is blotted out of it.
pub(super) fn explain(
    action: Action,
    doing: &str,
    host: &str,
    answer: &Answer,
    secrets: &[&str],
) -> Error {
    let status = answer.status.as_u16();
    let refusal = Refusal::read(&answer.body);
    let (kind, advice) = judge(action, status, &refusal, &answer.headers);
    let cause = match &refusal.message {
        // First blotted out, then cut: half a secret would not be found.
        Some(message) => brief(&blot_out(message, secrets)),
        None => format!("{host} answered HTTP {status}"),
    };
    let mut error = Error::new(kind, doing, cause);
    if let Some(code) = &refusal.code {
        error = error.with_code(brief(&blot_out(code, secrets)));
    }
    if let Some(id) = answer.headers.get("x-request-id").and_then(|id| id.to_str().ok()) {
        error = error.with_request_id(brief(&blot_out(id, secrets)));
    }
    match advice {
        Some(advice) => error.with_advice(advice),
        None => error,
    }
}

/// Whether other keys may help.
pub(super) fn doubts_keys(answer: &Answer) -> bool {
    answer.status.as_u16() == 401
        && !matches!(Refusal::read(&answer.body).code.as_deref(), Some("VPC.0005" | "VPC.0009"))
}

impl Refusal {
    fn read(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return Self::default() };
        let mut refusal = Self::find(&value).unwrap_or_default();
        // Another service's error, as a string in this one's message.
        let inner = refusal.message.as_deref().and_then(|text| {
            let start = text.find('{')?;
            let (_, json) = text.split_at_checked(start)?;
            let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
            Self::find(&values.next()?.ok()?)
        });
        if let Some(inner) = inner {
            refusal.neutron = inner.code;
            refusal.message = inner.message.or(refusal.message);
        }
        refusal
    }

    /// The pair of code and message, in the value itself or in what it wraps.
    fn find(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        if let Some(neutron) = object.get("NeutronError") {
            return Some(match neutron {
                Value::Object(error) => Self {
                    code: text(error.get("type")),
                    message: text(error.get("message")),
                    ..Self::default()
                },
                other => Self { message: text(Some(other)), ..Self::default() },
            });
        }
        let pairs = [("error_code", "error_msg"), ("errorCode", "errorMsg"), ("code", "message")];
        for (code, message) in pairs {
            if object.contains_key(code) || object.contains_key(message) {
                let (code, message) = (text(object.get(code)), text(object.get(message)));
                return Some(Self { code, message, ..Self::default() });
            }
        }
        object.values().find_map(Self::find)
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// What sort of failure it is, and what helps against it.
fn judge(
    action: Action,
    status: u16,
    refusal: &Refusal,
    headers: &HeaderMap,
) -> (Kind, Option<String>) {
    let code = refusal.code.as_deref().unwrap_or_default();
    let allow = || {
        Some(format!(
            "allow {} (the policy of the agency or user whose keys these are)",
            action.name()
        ))
    };
    match code {
        UNSIGNED => (Kind::Denied, Some(clock_or_keys(headers))),
        "VPC.0005" | "VPC.0009" => {
            (Kind::Denied, Some("see to the account in the console: in arrears, or not verified".to_owned()))
        }
        "APIGW.0101" => (
            Kind::Invalid,
            Some("check huawei.endpoint, huawei.iam_endpoint and huawei.region: nothing serves this path there".to_owned()),
        ),
        "APIGW.0201" if matches!(status, 502 | 504) => (Kind::Unreachable, None),
        "APIGW.0201" => (Kind::Invalid, None),
        "APIGW.0302" | "VPC.0010" | "VPC.2201" | "VPC.2701" => (Kind::Denied, allow()),
        "APIGW.0308" => (Kind::Throttled, None),
        "VPC.0003" | "VPC.0504" | "VPC.0704" | "VPC.2204" => (Kind::NotFound, None),
        "VPC.0004" | "VPC.0512" => (Kind::Unreachable, None),
        "VPC.0510" | "VPC.0511" => (Kind::Conflict, None),
        _ if [code, refusal.neutron.as_deref().unwrap_or_default()]
            .iter()
            .any(|code| code.ends_with("NotFound")) =>
        {
            (Kind::NotFound, None)
        }
        _ => match status {
            401 => (Kind::Denied, Some(clock_or_keys(headers))),
            403 => (Kind::Denied, allow()),
            // Without a code it is not the service that says so.
            404 if refusal.code.is_some() => (Kind::NotFound, None),
            409 => (Kind::Conflict, None),
            429 => (Kind::Throttled, None),
            408 | 500.. => (Kind::Unreachable, None),
            _ => (Kind::Invalid, None),
        },
    }
}

/// A signature is refused for its key or for its time; the answer's own time tells which.
fn clock_or_keys(headers: &HeaderMap) -> String {
    match skew(headers, Timestamp::now()).filter(|skew| skew.abs() > SKEWED) {
        Some(skew) => {
            let minutes = skew.abs().as_mins();
            let side = if skew.is_negative() { "behind" } else { "ahead of" };
            format!(
                "this machine's clock is {minutes} minutes {side} the cloud's, and 15 are allowed: set the clock, and keep it with chrony or ntp"
            )
        }
        None => format!("check the access key and its secret; {}", credentials::WHERE_FROM),
    }
}

/// How far `now` is ahead of the time at which the answer was sent.
fn skew(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let sent = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(now.duration_since(sent))
}

/// One line of bounded length.
fn brief(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", line.split_at(end).0),
        None => line,
    }
}

fn blot_out(text: &str, secrets: &[&str]) -> String {
    let secrets = secrets.iter().filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> Refusal {
        Refusal::read(body.as_bytes())
    }

    fn plain(code: &str, message: &str) -> Refusal {
        Refusal {
            code: Some(code.to_owned()),
            message: Some(message.to_owned()),
            ..Refusal::default()
        }
    }

    #[test]
    fn every_shape_is_read() {
        for (body, code, message) in [
            (r#"{"code":"VPC.0002","message":"m"}"#, "VPC.0002", "m"),
            (r#"{"error_code":"SYS.0202","error_msg":"m","request_id":"r"}"#, "SYS.0202", "m"),
            (r#"{"errorCode":"VPC.1","errorMsg":"m"}"#, "VPC.1", "m"),
            (r#"{"error":{"code":"Ecs.0005","message":"m"}}"#, "Ecs.0005", "m"),
            (
                r#"{"NeutronError":{"type":"PortNotFound","message":"m","detail":""}}"#,
                "PortNotFound",
                "m",
            ),
            (r#"{"error":{"code":401,"message":"m","title":"Unauthorized"}}"#, "401", "m"),
        ] {
            assert_eq!(refusal(body), plain(code, message), "{body}");
        }
        let escaped = r#"{"error_code":"VPC.2801","error_msg":"failed: {\"NeutronError\":{\"type\":\"RouteNotFound\",\"message\":\"m\",\"detail\":\"\"}} (x)"}"#;
        assert_eq!(
            refusal(escaped),
            Refusal { neutron: Some("RouteNotFound".to_owned()), ..plain("VPC.2801", "m") }
        );
        for nothing in ["", "<html>", "[]", "7", "{}", r#"{"error":"x"}"#] {
            assert_eq!(refusal(nothing), Refusal::default(), "{nothing}");
        }
    }

    #[test]
    fn every_code_has_its_kind() {
        let kind = |status, code: &str| {
            judge(Action::PortsGet, status, &plain(code, "m"), &HeaderMap::new()).0
        };
        for (status, code, expected) in [
            (401, "APIGW.0301", Kind::Denied),
            (403, "APIGW.0302", Kind::Denied),
            (404, "APIGW.0101", Kind::Invalid),
            (429, "APIGW.0308", Kind::Throttled),
            (502, "APIGW.0201", Kind::Unreachable),
            (504, "APIGW.0201", Kind::Unreachable),
            (413, "APIGW.0201", Kind::Invalid),
            (401, "VPC.0005", Kind::Denied),
            (401, "VPC.0009", Kind::Denied),
            (403, "VPC.0010", Kind::Denied),
            (403, "VPC.2201", Kind::Denied),
            (403, "VPC.2701", Kind::Denied),
            (404, "VPC.0003", Kind::NotFound),
            (404, "VPC.0704", Kind::NotFound),
            (404, "VPC.2204", Kind::NotFound),
            (404, "VPC.0504", Kind::NotFound),
            (404, "VPC.2808", Kind::NotFound),
            (400, "PortNotFound", Kind::NotFound),
            (400, "VPC.0004", Kind::Unreachable),
            (409, "VPC.0512", Kind::Unreachable),
            (409, "VPC.0510", Kind::Conflict),
            (409, "VPC.0511", Kind::Conflict),
            (400, "VPC.0601", Kind::Invalid),
            (500, "VPC.0014", Kind::Unreachable),
            (401, "401", Kind::Denied),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
        let bare =
            |status| judge(Action::PortsGet, status, &Refusal::default(), &HeaderMap::new()).0;
        assert_eq!((bare(404), bare(503)), (Kind::Invalid, Kind::Unreachable));
    }

    #[test]
    fn a_long_message_is_cut_between_characters_and_kept_on_one_line() {
        let long = "网".repeat(LONGEST_MESSAGE + 1);
        assert_eq!(brief(&long).chars().count(), LONGEST_MESSAGE + 1);
        assert_eq!(brief("a\n  b"), "a b");
    }
}
