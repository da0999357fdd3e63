//! The instance metadata service, version 2 alone: a token first, then answers.
//!
//! One server listens in each port's namespace, so whoever asks is known by the port that the question came through:
//! a packet that an instance forwards gets that instance's answers, as on EC2.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::super::fabric::Current;
use super::super::http::{Request, Response, Server};
use super::super::network::PortWire;
use super::super::topology::METADATA;
use super::metadata_tree::tree;

/// The longest life of a token, in seconds.
const LONGEST: u32 = 21_600;
const TOKEN_PATH: &str = "/latest/api/token";

/// The servers of all ports. They stop when dropped.
#[derive(Debug)]
pub struct Metadata {
    _servers: Vec<Server>,
}

impl Metadata {
    /// Serves the `ports`, which come with the cloud's ids, from what the fabric read last.
    pub fn start<'a>(
        ports: impl Iterator<Item = (String, &'a PortWire)>,
        current: &Current,
    ) -> Result<Self> {
        let mut servers = Vec::new();
        for (id, wire) in ports {
            let service = Service { port: id, current: Arc::clone(current), ..Service::default() };
            let address = SocketAddr::from((METADATA, 80));
            servers.push(Server::start(&wire.namespace, address, move |request| {
                Some(service.answer(&request))
            })?);
        }
        Ok(Self { _servers: servers })
    }
}

#[derive(Debug, Default)]
struct Service {
    port: String,
    current: Current,
    issued: AtomicU64,
    tokens: Mutex<BTreeSet<String>>,
}

impl Service {
    fn answer(&self, request: &Request) -> Response {
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
