//! Who this ECS is: given by hand, or told by the metadata service.

use natd_core::{
    config,
    error::{Error, Kind, Result},
    model::{InstanceId, InterfaceId, Malformed, NetworkId},
};

use super::metadata::Metadata;
use crate::metadata::{META_DATA, MetaData, NETWORK_DATA, NetworkData};

/// What doesn't change while the ECS runs.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) instance: InstanceId,
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) network: NetworkId,
    /// If it is told.
    pub(super) project: Option<String>,
    /// The interfaces that there were at the start, the primary one first. Empty if it is not known.
    pub(super) order: Vec<InterfaceId>,
}

impl Identity {
    /// Takes what `options` give and asks for the rest; asks nothing if instance, region, VPC and
    /// project are given.
    pub(super) async fn learn(
        options: &config::Huawei,
        project: Option<&str>,
        metadata: &Metadata,
    ) -> Result<Self> {
        if let config::Huawei {
            instance_id: Some(instance),
            region: Some(region),
            vpc_id: Some(network),
            availability_zone,
            ..
        } = options
        {
            // The project alone is worth no wait: IAM tells it too.
            return Ok(Self {
                instance: instance.clone(),
                region: region.clone(),
                zone: availability_zone.clone().unwrap_or_default(),
                network: network.clone(),
                project: project.map(str::to_owned),
                order: Vec::new(),
            });
        }
        let (told, links) = metadata
            .in_time(async {
                let told: MetaData = metadata.document(META_DATA).await?;
                // Only tells which interface comes first.
                let links = match metadata.document::<NetworkData>(NETWORK_DATA).await {
                    Ok(network) => network.links,
                    Err(error) => {
                        tracing::debug!(%error, "which interface is the primary one is not known");
                        Vec::new()
                    }
                };
                Ok((told, links))
            })
            .await?;
        let region = options.region.clone().or(told.region_id);
        Ok(Self {
            instance: match &options.instance_id {
                Some(id) => id.clone(),
                None => value("uuid", "huawei.instance_id", Some(told.uuid))?,
            },
            region: value("region_id", "huawei.region", region)?,
            zone: options.availability_zone.clone().or(told.availability_zone).unwrap_or_default(),
            network: match &options.vpc_id {
                Some(id) => id.clone(),
                None => value("meta.vpc_id", "huawei.vpc_id", told.meta.vpc_id)?,
            },
            project: project.map(str::to_owned).or(told.project_id),
            order: links.iter().filter_map(|link| link.vif_id.parse().ok()).collect(),
        })
    }
}

/// What the metadata service tells, or what key to set instead.
fn value<T>(name: &str, key: &str, told: Option<String>) -> Result<T>
where
    T: TryFrom<String>,
    T::Error: Into<Explained>,
{
    let failed = |cause: String| {
        Error::new(Kind::Invalid, format!("read {name} of the metadata service"), cause)
            .with_advice(format!("set {key} by hand"))
    };
    let told =
        told.filter(|told| !told.is_empty()).ok_or_else(|| failed("it is not told".to_owned()))?;
    told.try_into().map_err(|error: T::Error| failed(error.into().0))
}

/// A cause in words.
struct Explained(String);

impl From<Malformed> for Explained {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.to_string())
    }
}

impl From<std::convert::Infallible> for Explained {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
