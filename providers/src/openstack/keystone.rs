//! Keystone: a token for credentials, and Neutron's address out of the catalogue.
//!
//! Shapes: <https://docs.openstack.org/api-ref/identity/v3/#authentication-and-token-management>.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use natd_core::{
    config::Secret,
    error::{Error, Kind, Result},
};
use reqwest::{Method, Request, header};
use serde::Deserialize;

use super::{access::Access, errors};
use crate::http::{Answer, Http};

const DOING: &str = "log in to OpenStack";

/// The header that a token is in.
const SUBJECT_TOKEN: &str = "x-subject-token";

/// A token, and what it is good for.
pub(super) struct Token {
    pub(super) text: Secret,
    /// Neutron's URL, `/v2.0` included.
    pub(super) neutron: String,
    /// For how long, from when it was issued.
    pub(super) lifetime: Duration,
}

#[derive(Deserialize)]
struct Body {
    token: Told,
}

#[derive(Deserialize)]
struct Told {
    expires_at: String,
    issued_at: Option<String>,
    #[serde(default)]
    catalog: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    interface: String,
    region_id: Option<String>,
    region: Option<String>,
    url: String,
}

impl Endpoint {
    fn region(&self) -> &str {
        self.region_id.as_deref().or(self.region.as_deref()).unwrap_or_default()
    }
}

/// Asks for a token once.
///
/// # Errors
/// `Denied` for credentials that Keystone doesn't accept; `Invalid` where the catalogue has no Neutron
/// for region and interface; `Unreachable`.
pub(super) async fn log_in(http: &Http, access: &Access) -> Result<Token> {
    let answer = http.send(DOING, request(access)?).await.map_err(|error| {
        error.with_advice("check auth_url, and the way to it: routes, security groups, name server")
    })?;
    if !answer.status.is_success() {
        return Err(errors::keystone(DOING, &access.keystone, &answer));
    }
    token(access, &answer)
}

fn request(access: &Access) -> Result<Request> {
    let url = format!("{}/auth/tokens", access.keystone);
    let url = url.parse().map_err(|error| Error::new(Kind::Invalid, DOING, error))?;
    let mut request = Request::new(Method::POST, url);
    let json = header::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
    request.headers_mut().insert(header::ACCEPT, json);
    *request.body_mut() = Some(access.login.expose().to_owned().into());
    Ok(request)
}

fn token(access: &Access, answer: &Answer) -> Result<Token> {
    let nonsense = |cause: &str| {
        let cause = format!("{} {cause}", access.keystone);
        Error::new(Kind::Invalid, DOING, cause).with_advice("check auth_url: it is Keystone's")
    };
    let text = answer.headers.get(SUBJECT_TOKEN).and_then(|token| token.to_str().ok());
    let text = text.ok_or_else(|| nonsense("sent no X-Subject-Token"))?.to_owned();
    let Body { token } = serde_json::from_slice(&answer.body)
        .map_err(|_| nonsense("sent something else than a token"))?;
    let time =
        |text: &str| text.parse::<Timestamp>().map_err(|_| nonsense("sent a time that is none"));
    let issued = token.issued_at.as_deref().map_or_else(|| Ok(Timestamp::now()), time)?;
    let lifetime = time(&token.expires_at)?.duration_since(issued);
    Ok(Token {
        text: Secret::from(text),
        neutron: versioned(match &access.endpoint {
            Some(url) => url,
            None => neutron(access, &token.catalog)?,
        }),
        lifetime: lifetime.try_into().unwrap_or_default(),
    })
}

/// Whether that answer is a token, and its catalogue has Neutron.
#[cfg(any(test, fuzzing))]
pub(crate) fn catalogue(body: &[u8]) -> Result<()> {
    let access = Access {
        keystone: "http://keystone".to_owned(),
        login: Secret::from(String::new()),
        region: None,
        interface: "public".to_owned(),
        endpoint: None,
        trust: super::access::Trust::Anybody,
    };
    let headers = [(
        header::HeaderName::from_static(SUBJECT_TOKEN),
        header::HeaderValue::from_static("token"),
    )];
    let answer = Answer {
        status: reqwest::StatusCode::CREATED,
        headers: headers.into_iter().collect(),
        body: body.to_vec(),
    };
    token(&access, &answer).map(drop)
}

/// The one endpoint of type `network` for interface and region.
fn neutron<'a>(access: &Access, catalog: &'a [Service]) -> Result<&'a str> {
    let refused = |cause: String, advice: String| {
        Err(Error::new(Kind::Invalid, "find Neutron in Keystone's catalogue", cause)
            .with_advice(advice))
    };
    let endpoints: Vec<&Endpoint> = catalog
        .iter()
        .filter(|service| service.kind == "network")
        .flat_map(|service| &service.endpoints)
        .collect();
    if endpoints.is_empty() {
        return refused(
            "it has no service of type network".to_owned(),
            "log in to a project (project_name), or set openstack.endpoint".to_owned(),
        );
    }
    let fitting: Vec<&&Endpoint> =
        endpoints.iter().filter(|endpoint| endpoint.interface == access.interface).collect();
    if fitting.is_empty() {
        let there: BTreeSet<&str> = endpoints.iter().map(|end| end.interface.as_str()).collect();
        return refused(
            format!("it has no interface {}", access.interface),
            format!("set interface to one of: {}", list(there)),
        );
    }
    let there: BTreeSet<&str> = fitting.iter().map(|endpoint| endpoint.region()).collect();
    let chosen = match (&access.region, fitting.as_slice()) {
        (Some(region), all) => all.iter().find(|endpoint| endpoint.region() == region),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    match (chosen, &access.region) {
        (Some(endpoint), _) => Ok(&endpoint.url),
        (None, Some(region)) => refused(
            format!("it has no region {region}"),
            format!("set openstack.region or region_name to one of: {}", list(there)),
        ),
        (None, None) => refused(
            "it has several regions and none is chosen".to_owned(),
            format!("set openstack.region or region_name to one of: {}", list(there)),
        ),
    }
}

fn list(names: BTreeSet<&str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// The catalogue has Neutron's root, an override may have the version too.
fn versioned(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with("/v2.0") { url.to_owned() } else { format!("{url}/v2.0") }
}
