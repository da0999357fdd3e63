//! natd's clouds: one folder each, and the one place that lists them.

pub mod aws;
pub mod contract;
mod doubt;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod huawei;
pub mod kind;
mod metadata;
pub mod openstack;
pub mod patience;
pub mod plugin;

use std::sync::Arc;

use natd_core::{
    cloud::Provider,
    config::{Config, Problem},
    error::{Error, Kind as ErrorKind, Result},
};

use kind::Kind;

/// The clouds that this version of natd has. A new one is a folder and a line here.
const CLOUDS: &[&dyn Kind] = &[&aws::Ec2, &huawei::Cloud, &openstack::Cloud, &plugin::Program];

/// Their names, as `provider` in the configuration takes them.
#[must_use]
pub fn names() -> Vec<&'static str> {
    CLOUDS.iter().map(|kind| kind.name()).collect()
}

/// The kind of cloud that the configuration names; `None` for `provider = "none"`, and where none
/// is named.
///
/// # Errors
/// `Unsupported` for a cloud that this version of natd doesn't have.
pub fn kind(config: &Config) -> Result<Option<&'static dyn Kind>> {
    let Some(name) = config.provider.as_ref().filter(|name| !name.is_none()) else {
        return Ok(None);
    };
    let known = CLOUDS.iter().find(|kind| kind.name() == name.as_str());
    known.copied().map(Some).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("use provider = \"{name}\""),
            format!("this version of natd has {} and none", names().join(", ")),
        )
    })
}

/// What is wrong with what the configuration says of the cloud that it names.
#[must_use]
pub fn problems(config: &Config) -> Vec<Problem> {
    kind(config).ok().flatten().map(|kind| kind.problems(config)).unwrap_or_default()
}

/// The cloud that the configuration names; `None` for `provider = "none"`.
///
/// # Errors
/// `Unsupported` for a cloud that this version of natd doesn't have, and whatever learning who this
/// machine is brings.
pub async fn connect(config: &Config) -> Result<Option<Arc<dyn Provider>>> {
    match kind(config)? {
        Some(kind) => kind.connect(config).await.map(Some),
        None => Ok(None),
    }
}
