//! Any other cloud: one whose network has a Linux box for a router, reached by the plugin `linux-router`.
//!
//! There is no API. The state is the router's routing tables, which natd's plugin changes by `ip route` there, as the
//! fabric reads them back. There is no metadata service and no source/destination check.
//!
//! - [`router`]: the Linux router.
//! - [`transport`]: the way to it, with a log and with faults.

pub mod router;
pub mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Result, bail};
use ipnet::Ipv4Net;

use super::Lab;
use super::build::Builder;
use super::calls::Calls;
use super::cloud::{Answers, Cloud, CloudKind, Ground, Starting};
use super::fabric::{Current, Nudge};
use super::ids::Ids;
use super::namespace::Namespace;
use super::picture::{Allow, Picture, Port, Traffic};
use super::topology::{Instance, Interface, NETWORKS, Role, Subnet, Topology, interface_name};
use router::{Router, gateway};
use transport::Transport;

/// The plugin that natd comes with.
const PLUGIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/plugins/linux-router");
/// An address of nobody's, that the router can send packets to.
const NOBODY: &str = "10.10.1.99";
const OF_A_NEW_TABLE: &str = "192.0.2.200/32";

impl Lab {
    /// A lab of a network behind a Linux router, with options.
    pub fn plugin() -> Builder {
        Builder::of(CloudKind::Plugin)
    }
}

/// A network behind a Linux router. The fields are dropped in their order.
#[derive(Debug)]
pub struct LinuxRouted {
    ids: Ids,
    topology: Topology,
    calls: Calls,
    transport: Transport,
    router: Router,
    changed: Nudge,
}

struct Launched {
    ground: Ground,
    router: Router,
}

/// Makes the router.
pub fn start(ground: Ground) -> Result<Box<dyn Starting>> {
    let router = Router(Namespace::create(ground.name.namespace("linux-router"))?);
    Ok(Box::new(Launched { ground, router }))
}

impl Starting for Launched {
    fn seed(self: Box<Self>, topology: &Topology) -> Result<Arc<dyn Cloud>> {
        let Self { ground, router } = *self;
        let tables = router.set_up(topology)?;
        let mut ids = Ids {
            network: "lab".to_owned(),
            elsewhere: NOBODY.to_owned(),
            tables: tables.into_iter().map(|(name, number)| (name, number.to_string())).collect(),
            ..Ids::default()
        };
        for subnet in &topology.subnets {
            ids.subnets.insert(subnet.name.to_owned(), subnet.name.to_owned());
        }
        for (instance, number, interface) in topology.interfaces() {
            ids.instances.insert(instance.name.clone(), instance.name.clone());
            let name = interface_name(&instance.name, number);
            ids.interfaces.insert(name, interface.address.to_string());
        }
        let calls = Calls::default();
        let Ground { folder, changed, .. } = ground;
        let transport = Transport::start(router.0.clone(), &folder, &calls, changed.clone())?;
        let topology = topology.clone();
        Ok(Arc::new(LinuxRouted { ids, topology, calls, transport, router, changed }))
    }
}

/// A command that still runs there may hold on to the namespace for a while: that must not keep its name.
impl Drop for LinuxRouted {
    fn drop(&mut self) {
        self.router.0.delete();
    }
}

impl LinuxRouted {
    /// By the address that it has, which is its id.
    fn ports(&self) -> BTreeMap<String, Port> {
        let everything =
            Allow { traffic: Traffic::All, peers: BTreeSet::from([Ipv4Net::default()]) };
        let port =
            |(row, (instance, number, interface)): (usize, (&Instance, usize, &Interface))| {
                let subnet = self.topology.subnet(interface.subnet)?;
                let port = Port {
                    instance: instance.name.clone(),
                    number: u32::try_from(number).ok()?,
                    alive: true,
                    mac: format!("02:00:0a:00:00:{:02x}", row + 16),
                    addresses: [&[interface.address][..], &interface.secondary].concat(),
                    subnet: subnet.name.to_owned(),
                    subnet_block: subnet.block,
                    table: self.ids.table(subnet.name).to_owned(),
                    source_check: false,
                    pairs: BTreeSet::new(),
                    host_routes: BTreeMap::new(),
                    groups: Vec::new(),
                    ingress: BTreeSet::from([everything.clone()]),
                    egress: BTreeSet::from([everything.clone()]),
                };
                Some((interface.address.to_string(), port))
            };
        self.topology.interfaces().enumerate().filter_map(port).collect()
    }

    fn ip(&self, line: &str) -> Result<()> {
        let done = self.router.0.ip(line);
        self.changed.nudge();
        done
    }
}

