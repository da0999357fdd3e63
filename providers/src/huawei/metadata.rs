//! The metadata service of an ECS, with a session token where there are such, else without.
//!
//! Token: <https://support.huaweicloud.com/intl/en-us/usermanual-ecs/ecs_03_0166.html>. Its path is
//! not AWS's. A service that has no tokens says 404, 405 or 503.

use std::{future::Future, time::Duration};

use natd_core::{
    config::Secret,
    error::{Error, Kind, Result},
};
use reqwest::{Method, Request, StatusCode, Url, header::HeaderValue};
use serde::de::DeserializeOwned;
use tokio::{sync::Mutex, time::timeout};

use super::endpoints;
use crate::{
    http::{Answer, Http, patiently},
    metadata::ADDRESS,
    patience::Patience,
};

/// The path of the agency's keys.
pub(super) const SECURITY_KEY: &str = "/openstack/latest/securitykey";

const TOKEN_PATH: &str = "/meta-data/latest/api/token";
const TOKEN: &str = "x-metadata-token";
const TOKEN_TTL: &str = "x-metadata-token-ttl-seconds";
/// In seconds: the longest that there is.
const TTL: &str = "21600";

/// What the service says, with 401, to an ECS that has no agency: its token is not to blame.
const NO_AGENCY: &str = "configure Cloud Service Agency";

const BY_HAND: &str = "on an ECS, see that 169.254.169.254 can be reached; elsewhere, set \
                       huawei.instance_id, huawei.region, huawei.vpc_id, huawei.project_id, \
                       huawei.access_key and huawei.secret_key by hand";

/// The metadata service as natd asks it.
pub(super) struct Metadata {
    http: Http,
    base: Url,
    limit: Duration,
    session: Mutex<Session>,
}

/// How requests are let in.
enum Session {
    /// Nothing was asked yet.
    New,
    /// With this token.
    Token(Secret),
    /// The service has no tokens.
    Bare,
}

impl Metadata {
    pub(super) fn new(endpoint: Option<&str>, patience: Patience) -> Result<Self> {
        let base = endpoints::parsed("huawei.metadata_endpoint", endpoint.unwrap_or(ADDRESS))?;
        let limit = patience.metadata;
        let http = Http::neighbour(Patience {
            connect: patience.connect.min(Duration::from_secs(1)),
            attempt: patience.attempt.min(limit / 2),
            call: limit,
            ..patience
        })?;
        Ok(Self { http, base, limit, session: Mutex::new(Session::New) })
    }

    /// Puts the one deadline over all that `asked` asks.
    ///
    /// # Errors
    /// `Unreachable` when it has passed; else those of `asked`.
    pub(super) async fn in_time<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.limit, asked).await.unwrap_or_else(|_elapsed| {
            Err(Error::new(
                Kind::Unreachable,
                "ask the metadata service",
                format!("no answer within {} s", self.limit.as_secs_f32()),
            )
            .with_advice(BY_HAND))
        })
    }

    /// What a JSON document says.
    pub(super) async fn document<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.get(path).await?;
        serde_json::from_slice(&body).map_err(|error| {
            // The error's own text may quote what stands there, and that may be a key.
            let place = format!("line {}, column {}", error.line(), error.column());
            Error::new(Kind::Invalid, doing(path), format!("it is not what natd expects ({place})"))
                .with_advice(BY_HAND)
        })
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let attempt = || async move {
            let answer = self.ask_with_token(path).await?;
            match answer.status.as_u16() {
                200 => Ok(answer.body),
                status => Err(refused(path, status, &answer.body)),
            }
        };
        patiently(&self.http.patience, attempt).await
    }

    /// Asks; where a token is needed or was dropped, with a new one.
    async fn ask_with_token(&self, path: &str) -> Result<Answer> {
        let mut session = self.session.lock().await;
        if matches!(*session, Session::New) {
            *session = self.open(path).await?;
        }
        let token = token(&session);
        drop(session);
        let answer = self.ask(path, token.as_ref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED || says_no_agency(&answer.body) {
            return Ok(answer);
        }
        let mut session = self.session.lock().await;
        // Whoever was faster has a new one already.
        if self::token(&session) == token {
            *session = self.open(path).await?;
        }
        let token = self::token(&session);
        drop(session);
        self.ask(path, token.as_ref()).await
    }

    async fn open(&self, path: &str) -> Result<Session> {
        let mut request = Request::new(Method::PUT, self.url(TOKEN_PATH));
        request.headers_mut().insert(TOKEN_TTL, HeaderValue::from_static(TTL));
        let answer = self.send(path, request).await?;
        match answer.status.as_u16() {
            200 => {
                let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
                Ok(if text.is_empty() { Session::Bare } else { Session::Token(text.into()) })
            }
            404 | 405 | 503 => Ok(Session::Bare),
            status => Err(refused(path, status, &[])),
        }
    }

    async fn ask(&self, path: &str, token: Option<&Secret>) -> Result<Answer> {
        let mut request = Request::new(Method::GET, self.url(path));
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(|_| {
                Error::new(Kind::Invalid, doing(path), "its session token is not one")
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(TOKEN, value);
        }
        self.send(path, request).await
    }

    async fn send(&self, path: &str, request: Request) -> Result<Answer> {
        self.http.send(&doing(path), request).await.map_err(|error| error.with_advice(BY_HAND))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }
}

fn token(session: &Session) -> Option<Secret> {
    match session {
        Session::Token(token) => Some(token.clone()),
        Session::New | Session::Bare => None,
    }
}

fn doing(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    format!("read {name} from the metadata service")
}

fn says_no_agency(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains(NO_AGENCY)
}

fn refused(path: &str, status: u16, body: &[u8]) -> Error {
    if says_no_agency(body) {
        return Error::new(Kind::Denied, doing(path), "this ECS has no agency")
            .with_advice(super::credentials::WHERE_FROM);
    }
    let kind = match status {
        404 => Kind::NotFound,
        401 | 403 => Kind::Denied,
        429 => Kind::Throttled,
        500.. => Kind::Unreachable,
        _ => Kind::Invalid,
    };
    Error::new(kind, doing(path), format!("it answered HTTP {status}")).with_advice(BY_HAND)
}
