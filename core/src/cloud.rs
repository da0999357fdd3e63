//! What natd needs of a cloud: who am I, my interfaces, the route tables. Three small traits.
//!
//! `Provider::interfaces` and `Provider::route_tables` list once and give snapshots; asking again
//! refreshes. What they show is enough for a whole plan.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    model::{
        InstanceId, InterfaceId, MacAddress, NetworkId, NextHop, Route, RouteTableId, SubnetId, Tag,
    },
};

/// The machine that natd runs on, as its cloud knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The region, in the cloud's spelling.
    pub region: String,
    /// The availability zone.
    pub zone: String,
    /// The network that it is in.
    pub network: NetworkId,
    /// All address blocks of that network, secondary ones included.
    pub network_cidrs: Vec<IpNet>,
    /// The subnets that its interfaces are in.
    pub subnets: BTreeSet<SubnetId>,
    /// What happens if a table that serves the instance's own subnet points at the instance.
    pub own_subnet: OwnSubnet,
}

/// Whether a route through the instance loops when it stands in the table of the instance's own subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnSubnet {
    /// The table decides over the instance's packets too: they come back to it for ever.
    Loops,
    /// A public address on the egress interface outranks the table, so nothing loops if there is one.
    PublicAddressOutranks,
    /// The table only tells hosts their routes (by DHCP), and this machine's own are its own affair:
    /// nothing loops.
    HostsDecide,
}

/// One private address of an interface, with the public one that the cloud maps to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Address {
    /// The address that the interface carries.
    pub private: IpAddr,
    /// The address that the internet sees.
    pub public: PublicAddress,
}

/// The address that the internet sees of a private one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicAddress {
    /// This one.
    Is(IpAddr),
    /// There is none.
    Absent,
    /// The cloud doesn't know: packets may be translated where it doesn't see it.
    Unknown,
}

impl PublicAddress {
    /// The address, if there is one that the cloud knows.
    #[must_use]
    pub fn known(self) -> Option<IpAddr> {
        match self {
            Self::Is(address) => Some(address),
            Self::Absent | Self::Unknown => None,
        }
    }
}

/// Of a cloud that knows all its public addresses.
impl From<Option<IpAddr>> for PublicAddress {
    fn from(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Absent, Self::Is)
    }
}

/// What a security group lets through, reduced to what natd judges by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecurityRules {
    /// Address blocks that may open connections to the interface on at least one port.
    pub inbound: BTreeSet<IpNet>,
    /// Inbound rules exist whose peers are not address blocks (other groups, prefix lists), so
    /// that the blocks alone don't tell who is let in.
    pub inbound_by_reference: bool,
    /// Whether anything at all may leave.
    pub outbound: bool,
}

impl SecurityRules {
    /// Everything may come in and leave: a cloud without security groups.
    #[must_use]
    pub fn open() -> Self {
        Self {
            inbound: [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into(),
            inbound_by_reference: false,
            outbound: true,
        }
    }
}

/// Settings of an interface that switching its source/destination check off overwrites on some
/// clouds: security groups, address pairs. Only the provider that made the value understands it;
/// the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckSettings(pub serde_json::Value);

/// The check by which a cloud drops packets that are neither from nor to an interface's own
/// addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceDestCheck {
    /// It is off, or the cloud has none.
    Off,
    /// It is on, and natd may switch it off.
    On {
        /// What switching it off overwrites, to be put back when it is switched on again; `None`
        /// where the check is a switch of its own.
        overwrites: Option<CheckSettings>,
    },
    /// It is on, and natd must not switch it off: that would do harm, or the cloud can't do it. Why,
    /// and what the operator can do about it. Nothing is planned for which it would have to be off.
    Locked(Error),
}

impl SourceDestCheck {
    /// Whether such packets are dropped.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// What switching it off overwrites.
    #[must_use]
    pub fn overwrites(&self) -> Option<&CheckSettings> {
        match self {
            Self::On { overwrites } => overwrites.as_ref(),
            Self::Off | Self::Locked(_) => None,
        }
    }

    /// Why it must not be switched off.
    #[must_use]
    pub fn lock(&self) -> Option<&Error> {
        match self {
            Self::Locked(why) => Some(why),
            Self::Off | Self::On { .. } => None,
        }
    }
}

