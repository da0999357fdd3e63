//! Calls of the EC2 API, in the Query protocol: a form is posted, XML comes back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use std::{error, fmt};

use anyhow::{Context, Result};
use form_urlencoded::Serializer;

use super::super::fabric::Nudge;
use super::super::http::{Request, Response, send};
use super::super::namespace::Namespace;
use super::super::topology::API;
use super::REGION;
use super::xml::Xml;

/// By which the lab's own calls are told from natd's.
pub const USER_AGENT: &str = "natd-lab";

/// The cloud's API, called as its owner.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where it listens, which is nowhere else to be reached.
    router: Namespace,
    address: SocketAddr,
    changed: Nudge,
}

impl Api {
    /// `changed` is nudged after every write.
    pub fn new(router: Namespace, changed: Nudge) -> Self {
        Self { router, address: API, changed }
    }

    /// Calls `action`. Parameters are named as on the wire: `("Filter.1.Name", "vpc-id")`.
    ///
    /// # Errors
    /// [`ApiError`] if the API says no; something else if it can't be reached.
    pub fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Xml> {
        let body = Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", "2016-11-15")
            .extend_pairs(parameters)
            .finish();
        // moto takes the region from the credential's scope and doesn't check the signature.
        let scope = format!("Credential=lab/20240101/{REGION}/ec2/aws4_request");
        let request = Request {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            headers: vec![
                ("user-agent".to_owned(), USER_AGENT.to_owned()),
                ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
                (
                    "authorization".to_owned(),
                    format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"),
                ),
            ],
            body: body.into_bytes(),
            source: None,
        };
        let response =
            self.forward(action, &request).with_context(|| format!("calling {action}"))?;
        let text = String::from_utf8_lossy(&response.body);
        if response.status == 200 {
            return Xml::parse(&text);
        }
        Err(ApiError::of(action, &response).into())
    }

    /// Passes a request for `action` on as it is.
    pub fn forward(&self, action: &str, request: &Request) -> Result<Response> {
        let stream = self.router.connect(self.address, Duration::from_secs(5))?;
        let response = send(stream, self.address, request, Duration::from_secs(30));
        if is_write(action) {
            self.changed.nudge();
        }
        response
    }
}

/// The API's "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub action: String,
    pub status: u16,
    /// `InvalidRoute.NotFound`, for one.
    pub code: String,
    pub message: String,
}

impl ApiError {
    fn of(action: &str, response: &Response) -> Self {
        let text = String::from_utf8_lossy(&response.body);
        let xml = Xml::parse(&text).ok();
        let part =
            |path| xml.as_ref().and_then(|xml| xml.text(path)).unwrap_or_default().to_owned();
        let (code, mut message) = (part("Errors/Error/Code"), part("Errors/Error/Message"));
        if code.is_empty() {
            message = text.chars().take(300).collect();
        }
        Self { action: action.to_owned(), status: response.status, code, message }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}: {}", self.action, self.status, self.code, self.message)
    }
}

impl error::Error for ApiError {}

/// The fields of a posted form.
pub fn form(body: &[u8]) -> BTreeMap<String, String> {
    form_urlencoded::parse(body).into_owned().collect()
}

/// Whether an action changes the cloud. A dry run counts: natd has no business with it.
pub fn is_write(action: &str) -> bool {
    !["Describe", "Get", "List", "Search"].iter().any(|read| action.starts_with(read))
}
