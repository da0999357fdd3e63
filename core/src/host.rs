//! What natd needs of its host: firewall, sysctls, links, conntrack, a way out and through. One small trait each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    canary::{Flight, Sighting},
    error::Result,
    model::InterfaceName,
    neighbours::{Neighbour, Passage},
    network::{Flow, Network},
    persist::{Boot, FileSeen, Form, HostPath, Part, ServiceName},
    ruleset::{FirewallKind, Rendering, RulesetDigest},
};

/// The host's parts, as natd drives them.
#[derive(Clone)]
pub struct Host {
    /// The back ends that this host has.
    pub firewalls: BTreeMap<FirewallKind, Arc<dyn Firewall>>,
    /// Kernel parameters.
    pub sysctl: Arc<dyn Sysctl>,
    /// Links, addresses, routes.
    pub links: Arc<dyn Links>,
    /// The connection tracking table.
    pub conntrack: Arc<dyn Conntrack>,
    /// The way out.
    pub egress: Arc<dyn Egress>,
    /// The way through, tried with a packet like a private host's.
    pub canary: Arc<dyn Canary>,
    /// What happens at boot.
    pub boot: Arc<dyn AtBoot>,
    /// Other programs that may filter what this host forwards.
    pub neighbours: BTreeMap<Neighbour, Arc<dyn NeighbouringFirewall>>,
}

/// Rules of natd's that are in the kernel now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The rendering that they were loaded from, if they all come from one.
    pub digest: Option<RulesetDigest>,
    /// What is not as it was loaded, in words: "rule 3 of 7 is missing". Empty if all is intact.
    pub damage: Vec<String>,
}

/// How much of natd's rules is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// All but what their sets hold: to read 60,000 elements back takes 0.3 s and 80 MB.
    Rules,
    /// Everything.
    Elements,
}

/// A back end that holds natd's own rules and touches nobody else's.
#[async_trait]
pub trait Firewall: Send + Sync {
    /// Which back end it is.
    fn kind(&self) -> FirewallKind;

    /// Reads natd's rules back from the kernel; `None` if there are none.
    ///
    /// # Errors
    /// `Denied` without the capability; `NotFound` without the tool, with the package to install;
    /// `Unreachable` if a lock is held past the deadline.
    async fn loaded(&self, depth: Depth) -> Result<Option<Loaded>>;

    /// Puts the rendering in place of whatever natd has loaded, without a moment in which neither
    /// is in force.
    ///
    /// # Errors
    /// As for [`Firewall::loaded`]; what was in force stays in force then.
    async fn load(&self, rendering: &Rendering) -> Result<()>;

    /// Removes natd's rules; success if there are none.
    ///
    /// # Errors
    /// As for [`Firewall::loaded`].
    async fn unload(&self) -> Result<()>;
}

/// A kernel parameter, as a path below `/proc/sys`. Prints as `sysctl` writes it: `/` becomes `.`,
/// and a `.` inside a name becomes `/` (sysctl(8)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SysctlKey(String);

impl SysctlKey {
    /// A key of the whole namespace, given as a path: `net/ipv4/ip_forward`.
    #[must_use]
    pub fn global(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// `net.ipv4.conf.INTERFACE.name`.
    #[must_use]
    pub fn ipv4(interface: &InterfaceName, name: &str) -> Self {
        Self(format!("net/ipv4/conf/{interface}/{name}"))
    }

    /// Whether it is what lets packets through an interface, of either family.
    #[must_use]
    pub fn is_forwarding(&self) -> bool {
        self.0.ends_with("/forwarding") || self.0.ends_with("/force_forwarding")
    }

    /// Whether the kernel has it only once connection tracking is loaded.
    #[must_use]
    pub fn is_conntrack(&self) -> bool {
        self.0.starts_with("net/netfilter/")
    }

    /// `net.ipv6.conf.INTERFACE.name`.
    #[must_use]
    pub fn ipv6(interface: &InterfaceName, name: &str) -> Self {
        Self(format!("net/ipv6/conf/{interface}/{name}"))
    }

    /// Whether it is the IPv4 forwarding of an interface.
    #[must_use]
    pub fn is_ipv4_forwarding(&self) -> bool {
        self.0.starts_with("net/ipv4/conf/") && self.0.ends_with("/forwarding")
    }

    /// The path below `/proc/sys`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for SysctlKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let swapped: String = self
            .0
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect();
        f.pad(&swapped)
    }
}

/// Kernel parameters.
pub trait Sysctl: Send + Sync {
    /// The value without its line end; `None` if the kernel has no such key (yet).
    ///
    /// # Errors
    /// `Denied`, `Invalid`.
    fn read(&self, key: &SysctlKey) -> Result<Option<String>>;

    /// Writes the value.
    ///
    /// # Errors
    /// `NotFound` if there is no such key; `Denied` if the kernel refuses.
    fn write(&self, key: &SysctlKey, value: &str) -> Result<()>;
}

/// Links, addresses and routes, from netlink.
#[async_trait]
pub trait Links: Send + Sync {
    /// What there is now.
    ///
    /// # Errors
    /// `Unreachable` if netlink doesn't answer.
    async fn network(&self) -> Result<Network>;

