//! The VPC's address blocks, secondary ones included.
//!
//! Those are told by version 3 alone
//! (<https://support.huaweicloud.com/intl/en-us/api-vpc/vpc_apiv3_0003.html>); where there is none, or
//! natd may not call it, version 1 tells the first.

use ipnet::IpNet;
use natd_core::{
    error::{Error, Kind, Result},
    model::NetworkId,
};
use serde::Deserialize;

use super::{
    api::{Api, Call},
    permissions::Action,
};

#[derive(Deserialize)]
struct OneVpc {
    vpc: Vpc,
}

#[derive(Deserialize)]
struct Vpc {
    /// Empty in a VPC that has no subnets.
    #[serde(default)]
    cidr: String,
    #[serde(default)]
    extend_cidrs: Option<Vec<String>>,
}

/// All blocks of the VPC, as they are now.
pub(super) async fn cidrs(api: &Api, network: &NetworkId) -> Result<Vec<IpNet>> {
    let doing = format!("read the address blocks of {network}");
    let id = network.as_str();
    let path = ["vpc", "vpcs", id];
    let newer = Call::v3(Action::VpcsGet, doing.clone(), &path);
    let vpc = match api.read::<OneVpc>(newer).await {
        Ok(OneVpc { vpc }) => vpc,
        Err(error) if error.kind().is_transient() => return Err(error),
        Err(error) => {
            tracing::debug!(%error, "secondary address blocks are not known");
            let path = ["vpcs", id];
            let older = Call::v1(Action::VpcsGet, doing.clone(), &path);
            api.read::<OneVpc>(older).await?.vpc
        }
    };
    let blocks = [vpc.cidr].into_iter().chain(vpc.extend_cidrs.unwrap_or_default());
    let blocks: Vec<IpNet> = blocks
        .filter(|block| !block.is_empty())
        .map(|block| {
            block.parse().map_err(|_| {
                Error::new(Kind::Invalid, &doing, format!("{block:?} is no block of addresses"))
                    .with_advice("set huawei.vpc_cidrs by hand")
            })
        })
        .collect::<Result<_>>()?;
    if blocks.is_empty() {
        return Err(Error::new(Kind::Invalid, doing, "there are none")
            .with_advice("set huawei.vpc_cidrs by hand"));
    }
    Ok(blocks)
}
