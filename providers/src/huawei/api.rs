//! Signed calls: read again by kind, with other keys after a 401, page by page; written at the pace
//! that the cloud allows.

use natd_core::error::{Error, Kind, Result};
use reqwest::{
    Method, Request, Url,
    header::{HeaderName, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{
    credentials::Credentials,
    endpoints::{Endpoints, Service},
    errors,
    permissions::Action,
    sign::{self, Keys, Signed, Unsigned, encode, sign},
    throttle::Pace,
};
use crate::{
    doubt::Doubt,
    http::{Answer, Http, patiently},
    patience::Patience,
};

/// Objects on a page, as natd asks for them.
const PAGE: usize = 200;

/// More pages than this are a service that turns in a circle.
const MOST_PAGES: usize = 1000;

/// The services, as natd calls them.
pub(super) struct Api {
    http: Http,
    endpoints: Endpoints,
    credentials: Credentials,
    region: String,
    project: OnceCell<String>,
    pace: Pace,
    doubt: Doubt,
}

/// One call.
pub(super) struct Call<'a> {
    /// What it needs.
    pub(super) action: Action,
    /// Completes "could not …".
    pub(super) doing: String,
    /// Below the project: `v1`, and `ports/ID`.
    pub(super) version: &'static str,
    /// The segments of the path behind the project.
    pub(super) path: &'a [&'a str],
    /// Names and values.
    pub(super) query: Vec<(String, String)>,
}

