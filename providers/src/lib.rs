//! natd's clouds: one folder each, and the one place that chooses.

pub mod aws;

use std::sync::Arc;

use natd_core::{
    cloud::Provider,
    config::{Config, ProviderName},
    error::{Error, Kind, Result},
};

/// The cloud that the configuration names; `None` for `provider = "none"`.
///
/// # Errors
/// `Unsupported` for a cloud that this version of natd doesn't have, and whatever learning who this
/// machine is brings.
pub async fn connect(config: &Config) -> Result<Option<Arc<dyn Provider>>> {
    match config.provider {
        None | Some(ProviderName::None) => Ok(None),
        Some(ProviderName::Aws) => Ok(Some(Arc::new(aws::Aws::connect(config.aws.clone()).await?))),
        Some(name @ (ProviderName::Huawei | ProviderName::Openstack | ProviderName::Plugin)) => {
            Err(Error::new(
                Kind::Unsupported,
                format!("use provider = \"{name}\""),
                "this version of natd has aws and none",
            ))
        }
    }
}
