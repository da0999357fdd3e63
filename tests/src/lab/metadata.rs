//! The metadata service, as every port has it.
//!
//! One server listens in each port's namespace, so whoever asks is known by the port that the question came through:
//! a packet that an instance forwards gets that instance's answers, as in the clouds.

use std::net::SocketAddr;

use anyhow::Result;

use super::cloud::Cloud;
use super::fabric::Current;
use super::http::Server;
use super::network::PortWire;
use super::topology::METADATA;

/// The servers of all ports. They stop when dropped.
#[derive(Debug)]
pub struct Metadata {
    _servers: Vec<Server>,
}

impl Metadata {
    /// Serves the `ports`, which come with the cloud's ids. A cloud without such a service has nobody listen.
    pub fn start<'a>(
        cloud: &dyn Cloud,
        ports: impl Iterator<Item = (String, &'a PortWire)>,
        current: &Current,
    ) -> Result<Self> {
        let mut servers = Vec::new();
        for (id, wire) in ports {
            let Some(answers) = cloud.metadata(&id, current) else {
                continue;
            };
            let address = SocketAddr::from((METADATA, 80));
            servers
                .push(Server::start(&wire.namespace, address, move |request| answers(&request))?);
        }
        Ok(Self { _servers: servers })
    }
}
