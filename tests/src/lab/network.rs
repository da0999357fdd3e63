//! The wires: instances, each of their ports, the router and the internet as namespaces with links between them.
//!
//! ```text
//!  instance            port                     router                 internet
//!  eth0 ═══════ inside │ outside ═══════ port0 │ internet ═══════ router
//! ```
//! A port has a namespace of its own, so that its security groups' connection tracking is its own too. It knows no
//! routes: what comes in on one side goes out on the other. It answers ARP for the gateway, and it has the metadata
//! service, which therefore hears whatever its instance sends there, forwarded packets included.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};

use super::name::LabName;
use super::namespace::Namespace;
use super::run::feed;
use super::topology::{
    API, ENDPOINT, INTERNET_HOST, Instance, METADATA, PUBLIC_ADDRESSES, Topology, interface_name,
};

/// Links without ARP take their own address for that of the other end, so both ends have the same one.
const SILENT: &str = "address 02:00:00:00:00:01";
/// In a port: the address that stands for the instance, whatever addresses that has. It has no other meaning.
const INSTANCE: &str = "169.254.0.2";
/// The routing tables of a port.
const TO_INSTANCE: u32 = 1;
const TO_ROUTER: u32 = 2;
/// The router's table with a route to every living port.
pub const LOCAL_TABLE: u32 = 100;

/// All the namespaces of a lab.
#[derive(Debug)]
pub struct Network {
    pub router: Namespace,
    pub internet: Namespace,
    pub instances: BTreeMap<String, Namespace>,
    /// By the lab's name of the interface.
    pub ports: BTreeMap<String, PortWire>,
}

/// One port's place in the network.
#[derive(Clone, Debug)]
pub struct PortWire {
    pub namespace: Namespace,
    /// In the router, this is the port `port{number}`.
    pub number: usize,
}

impl Network {
    /// The router alone, with the addresses of the cloud's services.
    pub fn router(name: &LabName) -> Result<Namespace> {
        let router = Namespace::create(name.namespace("router"))?;
        be_plain_router(&router)?;
        router.ip(&format!(
            "addr add {}/32 dev lo\naddr add {}/32 dev lo",
            API.ip(),
            ENDPOINT.ip()
        ))?;
        Ok(router)
    }

    /// Lays all the wires. Ports don't carry anything before they are given their hardware address by
    /// [`connect`](Self::connect).
    pub fn lay(name: &LabName, router: Namespace, topology: &Topology) -> Result<Self> {
        let internet = Namespace::create(name.namespace("internet"))?;
        be_plain_router(&internet)?;
        let mut links = link((&router, "internet", SILENT), (&internet, "router", SILENT));
        let mut network =
            Self { router, internet, instances: BTreeMap::new(), ports: BTreeMap::new() };
        for instance in &topology.instances {
            let namespace = Namespace::create(name.namespace(&instance.name))?;
            be_plain_host(&namespace)?;
            network.instances.insert(instance.name.clone(), namespace);
        }
        for (number, (instance, index, _)) in topology.interfaces().enumerate() {
            let namespace = Namespace::create(name.namespace(&format!("port{number}")))?;
            be_plain_router(&namespace)?;
            let machine = &network.instances[&instance.name];
            links += &link((machine, &format!("eth{index}"), ""), (&namespace, "inside", ""));
            links += &link(
                (&namespace, "outside", SILENT),
                (&network.router, &format!("port{number}"), SILENT),
            );
            network
                .ports
                .insert(interface_name(&instance.name, index), PortWire { namespace, number });
        }
        feed("ip", ["-batch", "-"], &links).context("laying the wires")?;
        network.set_up_router()?;
        network.set_up_internet()?;
        for port in network.ports.values() {
            set_up_port(&port.namespace)?;
        }
        Ok(network)
    }

    fn set_up_router(&self) -> Result<()> {
        let mut lines = String::from("link set internet arp off\nlink set internet up\n");
        for port in self.ports.values() {
            let number = port.number;
            writeln!(lines, "link set port{number} arp off\nlink set port{number} up")?;
        }
        writeln!(lines, "rule add pref 200 lookup {LOCAL_TABLE}\nrule add pref 300 blackhole")?;
        self.router.ip(&lines)
    }

    fn set_up_internet(&self) -> Result<()> {
        self.internet.ip(&format!(
            "addr add {INTERNET_HOST}/32 dev lo\nlink set router arp off\nlink set router up\n\
             route add {PUBLIC_ADDRESSES} dev router src {INTERNET_HOST}\n"
        ))
    }

