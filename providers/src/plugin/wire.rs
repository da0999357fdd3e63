//! Requests to a plugin and its answers, as they are written: protocol version 1.
//!
//! The published schema is made of these types, and their comments are its descriptions. Fields
//! that natd doesn't know are passed over in answers, so that a plugin may be newer than natd.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::envelope::ErrorData;

/// The version of the protocol that this natd speaks.
pub(super) const PROTOCOL: u32 = 1;

pub(super) const INITIALIZE: &str = "initialize";
pub(super) const INSTANCE: &str = "instance";
pub(super) const INTERFACES: &str = "interfaces";
pub(super) const ROUTE_TABLES: &str = "route_tables";
pub(super) const SET_CHECK: &str = "set_source_dest_check";
pub(super) const CHECK: &str = "source_dest_check";
pub(super) const PUT: &str = "put";
pub(super) const REMOVE: &str = "remove";

/// No parameters, or nothing to answer but that it is done.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Nothing {}

/// The first request: natd introduces itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct InitializeParams {
    /// The version of the protocol that natd speaks.
    pub(super) protocol: u32,
    /// natd's own version, for logs.
    pub(super) natd: String,
    /// What the operator wrote in `[plugin.settings]`.
    pub(super) settings: BTreeMap<String, Value>,
}

/// The plugin introduces itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct InitializeResult {
    /// The version of the protocol that the plugin speaks; natd ends a plugin of another one.
    pub(super) protocol: u32,
    /// The plugin's name, for logs.
    pub(super) name: String,
    /// The plugin's own version, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// How many requests natd may have under way at once. Unset: 1, natd waits for each answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) concurrency: Option<NonZeroU16>,
}

/// The machine that natd runs on, as its cloud knows it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct InstanceResult {
    /// Its id: 1 to 255 visible ASCII characters, as all ids.
    pub(super) id: String,
    /// The region, in the cloud's spelling.
    #[serde(default)]
    pub(super) region: String,
    /// The availability zone.
    #[serde(default)]
    pub(super) zone: String,
    /// The id of the network that it is in.
    pub(super) network: String,
    /// All address blocks of that network, as CIDRs: what `"vpc"` stands for in the configuration.
    pub(super) network_cidrs: Vec<String>,
    /// The ids of the subnets of that network that its interfaces are in.
    #[serde(default)]
    pub(super) subnets: BTreeSet<String>,
    /// What happens if a table that serves the machine's own subnet points at the machine.
    #[serde(default)]
    pub(super) own_subnet: OwnSubnet,
}

/// What happens if a table that serves the machine's own subnet points at the machine.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OwnSubnet {
    /// The table decides over the machine's packets too: they come back to it for ever. natd refuses.
    #[default]
    Loops,
    /// A public address on the egress interface outranks the table: natd refuses only without one.
    PublicAddressOutranks,
    /// The table only tells hosts their routes, and this machine's own are its own affair: nothing loops.
    HostsDecide,
}

/// The interfaces of this machine, the primary one first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct InterfacesResult {
    /// The interfaces, the primary one first.
    pub(super) interfaces: Vec<Interface>,
}

/// One interface of this machine, as its cloud knows it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Interface {
    /// Its id.
    pub(super) id: String,
    /// Its Ethernet address, `0a:1b:2c:3d:4e:5f`: what ties it to a link of this machine.
    pub(super) mac: String,
    /// Its addresses, the primary one first.
    pub(super) addresses: Vec<Address>,
    /// The id of the subnet that it is in.
    pub(super) subnet: String,
    /// Whether the cloud drops packets that are neither from nor to its own addresses. `false`
    /// where the cloud has no such check: natd never asks to switch it then.
    pub(super) source_dest_check: bool,
    /// What switching the check off overwrites, if anything: natd keeps it, without looking into
    /// it, and hands it back as `earlier` when the check is switched on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) check_settings: Option<Value>,
    /// Why a check that is on must not be switched off: it would do harm, or can't be done. natd
    /// refuses to serve anything by this interface then, and changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source_dest_check_error: Option<ErrorData>,
    /// What its security groups let through. Unset: there are none, and everything passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) security: Option<SecurityRules>,
    /// Why `security` can't be told. natd warns, and works without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) security_error: Option<ErrorData>,
}

