//! How the API is spoken, between instances and the stand-in: actions by method and path, in IAM's words.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::super::calls::{Call, Refusal};
use super::super::endpoint::Dialect;
use super::super::fabric::Nudge;
use super::super::http::{Request, Response, send};
use super::super::namespace::Namespace;
use super::super::topology::ENDPOINT;
use super::stand_in::SERVICE;

/// Huawei's REST. What comes in goes on as it is, since every byte of it is signed.
#[derive(Debug)]
pub struct Rest {
    pub router: Namespace,
    pub changed: Nudge,
}

impl Dialect for Rest {
    fn call(&self, request: &Request) -> Call {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let segments: Vec<_> = path.trim_matches('/').split('/').collect();
        let action = action(&request.method, &segments);
        let write = request.method != "GET";
        let mut call = Call::new(action, write);
        request.header("user-agent").unwrap_or_default().clone_into(&mut call.user_agent);
        call.parameters.insert("path".to_owned(), path.to_owned());
        call.parameters.insert("query".to_owned(), query.to_owned());
        call
    }

    fn refuse(&self, _call: &Call, refusal: &Refusal) -> Response {
        let by_order = "by the lab's order";
        match refusal {
            Refusal::Throttled => gateway(429, "APIGW.0308", "The throttling threshold is reached"),
            Refusal::Denied => gateway(403, "APIGW.0302", by_order),
            Refusal::Unauthorised => gateway(401, "APIGW.0301", "verify aksk signature fail"),
            Refusal::As { status, code, message } => {
                answer(*status, &json!({ "code": code, "message": message }))
            }
        }
    }

    fn carry_out(&self, call: &Call, request: &Request) -> Result<Response> {
        let stream = self.router.connect(SERVICE, Duration::from_secs(5))?;
        // The host is signed as the instance wrote it.
        let host = request.header("host").and_then(|host| host.parse().ok()).unwrap_or(ENDPOINT);
        let response = send(stream, host, request, Duration::from_mins(1));
        if call.write {
            self.changed.nudge();
        }
        response
    }
}

/// The action of a method and a path; both where there is no such API.
fn action(method: &str, segments: &[&str]) -> String {
    let known = match (method, segments) {
        ("GET", ["v1", _, "ports"] | ["v1", _, "ports", _]) => "vpc:ports:get",
        ("PUT", ["v1", _, "ports", _]) => "vpc:ports:update",
        ("GET", ["v1", _, "routetables"]) => "vpc:routeTables:list",
        ("GET", ["v1", _, "routetables", _]) => "vpc:routeTables:get",
        ("PUT", ["v1", _, "routetables", _]) => "vpc:routeTables:update",
        ("GET", ["v1", _, "vpcs", _] | ["v3", _, "vpc", "vpcs", _]) => "vpc:vpcs:get",
        ("GET", ["v1", _, "subnets"] | ["v1", _, "subnets", _]) => "vpc:subnets:get",
        ("GET", ["v1", _, "publicips"]) => "vpc:publicIps:list",
        ("GET", ["v1", _, "publicips", _]) => "vpc:publicIps:get",
        ("PUT", ["v1", _, "publicips", _]) => "vpc:publicIps:update",
        ("GET", ["v3", "projects"]) => "iam:projects:list",
        _ => return format!("{method} /{}", segments.join("/")),
    };
    known.to_owned()
}

fn gateway(status: u16, code: &str, message: &str) -> Response {
    let body = json!({ "error_code": code, "error_msg": message, "request_id": "lab-0000" });
    answer(status, &body)
}

fn answer(status: u16, body: &serde_json::Value) -> Response {
    let mut response = Response::new(status, "application/json", body.to_string());
    response.headers.push(("x-request-id".to_owned(), "lab-0000".to_owned()));
    response
}