    /// Gives an instance's interfaces the hardware addresses that the cloud says they have, and their addresses, as
    /// DHCP would.
    pub fn connect(&self, topology: &Topology, instance: &Instance, macs: &[String]) -> Result<()> {
        let mut lines = String::new();
        for (number, (interface, mac)) in instance.interfaces.iter().zip(macs).enumerate() {
            let subnet = topology
                .subnet(interface.subnet)
                .with_context(|| format!("no subnet {}", interface.subnet))?;
            let gateway = subnet.block.hosts().next().context("an empty subnet")?;
            let address = interface.address;
            writeln!(lines, "link set eth{number} address {mac}\nlink set eth{number} up")?;
            writeln!(
                lines,
                "addr add {address}/{} broadcast + dev eth{number}",
                subnet.block.prefix_len()
            )?;
            if number == 0 {
                writeln!(lines, "route add default via {gateway} dev eth0 src {address}")?;
            } else {
                // An instance with two interfaces is told by its owner that the network is on the inner one.
                for block in super::topology::NETWORKS {
                    writeln!(
                        lines,
                        "route add {block} via {gateway} dev eth{number} src {address}"
                    )?;
                }
            }
            let port = &self.ports[&interface_name(&instance.name, number)];
            port.namespace.ip(&format!(
                "neigh replace {INSTANCE} lladdr {mac} dev inside nud permanent\nlink set inside up\n\
                 route replace default via {INSTANCE} dev inside onlink table {TO_INSTANCE}\n"
            ))?;
        }
        self.instances[&instance.name].ip(&lines)
    }
}

impl Drop for Network {
    /// A thread that still answers somebody may hold on to a namespace for a while: that must not keep its name.
    fn drop(&mut self) {
        let ports = self.ports.values().map(|port| &port.namespace);
        let own = [&self.router, &self.internet].into_iter();
        for namespace in own.chain(self.instances.values()).chain(ports) {
            namespace.delete();
        }
    }
}

impl PortWire {
    /// Sends what the instance sends to the metadata address on to the router, by the subnet's routes, as the networks
    /// of some clouds do; or no longer.
    pub fn route_metadata(&self, routed: bool) -> Result<()> {
        self.metadata_rule(6, &format!("lookup {TO_ROUTER}"), routed)
    }

    /// Swallows what the instance sends to the metadata address; or no longer.
    pub fn swallow_metadata(&self, swallowed: bool) -> Result<()> {
        self.metadata_rule(5, "blackhole", swallowed)
    }

    fn metadata_rule(&self, preference: u32, action: &str, present: bool) -> Result<()> {
        let verb = if present { "add" } else { "del" };
        self.namespace
            .ip(&format!("rule {verb} pref {preference} iif inside to {METADATA} {action}"))
    }
}

type End<'a> = (&'a Namespace, &'a str, &'a str);

fn link(one: End<'_>, other: End<'_>) -> String {
    let end = |(namespace, name, options): End<'_>| {
        format!("name {name} netns {} {options}", namespace.name())
    };
    format!("link add {} type veth peer {}\n", end(one), end(other))
}

/// Forwards everything between its interfaces and has no opinion of its own. A new namespace starts with the settings
/// of the machine, which may be anything.
fn be_plain_router(namespace: &Namespace) -> Result<()> {
    namespace.set_sysctls(&[
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
        ("net.ipv6.conf.all.disable_ipv6", "1"),
        ("net.ipv6.conf.default.disable_ipv6", "1"),
    ])
}

/// As Linux distributions come: no forwarding, a loose reverse path filter, redirects sent.
fn be_plain_host(namespace: &Namespace) -> Result<()> {
    namespace.set_sysctls(&[
        ("net.ipv4.ip_forward", "0"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "2"),
        ("net.ipv4.conf.all.send_redirects", "1"),
        ("net.ipv4.conf.default.send_redirects", "1"),
    ])
}

/// The order of the rules matters: what comes from outside never ends here, not even if it is for the metadata address.
fn set_up_port(namespace: &Namespace) -> Result<()> {
    namespace.set_sysctls(&[
        ("net.ipv4.conf.inside.proxy_arp", "1"),
        ("net.ipv4.neigh.inside.proxy_delay", "0"),
        // What comes from outside may belong to a connection of the metadata service here, and is still to be forwarded.
        ("net.ipv4.ip_early_demux", "0"),
    ])?;
    namespace.ip(&format!(
        "addr add {METADATA}/32 dev lo\n\
         link set outside arp off\n\
         link set outside up\n\
         route add default dev outside table {TO_ROUTER}\n\
         rule add pref 10 iif outside lookup {TO_INSTANCE}\n\
         rule add pref 20 iif inside to {METADATA} lookup local\n\
         rule add pref 30 iif inside lookup {TO_ROUTER}\n\
         rule add pref 40 lookup local\n\
         rule add pref 50 lookup {TO_INSTANCE}\n\
         rule del pref 0\n"
    ))
}
