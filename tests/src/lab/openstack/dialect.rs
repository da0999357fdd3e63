//! How Keystone and Neutron are spoken to, between instances and the servers: methods and paths, refusals in JSON.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::calls::{Call, Refusal};
use super::super::endpoint::Dialect;
use super::super::http::{Request, Response};
use super::api::Api;
use super::{FRONT_OF_KEYSTONE, FRONT_OF_NEUTRON, KEYSTONE, NEUTRON};

/// Neutron's API. An action is a method and a path, with `*` for ids: `PUT /v2.0/ports/*`, as access rules have it.
#[derive(Debug)]
pub struct Networking(pub Api);

/// Keystone's. None of its actions changes what natd is about.
#[derive(Debug)]
pub struct Identity(pub Api);

impl Dialect for Networking {
    fn call(&self, request: &Request) -> Call {
        let mut call = call(request, request.method != "GET" && request.method != "HEAD");
        let body = String::from_utf8_lossy(&request.body).into_owned();
        call.parameters.insert("body".to_owned(), body);
        if let Some(revision) = request.header("if-match") {
            call.parameters.insert("if-match".to_owned(), revision.to_owned());
        }
        call
    }

    fn refuse(&self, _call: &Call, refusal: &Refusal) -> Response {
        let by_order = "by the lab's order";
        match refusal {
            // Neutron has no limit of its own: proxies in front of it do.
            Refusal::Throttled => Response::text(429, "Too Many Requests"),
            Refusal::Denied => no(403, "PolicyNotAuthorized", by_order),
            Refusal::Unauthorised => unauthorised(),
            Refusal::As { status, code, message } => no(*status, code, message),
        }
    }

    fn carry_out(&self, _call: &Call, request: &Request) -> Result<Response> {
        self.0.pass_on(NEUTRON, FRONT_OF_NEUTRON, request)
    }
}

impl Dialect for Identity {
    fn call(&self, request: &Request) -> Call {
        call(request, false)
    }

    fn refuse(&self, _call: &Call, refusal: &Refusal) -> Response {
        match refusal {
            Refusal::Throttled => Response::text(429, "Too Many Requests"),
            Refusal::Denied => error(403, "Forbidden", "by the lab's order"),
            Refusal::Unauthorised => unauthorised(),
            Refusal::As { status, code, message } => error(*status, code, message),
        }
    }

    fn carry_out(&self, _call: &Call, request: &Request) -> Result<Response> {
        self.0.pass_on(KEYSTONE, FRONT_OF_KEYSTONE, request)
    }
}

fn call(request: &Request, write: bool) -> Call {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut parameters = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        parameters.insert(name.into_owned(), value.into_owned());
    }
    let (ids, names): (Vec<_>, Vec<_>) = path.split('/').partition(|part| is_id(part));
    if let Some(id) = ids.first() {
        parameters.insert("id".to_owned(), (*id).to_owned());
    }
    drop(names);
    let parts: Vec<_> = path.split('/').map(|part| if is_id(part) { "*" } else { part }).collect();
    let user_agent = request.header("user-agent").unwrap_or_default().to_owned();
    let action = format!("{} {}", request.method, parts.join("/"));
    Call { parameters, user_agent, ..Call::new(action, write) }
}

/// With dashes, as Neutron writes them, or without, as Keystone does.
fn is_id(part: &str) -> bool {
    let digits = part.chars().filter(|letter| *letter != '-');
    part.len() >= 32
        && digits.clone().count() == 32
        && digits.clone().all(|c| c.is_ascii_hexdigit())
}

fn no(status: u16, kind: &str, message: &str) -> Response {
    json_response(
        status,
        &json!({ "NeutronError": { "type": kind, "message": message, "detail": "" } }),
    )
}

fn error(status: u16, title: &str, message: &str) -> Response {
    json_response(
        status,
        &json!({ "error": { "code": status, "title": title, "message": message } }),
    )
}

fn unauthorised() -> Response {
    error(401, "Unauthorized", "The request you have made requires authentication.")
}

fn json_response(status: u16, body: &Value) -> Response {
    let mut response = Response::new(status, "application/json", body.to_string());
    let id = "req-1ab00000-0000-4000-8000-000000000000".to_owned();
    response.headers.push(("x-openstack-request-id".to_owned(), id));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_a_method_and_a_path_without_ids() {
        let target = "/v2.0/routers/0b1ab6a4-1b4c-4f21-9d5c-0d9f6c0b6d3e/add_extraroutes?a=b";
        let request =
            Request { method: "PUT".to_owned(), target: target.to_owned(), ..Request::default() };
        let call = call(&request, true);
        assert_eq!(call.action, "PUT /v2.0/routers/*/add_extraroutes");
        assert_eq!(call.parameters["id"], "0b1ab6a4-1b4c-4f21-9d5c-0d9f6c0b6d3e");
        assert_eq!(call.parameters["a"], "b");
        assert!(is_id("8d3b2b1c5f6e4a7db1c2d3e4f5a6b7c8") && !is_id("security-groups"));
    }
}
