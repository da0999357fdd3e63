//! The signature SDK-HMAC-SHA256 over a request: pure, and knows nothing of HTTP clients.
//!
//! Rules: <https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-algorithm.html>; where
//! they leave something open, the official Python SDK decides (`huaweicloudsdkcore`, `signer.py`).

use std::{borrow::Cow, collections::BTreeMap, fmt};

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use natd_core::config::Secret;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "SDK-HMAC-SHA256";

/// The header that holds the signature.
pub const AUTHORIZATION: &str = "Authorization";
/// The header that holds the time of signing.
pub const DATE: &str = "X-Sdk-Date";
/// The header that holds the token of temporary keys.
pub const SECURITY_TOKEN: &str = "X-Security-Token";
/// The header whose value stands in for the body's hash.
const CONTENT: &str = "X-Sdk-Content-Sha256";

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An access key, permanent or temporary. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The access key's id.
    pub access: String,
    /// The secret that goes with it.
    pub secret: Secret,
    /// The token that goes with temporary keys.
    pub token: Option<Secret>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

/// What is to be signed.
#[derive(Clone, Copy)]
pub struct Unsigned<'a> {
    /// The method, in any case.
    pub method: &'a str,
    /// Host and, unless it is the scheme's own, port: as the `Host` header has it.
    pub host: &'a str,
    /// The path, as it goes on the wire.
    pub path: &'a str,
    /// Names and values of the query, as they are before encoding, in any order.
    pub query: &'a [(String, String)],
    /// The headers. All are signed but those with a `_` in their name.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

/// A signed request, as far as it differs from the unsigned one.
pub struct Signed {
    /// All headers to send, [`AUTHORIZATION`] included.
    pub headers: Vec<(String, String)>,
    /// Path and query to send.
    pub uri: String,
    /// What was hashed, for comparison.
    pub canonical_request: String,
    /// What was signed, for comparison.
    pub string_to_sign: String,
    /// The value of [`AUTHORIZATION`].
    pub authorization: String,
}

/// Signs. Adds the headers [`DATE`] and `Host` where they are missing, the token of temporary keys, and what
/// the body's type asks for.
#[must_use]
pub fn sign(request: Unsigned<'_>, keys: &Keys, time: Timestamp) -> Signed {
    let mut headers = request.headers.to_vec();
    complete(&mut headers, request, keys, time);
    for (_, value) in &mut headers {
        value.truncate(value.trim_end().len());
        value.drain(..value.len() - value.trim_start().len());
    }
    let signed: BTreeMap<String, &str> = headers
        .iter()
        .filter(|(name, _)| !name.contains('_'))
        .map(|(name, value)| (name.to_lowercase(), value.as_str()))
        .collect();
    let lines =
        signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect::<Vec<_>>().concat();
    let names = signed.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    let hash = match header(&headers, CONTENT) {
        Some(stand_in) if !request.body.is_empty() && !stand_in.is_empty() => stand_in.to_owned(),
        _ => sha256(request.body),
    };
    let query = canonical_query(request.query);
    let canonical_request = format!(
        "{}\n{}\n{query}\n{lines}\n{names}\n{hash}",
        request.method.to_uppercase(),
        canonical_path(request.path),
    );
    let date = header(&headers, DATE).unwrap_or_default();
    let string_to_sign = format!("{ALGORITHM}\n{date}\n{}", sha256(canonical_request.as_bytes()));
    let signature = hmac(keys.secret.expose().as_bytes(), string_to_sign.as_bytes());
    let authorization =
        format!("{ALGORITHM} Access={}, SignedHeaders={names}, Signature={signature}", keys.access);
    headers.push((AUTHORIZATION.to_owned(), authorization.clone()));
    let uri = match query.as_str() {
        "" => request.path.to_owned(),
        query => format!("{}?{query}", request.path),
    };
    Signed { headers, uri, canonical_request, string_to_sign, authorization }
}

fn complete(
    headers: &mut Vec<(String, String)>,
    request: Unsigned<'_>,
    keys: &Keys,
    time: Timestamp,
) {
    if let Some(token) = &keys.token {
        set(headers, SECURITY_TOKEN, token.expose());
    }
    // The SDK looks at this spelling alone, and sets its own spelling of the other.
    let content_type = headers.iter().find(|(name, _)| name == "Content-Type");
    let is_hashed = content_type.is_none_or(|(_, value)| {
        value.is_empty()
            || value.starts_with("application/json")
            || value.starts_with("application/bson")
    });
    if !is_hashed {
        set(headers, CONTENT, "UNSIGNED-PAYLOAD");
    }
    if header(headers, DATE).is_none() {
        set(headers, DATE, &time.strftime("%Y%m%dT%H%M%SZ").to_string());
    }
    if header(headers, "Host").is_none() {
        set(headers, "Host", request.host);
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(present, _)| present.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn set(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
    headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
    headers.push((name.to_owned(), value.to_owned()));
}

/// Decoded, split, each segment encoded again, and ended with a slash.
fn canonical_path(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut canonical = decoded.split('/').map(encode).collect::<Vec<_>>().join("/");
    if !canonical.ends_with('/') {
        canonical.push('/');
    }
    canonical
}

/// Sorted as it is, then encoded.
fn canonical_query(query: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = query.iter().collect();
    pairs.sort();
    pairs
        .into_iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}

/// As a path segment or a part of a query: all but unreserved characters escaped.
pub(super) fn encode(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, RESERVED).into()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hmac(key: &[u8], message: &[u8]) -> String {
    // HMAC takes keys of any length.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| String::new(),
        |mac| hex::encode(mac.chain_update(message).finalize().into_bytes()),
    )
}
