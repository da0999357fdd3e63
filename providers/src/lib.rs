//! natd's clouds: one folder each, and the one place that chooses.

pub mod aws;
mod http;
mod metadata;
pub mod patience;

use std::sync::Arc;

use natd_core::{
    cloud::Provider,
    config::{Config, ProviderName},
    error::{Error, Kind, Result},
};

/// Whether this version of natd has the cloud that the configuration names.
///
/// # Errors
/// `Unsupported`.
pub fn check(config: &Config) -> Result<()> {
    match config.provider {
        None | Some(ProviderName::None | ProviderName::Aws) => Ok(()),
        Some(name @ (ProviderName::Huawei | ProviderName::Openstack | ProviderName::Plugin)) => {
            Err(Error::new(
                Kind::Unsupported,
                format!("use provider = \"{name}\""),
                "this version of natd has aws and none",
            ))
        }
    }
}

/// The cloud that the configuration names; `None` for `provider = "none"`.
///
/// # Errors
/// `Unsupported` for a cloud that this version of natd doesn't have, and whatever learning who this
/// machine is brings.
pub async fn connect(config: &Config) -> Result<Option<Arc<dyn Provider>>> {
    check(config)?;
    match config.provider {
        Some(ProviderName::Aws) => Ok(Some(Arc::new(aws::Aws::connect(config.aws.clone()).await?))),
        _ => Ok(None),
    }
}
