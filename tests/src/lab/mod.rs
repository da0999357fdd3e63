//! A small cloud out of network namespaces, on one Linux machine and as root, in which natd runs against packets.
//!
//! The network is programmed only from what the cloud's API says, by code that shares nothing with natd: so when a
//! client's request reaches the internet, all of natd worked.
//!
//! ```no_run
//! use natd_tests::lab::{Lab, topology::NAT_PUBLIC};
//!
//! let lab = Lab::aws().clients(2).build()?;
//! assert!(lab.client("client-a").reach().is_none());
//! assert_eq!(lab.nat().natd(["apply"])?.code, Some(0));
//! lab.sync()?;
//! assert!(lab.client("client-a").reach().is_all(NAT_PUBLIC));
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! - [`build`]: makes a lab; start here.
//! - [`topology`]: the shape of its cloud, and its fixed addresses.
//! - [`cloud`]: what a cloud is to the lab. Each is a folder: [`aws`], [`huawei`], [`openstack`], [`plugin`].
//! - [`ids`]: what the cloud calls what the lab made in it.
//! - [`endpoint`]: a cloud's API as instances reach it; [`calls`]: the log of their calls, and faults on demand.
//! - [`metadata`]: the metadata service, as every port has it.
//! - [`picture`]: what the network should look like, in neutral words.
//! - [`fabric`]: makes the network behave so.
//! - [`network`]: the wires; [`namespace`]: one machine; [`name`]: what they are called.
//! - [`host`]: what a machine reaches; [`flow`]: flows that stay open; [`icmp`]: pings.
//! - [`internet`]: the host that tells who it saw.
//! - [`natd`]: natd on the NAT instance; [`daemon`]: natd as a daemon; [`killed`]: natd cut short; [`back_end`]: where
//!   its rules are.
//! - [`ipv6`]: a network of its own with IPv6 and router advertisements, which no cloud of the lab's has.
//! - [`owner`]: what is done by hand, past natd; [`state`]: all that natd may change, to be compared.
//! - [`http`], [`run`]: the little HTTP, and the running of programs, that all of this needs.

pub mod aws;
pub mod back_end;
pub mod build;
pub mod calls;
pub mod cloud;
pub mod daemon;
pub mod endpoint;
pub mod fabric;
pub mod flow;
pub mod host;
pub mod http;
pub mod huawei;
pub mod icmp;
pub mod ids;
pub mod internet;
pub mod ipv6;
pub mod killed;
pub mod metadata;
pub mod name;
pub mod namespace;
pub mod natd;
pub mod network;
pub mod openstack;
pub mod owner;
pub mod picture;
pub mod plugin;
pub mod run;
pub mod state;
pub mod topology;

use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use build::Builder;
use calls::{ANY, Call, Fault};
use cloud::{Cloud, CloudKind};
use fabric::Fabric;
use host::Host;
use ids::Ids;
use internet::InternetHost;
use metadata::Metadata;
use natd::Nat;
use network::Network;
use topology::Topology;

/// A running lab. All of it is gone when this is dropped; what a killed test leaves, the next lab clears away.
///
/// The fields are dropped in their order: first who reads and writes, then what is read and written.
#[derive(Debug)]
pub struct Lab {
    /// The ids of what is in the cloud.
    pub ids: Ids,
    pub topology: Topology,
    fabric: Fabric,
    metadata: Option<Metadata>,
    cloud: Arc<dyn Cloud>,
    _internet: InternetHost,
    nat: Nat,
    clients: BTreeMap<String, Host>,
    network: Network,
    _folder: Folder,
}

/// A folder that goes with the lab.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.0);
    }
}

impl Lab {
    /// A lab of that cloud, with options.
    pub fn of(cloud: CloudKind) -> Builder {
        Builder::of(cloud)
    }

    /// The cloud, as every cloud is.
    pub fn cloud(&self) -> &dyn Cloud {
        self.cloud.as_ref()
    }

    /// The cloud, as what it is: `lab.cloud_of::<Aws>()`.
    ///
    /// # Panics
    /// If it is another.
    pub fn cloud_of<C: Cloud>(&self) -> &C {
        let cloud: &dyn Any = self.cloud.as_ref();
        cloud.downcast_ref().unwrap_or_else(|| panic!("the lab's cloud is {}", self.cloud.kind()))
    }

    /// The NAT instance, on which natd was not run yet.
    pub fn nat(&self) -> &Nat {
        &self.nat
    }

    /// A private client by its name: `client-a`.
    ///
    /// # Panics
    /// If the lab has no such client.
    pub fn client(&self, name: &str) -> &Host {
        self.clients.get(name).unwrap_or_else(|| panic!("the lab has no {name}"))
    }

    /// All private clients, by name.
    pub fn clients(&self) -> impl Iterator<Item = &Host> {
        self.clients.values()
    }

    /// The namespaces and the wires.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Brings the network in step with the cloud now, and returns once it is.
    ///
    /// The network follows every change by itself within some ten milliseconds; this waits until it has.
    pub fn sync(&self) -> Result<()> {
        self.fabric.sync()
    }

    /// Leaves the network as it is from now on, whatever happens in the cloud: for who wants the API for natd alone.
    pub fn hold_network(&self) {
        self.fabric.hold();
    }

    /// The calls that instances made, in order.
    pub fn api_log(&self) -> Vec<Call> {
        self.cloud.calls().log()
    }

    /// Forgets the calls that instances made so far.
    pub fn api_log_clear(&self) {
        self.cloud.calls().forget();
    }

    /// Has the next `times` calls of an action go wrong.
    pub fn fail(&self, action: &str, fault: Fault, times: usize) {
        self.cloud.calls().fail(action, fault, times);
    }

    /// Has the next `times` calls of any action go wrong.
    pub fn fail_all(&self, fault: Fault, times: usize) {
        self.fail(ANY, fault, times);
    }

    /// Has no further call go wrong.
    pub fn heal(&self) {
        self.cloud.calls().heal();
    }

    /// How many packets wanted to leave for the internet without a public address since the lab began.
    pub fn untranslated(&self) -> Result<u64> {
        fabric::gateway::untranslated(&self.network.router)
    }

    /// Stops the metadata service: connections are refused.
    pub fn stop_metadata(&mut self) {
        self.metadata = None;
    }

    /// Starts the metadata service again.
    pub fn start_metadata(&mut self) -> Result<()> {
        self.metadata = None;
        self.metadata = Some(Metadata::start(
            self.cloud(),
            self.wires_by_id()?.into_iter(),
            &self.fabric.current(),
        )?);
        Ok(())
    }

    fn wires_by_id(&self) -> Result<Vec<(String, &network::PortWire)>> {
        let of = |(name, wire)| {
            let id = self.ids.interfaces.get(name).with_context(|| format!("{name} has no id"))?;
            Ok((id.clone(), wire))
        };
        self.network.ports.iter().map(of).collect()
    }
}
