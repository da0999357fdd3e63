//! What a host's network looks like at one moment: links, addresses, routes, and the flows through it.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::model::{InterfaceName, MacAddress};

/// A network interface, on the host's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Its name.
    pub name: InterfaceName,
    /// Its Ethernet address; loopback and tunnels have none.
    pub mac: Option<MacAddress>,
    /// Administratively up.
    pub up: bool,
    /// Its addresses, in the kernel's order: the first of a subnet is the primary one.
    pub addresses: Vec<IpNet>,
}

/// Links, addresses and the main routing table at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// All links, in the order of their indices.
    pub links: Vec<Link>,
    /// The main table: for each destination the interface of its preferred (lowest metric) route.
    pub routes: BTreeMap<IpNet, InterfaceName>,
}

impl Network {
    /// The link of that name.
    #[must_use]
    pub fn link(&self, name: &InterfaceName) -> Option<&Link> {
        self.links.iter().find(|link| &link.name == name)
    }

    /// Whether the address is one of this host's own.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.links.iter().flat_map(|link| &link.addresses).any(|net| net.addr() == address)
    }

    /// The interface by which packets to `destination` leave: the longest matching prefix of the
    /// main table. Policy routing is not looked at.
    #[must_use]
    pub fn leaves_by(&self, destination: IpAddr) -> Option<&InterfaceName> {
        self.routes
            .iter()
            .filter(|(net, _)| net.contains(&destination))
            .max_by_key(|(net, _)| net.prefix_len())
            .map(|(_, name)| name)
    }
}

/// One tracked connection: its addresses in both directions, and the ports that natd decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Its protocol, by number.
    pub protocol: u8,
    /// Source of the first packet, before translation.
    pub source: IpAddr,
    /// Destination of the first packet, before translation.
    pub destination: IpAddr,
    /// Where replies come from.
    pub reply_source: IpAddr,
    /// Where replies go to: the translated source.
    pub reply_destination: IpAddr,
    /// Destination port of the first packet; 0 where the protocol has no ports.
    pub destination_port: u16,
    /// The port that replies come from; 0 where the protocol has no ports.
    pub reply_source_port: u16,
}