/// One private address of an interface, with the public one that the cloud maps to it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Address {
    /// The address that the interface carries.
    pub(super) private: IpAddr,
    /// The address that the internet sees; `null` if there is none, of which natd warns. Unset: the
    /// plugin doesn't know.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "told")]
    #[expect(clippy::option_option, reason = "unset and null tell different things")]
    pub(super) public: Option<Option<IpAddr>>,
}

/// `null` is something that was told: only what is unset isn't.
fn told<'de, T, D>(field: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    T::deserialize(field).map(Some)
}

/// What security groups let through, as far as natd's warnings need it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct SecurityRules {
    /// CIDRs that may open connections to the interface on at least one port.
    pub(super) inbound: Vec<String>,
    /// Inbound rules exist whose peers are not CIDRs, so that `inbound` doesn't tell all.
    #[serde(default)]
    pub(super) inbound_by_reference: bool,
    /// Whether anything at all may leave.
    pub(super) outbound: bool,
}

/// Which tables natd wants to see: the union of what the fields name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct TableSelector {
    /// The tables of these ids.
    pub(super) ids: BTreeSet<String>,
    /// Tables that carry one of these tags.
    pub(super) tags: BTreeSet<Tag>,
    /// Tables that serve one of these subnets.
    pub(super) subnets: BTreeSet<String>,
}

/// A tag of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub(super) struct Tag {
    /// Its key.
    pub(super) key: String,
    /// Its value.
    pub(super) value: String,
}

/// The tables that were asked for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct RouteTablesResult {
    /// What was found. natd passes over tables that it didn't ask for.
    pub(super) found: Vec<RouteTable>,
    /// What was named by id or subnet and can't be served, with the reason. What is in neither list
    /// natd takes for not found.
    #[serde(default)]
    pub(super) missing: Vec<MissingTable>,
}

/// A route table, or a router that has one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct RouteTable {
    /// Its id.
    pub(super) id: String,
    /// The ids of the subnets that it serves.
    #[serde(default)]
    pub(super) subnets: BTreeSet<String>,
    /// Its tags.
    #[serde(default)]
    pub(super) tags: BTreeSet<Tag>,
    /// All its routes, the foreign ones too.
    pub(super) routes: Vec<Route>,
}

/// Why a table can't be served.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct MissingTable {
    /// The id of the table, or of the subnet, that was asked for.
    pub(super) id: String,
    /// Why.
    pub(super) error: ErrorData,
}

/// One route to a block of addresses.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Route {
    /// The addresses that it is for, as a CIDR.
    pub(super) destination: String,
    /// Where it sends them.
    pub(super) next_hop: NextHop,
    /// Whether that place takes them.
    #[serde(default)]
    pub(super) state: RouteState,
    /// Who made it.
    #[serde(default)]
    pub(super) origin: RouteOrigin,
}

/// Where a route sends packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct NextHop {
    /// `interface`: an interface (of this machine or another), by its id. `internet-gateway`: the
    /// way to the internet. `local`: the network itself. Any other word is the plugin's own: natd
    /// carries it through untouched, and hands it back in `put` to restore the route.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Which one. `local` has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) id: String,
}

/// Whether a route's target takes packets.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RouteState {
    /// The target exists and is attached.
    #[default]
    Active,
    /// The target is gone: packets are dropped.
    Blackhole,
}

/// Who made a route.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RouteOrigin {
    /// Somebody wrote it into the table.
    #[default]
    Static,
    /// It was learnt, and returns by itself: natd never writes it back.
    Propagated,
}

/// Switch the source/destination check of an interface.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct SetCheckParams {
    /// The interface, by its id.
    pub(super) interface: String,
    /// Whether the check is to be on.
    pub(super) enabled: bool,
    /// The `check_settings` that the interface had before the check was switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) earlier: Option<Value>,
}

/// Tell the source/destination check of an interface.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct CheckParams {
    /// The interface, by its id.
    pub(super) interface: String,
}

/// The source/destination check as the cloud shows it now.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct CheckResult {
    /// Whether it is on.
    pub(super) enabled: bool,
}

/// Create the route, or replace its target.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct PutParams {
    /// The table, by its id.
    pub(super) table: String,
    /// The addresses that the route is for, as a CIDR.
    pub(super) destination: String,
    /// Where it is to send them: an interface of this machine, or what was there before.
    pub(super) next_hop: NextHop,
}

/// Remove the route; an absent one is success.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct RemoveParams {
    /// The table, by its id.
    pub(super) table: String,
    /// The addresses that the route is for, as a CIDR.
    pub(super) destination: String,
}
