//! What the network should look like, in words that fit every cloud: read from a cloud's API, enforced by the fabric.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// All that the fabric enforces and the metadata service tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    pub network: String,
    pub networks: Vec<Ipv4Net>,
    /// By the cloud's id.
    pub ports: BTreeMap<String, Port>,
    /// By the cloud's id.
    pub tables: BTreeMap<String, Table>,
    /// Private addresses by the public address that stands for them on the internet.
    pub public: BTreeMap<Ipv4Addr, Ipv4Addr>,
    /// Whether a public address outranks the default route of its port's table: what the port sends from the private
    /// address that it stands for goes straight to the internet, if no narrower route leads elsewhere.
    pub public_outranks_default: bool,
}

/// A port of the virtual network: a network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub instance: String,
    /// The interface's number within the instance.
    pub number: u32,
    /// Whether a running instance is behind it.
    pub alive: bool,
    pub mac: String,
    /// The primary address first.
    pub addresses: Vec<Ipv4Addr>,
    pub subnet: String,
    pub subnet_block: Ipv4Net,
    /// The route table that serves its subnet.
    pub table: String,
    /// Whether packets that are neither from nor to its own addresses are dropped.
    pub source_check: bool,
    /// Blocks whose addresses count as its own where that is checked.
    pub pairs: BTreeSet<Ipv4Net>,
    /// What DHCP tells the instance to send straight to a neighbour in the subnet, past the subnet's table: where to by
    /// destination. A neighbour that isn't there, or is dead, gets nothing.
    pub host_routes: BTreeMap<Ipv4Net, Ipv4Addr>,
    pub groups: Vec<String>,
    /// What may come in, from where. Replies may always.
    pub ingress: BTreeSet<Allow>,
    /// What may go out, to where. Replies may always.
    pub egress: BTreeSet<Allow>,
}

/// One rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allow {
    pub traffic: Traffic,
    /// Any of these.
    pub peers: BTreeSet<Ipv4Net>,
}

/// Which packets a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    All,
    Tcp(Ports),
    Udp(Ports),
    Icmp {
        kind: Option<u8>,
    },
    /// By protocol number or name.
    Other(String),
}

/// A range of destination ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
}

/// A route table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub routes: BTreeMap<Ipv4Net, Target>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To whichever port has the destination address.
    Local,
    /// To this port, if it is alive.
    Port(String),
    /// To the first port of this instance, if it is alive.
    Instance(String),
    /// To the internet, for those who have a public address.
    Internet,
    /// To nothing that the lab has: packets vanish.
    Nowhere,
}
