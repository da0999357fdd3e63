//! The check of a port's addresses, which Neutron calls port security: switched off by an address pair
//! for every address, or with port security itself; and on again.
//!
//! <https://docs.openstack.org/api-ref/network/v2/#allowed-address-pairs>. A port's pairs and security
//! groups are replaced as whole lists, so they are read before, changed, and written under the revision
//! that was read.

use std::collections::BTreeSet;

use ipnet::IpNet;
use natd_core::{
    cloud::{CheckSettings, SourceDestCheck},
    config::OpenstackSourceCheck,
    error::{Error, Kind, Result},
    model::{InterfaceId, MacAddress},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    neutron::{Api, Call, Written},
    permissions::Action,
    security,
    wire::{Group, Port, Rule},
};

/// A first write and nine more: who loses so often is in a fight.
const WRITES: u32 = 10;

/// The pair that lets every IPv4 address through. It gets the port's own Ethernet address.
const EVERY_ADDRESS: &str = "0.0.0.0/0";

/// What switching port security off overwrites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    security_groups: BTreeSet<String>,
    allowed_address_pairs: Vec<Value>,
}

impl Saved {
    fn of(settings: &CheckSettings) -> Option<Self> {
        serde_json::from_value(settings.0.clone()).ok()
    }
}

/// What is to be done, with what was there before.
enum Switch {
    Off { noted: Option<Saved> },
    On { earlier: Option<Saved> },
}

/// The check of one port.
pub(super) struct SourceCheck {
    pub(super) kind: OpenstackSourceCheck,
    pub(super) port: InterfaceId,
    pub(super) api: Api,
}

/// Whether Neutron drops packets that are neither from nor to the port's own addresses.
pub(super) fn is_on(port: &Port) -> bool {
    port.security != Some(false)
        && !pairs(port).iter().any(|pair| opens_all(pair, port.mac_address))
}

/// Whether an address pair would have to switch the check off: who refers to the port's security
/// groups has to be known then.
pub(super) fn takes_a_pair(kind: OpenstackSourceCheck, port: &Port) -> bool {
    kind == OpenstackSourceCheck::AddressPairs
        && is_on(port)
        && port.allowed_address_pairs.is_some()
}

/// The check as it stands, by the rules that refer to the port's security groups.
pub(super) fn of_port(
    kind: OpenstackSourceCheck,
    port: &Port,
    naming: Result<&[Rule], &Error>,
) -> SourceDestCheck {
    if !is_on(port) {
        return SourceDestCheck::Off;
    }
    let doing = switching_off(&port.id);
    let (lock, overwrites) = match kind {
        OpenstackSourceCheck::AddressPairs => {
            let lock = without_pairs(&doing, port).or_else(|| match naming {
                Ok(rules) => security::trap(port, &doing, rules),
                Err(error) => Some(error.clone()),
            });
            (lock, None)
        }
        OpenstackSourceCheck::PortSecurity => {
            let settings = || serde_json::to_value(saved(port)).ok().map(CheckSettings);
            (without_port_security(&doing, port), settings())
        }
    };
    lock.map_or(SourceDestCheck::On { overwrites }, SourceDestCheck::Locked)
}

fn switching_off(port: &InterfaceId) -> String {
    format!("switch the source/destination check of {port} off")
}

fn without_pairs(doing: &str, port: &Port) -> Option<Error> {
    let cause = "this Neutron has no address pairs (extension allowed-address-pairs)";
    port.allowed_address_pairs.is_none().then(|| {
        Error::new(Kind::Unsupported, doing, cause)
            .with_advice("set openstack.source_check = \"port_security\"")
    })
}

fn without_port_security(doing: &str, port: &Port) -> Option<Error> {
    let cause = "this Neutron has no port security (extension port-security)";
    port.security.is_none().then(|| {
        Error::new(Kind::Unsupported, doing, cause)
            .with_advice("set openstack.source_check = \"address_pairs\"")
    })
}

fn saved(port: &Port) -> Saved {
    Saved {
        security_groups: port.security_groups.iter().cloned().collect(),
        allowed_address_pairs: pairs(port).to_vec(),
    }
}

fn pairs(port: &Port) -> &[Value] {
    port.allowed_address_pairs.as_deref().unwrap_or_default()
}

/// A pair for every IPv4 address behind the port's own Ethernet address.
fn opens_all(pair: &Value, mac: MacAddress) -> bool {
    let text = |key| pair.get(key).and_then(Value::as_str);
    let every = |address: &str| {
        address.parse::<IpNet>().is_ok_and(|net| net.prefix_len() == 0 && net.addr().is_ipv4())
    };
    let own = text("mac_address").is_none_or(|other| other.parse() == Ok(mac));
    own && text("ip_address").is_some_and(every)
}

impl SourceCheck {
    /// The port as it is now.
    pub(super) async fn read(&self, doing: &str) -> Result<Port> {
        let path = format!("ports/{}", self.port);
        self.api.show(Call { action: Action::ShowPort, doing, path: &path }, "port").await
    }

