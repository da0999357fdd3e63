//! The owner's side of the stand-in: its state, past the API and all that the API refuses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::fabric::Nudge;
use super::super::http::{Request, send};
use super::super::namespace::Namespace;
use super::stand_in::OWNER;

/// The owner.
#[derive(Clone, Debug)]
pub struct Owner {
    router: Namespace,
    changed: Nudge,
}

impl Owner {
    /// `changed` is nudged after every change.
    pub fn new(router: Namespace, changed: Nudge) -> Self {
        Self { router, changed }
    }

    /// Reads what is at a path.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, &Value::Null)
    }

    /// Changes what is at a path, by one of the other methods.
    pub fn change(&self, method: &str, path: &str, body: &Value) -> Result<()> {
        let done = self.call(method, path, body);
        self.changed.nudge();
        done.map(drop)
    }

    /// Sets some of the cloud's settings.
    pub fn set(&self, settings: &Value) -> Result<()> {
        self.change("PATCH", "/settings", settings)
    }

    /// Puts a route into a table, or another in its place.
    pub fn put_route(&self, table: &str, kind: &str, destination: &str, to: &str) -> Result<()> {
        let route = json!({ "type": kind, "destination": destination, "nexthop": to });
        self.change("PUT", &format!("/resources/routetables/{table}/routes"), &route)
    }

    /// Takes a route away.
    pub fn remove_route(&self, table: &str, destination: &str) -> Result<()> {
        let route = json!({ "destination": destination });
        self.change("DELETE", &format!("/resources/routetables/{table}/routes"), &route)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request {
            method: method.to_owned(),
            target: path.to_owned(),
            body,
            ..Request::default()
        };
        let stream = self.router.connect(OWNER, Duration::from_secs(5))?;
        let response = send(stream, OWNER, &request, Duration::from_secs(30))
            .with_context(|| format!("{method} {path}"))?;
        let text = String::from_utf8_lossy(&response.body);
        ensure!(response.status == 200, "{method} {path}: {}: {text}", response.status);
        serde_json::from_str(&text).with_context(|| format!("{method} {path}"))
    }
}
