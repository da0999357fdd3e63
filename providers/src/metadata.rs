//! What the metadata service of OpenStack, and of the clouds made from it, says of a server.
//!
//! Shapes: <https://docs.openstack.org/nova/latest/user/metadata.html#metadata-openstack-format>.

use serde::Deserialize;

/// Where the service is, unless told otherwise.
pub(crate) const ADDRESS: &str = "http://169.254.169.254";
/// The path of [`MetaData`].
pub(crate) const META_DATA: &str = "/openstack/latest/meta_data.json";
/// The path of [`NetworkData`].
pub(crate) const NETWORK_DATA: &str = "/openstack/latest/network_data.json";

/// `meta_data.json`, as far as natd needs it. Which fields there are depends on the cloud.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct MetaData {
    /// The server's id.
    pub(crate) uuid: String,
    pub(crate) availability_zone: Option<String>,
    /// Huawei has it, in most regions.
    pub(crate) region_id: Option<String>,
    pub(crate) project_id: Option<String>,
    #[serde(default)]
    pub(crate) meta: Meta,
}

/// What the server was given when it was made.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Meta {
    /// Huawei has it.
    pub(crate) vpc_id: Option<String>,
}

/// `network_data.json`, as far as natd needs it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct NetworkData {
    /// The primary one first.
    #[serde(default)]
    pub(crate) links: Vec<Link>,
}

/// A network interface.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Link {
    /// The port's id.
    pub(crate) vif_id: String,
}