impl<'a> Call<'a> {
    pub(super) fn v1(action: Action, doing: impl Into<String>, path: &'a [&'a str]) -> Self {
        Self { action, doing: doing.into(), version: "v1", path, query: Vec::new() }
    }

    pub(super) fn v3(action: Action, doing: impl Into<String>, path: &'a [&'a str]) -> Self {
        Self { version: "v3", ..Self::v1(action, doing, path) }
    }

    pub(super) fn by(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Api {
    pub(super) fn new(
        endpoints: Endpoints,
        credentials: Credentials,
        region: String,
        project: Option<String>,
        patience: Patience,
    ) -> Result<Self> {
        Ok(Self {
            http: Http::api(patience, Vec::new())?,
            endpoints,
            credentials,
            region,
            project: OnceCell::new_with(project),
            pace: Pace::new(patience),
            doubt: Doubt::default(),
        })
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.http.patience
    }

    /// Reads, again while the failure is one that may pass.
    pub(super) async fn read<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        let (path, project) = self.path(&call).await?;
        let body = patiently(&self.http.patience, || {
            self.exchange(Service::Vpc, &call, Method::GET, &path, &[], Some(&project))
        })
        .await?;
        parsed(&call.doing, &body)
    }

    /// Reads a list that the answer has under `name`, page by page until one is empty: a page that is
    /// shorter than asked for is not yet the last, since a service may have its own idea of a page.
    pub(super) async fn list<T: DeserializeOwned + Identified>(
        &self,
        call: Call<'_>,
        name: &str,
    ) -> Result<Vec<T>> {
        let mut all: Vec<T> = Vec::new();
        for _ in 0..MOST_PAGES {
            let mut query = call.query.clone();
            query.push(("limit".to_owned(), PAGE.to_string()));
            if let Some(last) = all.last() {
                query.push(("marker".to_owned(), last.id().to_owned()));
            }
            let page = Call { query, doing: call.doing.clone(), ..call };
            let mut answer: Value = self.read(page).await?;
            let items = answer.get_mut(name).map(Value::take).ok_or_else(|| {
                Error::new(Kind::Invalid, &call.doing, format!("the answer has no {name}"))
            })?;
            let items: Vec<T> = serde_json::from_value(items)
                .map_err(|error| Error::new(Kind::Invalid, &call.doing, error))?;
            // A service that doesn't know `marker` gives the same page again.
            let again = items.last().zip(all.last()).is_some_and(|(new, old)| new.id() == old.id());
            if items.is_empty() || again {
                return Ok(all);
            }
            all.extend(items);
        }
        Err(Error::new(Kind::Invalid, &call.doing, "the list has no end"))
    }

    /// Writes once the pace of writes allows it. What is not throttled is not tried again here: only
    /// the caller can tell whether the write was done.
    pub(super) async fn write(&self, call: Call<'_>, body: &Value) -> Result<Vec<u8>> {
        let (path, project) = self.path(&call).await?;
        let body = body.to_string().into_bytes();
        self.pace
            .keep(&call.doing, || {
                self.exchange(Service::Vpc, &call, Method::PUT, &path, &body, Some(&project))
            })
            .await
    }

    /// The project, asked of IAM once if nobody has told it.
    async fn project(&self) -> Result<&str> {
        self.project.get_or_try_init(|| self.find_project()).await.map(String::as_str)
    }

    async fn find_project(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Projects {
            projects: Vec<Project>,
        }
        #[derive(Deserialize)]
        struct Project {
            id: String,
        }
        let doing = format!("find the project of {}", self.region);
        let call = Call::v3(Action::ProjectsList, doing.clone(), &[]).by("name", &self.region);
        let body = patiently(&self.http.patience, || {
            self.exchange(Service::Iam, &call, Method::GET, "/v3/projects", &[], None)
        })
        .await
        .map_err(|error| match error.advice() {
            Some(_) => error,
            None => error.with_advice("or set huawei.project_id"),
        })?;
        let Projects { mut projects } = parsed(&doing, &body)?;
        match (projects.pop(), projects.is_empty()) {
            (Some(project), true) => Ok(project.id),
            (Some(_), false) => Err(Error::new(Kind::Invalid, doing, "there are several")
                .with_advice("set huawei.project_id to one of them")),
            (None, _) => Err(Error::new(Kind::NotFound, doing, "there is none")
                .with_advice("check huawei.region, or set huawei.project_id")),
        }
    }

    /// The path of a call, with the project in it.
    async fn path(&self, call: &Call<'_>) -> Result<(String, String)> {
        let project = self.project().await?.to_owned();
        let segments = [call.version, &project].into_iter().chain(call.path.iter().copied());
        let path = segments.map(|segment| format!("/{}", encode(segment))).collect::<Vec<_>>();
        Ok((path.concat(), project))
    }

    /// Sends once, and once more if the keys are refused: with others, if there are any by now, else
    /// signed anew, since a service may doubt good keys for a moment.
    async fn exchange(
        &self,
        service: Service,
        call: &Call<'_>,
        method: Method,
        path: &str,
        body: &[u8],
        project: Option<&str>,
    ) -> Result<Vec<u8>> {
        let base = self.endpoints.of(service);
        let mut url = base.clone();
        url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
        let keys = self.credentials.keys().await?;
        let mut exchanged =
            self.send(call, method.clone(), url.clone(), body, project, keys.clone()).await?;
        if errors::doubts_keys(&exchanged.answer) {
            let others = self.credentials.other_than(&keys).await?;
            let same = others.is_none();
            exchanged = self.send(call, method, url, body, project, others.unwrap_or(keys)).await?;
            if self.doubt.begins() && same && exchanged.answer.status.is_success() {
                tracing::info!("the cloud refused the keys once and took them the second time");
            }
        }
        let Exchanged { answer, keys, signature } = exchanged;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let token = keys.token.as_ref().map_or("", |token| token.expose());
        let secrets = [keys.secret.expose(), token, &signature, &keys.access];
        let host = host(base);
        Err(errors::explain(call.action, &call.doing, &host, &answer, &secrets))
    }

    async fn send(
        &self,
        call: &Call<'_>,
        method: Method,
        mut url: Url,
        body: &[u8],
        project: Option<&str>,
        keys: Keys,
    ) -> Result<Exchanged> {
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        if let Some(project) = project {
            headers.push(("X-Project-Id".to_owned(), project.to_owned()));
        }
        let host = host(&url);
        let unsigned = Unsigned {
            method: method.as_str(),
            host: &host,
            path: url.path(),
            query: &call.query,
            headers: &headers,
            body,
        };
        let Signed { headers, uri, authorization, .. } =
            sign(unsigned, &keys, jiff::Timestamp::now());
        let query = uri.split_once('?').map(|(_, query)| query.to_owned());
        url.set_query(query.as_deref());
        let mut request = Request::new(method, url);
        for (name, value) in &headers {
            // The client writes this one itself, from the same URL.
            if name != "Host" {
                let (name, value) = header(&call.doing, name, value)?;
                request.headers_mut().insert(name, value);
            }
        }
        if !body.is_empty() {
            *request.body_mut() = Some(body.to_vec().into());
        }
        let answer = self.http.send(&call.doing, request).await.map_err(|error| {
            error.with_advice(
                "check the way to the API: an elastic address or a VPC endpoint, the security group's outbound rules, the name server; or set huawei.endpoint",
            )
        })?;
        let signature = authorization.rsplit('=').next().unwrap_or_default().to_owned();
        Ok(Exchanged { answer, keys, signature })
    }
}

/// An answer, with what must not be shown of it.
struct Exchanged {
    answer: Answer,
    keys: Keys,
    signature: String,
}

/// What lists are continued behind.
pub(super) trait Identified {
    fn id(&self) -> &str;
}

fn header(doing: &str, name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    // What it is must not be shown: it may be a key.
    let nonsense =
        || Error::new(Kind::Invalid, doing, format!("{name} holds what a header can't hold"));
    let mut value = HeaderValue::from_str(value).map_err(|_| nonsense())?;
    value.set_sensitive(name == sign::AUTHORIZATION || name == sign::SECURITY_TOKEN);
    Ok((name.parse().map_err(|_| nonsense())?, value))
}

fn parsed<T: DeserializeOwned>(doing: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|error| Error::new(Kind::Invalid, doing, format!("the answer: {error}")))
}

/// Host and port, as the `Host` header has them: without the scheme's own port.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
