//! Huawei Cloud, on plain HTTP: signed requests to the VPC service.
//!
//! [`Huawei`] learns once who the ECS is (`identity`), from the metadata service (`metadata`) or
//! from the configuration, and then answers from the API: `api` makes the calls, by `endpoints`,
//! signed (`sign`) with keys (`credentials`, `environment`), each with the `permissions` that it
//! needs (`policy`); `errors` reads what is refused and `throttle` keeps the pace of writes. `interfaces` are
//! ports, whose check is a matter of `address_pairs`; `route_tables` selects the tables, whose
//! `table`s write routes to any `next_hop`; `network` and `subnets` tell of the VPC.
//!
//! # What a tick costs
//! A call for the VPC's blocks, one for the ports, one a port for its elastic addresses, one for the
//! list of route tables, and for each list that isn't empty one more, to see that it ends. The list has
//! no routes: they cost a call a table. Up to 8 tables are all read in every tick. Where more are selected, at most
//! 8 are read in turn, the least recently read ones first, or as many as it takes to read each
//! within `service.audit` (`rotation`). Besides those, a table is read at once that is new, that
//! natd has written since, or whose `updated_at` in the list has changed; and who asks for tables by
//! their ids alone (as natd does to see its own writes) is told how they are now. What is not read
//! is as it was read last: a change of routes that the list doesn't show is seen within
//! `service.audit`. That a table vanished or serves other subnets is seen at once.

mod address_pairs;
mod api;
mod credentials;
mod endpoints;
mod environment;
mod errors;
mod identity;
mod interfaces;
mod metadata;
mod network;
mod next_hop;
mod permissions;
mod policy;
mod rotation;
mod route_tables;
pub mod sign;
mod subnets;
mod table;
mod throttle;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    cloud::{Instance, Interface, OwnSubnet, Provider, RouteTables, TableSelector},
    config::{self, Config},
    error::Result,
};
use tokio::try_join;

use self::{
    api::Api, credentials::Credentials, endpoints::Endpoints, identity::Identity, interfaces::Own,
    metadata::Metadata, next_hop::Here, rotation::Rotation, route_tables::Reader, subnets::Subnets,
};
use crate::{
    kind::{Kind, Permission},
    patience::Patience,
};

pub use self::{environment::Environment, permissions::Action};

/// The VPC service, seen from one ECS.
pub struct Huawei {
    api: Arc<Api>,
    identity: Identity,
    options: config::Huawei,
    concurrency: NonZeroUsize,
    rotation: Arc<Rotation>,
    subnets: Subnets,
    own: Mutex<Option<Own>>,
}

impl Huawei {
    /// Learns who this ECS is and prepares the client; no call to the API is made yet.
    ///
    /// # Errors
    /// `Unreachable` within 5 s if something has to come from the metadata service and there is
    /// none, with advice on the options that replace it; `Invalid` for a malformed URL, or for keys
    /// of which one half is missing.
    pub async fn connect(options: config::Huawei, service: &config::Service) -> Result<Self> {
        Self::connect_with(options, service, &Environment::of_process(), Patience::default()).await
    }

    /// As [`Huawei::connect`], in another environment and with other limits on time and attempts.
    ///
    /// # Errors
    /// As for [`Huawei::connect`].
    pub async fn connect_with(
        options: config::Huawei,
        service: &config::Service,
        environment: &Environment,
        patience: Patience,
    ) -> Result<Self> {
        let metadata = Metadata::new(options.metadata_endpoint.as_deref(), patience)?;
        let metadata = Arc::new(metadata);
        let credentials = Credentials::find(&options, environment, Arc::clone(&metadata))?;
        let project = options
            .project_id
            .as_deref()
            .or_else(|| environment.get("HUAWEICLOUD_SDK_PROJECT_ID"))
            .or_else(|| credentials.project())
            .map(str::to_owned);
        let identity = Identity::learn(&options, project.as_deref(), &metadata).await?;
        let endpoints = Endpoints::new(&options, &identity.region)?;
        let (region, project) = (identity.region.clone(), identity.project.clone());
        let api = Api::new(endpoints, credentials, region, project, patience)?;
        Ok(Self {
            api: Arc::new(api),
            identity,
            options,
            concurrency: service.concurrency,
            rotation: Arc::new(Rotation::new(service)),
            subnets: Subnets::default(),
            own: Mutex::default(),
        })
    }

    /// The interfaces as they were listed last, for which the first time a call is made.
    async fn own(&self) -> Result<Own> {
        if let Some(own) = self.listed().clone() {
            return Ok(own);
        }
        let own = interfaces::own(&self.api, &self.identity).await?;
        self.learn(&own);
        Ok(own)
    }

    fn learn(&self, own: &Own) {
        self.subnets.learn(&own.subnets, &self.identity.network);
        *self.listed() = Some(own.clone());
    }

    fn listed(&self) -> MutexGuard<'_, Option<Own>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn cidrs(&self) -> Result<Vec<IpNet>> {
        if self.options.vpc_cidrs.is_empty() {
            return network::cidrs(&self.api, &self.identity.network).await;
        }
        Ok(self.options.vpc_cidrs.iter().copied().map(IpNet::V4).collect())
    }
}

/// The kind of cloud that [`Huawei`] is one of.
pub struct Cloud;

#[async_trait]
impl Kind for Cloud {
    fn name(&self) -> &'static str {
        "huawei"
    }

    fn permissions(&self, config: &Config) -> Vec<Permission> {
        policy::permissions(config)
    }

    fn policy(&self, config: &Config) -> Option<serde_json::Value> {
        Some(policy::policy(config))
    }

    async fn connect(&self, config: &Config) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(Huawei::connect(config.huawei.clone(), &config.service).await?))
    }
}

#[async_trait]
impl Provider for Huawei {
    fn name(&self) -> &'static str {
        "huawei"
    }

    async fn instance(&self) -> Result<Instance> {
        let (network_cidrs, own) = try_join!(self.cidrs(), self.own())?;
        Ok(Instance {
            id: self.identity.instance.clone(),
            region: self.identity.region.clone(),
            zone: self.identity.zone.clone(),
            network: self.identity.network.clone(),
            network_cidrs,
            subnets: own.subnets,
            own_subnet: OwnSubnet::PublicAddressOutranks,
        })
    }

    async fn interfaces(&self) -> Result<Vec<Arc<dyn Interface>>> {
        let (interfaces, own) = interfaces::list(&self.api, &self.identity).await?;
        self.learn(&own);
        Ok(interfaces)
    }

    async fn route_tables(&self, selector: &TableSelector) -> Result<RouteTables> {
        let own = self.own().await?;
        let here = Here::new(&self.options, self.identity.instance.clone(), own);
        let reader = Reader {
            api: &self.api,
            network: &self.identity.network,
            subnets: &self.subnets,
            rotation: &self.rotation,
            concurrency: self.concurrency,
        };
        reader.select(&Arc::new(here), selector).await
    }
}
