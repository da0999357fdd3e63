//! Makes a lab: the slow start of the cloud's servers first, the wires meanwhile, then the cloud's state, and at last who
//! reads it.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::back_end::BackEnd;
use super::cloud::{CloudKind, Ground};
use super::fabric::{Fabric, Nudge, gateway};
use super::host::Host;
use super::ids::Ids;
use super::internet::{InternetHost, Pings};
use super::name::{LabName, reap_orphans};
use super::natd::Nat;
use super::network::Network;
use super::picture::Picture;
use super::topology::{INTERNET_HOST, Instance, Shape, Topology, interface_name};
use super::{Folder, Lab};

/// What a lab is to have.
#[derive(Clone, Debug)]
pub struct Builder {
    cloud: CloudKind,
    shape: Shape,
    back_end: Option<BackEnd>,
}

impl Builder {
    pub fn of(cloud: CloudKind) -> Self {
        Self { cloud, shape: cloud.shape(), back_end: None }
    }

    /// How many private clients, 2 by default: `client-a` and all odd ones in `private-a`, the others in `private-b`.
    pub fn clients(mut self, clients: u8) -> Self {
        self.shape.clients = clients;
        self
    }

    /// Gives the NAT instance a second interface, `eth1`, in the subnet `nat-inside`.
    pub fn two_interfaces(mut self) -> Self {
        self.shape.two_interfaces = true;
        self
    }

    /// Puts the NAT instance's first interface into the subnet `private-a`, whose clients it is to serve.
    pub fn nat_in_private_subnet(mut self) -> Self {
        self.shape.nat_subnet = "private-a";
        self
    }

    /// Has hosts learn their routes by DHCP, and puts the NAT instance and all clients into `private-a`.
    pub fn host_routes(mut self) -> Self {
        self.shape.host_routes = true;
        self.shape.two_interfaces = false;
        self.nat_in_private_subnet()
    }

    /// Gives the NAT instance no public address.
    pub fn without_public_address(mut self) -> Self {
        self.shape.nat_public = false;
        self
    }

    /// Gives a client a public address of its own.
    pub fn public_client(mut self, name: &str) -> Self {
        self.shape.public_clients.insert(name.to_owned());
        self
    }

    /// Gives the NAT instance's first interface a further private address of `10.10.1.0/24`. The instance isn't told.
    pub fn secondary_address(mut self, address: Ipv4Addr) -> Self {
        self.shape.secondary.push(address);
        self
    }

    /// Has natd put its rules there, instead of choosing by itself.
    pub fn back_end(mut self, back_end: BackEnd) -> Self {
        self.back_end = Some(back_end);
        self
    }

    /// Makes it, in about three seconds.
    pub fn build(self) -> Result<Lab> {
        if !rustix::process::geteuid().is_root() {
            bail!("the lab makes network namespaces, which takes root");
        }
        reap_orphans()?;
        let name = LabName::unique()?;
        let topology = Topology::new(&self.shape);
        let folder = Folder(name.folder());
        let root = folder.0.join("root");
        fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;

        let router = Network::router(&name)?;
        let nudge = Nudge::default();
        let ground = Ground {
            name: name.clone(),
            router: router.clone(),
            folder: folder.0.clone(),
            topology: topology.clone(),
            changed: nudge.clone(),
        };
        let starting = self.cloud.start(ground)?;
        let network = Network::lay(&name, router.clone(), &topology)?;
        gateway::install_guard(&router)?;
        let cloud = starting.seed(&topology)?;
        let ids = cloud.ids().clone();
        let wires = network
            .ports
            .iter()
            .map(|(name, wire)| (ids.interface(name).to_owned(), wire.clone()))
            .collect();
        let reading = Arc::clone(&cloud);
        let fabric = Fabric::start(router, wires, &nudge, move || reading.picture());
        connect(&network, &topology, &ids, &cloud.picture()?)?;
        let internet = InternetHost::start(&network.internet)?;

        let mut hosts: BTreeMap<String, Host> = topology
            .instances
            .iter()
            .map(|of| (of.name.clone(), host(&network, of, internet.pings())))
            .collect();
        let nat = hosts.remove("nat").context("a topology without a NAT instance")?;
        let nat = Nat::new(nat, root, cloud.environment());
        let mut lab = Lab {
            ids,
            topology,
            fabric,
            metadata: None,
            cloud,
            _internet: internet,
            nat,
            clients: hosts,
            network,
            _folder: folder,
        };
        lab.sync()?;
        lab.start_metadata()?;
        lab.cloud.furnish(&lab.nat)?;
        lab.nat.configure(&lab.default_config())?;
        if let Some(back_end) = self.back_end {
            lab.nat.use_back_end(back_end)?;
        }
        Ok(lab)
    }
}

impl Lab {
    /// A configuration that serves the private tables and proves itself against the internet host.
    pub fn default_config(&self) -> String {
        let configuration = self.cloud.configuration();
        format!("{configuration}\n[verify]\ntargets = [\"{INTERNET_HOST}:80\"]\n")
    }

    /// natd on one of the clients, with files of its own: a second NAT instance.
    pub fn natd_on(&self, client: &str) -> Result<Nat> {
        let root = self.nat.root.with_file_name(format!("root-{client}"));
        fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
        let nat = Nat::new(self.client(client).clone(), root, self.cloud.environment());
        self.cloud.furnish(&nat)?;
        nat.configure(&self.default_config())?;
        Ok(nat)
    }
}

/// Tells the instances what DHCP would.
fn connect(network: &Network, topology: &Topology, ids: &Ids, picture: &Picture) -> Result<()> {
    for instance in &topology.instances {
        let mac = |number| {
            let name = interface_name(&instance.name, number);
            let port = picture
                .ports
                .get(ids.interface(&name))
                .with_context(|| format!("no port {name}"))?;
            Ok(port.mac.clone())
        };
        let macs: Vec<String> = (0..instance.interfaces.len()).map(mac).collect::<Result<_>>()?;
        network.connect(topology, instance, &macs)?;
    }
    Ok(())
}

fn host(network: &Network, instance: &Instance, pings: Pings) -> Host {
    Host {
        name: instance.name.clone(),
        namespace: network.instances[&instance.name].clone(),
        address: instance.interfaces[0].address,
        port: network.ports[&interface_name(&instance.name, 0)].clone(),
        pings,
    }
}
