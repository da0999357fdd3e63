//! The one error of natd's traits: what natd was doing, to what, why it failed, and what to do about it.

use std::fmt;

/// A result whose error is natd's own [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it was. Callers decide on this, never on text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The object does not exist (any more).
    NotFound,
    /// Somebody else changed or owns the object; the operator's word is needed.
    Conflict,
    /// A permission is missing. The error names it.
    Denied,
    /// The other side asked for fewer requests. Worth retrying.
    Throttled,
    /// No answer in time. Worth retrying.
    Unreachable,
    /// The request or the answer makes no sense.
    Invalid,
    /// This cloud or host can't do it.
    Unsupported,
}

impl Kind {
    /// Whether trying the same again later may succeed.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unreachable)
    }
}

/// What makes two failures the same trouble: not their words, which hold request ids and times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// The other side doesn't answer, or wants fewer requests, now of this and now of that.
    Passing,
    /// Something is amiss that doesn't pass by itself: in doing what, by kind and code.
    Lasting(String, Kind, Option<String>),
}

/// The longest part of an error, in characters: clouds, plugins and programs have their say in it.
const LONGEST: usize = 1000;

/// On one line and of bounded length, whoever said it: an error goes into logs and onto terminals.
fn part(text: String) -> String {
    let is_one = !text.chars().any(char::is_control);
    if is_one && text.len() <= LONGEST {
        return text;
    }
    let mut part = String::new();
    for character in text.chars().take(LONGEST) {
        if character.is_control() {
            part.extend(character.escape_default());
        } else {
            part.push(character);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        part.push('…');
    }
    part
}

/// A failure that an operator can act on.
///
/// It reads `could not DOING: CAUSE [CODE, request REQUEST-ID]; ADVICE`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Error(Box<Inner>);

/// Boxed, since a result carries its error's size on the good way too.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Inner {
    kind: Kind,
    doing: String,
    cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Error {
    /// `doing` completes "could not …" and names the object; `cause` says why.
    pub fn new(kind: Kind, doing: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self(Box::new(Inner {
            kind,
            doing: part(doing.into()),
            cause: part(cause.to_string()),
            code: None,
            request_id: None,
            advice: None,
        }))
    }

    /// The code that the cloud gave, verbatim.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.0.code = Some(part(code.into()));
        self
    }

    /// The id under which the cloud's support finds the request.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.0.request_id = Some(part(id.into()));
        self
    }

    /// What the operator can do about it, as a sentence without a full stop.
    #[must_use]
    pub fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(part(advice.into()));
        self
    }

    /// What sort of failure it was.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What trouble it is a sign of.
    #[must_use]
    pub fn sort(&self) -> Sort {
        let Inner { kind, doing, code, .. } = &*self.0;
        if kind.is_transient() {
            Sort::Passing
        } else {
            Sort::Lasting(doing.clone(), *kind, code.clone())
        }
    }

    /// The cloud's own code, if a cloud said it.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// What the operator can do, if natd knows.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { doing, cause, code, request_id, advice, .. } = &*self.0;
        write!(f, "could not {doing}: {cause}")?;
        match (code, request_id) {
            (Some(code), Some(id)) => write!(f, " [{code}, request {id}]")?,
            (Some(code), None) => write!(f, " [{code}]")?,
            (None, Some(id)) => write!(f, " [request {id}]")?,
            (None, None) => {}
        }
        if let Some(advice) = advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_where_and_what_to_do() {
        let error = Error::new(Kind::Denied, "replace route 0.0.0.0/0 of rtb-1", "not authorized")
            .with_code("UnauthorizedOperation")
            .with_request_id("7a62")
            .with_advice("allow ec2:ReplaceRoute");
        assert_eq!(
            error.to_string(),
            "could not replace route 0.0.0.0/0 of rtb-1: not authorized \
             [UnauthorizedOperation, request 7a62]; allow ec2:ReplaceRoute"
        );
        assert!(!error.kind().is_transient());
    }

    #[test]
    fn whatever_a_cloud_says_an_error_is_one_line_of_bounded_length() {
        let error = Error::new(Kind::Invalid, "try", "a\nb\u{1b}[31m").with_code("x".repeat(5000));
        let text = error.to_string();
        assert!(text.starts_with("could not try: a\\nb\\u{1b}[31m [x"), "{text}");
        assert_eq!(text.matches('x').count(), LONGEST);
    }

    #[test]
    fn the_same_trouble_is_known_by_other_words() {
        let denied = |doing: &str, id: &str| {
            Error::new(Kind::Denied, doing, format!("no, {id}"))
                .with_code("UnauthorizedOperation")
                .with_request_id(id)
        };
        assert_eq!(denied("list routes", "1").sort(), denied("list routes", "2").sort());
        assert_ne!(denied("list routes", "1").sort(), denied("list ports", "1").sort());
        let away = Error::new(Kind::Unreachable, "list routes", "no answer within 5 s");
        let throttled = Error::new(Kind::Throttled, "list ports", "too many").with_code("429");
        assert_eq!(away.sort(), throttled.sort());
        assert_ne!(away.sort(), denied("list routes", "1").sort());
    }
}