impl Cloud for LinuxRouted {
    fn kind(&self) -> CloudKind {
        CloudKind::Plugin
    }

    fn ids(&self) -> &Ids {
        &self.ids
    }

    fn picture(&self) -> Result<Picture> {
        let ports = self.ports();
        let of_address = |address: Ipv4Addr| {
            let found = ports.iter().find(|(_, port)| port.addresses.contains(&address));
            found.map(|(id, _)| id.clone())
        };
        let links: Vec<_> = self.topology.subnets.iter().map(|subnet| subnet.block).collect();
        let mut tables = BTreeMap::new();
        for id in self.ids.tables.values() {
            tables.insert(id.clone(), self.router.table(id, &links, of_address)?);
        }
        let public = self
            .topology
            .interfaces()
            .filter_map(|(_, _, interface)| Some((interface.public?, interface.address)));
        Ok(Picture {
            network: self.ids.network.clone(),
            networks: NETWORKS.to_vec(),
            public: public.collect(),
            public_outranks_default: false,
            tables,
            ports,
        })
    }

    fn metadata(&self, _port: &str, _current: &Current) -> Option<Answers> {
        None
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn configuration(&self) -> String {
        let blocks: Vec<_> = NETWORKS.iter().map(ToString::to_string).collect();
        let public = self.topology.interfaces().filter_map(|(instance, _, interface)| {
            let public = interface.public.filter(|_| instance.role == Role::Nat)?;
            Some(format!("{:?} = {:?}", interface.address.to_string(), public.to_string()))
        });
        let public = public.collect::<Vec<_>>().join(", ");
        format!(
            "provider = \"plugin\"\n\n[plugin]\ncommand = [{PLUGIN:?}]\n\n\
             [plugin.settings]\nshell = {:?}\nnetwork_cidrs = {blocks:?}\n\
             public_addresses = {{ {public} }}\n\n\
             [routes]\ntables = {:?}\n",
            self.transport.command(),
            self.ids.private_tables()
        )
    }

    fn calls(&self) -> &Calls {
        &self.calls
    }

    fn writes(&self) -> &'static [(&'static str, u32)] {
        &[("ip route replace", 2), ("ip route del", 1)]
    }

    fn state(&self) -> Result<BTreeMap<String, String>> {
        let mut state = BTreeMap::new();
        for (name, id) in &self.ids.tables {
            state.insert(format!("routes of {name}"), format!("{:#?}", self.router.routes(id)?));
        }
        Ok(state)
    }

    fn interrupt(&self) -> Result<()> {
        self.transport.interrupt();
        Ok(())
    }

    fn resume(&self) -> Result<()> {
        self.transport.resume()
    }

    fn route(&self, table: &str, destination: &str) -> Result<Option<String>> {
        let destination: Ipv4Net = destination.parse()?;
        let routes = self.router.routes(table)?;
        let found = routes.into_iter().find(|(of, _)| *of == destination);
        Ok(found.map(|(_, route)| match gateway(&route) {
            Some(via) => via.to_string(),
            None => route["dev"].as_str().unwrap_or("nothing").to_owned(),
        }))
    }

    fn point_route(&self, table: &str, destination: &str, target: &str) -> Result<()> {
        self.ip(&format!("route replace {destination} via {target} table {table}"))
    }

    /// In `ip`'s words.
    fn told(&self, target: &str) -> String {
        let has_target = |link: &&Subnet| {
            target.parse().is_ok_and(|address: Ipv4Addr| link.block.contains(&address))
        };
        let link = self.topology.subnets.iter().find(has_target);
        let link = link.map(|link| format!(" dev {}", link.name)).unwrap_or_default();
        format!("via {target}{link} (route)")
    }

    fn remove_route(&self, table: &str, destination: &str) -> Result<()> {
        self.ip(&format!("route del {destination} table {table}"))
    }

    fn check(&self, _interface: &str) -> Result<Option<bool>> {
        Ok(None)
    }

    fn set_check(&self, _interface: &str, _on: bool) -> Result<()> {
        bail!("there is no source/destination check behind a Linux router")
    }

    /// A table begins to be with its first route, which leads to nobody here.
    fn new_table(&self) -> Result<String> {
        let known: BTreeSet<_> = self.ids.tables.values().map(String::as_str).collect();
        let mut number = 1000;
        while known.contains(number.to_string().as_str())
            || !self.router.routes(&number.to_string())?.is_empty()
        {
            number += 1;
        }
        let id = number.to_string();
        self.point_route(&id, OF_A_NEW_TABLE, NOBODY)?;
        Ok(id)
    }
}
