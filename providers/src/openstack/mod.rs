//! OpenStack: Keystone and Neutron, by their own APIs.
//!
//! [`Openstack`] finds its credentials as the openstack client does (`environment`, `clouds_file`,
//! `settings`, `access`), logs in (`keystone`) and keeps a token (`session`) for the calls that
//! `neutron` makes (`wire`, `errors`, `permissions`, `policy`). It learns once which server it is on
//! (`identity`). `ports` are its interfaces, with their `source_check` and what their `security` groups
//! let through. `topology` tells which router serves which subnet; by it, `route_tables` selects the
//! `table`s, whose routes lead to addresses (`extra_routes`).
//!
//! A tick costs ten lists, whatever the number of tables: ports, floating IPs, security group rules, and
//! routers, routers' ports and subnets, the last three for identity and for tables.

mod access;
mod clouds_file;
mod environment;
mod errors;
mod extra_routes;
mod identity;
mod keystone;
mod neutron;
mod permissions;
mod policy;
mod ports;
mod route_tables;
mod security;
mod session;
mod settings;
mod source_check;
mod table;
mod topology;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    cloud::{Instance, Interface, OwnSubnet, Provider, RouteTables, TableSelector},
    config::{self, Config, OpenstackRoutes},
    error::{Error, Kind as ErrorKind, Result},
};
use tokio::try_join;

use self::{
    access::{Access, Trust},
    identity::Identity,
    neutron::{Api, Neutron},
    session::Session,
    topology::Topology,
    wire::Port,
};
use crate::{
    http::Http,
    kind::{Kind, Permission},
    patience::Patience,
};

#[cfg(any(test, fuzzing))]
pub(crate) use self::keystone::catalogue;
pub use self::{environment::Environment, permissions::Action};

/// A project of an OpenStack cloud, seen from one server.
pub struct Openstack {
    api: Api,
    options: config::Openstack,
    region: String,
    identity: Identity,
    /// As they were last listed: a tick asks for the instance first.
    ports: Mutex<Option<Arc<Vec<Port>>>>,
    topology: Mutex<Option<Arc<Topology>>>,
}

impl Openstack {
    /// Reads the credentials and learns which server this is; Keystone and Neutron are not asked yet.
    ///
    /// # Errors
    /// `Invalid` for credentials that are missing or make no sense, naming file and key;
    /// `Unreachable` within 5 s if there is no metadata service and `instance_id` is not given.
    pub async fn connect(options: config::Openstack) -> Result<Self> {
        Self::connect_with(options, Environment::of_process(), Patience::default()).await
    }

    /// As [`Openstack::connect`], with other variables and folders, and other limits on time and
    /// attempts.
    ///
    /// # Errors
    /// As for [`Openstack::connect`].
    pub async fn connect_with(
        options: config::Openstack,
        environment: Environment,
        patience: Patience,
    ) -> Result<Self> {
        let access = Access::read(&options, &environment)?;
        let http = match access.trust {
            Trust::Authorities(authorities) => Http::api(patience, authorities)?,
            Trust::Anybody => {
                tracing::warn!("certificates are not verified (verify: false)");
                Http::unverified(patience)?
            }
        };
        let identity = Identity::learn(&options, patience).await?;
        let session = Session::new(http.clone(), options.clone(), environment);
        Ok(Self {
            api: Arc::new(Neutron::new(http, session)),
            options,
            region: access.region.unwrap_or_default(),
            identity,
            ports: Mutex::default(),
            topology: Mutex::default(),
        })
    }

    async fn read_ports(&self) -> Result<Arc<Vec<Port>>> {
        let ports = Arc::new(ports::own(&self.api, &self.identity).await?);
        *self.ports.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&ports));
        Ok(ports)
    }

    async fn read_topology(&self) -> Result<Arc<Topology>> {
        let topology = Arc::new(Topology::read(&self.api).await?);
        let mut last = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Arc::clone(&topology));
        Ok(topology)
    }

    /// As they were last listed.
    async fn last_ports(&self) -> Result<Arc<Vec<Port>>> {
        let last = self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some(ports) => Ok(ports),
            None => self.read_ports().await,
        }
    }

    /// As it was last read.
    async fn last_topology(&self) -> Result<Arc<Topology>> {
        let last = self.topology.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some(topology) => Ok(topology),
            None => self.read_topology().await,
        }
    }
}

/// The kind of cloud that [`Openstack`] is one of.
pub struct Cloud;

#[async_trait]
impl Kind for Cloud {
    fn name(&self) -> &'static str {
        "openstack"
    }

    fn permissions(&self, config: &Config) -> Vec<Permission> {
        policy::permissions(config)
    }

    fn policy(&self, config: &Config) -> Option<serde_json::Value> {
        Some(policy::policy(config))
    }

    async fn connect(&self, config: &Config) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(Openstack::connect(config.openstack.clone()).await?))
    }
}

#[async_trait]
impl Provider for Openstack {
    fn name(&self) -> &'static str {
        "openstack"
    }

    async fn instance(&self) -> Result<Instance> {
        let (ports, topology) = try_join!(self.read_ports(), self.read_topology())?;
        let primary = ports.first().ok_or_else(|| {
            let doing = format!("use server {}", self.identity.instance);
            Error::new(ErrorKind::NotFound, doing, "it has no port")
        })?;
        let network_cidrs = if self.options.vpc_cidrs.is_empty() {
            topology.blocks(&ports)
        } else {
            self.options.vpc_cidrs.iter().copied().map(IpNet::V4).collect()
        };
        Ok(Instance {
            id: self.identity.instance.clone(),
            region: self.region.clone(),
            zone: self.identity.zone.clone(),
            network: primary.network_id.clone(),
            network_cidrs,
            subnets: route_tables::subnets_of(&ports),
            own_subnet: match self.options.routes {
                OpenstackRoutes::Router => OwnSubnet::Loops,
                OpenstackRoutes::HostRoutes => OwnSubnet::HostsDecide,
            },
        })
    }

    async fn interfaces(&self) -> Result<Vec<Arc<dyn Interface>>> {
        let (ports, topology) = try_join!(self.read_ports(), self.last_topology())?;
        ports::list(&self.api, &ports, &topology, self.options.source_check).await
    }

    async fn route_tables(&self, selector: &TableSelector) -> Result<RouteTables> {
        if *selector == TableSelector::default() {
            return Ok(RouteTables::default());
        }
        let (ports, topology) = try_join!(self.last_ports(), self.read_topology())?;
        Ok(route_tables::select(&self.api, self.options.routes, &ports, &topology, selector))
    }
}