    /// The TCP ports at which programs of this host listen to others than itself.
    ///
    /// # Errors
    /// `Unreachable` if the kernel doesn't tell.
    async fn listening(&self) -> Result<BTreeSet<u16>>;
}

/// The connection tracking table.
#[async_trait]
pub trait Conntrack: Send + Sync {
    /// Has the kernel load connection tracking, so that its parameters are there.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Invalid` if it can't be loaded.
    async fn load(&self) -> Result<()>;

    /// Deletes exactly the entries for which `stale` holds, and tells how many.
    ///
    /// # Errors
    /// `Denied`, `Unreachable`, `Unsupported` (no conntrack in the kernel).
    async fn delete_where(
        &self,
        stale: &(dyn for<'a> Fn(&'a Flow) -> bool + Send + Sync),
    ) -> Result<usize>;
}

/// The way to the internet, tried with packets.
#[async_trait]
pub trait Egress: Send + Sync {
    /// Opens a TCP connection to `target` (`host:port`) by that interface and from that address.
    ///
    /// # Errors
    /// `Unreachable` with the reason.
    async fn reach(
        &self,
        target: &str,
        interface: &InterfaceName,
        source: Option<IpAddr>,
    ) -> Result<()>;
}

/// The way through this host, tried with a packet like a private host's.
#[async_trait]
pub trait Canary: Send + Sync {
    /// Sends packets to all targets and tells what was seen of each.
    ///
    /// Nothing of it is left afterwards, however the process ends, and nothing of anybody else's is
    /// changed meanwhile.
    ///
    /// # Errors
    /// If it can't be sent as a private host's would be: `Denied`, `NotFound`, `Unsupported` with
    /// what is missing; `Conflict` if another one flies; `Invalid` if no target can be flown to.
    async fn fly(&self, flight: &Flight<'_>) -> Result<Vec<Sighting>>;
}

/// What happens at boot: files that bring NAT back, and services that read them.
#[async_trait]
pub trait AtBoot: Send + Sync {
    /// What there is that loads rules at boot.
    fn facts(&self) -> Boot;

    /// What a file holds of natd's.
    ///
    /// # Errors
    /// `Denied`, `Invalid` if it can't be read.
    fn look(&self, path: &HostPath, form: Form) -> Result<FileSeen>;

    /// Has the file hold that part, whatever natd's part was before; the rest of it, its owner and
    /// its mode stay, but for run bits that the part needs. After a crash at any moment the file is
    /// as it was or as it should be.
    ///
    /// # Errors
    /// `Denied`, `Invalid` if the file system refuses.
    fn write(&self, path: &HostPath, part: &Part) -> Result<()>;

    /// Takes natd's part out of the file, gives it that mode back, and removes those folders as far
    /// as they are empty; success if there is nothing to take out.
    ///
    /// # Errors
    /// As for [`AtBoot::write`].
    fn remove(
        &self,
        path: &HostPath,
        form: Form,
        mode: Option<u32>,
        folders: &[HostPath],
    ) -> Result<()>;

    /// Whether the service is started at boot.
    fn is_enabled(&self, service: &ServiceName) -> bool;

    /// Has the service be started at boot, or not. It is neither started nor stopped now.
    ///
    /// # Errors
    /// `NotFound` if there is no such service; `Denied`, `Invalid`, `Unreachable`.
    async fn enable(&self, service: &ServiceName, enabled: bool) -> Result<()>;
}

/// Another program of this host that filters what it forwards, and lets natd's traffic through when it
/// is asked in its own way.
///
/// What natd has there is known by its comments (`natd:DIGEST:…`, a [`Mark`](crate::ruleset::Mark)), so
/// that nothing is lost when natd is killed; nobody else's entries are touched.
#[async_trait]
pub trait NeighbouringFirewall: Send + Sync {
    /// Who it is.
    fn who(&self) -> Neighbour;

    /// Whether it is there to let anything through: it runs, or what it has put into the kernel is in
    /// force without it. So is one that is stopped, if it has something of natd's: that stays where it is
    /// until it is started again, or natd is done with it.
    ///
    /// # Errors
    /// `Denied`, `Unreachable` if that can't be found out. A program that isn't installed is no error.
    async fn is_running(&self) -> Result<bool>;

    /// What natd has there now; `None` if there is nothing. Its digest is the passage's that it was
    /// opened for ([`Passage::digest`]); its damage is what is missing, doubled, out of its place, or not
    /// as that passage needs it. `wanted` is the passage that is to be there, if any: what it needs may
    /// have come to be possible since it was opened.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Unreachable`, `Invalid`.
    async fn passage(&self, wanted: Option<&Passage>) -> Result<Option<Loaded>>;

    /// Has that let through, in place of whatever natd has there; nothing changes if it is there
    /// already. For good, if the neighbour has a way: until [`NeighbouringFirewall::close`].
    ///
    /// # Errors
    /// As for [`NeighbouringFirewall::passage`].
    async fn open(&self, passage: &Passage) -> Result<()>;

    /// Removes what natd has there, and nothing else; success if there is nothing.
    ///
    /// # Errors
    /// As for [`NeighbouringFirewall::passage`].
    async fn close(&self) -> Result<()>;
}
