//! What natd knows of the world at one moment, as plain values.

use serde::Serialize;

use crate::{
    cloud::{Instance, InterfaceFacts, TableFacts},
    error::Error,
    model::MacAddress,
    network::Network,
    persist::Boot,
    ruleset::FirewallKind,
};

/// What natd knows of the world at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The host's links, addresses and routes.
    pub network: Network,
    /// The back end that is to hold the rules.
    pub firewall: FirewallKind,
    /// The machine's memory in bytes, where it is known.
    pub memory: Option<u64>,
    /// What loads rules at boot on this host.
    pub boot: Boot,
    /// The cloud's side; `None` if `provider = "none"`.
    pub cloud: Option<CloudFacts>,
}

/// The cloud's side of the facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloudFacts {
    /// Who am I.
    pub instance: Instance,
    /// My interfaces, the primary one first.
    pub interfaces: Vec<InterfaceFacts>,
    /// The tables that were asked for and found, and the table of the egress interface's subnet.
    pub tables: Vec<TableFacts>,
    /// The tables that were asked for and can't be served.
    pub missing: Vec<Error>,
}

impl CloudFacts {
    /// The port with that Ethernet address.
    #[must_use]
    pub fn port_of(&self, mac: Option<MacAddress>) -> Option<&InterfaceFacts> {
        self.interfaces.iter().find(|port| Some(port.mac) == mac)
    }

    /// The table that serves that interface's subnet.
    #[must_use]
    pub fn table_of(&self, port: &InterfaceFacts) -> Option<&TableFacts> {
        self.tables.iter().find(|table| table.subnets.contains(&port.subnet))
    }
}
