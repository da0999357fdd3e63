//! The ids that a cloud gave to what the lab made in it, by the lab's own names.

use std::collections::BTreeMap;

/// The ids.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// The virtual network.
    pub network: String,
    /// What a route can lead to that is no interface: an internet gateway, a peering, an address of nobody's.
    pub elsewhere: String,
    /// `public`, `private-a`, `private-b`, and `nat-inside` where the NAT instance has two interfaces.
    pub subnets: BTreeMap<String, String>,
    /// By the subnet they serve. A cloud may have further ones, such as `main`.
    pub tables: BTreeMap<String, String>,
    /// Security groups: `clients` and `nat`.
    pub groups: BTreeMap<String, String>,
    /// `nat`, `client-a`, ...
    pub instances: BTreeMap<String, String>,
    /// `nat/eth0`, `nat/eth1`, `client-a/eth0`, ...
    pub interfaces: BTreeMap<String, String>,
}

/// The methods give the id of what has that name, and panic if the lab has no such thing.
impl Ids {
    pub fn subnet(&self, name: &str) -> &str {
        named("subnet", &self.subnets, name)
    }

    pub fn table(&self, name: &str) -> &str {
        named("route table", &self.tables, name)
    }

    pub fn group(&self, name: &str) -> &str {
        named("security group", &self.groups, name)
    }

    pub fn instance(&self, name: &str) -> &str {
        named("instance", &self.instances, name)
    }

    pub fn interface(&self, name: &str) -> &str {
        named("interface", &self.interfaces, name)
    }

    /// The private tables, which a NAT instance is to serve, each once.
    pub fn private_tables(&self) -> Vec<&str> {
        let private = self.tables.iter().filter(|(name, _)| name.starts_with("private"));
        let mut ids: Vec<_> = private.map(|(_, id)| id.as_str()).collect();
        ids.dedup();
        ids
    }
}

fn named<'a>(kind: &str, ids: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    ids.get(name).unwrap_or_else(|| panic!("the lab has no {kind} {name}, but {:?}", ids.keys()))
}
