//! The instance metadata service, version 2 alone: a token first, then answers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::fabric::Current;
use super::super::http::{Request, Response};
use super::metadata_tree::tree;

/// The longest life of a token, in seconds.
const LONGEST: u32 = 21_600;
const TOKEN_PATH: &str = "/latest/api/token";

/// The service of one port.
#[derive(Debug, Default)]
pub struct Service {
    port: String,
    current: Current,
    issued: AtomicU64,
    tokens: Mutex<BTreeSet<String>>,
}

impl Service {
    /// Tells what the fabric read last.
    pub fn new(port: &str, current: &Current) -> Self {
        Self { port: port.to_owned(), current: Arc::clone(current), ..Self::default() }
    }

    pub fn answer(&self, request: &Request) -> Response {
        match (request.method.as_str(), request.target.as_str()) {
            ("PUT", TOKEN_PATH) => self.issue(request),
            ("GET" | "HEAD", target) => self.look_up(request, target),
            _ => Response::text(405, ""),
        }
    }

    /// A request that passed a proxy gets no token, as on EC2.
    fn issue(&self, request: &Request) -> Response {
        if request.header("x-forwarded-for").is_some() {
            return Response::text(403, "");
        }
        let lifetime = request
            .header("x-aws-ec2-metadata-token-ttl-seconds")
            .and_then(|text| text.parse().ok());
        let Some(lifetime) = lifetime.filter(|seconds: &u32| (1..=LONGEST).contains(seconds))
        else {
            return Response::text(400, "");
        };
        let token =
            format!("token-{}-{}==", self.port, self.issued.fetch_add(1, Ordering::Relaxed));
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone());
        let mut response = Response::text(200, token);
        response
            .headers
            .push(("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), lifetime.to_string()));
        response
    }

    fn look_up(&self, request: &Request, target: &str) -> Response {
        let token = request.header("x-aws-ec2-metadata-token").unwrap_or_default();
        if !self.tokens.lock().unwrap_or_else(PoisonError::into_inner).contains(token) {
            return Response::text(401, "");
        }
        let picture = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = target.strip_prefix("/latest/") else {
            return Response::text(404, "");
        };
        let found = picture.ports.get(&self.port).and_then(|port| tree(&picture, port).get(path));
        found.map_or_else(|| Response::text(404, ""), |text| Response::text(200, text))
    }
}
