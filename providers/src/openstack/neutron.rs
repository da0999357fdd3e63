//! Calls of Neutron's API: token, paging, revisions, and errors by kind.
//!
//! API: <https://docs.openstack.org/api-ref/network/v2/>.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use natd_core::error::{Error, Kind, Result};
use reqwest::{
    Method, Request, StatusCode, Url,
    header::{self, HeaderName, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::{OnceCell, OwnedMutexGuard},
    time::Instant,
};

use super::{
    errors,
    permissions::Action,
    session::{Held, Session},
};
use crate::{
    doubt::Doubt,
    http::{Answer, Http, patiently},
};

/// Objects of one page of a list. Neutron's own limit may be smaller.
const PAGE: &str = "500";

/// More pages than these are a service that turns in a circle.
const MOST_PAGES: usize = 1000;

/// For so long a call that a fresh token was refused for isn't taken for a token that has ended: it is
/// an access rule that is missing, and logging in again for it would be done at every tick.
const RULE_IS_MISSING: Duration = Duration::from_mins(5);

/// Neutron, as a project sees it.
pub(super) struct Neutron {
    http: Http,
    session: Session,
    extensions: OnceCell<BTreeSet<String>>,
    refused: Mutex<BTreeMap<Action, Instant>>,
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    doubt: Doubt,
}

/// What has become of a write under a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    /// Somebody has changed the object since it was read.
    Stale,
}

/// A call: what is asked, and for what. `doing` completes "could not …".
pub(super) struct Call<'a> {
    pub(super) action: Action,
    pub(super) doing: &'a str,
    /// Behind `/v2.0/`.
    pub(super) path: &'a str,
}

#[derive(Deserialize)]
struct Extension {
    alias: String,
}

impl Neutron {
    pub(super) fn new(http: Http, session: Session) -> Self {
        let (refused, turns) = (Mutex::default(), Mutex::default());
        let doubt = Doubt::default();
        Self { http, session, extensions: OnceCell::new(), refused, turns, doubt }
    }

    /// Waits until nobody else in this process is changing that object. `If-Match` alone doesn't keep
    /// two writers of one instant apart: Neutron forgets it when it tries a transaction again, and
    /// doesn't compare revisions where only a router's or subnet's routes change (`revision_plugin.py`).
    pub(super) async fn turn(&self, path: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(path.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    /// For how long to wait before something is tried again that somebody else was quicker at.
    pub(super) fn pause(&self) -> Duration {
        self.http.patience.initial_backoff
    }

    /// All objects of a collection that a filter lets through, page by page.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        filter: &[(&str, &str)],
    ) -> Result<Vec<T>> {
        let name = call.path.replace('-', "_");
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut query = filter.to_vec();
            query.push(("limit", PAGE));
            query.extend(marker.as_deref().map(|marker| ("marker", marker)));
            let mut page = self.read(&call, &query).await?;
            let more =
                page.get(format!("{name}_links")).and_then(Value::as_array).is_some_and(|links| {
                    links.iter().any(|link| link.get("rel") == Some(&"next".into()))
                });
            let Some(Value::Array(objects)) = page.get_mut(&name).map(Value::take) else {
                return Err(nonsense(call.doing, format!("there is no {name} in the answer")));
            };
            let last =
                objects.last().and_then(|object| object.get("id")?.as_str()).map(str::to_owned);
            for object in objects {
                all.push(serde_json::from_value(object).map_err(|e| nonsense(call.doing, e))?);
            }
            match last {
                // The same page again would go on for ever.
                Some(last) if more && Some(&last) != marker.as_ref() => marker = Some(last),
                _ => return Ok(all),
            }
        }
        Err(nonsense(call.doing, format!("the list of {name} has no end")))
    }

    /// One object: what stands under `name` in the answer.
    pub(super) async fn show<T: DeserializeOwned>(&self, call: Call<'_>, name: &str) -> Result<T> {
        let mut answer = self.read(&call, &[]).await?;
        let object = answer.get_mut(name).map(Value::take).unwrap_or_default();
        serde_json::from_value(object).map_err(|error| nonsense(call.doing, error))
    }

    /// Changes an object; with a revision, only if it still has that one
    /// (<https://docs.openstack.org/api-ref/network/v2/#revisions>).
    pub(super) async fn put(
        &self,
        call: Call<'_>,
        body: &Value,
        revision: Option<u64>,
    ) -> Result<Written> {
        let answer = self.call(&call, &[], Some(body), revision).await?;
        if answer.status == StatusCode::PRECONDITION_FAILED && revision.is_some() {
            return Ok(Written::Stale);
        }
        if answer.status.is_success() { Ok(Written::Done) } else { Err(refused(&call, &answer)) }
    }

