//! Who this instance is: given by hand, or asked of the metadata service, value by value.

use std::{collections::BTreeSet, str::FromStr};

use aws_config::{
    environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain,
    profile::region::ProfileFileRegionProvider,
};
use futures_util::future::try_join_all;
use ipnet::{IpNet, Ipv4Net};
use natd_core::{
    config,
    error::{Error, Kind, Result},
    model::{InstanceId, MacAddress, Malformed, NetworkId, SubnetId},
};
use tokio::try_join;

use super::metadata::Metadata;

/// What doesn't change while the instance runs, and where to ask for what does. The VPC is the
/// primary interface's; further interfaces may be in others.
pub(super) struct Identity {
    pub(super) instance: InstanceId,
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) network: NetworkId,
    /// Empty: asked each time, since blocks can be added to a VPC at any time.
    given_cidrs: Vec<IpNet>,
    /// The primary interface as the metadata service names it; `None` if that is not asked at all.
    primary: Option<MacAddress>,
}

impl Identity {
    /// Takes what `options` give and asks for the rest, side by side; asks nothing if instance,
    /// region and VPC with its blocks are given.
    pub(super) async fn learn(options: &config::Aws, metadata: &Metadata) -> Result<Self> {
        let region = configured_region(options).await;
        let complete = options.instance_id.is_some()
            && region.is_some()
            && options.vpc_id.is_some()
            && !options.vpc_cidrs.is_empty();
        let zone = match &options.availability_zone {
            None if complete => Some(String::new()),
            zone => zone.clone(),
        };
        let instance = async {
            match &options.instance_id {
                Some(id) => Ok(id.clone()),
                None => metadata.value("instance-id").await,
            }
        };
        let network = async {
            match &options.vpc_id {
                Some(id) if complete => Ok((id.clone(), None)),
                given => {
                    let primary = metadata.value("mac").await?;
                    let id = match given {
                        Some(id) => id.clone(),
                        None => metadata.value(&of_interface(primary, "vpc-id")).await?,
                    };
                    Ok((id, Some(primary)))
                }
            }
        };
        let (instance, region, zone, (network, primary)) = metadata
            .in_time(async {
                try_join!(
                    instance,
                    given_or_asked(region, metadata, "placement/region"),
                    given_or_asked(zone, metadata, "placement/availability-zone"),
                    network,
                )
            })
            .await?;
        let given_cidrs = options.vpc_cidrs.iter().copied().map(IpNet::V4).collect();
        Ok(Self { instance, region, zone, network, given_cidrs, primary })
    }

    /// All IPv4 blocks of the VPC, as they are now.
    pub(super) async fn network_cidrs(&self, metadata: &Metadata) -> Result<Vec<IpNet>> {
        let (true, Some(primary)) = (self.given_cidrs.is_empty(), self.primary) else {
            return Ok(self.given_cidrs.clone());
        };
        let category = of_interface(primary, "vpc-ipv4-cidr-blocks");
        let blocks: Vec<Ipv4Net> = metadata.in_time(metadata.values(&category)).await?;
        if blocks.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                format!("read {category} from the EC2 metadata service"),
                "the list is empty",
            )
            .with_advice("set aws.vpc_cidrs by hand"));
        }
        Ok(blocks.into_iter().map(IpNet::V4).collect())
    }

    /// The subnets of the interfaces that are in [`Self::network`], as they are now; `None` if the
    /// metadata service is not asked.
    pub(super) async fn subnets(&self, metadata: &Metadata) -> Result<Option<BTreeSet<SubnetId>>> {
        if self.primary.is_none() {
            return Ok(None);
        }
        let subnets = metadata.in_time(async {
            // Each line ends in a slash: it is a folder.
            let macs: Vec<Folder> = metadata.values("network/interfaces/macs/").await?;
            try_join_all(macs.iter().map(|Folder(mac)| self.subnet(metadata, *mac))).await
        });
        Ok(Some(subnets.await?.into_iter().flatten().collect()))
    }

    /// `None` for an interface in another VPC, and for one that has just been detached.
    async fn subnet(&self, metadata: &Metadata, mac: MacAddress) -> Result<Option<SubnetId>> {
        let (network, subnet) = (of_interface(mac, "vpc-id"), of_interface(mac, "subnet-id"));
        match try_join!(metadata.value::<NetworkId>(&network), metadata.value(&subnet)) {
            Ok((network, subnet)) => Ok((network == self.network).then_some(subnet)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// An Ethernet address in a listing of the metadata service.
struct Folder(MacAddress);

impl FromStr for Folder {
    type Err = Malformed;

    fn from_str(line: &str) -> Result<Self, Malformed> {
        line.trim_end_matches('/').parse().map(Self)
    }
}

fn of_interface(mac: MacAddress, category: &str) -> String {
    format!("network/interfaces/macs/{mac}/{category}")
}

async fn given_or_asked(
    given: Option<String>,
    metadata: &Metadata,
    category: &str,
) -> Result<String> {
    match given {
        Some(value) => Ok(value),
        None => metadata.text(category).await,
    }
}

/// The region as far as the metadata service isn't needed for it.
async fn configured_region(options: &config::Aws) -> Option<String> {
    if let Some(region) = &options.region {
        return Some(region.clone());
    }
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &options.profile {
        profile = profile.profile_name(name);
    }
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build());
    chain.region().await.map(|region| region.to_string())
}
