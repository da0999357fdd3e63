//! What natd knows of the world at one moment, as plain values.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    cloud::{Instance, InterfaceFacts, TableFacts},
    error::Error,
    model::{InterfaceName, MacAddress},
    neighbours::{Neighbour, Obstacle},
    network::Network,
    persist::Boot,
    ruleset::{Blocks, Family, FirewallKind},
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
    /// How it holds many blocks, if it is iptables.
    pub blocks: Blocks,
    /// Why natd chose it; `None` if the operator did.
    pub chosen: Option<String>,
    /// The families that this host forwards for others too: their global key is on, which natd
    /// never switches on itself for IPv4.
    pub forwards: BTreeSet<Family>,
    /// IPv6 is to be forwarded by interface: the kernel can (`force_forwarding`, since Linux 6.17), and
    /// natd doesn't forward by all of them already. To end that would reset every `force_forwarding`.
    pub forwards_ipv6_by_interface: bool,
    /// The interfaces that would take no router advertisements any more if they forwarded IPv6, but
    /// for natd: their `accept_ra` is 1, or 2 by natd's doing. Where it is 0, something else
    /// (networkd) looks after advertisements.
    pub advertised: BTreeSet<InterfaceName>,
    /// The TCP ports at which programs of this host listen to others than itself.
    pub listening: BTreeSet<u16>,
    /// Other programs that filter what this host forwards.
    pub neighbours: BTreeSet<Neighbour>,
    /// What drops what this host forwards unless a rule lets it through.
    pub obstacles: Vec<Obstacle>,
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