    /// Whether an extension is loaded; asked once.
    pub(super) async fn has(&self, alias: &str) -> Result<bool> {
        let call = Call {
            action: Action::ListExtensions,
            doing: "find out what this Neutron can do",
            path: "extensions",
        };
        let read = || async {
            let extensions: Vec<Extension> = self.list(call, &[("fields", "alias")]).await?;
            Ok(extensions.into_iter().map(|extension| extension.alias).collect())
        };
        self.extensions
            .get_or_try_init(read)
            .await
            .map(|all: &BTreeSet<String>| all.contains(alias))
    }

    async fn read(&self, call: &Call<'_>, query: &[(&str, &str)]) -> Result<Value> {
        let answer = self.call(call, query, None, None).await?;
        if !answer.status.is_success() {
            return Err(refused(call, &answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| nonsense(call.doing, error))
    }

    /// An answer whose status isn't worth another try.
    async fn call(
        &self,
        call: &Call<'_>,
        query: &[(&str, &str)],
        body: Option<&Value>,
        revision: Option<u64>,
    ) -> Result<Answer> {
        patiently(&self.http.patience, || async {
            let held = self.session.token().await?;
            let request = |held: &Held| request(call, held, query, body, revision);
            let mut answer = self.send(call, request(&held)?).await?;
            if answer.status == StatusCode::UNAUTHORIZED && self.may_be_the_token(call.action) {
                let held = self.session.replace(&held).await?;
                answer = self.send(call, request(&held)?).await?;
                self.note(call.action, answer.status);
                if self.doubt.begins() && answer.status != StatusCode::UNAUTHORIZED {
                    tracing::info!("Neutron refused the token before its time: logged in again");
                }
            }
            if answer.status.is_success() {
                return Ok(answer);
            }
            match refused(call, &answer) {
                error if error.kind().is_transient() => Err(error),
                _ => Ok(answer),
            }
        })
        .await
    }

    async fn send(&self, call: &Call<'_>, request: Request) -> Result<Answer> {
        self.http.send(call.doing, request).await.map_err(|error| {
            error.with_advice(
                "check the way to Neutron: the catalogue's address, interface, routes, security groups",
            )
        })
    }

    fn may_be_the_token(&self, action: Action) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(&action).is_none_or(|since| since.elapsed() > RULE_IS_MISSING)
    }

    fn note(&self, action: Action, status: StatusCode) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if status == StatusCode::UNAUTHORIZED {
            refused.insert(action, Instant::now());
        } else {
            refused.remove(&action);
        }
    }
}

fn refused(call: &Call<'_>, answer: &Answer) -> Error {
    errors::neutron(call.action, call.doing, "Neutron", answer)
}

fn request(
    call: &Call<'_>,
    held: &Held,
    query: &[(&str, &str)],
    body: Option<&Value>,
    revision: Option<u64>,
) -> Result<Request> {
    let invalid = |cause: &dyn std::fmt::Display| Error::new(Kind::Invalid, call.doing, cause);
    let mut url = Url::parse(&format!("{}/{}", held.token.neutron, call.path))
        .map_err(|error| invalid(&error))?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    let method = Method::from_bytes(call.action.method().as_bytes()).map_err(|e| invalid(&e))?;
    let mut request = Request::new(method, url);
    let headers = request.headers_mut();
    let mut token = HeaderValue::from_str(held.token.text.expose())
        .map_err(|_| invalid(&"Keystone's token can't be a header"))?;
    token.set_sensitive(true);
    headers.insert(HeaderName::from_static("x-auth-token"), token);
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::ACCEPT, json.clone());
    if let Some(revision) = revision {
        let condition = format!("revision_number={revision}");
        headers
            .insert(header::IF_MATCH, HeaderValue::from_str(&condition).map_err(|e| invalid(&e))?);
    }
    if let Some(body) = body {
        headers.insert(header::CONTENT_TYPE, json);
        *request.body_mut() = Some(body.to_string().into());
    }
    Ok(request)
}

fn nonsense(doing: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, doing, format!("Neutron's answer makes no sense: {cause}"))
}

/// What every part of the provider shares.
pub(super) type Api = Arc<Neutron>;
