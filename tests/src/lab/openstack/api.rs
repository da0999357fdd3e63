//! Calls of Keystone and Neutron, as the cloud's administrator or somebody else makes them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;
use std::{error, fmt};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::fabric::Nudge;
use super::super::http::{Request, Response, send};
use super::super::namespace::Namespace;
use super::{FRONT_OF_KEYSTONE, FRONT_OF_NEUTRON, KEYSTONE, NEUTRON};

/// By which the lab's own calls are told from natd's.
const USER_AGENT: &str = "natd-lab";

/// Who calls, in the domain `default`.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    pub user: &'static str,
    pub password: &'static str,
    pub project: &'static str,
}

/// As `prepare.py` makes them.
pub const ADMIN: Login = Login { user: "admin", password: "of-the-lab", project: "admin" };
pub const NATD: Login = Login { user: "natd", password: "of-natd", project: "natd" };

/// The cloud's API, called as somebody.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where it listens, which is nowhere else to be reached.
    router: Namespace,
    login: Login,
    token: Arc<Mutex<Option<String>>>,
    changed: Nudge,
    /// Held by those who call, and alone by who starts the server anew.
    gate: Arc<RwLock<()>>,
}

impl Api {
    /// `changed` is nudged after every write.
    pub fn new(router: Namespace, changed: Nudge) -> Self {
        Self { router, login: ADMIN, token: Arc::default(), changed, gate: Arc::default() }
    }

    /// The same API, called by somebody else.
    pub fn by(&self, login: Login) -> Self {
        Self { login, token: Arc::default(), ..self.clone() }
    }

    /// `GET`s a path such as `/v2.0/ports`, Neutron's, or `/v3/users`, Keystone's.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, &Value::Null)
    }

    /// `POST`s.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, body)
    }

    /// `PUT`s; again where Neutron stumbles, as it does over its small database when two write at once.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        let stumbled = |error: &anyhow::Error| {
            error.downcast_ref::<ApiError>().is_some_and(|error| error.status >= 500)
        };
        for _ in 0..20 {
            match self.call("PUT", path, body) {
                Err(error) if stumbled(&error) => thread::sleep(Duration::from_millis(100)),
                done => return done,
            }
        }
        self.call("PUT", path, body)
    }

    /// `DELETE`s.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.call("DELETE", path, &Value::Null).map(drop)
    }

    /// Makes one of a kind, such as `port`, and gives it back.
    pub fn make(&self, kind: &str, fields: &Value) -> Result<Value> {
        let path = format!("/v2.0/{}s", kind.replace('_', "-"));
        let path = if kind == "floatingip" { "/v2.0/floatingips".to_owned() } else { path };
        let mut answer = self.post(&path, &json!({ kind: fields }))?;
        Ok(answer[kind].take())
    }

    /// All of a kind, such as `ports`.
    pub fn list(&self, kind: &str) -> Result<Vec<Value>> {
        let mut answer = self.get(&format!("/v2.0/{}", kind.replace('_', "-")))?;
        match answer[kind].take() {
            Value::Array(all) => Ok(all),
            other => anyhow::bail!("{kind} are {other}"),
        }
    }

    /// Has everybody wait with their calls until Neutron has been started anew, and asked its first question.
    ///
    /// A fresh Neutron sets itself up while it answers that. A question that comes at the same time is answered with
    /// 500, or with nothing but the caller's own.
    pub fn alone(&self, start: impl FnOnce() -> Result<()>) -> Result<()> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        start()?;
        self.call_now("GET", "/v2.0/networks", &Value::Null).map(drop)
    }

    /// One call.
    ///
    /// # Errors
    /// [`ApiError`] if the API says no; something else if it can't be reached.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let _among_others = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.call_now(method, path, body)
    }

    fn call_now(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let response = match self.call_once(method, path, body)? {
            response if response.status == 401 => {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.call_once(method, path, body)?
            }
            response => response,
        };
        let text = String::from_utf8_lossy(&response.body);
        if !(200..300).contains(&response.status) {
            let call = format!("{method} {path}");
            return Err(ApiError { call, status: response.status, text: text.into_owned() }.into());
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {path} answers {text}"))
    }

    fn call_once(&self, method: &str, path: &str, body: &Value) -> Result<Response> {
        let token = self.token()?;
        let mut request = json_request(method, path, body);
        request.headers.push(("x-auth-token".to_owned(), token));
        self.forward(&request).with_context(|| format!("calling {method} {path}"))
    }

    fn token(&self) -> Result<String> {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*token {
            return Ok(token.clone());
        }
        let Login { user, password, project } = self.login;
        let domain = json!({ "id": "default" });
        let user = json!({ "name": user, "domain": domain, "password": password });
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": user } },
            "scope": { "project": { "name": project, "domain": domain } },
        }});
        let new = self.log_in(&body)?;
        *token = Some(new.clone());
        Ok(new)
    }

    /// A token.
    pub fn log_in(&self, body: &Value) -> Result<String> {
        let response = self.forward(&json_request("POST", "/v3/auth/tokens", body))?;
        let token = response.headers.iter().find(|(name, _)| name == "x-subject-token");
        let (_, token) = token
            .with_context(|| format!("no token: {}", String::from_utf8_lossy(&response.body)))?;
        Ok(token.clone())
    }

    /// Passes a request on as it is, to Keystone or Neutron by its path.
    pub fn forward(&self, request: &Request) -> Result<Response> {
        let of_keystone = request.target.starts_with("/v3");
        let (server, front) =
            if of_keystone { (KEYSTONE, FRONT_OF_KEYSTONE) } else { (NEUTRON, FRONT_OF_NEUTRON) };
        self.pass_on(server, front, request)
    }

    /// Passes a request on to a server, whose answers are to name `front` where they name itself.
    pub fn pass_on(
        &self,
        server: SocketAddr,
        front: SocketAddr,
        request: &Request,
    ) -> Result<Response> {
        let stream = self.router.connect(server, Duration::from_secs(5))?;
        let response = send(stream, front, request, Duration::from_mins(1));
        if request.method != "GET" && server == NEUTRON {
            self.changed.nudge();
        }
        response
    }
}

fn json_request(method: &str, path: &str, body: &Value) -> Request {
    Request {
        method: method.to_owned(),
        target: path.to_owned(),
        headers: vec![
            ("user-agent".to_owned(), USER_AGENT.to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ],
        body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
        source: None,
    }
}

/// A field that must be text.
pub fn text<'a>(object: &'a Value, field: &str) -> Result<&'a str> {
    object[field].as_str().with_context(|| format!("no {field} in {object}"))
}

/// The elements of a list; none if there is no list.
pub fn items<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    object[field].as_array().into_iter().flatten()
}

/// The API's "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub call: String,
    pub status: u16,
    pub text: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.call, self.status, self.text)
    }
}

impl error::Error for ApiError {}
