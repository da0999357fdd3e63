//! Which of this host's links is meant, and what the cloud calls it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    cloud::InterfaceFacts,
    config::{Config, InterfaceChoice},
    error::{Error, Kind, Result},
    facts::CloudFacts,
    model::InterfaceName,
    network::{Link, Network},
};

/// The link that routes target, by the first group of routes.
///
/// # Errors
/// `Invalid` if this host doesn't have it.
pub fn route_target<'a>(config: &Config, network: &'a Network) -> Result<&'a Link> {
    match config.routes.0.first().map(|group| &group.interface) {
        Some(InterfaceChoice::Named(name)) => named(network, name, "routes.interface"),
        Some(InterfaceChoice::Auto) | None => egress_link(config, network),
    }
}

/// The link that translated packets leave by.
pub(super) fn egress_link<'a>(config: &Config, network: &'a Network) -> Result<&'a Link> {
    if let InterfaceChoice::Named(name) = &config.nat.interface {
        return named(network, name, "nat.interface");
    }
    let default = network.routes.get(&IpNet::V4(Ipv4Net::default())).ok_or_else(|| {
        Error::new(Kind::Invalid, "find the egress interface", "this host has no default route")
            .with_advice("add one, or name the interface in nat.interface")
    })?;
    named(network, default, "nat.interface")
}

pub(super) fn named<'a>(network: &'a Network, name: &InterfaceName, key: &str) -> Result<&'a Link> {
    network.link(name).ok_or_else(|| {
        let names: Vec<&str> = network.links.iter().map(|link| link.name.as_str()).collect();
        Error::new(Kind::Invalid, format!("use the interface {name}"), "this host doesn't have it")
            .with_advice(format!("{key} can be one of: {}", names.join(", ")))
    })
}

pub(super) fn port_of<'a>(cloud: &'a CloudFacts, link: &Link) -> Result<&'a InterfaceFacts> {
    cloud.port_of(link.mac).ok_or_else(|| {
        let ports: Vec<String> =
            cloud.interfaces.iter().map(|port| format!("{} ({})", port.id, port.mac)).collect();
        let mac = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        Error::new(
            Kind::Invalid,
            format!("find the cloud's side of {}", link.name),
            format!(
                "its Ethernet address ({mac}) is none of {}: {}",
                cloud.instance.id,
                ports.join(", ")
            ),
        )
        .with_advice("name the right interface in nat.interface and routes.interface")
    })
}

/// The egress interface's own address: the first that the cloud knows too, else the first.
pub(super) fn own_address(link: &Link, port: Option<&InterfaceFacts>) -> Result<Ipv4Addr> {
    let own = || {
        link.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    };
    let known = |address: &Ipv4Addr| {
        port.is_some_and(|port| {
            port.addresses.iter().any(|known| known.private == IpAddr::V4(*address))
        })
    };
    own().find(known).or_else(|| own().next()).ok_or_else(|| {
        Error::new(
            Kind::Invalid,
            format!("translate to an address of {}", link.name),
            "it has no IPv4 address",
        )
    })
}