/// What the cloud says of one attached interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceFacts {
    /// Its id.
    pub id: InterfaceId,
    /// Its Ethernet address: what ties it to a link of this host.
    pub mac: MacAddress,
    /// Its addresses, the primary one first.
    pub addresses: Vec<Address>,
    /// The subnet that it is in.
    pub subnet: SubnetId,
    /// Whether the cloud drops packets that are neither from nor to its own addresses, and whether
    /// natd may change that.
    pub source_dest_check: SourceDestCheck,
    /// What its security groups let through. An error where natd may not read them: natd works
    /// without, and says so.
    pub security: Result<SecurityRules>,
}

/// An attached network interface, on the cloud's side.
#[async_trait]
pub trait Interface: Send + Sync {
    /// The snapshot that it was listed with.
    fn facts(&self) -> &InterfaceFacts;

    /// Switches the source/destination check. Idempotent. The change may be visible only later.
    ///
    /// `earlier` goes with `enabled`: the settings that the interface had before the check was
    /// switched off, if this cloud has any. What others have changed about the interface since stays.
    ///
    /// # Errors
    /// `Unsupported` where the cloud has no such check; `Denied` with the missing permission.
    async fn set_source_dest_check(
        &self,
        enabled: bool,
        earlier: Option<&CheckSettings>,
    ) -> Result<()>;

    /// The source/destination check as the cloud shows it now, in one call.
    ///
    /// # Errors
    /// Of the cloud's API, by kind.
    async fn source_dest_check(&self) -> Result<bool>;
}

/// Which route tables a caller wants to see: the union of what its fields name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableSelector {
    /// These tables.
    pub ids: BTreeSet<RouteTableId>,
    /// Tables that carry one of these tags.
    pub tags: BTreeSet<Tag>,
    /// Tables that serve one of these subnets, by association or as the network's main table.
    pub subnets: BTreeSet<SubnetId>,
}

/// The answer to a [`TableSelector`].
#[derive(Default)]
pub struct RouteTables {
    /// What was found, each table once, in the order of ids.
    pub found: Vec<Arc<dyn RouteTable>>,
    /// What was named by id or subnet and can't be served: not there, or of another network. One
    /// error each; the others are served all the same.
    pub missing: Vec<Error>,
}

/// What the cloud says of one route table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableFacts {
    /// Its id.
    pub id: RouteTableId,
    /// The subnets that it serves: those associated with it and, for the main table, those of the
    /// selector that no table is associated with.
    pub subnets: BTreeSet<SubnetId>,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// Its routes to blocks of addresses.
    pub routes: Vec<Route>,
}

impl TableSelector {
    /// Whether the selector names this table.
    #[must_use]
    pub fn selects(&self, table: &TableFacts) -> bool {
        self.ids.contains(&table.id)
            || !self.tags.is_disjoint(&table.tags)
            || !self.subnets.is_disjoint(&table.subnets)
    }

    /// Everything that either selector names.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.ids.extend(other.ids.iter().cloned());
        self.tags.extend(other.tags.iter().cloned());
        self.subnets.extend(other.subnets.iter().cloned());
        self
    }
}

/// A route table, or a router that has one.
#[async_trait]
pub trait RouteTable: Send + Sync {
    /// The snapshot that it was listed with.
    fn facts(&self) -> &TableFacts;

    /// Creates the route or replaces its target, whichever is needed now, also if somebody
    /// changed the table since the snapshot. Returns when the cloud has accepted it; the change
    /// may be visible only later.
    ///
    /// # Errors
    /// `NotFound` if the table or the next hop is gone; `Conflict`; `Denied` with the missing
    /// permission; `Unsupported` for a next hop that this cloud can't write.
    async fn put(&self, destination: IpNet, next_hop: &NextHop) -> Result<()>;

    /// Removes the route. An absent route is success.
    ///
    /// # Errors
    /// As for [`RouteTable::put`].
    async fn remove(&self, destination: IpNet) -> Result<()>;
}

/// A cloud, seen from one instance.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The provider's name in the configuration.
    fn name(&self) -> &'static str;

    /// Who am I? May be answered from what was learnt at the start; it never changes while the
    /// instance runs, except for `network_cidrs`.
    ///
    /// # Errors
    /// `Unreachable` within 5 s where there is no metadata service, with advice on how to give
    /// the values by hand.
    async fn instance(&self) -> Result<Instance>;

    /// The attached interfaces, the primary one first.
    ///
    /// # Errors
    /// Of the cloud's API, by kind.
    async fn interfaces(&self) -> Result<Vec<Arc<dyn Interface>>>;

    /// The route tables of the instance's network that the selector names.
    ///
    /// # Errors
    /// Of the cloud's API, by kind. A table that is not there is no error of the whole call.
    async fn route_tables(&self, selector: &TableSelector) -> Result<RouteTables>;
}
