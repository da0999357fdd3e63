//! A kind of cloud: what can be said of it before anything is asked of it, and how to reach it.

use std::sync::Arc;

use async_trait::async_trait;
use natd_core::{
    cloud::Provider,
    config::{Config, Problem},
    error::Result,
};
use serde::Serialize;

/// One thing that a cloud has to allow natd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Permission {
    /// As the cloud's policies name it: `ec2:ReplaceRoute`.
    pub name: String,
    /// Whether it changes something.
    pub changes: bool,
}

/// A kind of cloud. Each folder of this crate has one.
#[async_trait]
pub trait Kind: Sync {
    /// Its name in the configuration: `provider = "aws"`.
    fn name(&self) -> &'static str;

    /// What has to be allowed for that configuration; empty where the cloud has no permissions.
    fn permissions(&self, _config: &Config) -> Vec<Permission> {
        Vec::new()
    }

    /// The least-privilege policy for that configuration, in the cloud's own form; `None` where the
    /// cloud has none.
    fn policy(&self, _config: &Config) -> Option<serde_json::Value> {
        None
    }

    /// What is wrong with what that configuration says of this cloud, without asking it. `natd config
    /// check` tells it, and nothing is begun before it is mended.
    fn problems(&self, _config: &Config) -> Vec<Problem> {
        Vec::new()
    }

    /// The cloud, seen from this machine.
    ///
    /// # Errors
    /// Whatever learning who this machine is brings.
    async fn connect(&self, config: &Config) -> Result<Arc<dyn Provider>>;
}
