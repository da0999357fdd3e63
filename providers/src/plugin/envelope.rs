//! What JSON-RPC 2.0 puts around requests and answers, and how a plugin says that something failed.
//!
//! <https://www.jsonrpc.org/specification>

use natd_core::error::{Error, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The longest piece of a plugin's text that goes into an error, in characters.
const EXCERPT: usize = 300;

/// "Method not found", of the specification.
const METHOD_NOT_FOUND: i64 = -32601;

/// What sort of failure it was: natd decides on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ErrorKind {
    /// The object does not exist (any more).
    NotFound,
    /// Somebody else changed or owns the object; the operator's word is needed.
    Conflict,
    /// A permission is missing; `advice` names it.
    Denied,
    /// The cloud asked for fewer requests: natd waits and asks again.
    Throttled,
    /// The cloud gave no answer in time: natd tries again at its next tick.
    Unreachable,
    /// The request, the settings or the cloud's answer make no sense.
    Invalid,
    /// This cloud can't do it.
    Unsupported,
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Throttled => Self::Throttled,
            ErrorKind::Unreachable => Self::Unreachable,
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::Unsupported => Self::Unsupported,
        }
    }
}

/// A failure that an operator can act on. natd prints
/// `could not …: CAUSE [CODE, request REQUEST_ID]; ADVICE`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct ErrorData {
    /// What sort of failure it was.
    pub(super) kind: ErrorKind,
    /// Why it failed. Unset: `message` of the JSON-RPC error tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
    /// The cloud's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    /// The id under which the cloud's support finds the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
    /// What the operator can do about it, as a sentence without a full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl ErrorData {
    /// As natd's own error; `doing` completes "could not …".
    pub(super) fn into_error(self, doing: impl Into<String>, message: &str) -> Error {
        let cause = self.cause.as_deref().unwrap_or(message);
        let mut error = Error::new(self.kind.into(), doing, shortened(cause));
        if let Some(code) = self.code {
            error = error.with_code(shortened(&code));
        }
        if let Some(id) = self.request_id {
            error = error.with_request_id(shortened(&id));
        }
        if let Some(advice) = self.advice {
            error = error.with_advice(shortened(&advice));
        }
        error
    }
}

/// The error of a JSON-RPC answer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct ErrorObject {
    /// A number, as JSON-RPC wants one: -32601 for a method that the plugin doesn't have, else any.
    pub(super) code: i64,
    /// What went wrong, for people.
    pub(super) message: String,
    /// What natd decides on. Without it, -32601 is `unsupported` and all else `invalid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<ErrorData>,
}

impl ErrorObject {
    pub(super) fn into_error(self, doing: &str) -> Error {
        if let Some(data) = self.data {
            return data.into_error(doing, &self.message);
        }
        let kind = if self.code == METHOD_NOT_FOUND { Kind::Unsupported } else { Kind::Invalid };
        Error::new(kind, doing, shortened(&self.message)).with_code(self.code.to_string())
    }
}

/// One line to the plugin, its end included.
pub(super) fn request(id: u64, method: &str, params: &Value) -> String {
    let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    format!("{request}\n")
}

/// One line from the plugin.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) id: u64,
    pub(super) outcome: Result<Value, ErrorObject>,
}

impl Answer {
    /// Reads a line. An error says what is wrong with it.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(line).map_err(|_| "a line that is not UTF-8".to_owned())?;
        let mut value: Value = serde_json::from_str(text)
            .map_err(|error| format!("a line that is no JSON ({error})"))?;
        let answer = value.as_object_mut().ok_or("a line that is no JSON object")?;
        if answer.contains_key("method") {
            return Err("a request or a notification, and plugins only answer".to_owned());
        }
        if answer.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err("a line without \"jsonrpc\": \"2.0\"".to_owned());
        }
        let id = answer
            .get("id")
            .and_then(Value::as_u64)
            .ok_or("an answer without the id of a request")?;
        match (answer.remove("result"), answer.remove("error")) {
            (Some(result), None) => Ok(Self { id, outcome: Ok(result) }),
            (None, Some(error)) => match serde_json::from_value(error) {
                Ok(error) => Ok(Self { id, outcome: Err(error) }),
                // It repeats words of the plugin's.
                Err(why) => {
                    let why = shortened(&why.to_string());
                    Err(format!("an error that doesn't fit the protocol ({why})"))
                }
            },
            _ => Err("an answer that has not just one of result and error".to_owned()),
        }
    }
}

/// The beginning of a plugin's text, on one line.
pub(super) fn shortened(text: &str) -> String {
    let mut characters = text.trim().chars();
    let mut excerpt = String::new();
    for character in characters.by_ref().take(EXCERPT) {
        if character.is_control() {
            excerpt.extend(character.escape_default());
        } else {
            excerpt.push(character);
        }
    }
    if characters.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

/// The beginning of a line that may be anything.
pub(super) fn shown(line: &[u8]) -> String {
    // A character has at most 4 bytes.
    let beginning = line.get(..EXCERPT * 4 + 4).unwrap_or(line);
    shortened(&String::from_utf8_lossy(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_an_id_and_one_of_result_and_error() {
        let good = Answer::read(br#"{"jsonrpc":"2.0","id":7,"result":null,"more":1}"#);
        assert!(matches!(good, Ok(Answer { id: 7, outcome: Ok(Value::Null) })), "{good:?}");
        for (line, complaint) in [
            (&b"\xff\xfe"[..], "not UTF-8"),
            (b"hello", "no JSON"),
            (b"[]", "no JSON object"),
            (br#"{"jsonrpc":"2.0","method":"log"}"#, "only answer"),
            (br#"{"id":1,"result":null}"#, "jsonrpc"),
            (br#"{"jsonrpc":"2.0","id":"1","result":null}"#, "without the id"),
            (br#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#, "without the id"),
            (br#"{"jsonrpc":"2.0","id":1}"#, "not just one"),
            (br#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#, "not just one"),
            (br#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, "doesn't fit"),
            (
                br#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m","data":{"kind":"bad"}}}"#,
                "doesn't fit",
            ),
        ] {
            let error = Answer::read(line).expect_err("nonsense");
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn text_of_a_plugin_is_shortened_and_stays_on_one_line() {
        assert_eq!(shortened(" a\nb\u{1b}[31m "), "a\\nb\\u{1b}[31m");
        assert_eq!(shortened(&"é".repeat(1000)).chars().count(), EXCERPT + 1);
        assert!(shown(&vec![0xff; 100_000]).chars().count() <= EXCERPT + 1);
    }

    #[test]
    fn an_error_without_data_is_told_by_its_number() {
        let error = |code| ErrorObject { code, message: "no".to_owned(), data: None };
        assert_eq!(error(METHOD_NOT_FOUND).into_error("try").kind(), Kind::Unsupported);
        assert_eq!(error(-32000).into_error("try").kind(), Kind::Invalid);
        assert_eq!(error(-32000).into_error("try").to_string(), "could not try: no [-32000]");
    }
}
