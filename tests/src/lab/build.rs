//! Makes a lab: the slow start of the API first, the wires meanwhile, then the cloud's state, and at last who reads it.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

use super::aws::api::Api;
use super::aws::endpoint::Endpoint;
use super::aws::moto::Moto;
use super::aws::{read, seed};
use super::back_end::BackEnd;
use super::fabric::{Fabric, Nudge, gateway};
use super::host::Host;
use super::internet::{InternetHost, Pings};
use super::name::{LabName, reap_orphans};
use super::natd::Nat;
use super::network::Network;
use super::topology::{INTERNET_HOST, Instance, Topology, interface_name};
use super::{Folder, Lab};

/// What a lab is to have.
#[derive(Clone, Debug)]
pub struct Builder {
    clients: u8,
    two_interfaces: bool,
    secondary: Vec<Ipv4Addr>,
    back_end: Option<BackEnd>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { clients: 2, two_interfaces: false, secondary: Vec::new(), back_end: None }
    }
}

impl Builder {
    /// How many private clients, 2 by default: `client-a` and all odd ones in `private-a`, the others in `private-b`.
    pub fn clients(mut self, clients: u8) -> Self {
        self.clients = clients;
        self
    }

    /// Gives the NAT instance a second interface, `eth1`, in the subnet `nat-inside`.
    pub fn two_interfaces(mut self) -> Self {
        self.two_interfaces = true;
        self
    }

    /// Gives the NAT instance's first interface a further private address of `10.10.1.0/24`. The instance isn't told.
    pub fn secondary_address(mut self, address: Ipv4Addr) -> Self {
        self.secondary.push(address);
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
        let topology = Topology::new(self.clients, self.two_interfaces, &self.secondary);
        let folder = Folder(name.folder());
        let root = folder.0.join("root");
        fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;

        let router = Network::router(&name)?;
        let mut moto = Moto::start(&router, &folder.0)?;
        let network = Network::lay(&name, router.clone(), &topology)?;
        gateway::install_guard(&router)?;
        moto.wait(&router)?;

        let nudge = Nudge::default();
        let api = Api::new(router.clone(), nudge.clone());
        let ids = seed::seed(&api, &topology)?;
        let endpoint = Endpoint::start(&router, api.clone())?;
        let (reading, vpc) = (api.clone(), ids.vpc.clone());
        let wires = network
            .ports
            .iter()
            .map(|(name, wire)| (ids.interface(name).to_owned(), wire.clone()))
            .collect();
        let fabric = Fabric::start(router, wires, &nudge, move || read::read(&reading, &vpc));
        connect(&network, &topology, &ids, &api)?;
        let internet = InternetHost::start(&network.internet)?;

        let mut hosts: BTreeMap<String, Host> = topology
            .instances
            .iter()
            .map(|of| (of.name.clone(), host(&network, of, internet.pings())))
            .collect();
        let nat = Nat::new(hosts.remove("nat").context("a topology without a NAT instance")?, root);
        let mut lab = Lab {
            ids,
            topology,
            fabric,
            metadata: None,
            endpoint,
            api,
            _internet: internet,
            moto,
            nat,
            clients: hosts,
            network,
            _folder: folder,
        };
        lab.sync()?;
        lab.start_metadata()?;
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
        format!(
            "provider = \"aws\"\n\n[routes]\ntables = {:?}\n\n[verify]\ntargets = [\"{INTERNET_HOST}:80\"]\n",
            self.ids.private_tables()
        )
    }
}

/// Tells the instances what DHCP would.
fn connect(network: &Network, topology: &Topology, ids: &seed::Ids, api: &Api) -> Result<()> {
    let picture = read::read(api, &ids.vpc)?;
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
