//! Amazon EC2, on `aws-sdk-ec2` and `aws-config`.
//!
//! [`Aws`] learns once who the instance is (`identity`), by IMDSv2 (`metadata`) or from
//! the configuration, and then answers from the EC2 API (`api`, `errors`, `permissions`):
//! `interfaces` with what their `security` groups let through, and `route_tables`, whose
//! `table`s write routes to any `next_hop` that AWS knows. `subnets` remembers which VPC they are in. `panics` sees to it that
//! none of the SDK's ends natd.
//!
//! A tick costs three read calls, whatever the number of tables: `DescribeNetworkInterfaces`,
//! `DescribeSecurityGroups` and `DescribeRouteTables`. Only the primary interface's VPC is served.

mod api;
mod errors;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod identity;
mod interfaces;
mod metadata;
mod next_hop;
mod panics;
mod permissions;
mod policy;
mod route_tables;
mod security;
mod subnets;
mod table;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use natd_core::{
    cloud::{Instance, Interface, OwnSubnet, Provider, RouteTables, TableSelector},
    config::{self, Config},
    error::Result,
    model::SubnetId,
};
use tokio::try_join;

use self::{api::Api, identity::Identity, metadata::Metadata, subnets::Subnets};
use crate::{
    kind::{Kind, Permission},
    patience::Patience,
};

pub use self::permissions::Action;

/// The EC2 API, seen from one instance.
pub struct Aws {
    api: Arc<Api>,
    identity: Identity,
    metadata: Metadata,
    subnets: Subnets,
}

impl Aws {
    /// Learns who this instance is and prepares the API client; no call to the API is made yet.
    ///
    /// # Errors
    /// `Unreachable` within 5 s if something has to come from the metadata service and there is
    /// none, with advice on the options that replace it; `Invalid` for a malformed URL.
    pub async fn connect(options: config::Aws) -> Result<Self> {
        Self::connect_with(options, Patience::default()).await
    }

    /// As [`Aws::connect`], with other limits on time and attempts.
    ///
    /// # Errors
    /// As for [`Aws::connect`].
    pub async fn connect_with(options: config::Aws, patience: Patience) -> Result<Self> {
        let metadata = Metadata::new(options.metadata_endpoint.as_deref(), patience.metadata)?;
        let identity = Identity::learn(&options, &metadata).await?;
        let api = Api::new(&options, &identity.region, metadata.client(), patience).await?;
        Ok(Self { api: Arc::new(api), identity, metadata, subnets: Subnets::default() })
    }
}

impl Aws {
    /// From the metadata service; without it, as the last listing of the interfaces has told, for
    /// which the first time a call is made.
    async fn own_subnets(&self) -> Result<BTreeSet<SubnetId>> {
        if let Some(own) = self.identity.subnets(&self.metadata).await? {
            self.subnets.learn_own(own.clone(), &self.identity.network);
            return Ok(own);
        }
        match self.subnets.own() {
            Some(own) => Ok(own),
            None => interfaces::own_subnets(&self.api, &self.identity, &self.subnets).await,
        }
    }
}

/// The kind of cloud that [`Aws`] is one of.
pub struct Ec2;

#[async_trait]
impl Kind for Ec2 {
    fn name(&self) -> &'static str {
        "aws"
    }

    fn permissions(&self, config: &Config) -> Vec<Permission> {
        policy::permissions(config)
    }

    fn policy(&self, config: &Config) -> Option<serde_json::Value> {
        Some(policy::policy(config))
    }

    async fn connect(&self, config: &Config) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(Aws::connect(config.aws.clone()).await?))
    }
}

#[async_trait]
impl Provider for Aws {
    fn name(&self) -> &'static str {
        "aws"
    }

    async fn instance(&self) -> Result<Instance> {
        let (network_cidrs, subnets) =
            try_join!(self.identity.network_cidrs(&self.metadata), self.own_subnets())?;
        Ok(Instance {
            id: self.identity.instance.clone(),
            region: self.identity.region.clone(),
            zone: self.identity.zone.clone(),
            network: self.identity.network.clone(),
            network_cidrs,
            subnets,
            own_subnet: OwnSubnet::Loops,
        })
    }

    async fn interfaces(&self) -> Result<Vec<Arc<dyn Interface>>> {
        interfaces::list(&self.api, &self.identity, &self.subnets).await
    }

    async fn route_tables(&self, selector: &TableSelector) -> Result<RouteTables> {
        route_tables::list(&self.api, &self.identity.network, &self.subnets, selector).await
    }
}