    /// `noted` is what the journal holds as overwritten.
    pub(super) async fn switch_off(&self, noted: Option<&CheckSettings>) -> Result<()> {
        let doing = switching_off(&self.port);
        self.change(&doing, &Switch::Off { noted: noted.and_then(Saved::of) }).await
    }

    /// `earlier` is what switching it off has overwritten.
    pub(super) async fn switch_on(&self, earlier: Option<&CheckSettings>) -> Result<()> {
        let doing = format!("switch the source/destination check of {} on", self.port);
        let mut earlier = earlier.and_then(Saved::of);
        if let Some(earlier) = &mut earlier {
            earlier.security_groups = self.still_there(&doing, &earlier.security_groups).await?;
        }
        self.change(&doing, &Switch::On { earlier }).await
    }

    /// Reads the port and writes the fields that differ; again if somebody was quicker.
    async fn change(&self, doing: &str, switch: &Switch) -> Result<()> {
        let path = format!("ports/{}", self.port);
        let _turn = self.api.turn(&path).await;
        for write in 0..WRITES {
            if write > 0 {
                tokio::time::sleep(self.api.pause() * write).await;
            }
            let port = self.read(doing).await?;
            let fields = match (switch, is_on(&port)) {
                (Switch::Off { .. }, false) | (Switch::On { .. }, true) => return Ok(()),
                (Switch::Off { noted }, true) => match self.kind {
                    OpenstackSourceCheck::AddressPairs => self.with_pair(doing, &port).await?,
                    OpenstackSourceCheck::PortSecurity => {
                        without_security(doing, &port, noted.as_ref())?
                    }
                },
                (Switch::On { earlier }, false) => on(&port, earlier.as_ref()),
            };
            let call = Call { action: Action::UpdatePort, doing, path: &path };
            let body = json!({ "port": fields });
            if self.api.put(call, &body, port.revision_number).await? == Written::Done {
                return Ok(());
            }
        }
        let cause = format!("the port was changed before each of {WRITES} writes");
        Err(Error::new(Kind::Conflict, doing, cause)
            .with_advice("find out who else changes this port"))
    }

    async fn with_pair(&self, doing: &str, port: &Port) -> Result<Map<String, Value>> {
        if let Some(error) = without_pairs(doing, port) {
            return Err(error);
        }
        // Since the plan was made, somebody may have come to refer to the group.
        let naming = security::naming(&self.api, [port]).await?;
        if let Some(error) = security::trap(port, doing, &naming) {
            return Err(error);
        }
        let mut pairs = pairs(port).to_vec();
        pairs.push(json!({ "ip_address": EVERY_ADDRESS }));
        Ok(Map::from_iter([("allowed_address_pairs".to_owned(), json!(pairs))]))
    }

    /// Those of the groups that still exist; the others are told.
    async fn still_there(&self, doing: &str, ids: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        if ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let call = Call { action: Action::ListSecurityGroups, doing, path: "security-groups" };
        let filter: Vec<(&str, &str)> =
            ids.iter().map(|id| ("id", id.as_str())).chain([("fields", "id")]).collect();
        let listed: Vec<Group> = self.api.list(call, &filter).await?;
        let there: BTreeSet<String> = listed.into_iter().map(|group| group.id).collect();
        let gone: Vec<&str> = ids.difference(&there).map(String::as_str).collect();
        if !gone.is_empty() {
            tracing::warn!(port = %self.port, groups = %gone.join(", "), "these earlier security groups are gone and can't be given back to the port");
        }
        Ok(ids & &there)
    }
}

/// The fields that bring the check back: without the pair that lets everything through, or with port
/// security and what it had.
fn on(port: &Port, earlier: Option<&Saved>) -> Map<String, Value> {
    let mut fields = Map::new();
    if port.security != Some(false) {
        let stays = |pair: &&Value| !opens_all(pair, port.mac_address);
        let pairs: Vec<&Value> = pairs(port).iter().filter(stays).collect();
        fields.insert("allowed_address_pairs".to_owned(), json!(pairs));
        return fields;
    }
    fields.insert("port_security_enabled".to_owned(), json!(true));
    if let Some(earlier) = earlier {
        fields.insert("security_groups".to_owned(), json!(earlier.security_groups));
        if !earlier.allowed_address_pairs.is_empty() {
            let pairs = json!(earlier.allowed_address_pairs);
            fields.insert("allowed_address_pairs".to_owned(), pairs);
        }
    } else {
        tracing::warn!(port = %port.id, "no earlier security groups are known: the port has none now, and lets nothing in");
    }
    fields
}

/// Everything that keeps port security on has to go with it, in one request.
fn without_security(doing: &str, port: &Port, noted: Option<&Saved>) -> Result<Map<String, Value>> {
    if let Some(error) = without_port_security(doing, port) {
        return Err(error);
    }
    if noted != Some(&saved(port)) {
        let cause = "its security groups or address pairs were changed since they were noted";
        return Err(Error::new(Kind::Conflict, doing, cause).with_advice("natd tries again"));
    }
    Ok(Map::from_iter([
        ("port_security_enabled".to_owned(), json!(false)),
        ("security_groups".to_owned(), json!([])),
        ("allowed_address_pairs".to_owned(), json!([])),
    ]))
}
