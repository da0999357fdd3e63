//! What only one cloud needs: `[aws]`, `[huawei]`, `[openstack]`, `[plugin]`.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{open::OpenSettings, schema, secret::Secret, written};
use crate::model::{InstanceId, NetworkId};

/// `[aws]`: all unset on an ordinary EC2 instance, where the metadata service and the SDK's own
/// environment and profiles give everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Aws {
    /// The URL of the EC2 API.
    pub endpoint: Option<String>,
    /// The URL of the metadata service.
    pub metadata_endpoint: Option<String>,
    /// A profile of the SDK's shared configuration.
    pub profile: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The availability zone.
    pub availability_zone: Option<String>,
    /// This instance.
    pub instance_id: Option<InstanceId>,
    /// Its VPC.
    pub vpc_id: Option<NetworkId>,
    /// The VPC's address blocks.
    #[serde(deserialize_with = "written::blocks")]
    #[schemars(with = "Vec<schema::BlockV4>")]
    pub vpc_cidrs: Vec<Ipv4Net>,
}

/// `[huawei]`: all unset on an ECS with an agency, where the metadata service tells everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Huawei {
    /// The URL of the VPC API; unset: `https://vpc.REGION.myhuaweicloud.com` (`.eu` in European regions).
    pub endpoint: Option<String>,
    /// The URL of IAM, which is asked for the project where the metadata service doesn't tell it.
    pub iam_endpoint: Option<String>,
    /// The URL of the metadata service.
    pub metadata_endpoint: Option<String>,
    /// The access key id. Keys that are not here come from the environment, from
    /// `~/.huaweicloud/credentials`, or from the ECS's agency, in this order.
    pub access_key: Option<String>,
    /// The secret that goes with it.
    pub secret_key: Option<Secret>,
    /// The token that goes with temporary keys.
    pub security_token: Option<Secret>,
    /// The region.
    pub region: Option<String>,
    /// The availability zone.
    pub availability_zone: Option<String>,
    /// The project, by its id.
    pub project_id: Option<String>,
    /// This ECS.
    pub instance_id: Option<InstanceId>,
    /// Its VPC.
    pub vpc_id: Option<NetworkId>,
    /// The VPC's address blocks.
    #[serde(deserialize_with = "written::blocks")]
    #[schemars(with = "Vec<schema::BlockV4>")]
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// What natd's routes name as their next hop.
    pub next_hop: HuaweiNextHop,
    /// The virtual address, for `next_hop = "vip"`.
    #[schemars(with = "Option<schema::Address>")]
    pub virtual_address: Option<Ipv4Addr>,
}

/// How a route names this machine in a Huawei route table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HuaweiNextHop {
    /// The server.
    #[default]
    Ecs,
    /// One of its extension network interfaces.
    Eni,
    /// A virtual address that is bound to it.
    Vip,
}

/// `[openstack]`: credentials come from `clouds.yaml` and `OS_*`, as the openstack client reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Openstack {
    /// The cloud's name in `clouds.yaml`; unset: `OS_CLOUD`.
    pub cloud: Option<String>,
    /// The `clouds.yaml` to read; unset: `OS_CLIENT_CONFIG_FILE`, then the usual places.
    pub clouds_file: Option<PathBuf>,
    /// The region in the catalogue.
    pub region: Option<String>,
    /// The URL of Neutron, in place of the catalogue's.
    pub endpoint: Option<String>,
    /// The URL of the metadata service.
    pub metadata_endpoint: Option<String>,
    /// This server.
    pub instance_id: Option<InstanceId>,
    /// The address blocks that `"vpc"` stands for; empty: those of the subnets that this server's routers serve.
    #[serde(deserialize_with = "written::blocks")]
    #[schemars(with = "Vec<schema::BlockV4>")]
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// How the check of a port's addresses is switched off.
    pub source_check: OpenstackSourceCheck,
    /// Where routes are written.
    pub routes: OpenstackRoutes,
}

/// How the check of a port's addresses is switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenstackSourceCheck {
    /// By an allowed address pair for every address. Security groups stay in force.
    #[default]
    AddressPairs,
    /// With port security itself, security groups included.
    PortSecurity,
}

/// Where routes are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenstackRoutes {
    /// Into routers: a table is a router.
    #[default]
    Router,
    /// Into subnets, whose hosts learn them by DHCP (option 121): a table is a subnet.
    HostRoutes,
}

/// `[plugin]`: any other cloud, by a program of the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plugin {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// For how long natd waits for one answer of the program.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "schema::Time")]
    pub timeout: Duration,
    /// What the program is told at its start, as it is written here. natd doesn't look into it.
    pub settings: OpenSettings,
}

impl Default for Plugin {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            timeout: Duration::from_secs(10),
            settings: OpenSettings::default(),
        }
    }
}
