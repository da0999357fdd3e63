//! This server's ports as natd's interfaces.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use natd_core::{
    cloud::{
        Address, CheckSettings, Interface, InterfaceFacts, PublicAddress, SecurityRules,
        SourceDestCheck,
    },
    config::OpenstackSourceCheck,
    error::{Error, Kind, Result},
    model::{InstanceId, InterfaceId},
};
use tokio::join;

use super::{
    identity::Identity,
    neutron::{Api, Call, Neutron},
    permissions::Action,
    security,
    source_check::{self, SourceCheck},
    topology::Topology,
    wire::{FloatingIp, Port},
};

/// The server's ports, the primary one first.
///
/// # Errors
/// `NotFound` if it has none that the project sees.
pub(super) async fn own(neutron: &Neutron, identity: &Identity) -> Result<Vec<Port>> {
    let instance = &identity.instance;
    let doing = format!("list the ports of server {instance}");
    let call = Call { action: Action::ListPorts, doing: &doing, path: "ports" };
    let mut ports: Vec<Port> = neutron.list(call, &[("device_id", instance.as_str())]).await?;
    if ports.is_empty() {
        return Err(none(instance, doing));
    }
    ports.sort_by_cached_key(|port| {
        (identity.place(&port.id), port.created_at.clone(), port.id.clone())
    });
    Ok(ports)
}

fn none(instance: &InstanceId, doing: String) -> Error {
    Error::new(Kind::NotFound, doing, format!("the project has no port of {instance}"))
        .with_advice("check that the credentials are for the server's own project and region")
}

/// The ports with what their security groups let through, in two more lists, side by side, and a third
/// where an address pair is yet to be set. That these can't be read stops nothing; who may not know
/// the rules that refer to a group may set no pair.
pub(super) async fn list(
    api: &Api,
    ports: &[Port],
    topology: &Topology,
    kind: OpenstackSourceCheck,
) -> Result<Vec<Arc<dyn Interface>>> {
    let paired = ports.iter().filter(|port| source_check::takes_a_pair(kind, port));
    let (floating, groups, naming) =
        join!(floating_ips(api, ports), security::read(api, ports), security::naming(api, paired));
    let floating = floating?;
    let naming = match naming {
        Err(error) if error.kind().is_transient() => return Err(error),
        known => known,
    };
    let interface = |port: &Port| {
        let security = groups.as_ref().map(|groups| security::of_port(groups, port));
        let check = source_check::of_port(kind, port, naming.as_deref());
        let facts = facts(port, &floating, topology, check, security.map_err(Clone::clone))?;
        let check = SourceCheck { kind, port: port.id.clone(), api: Arc::clone(api) };
        Ok(Arc::new(ServerPort { facts, check }) as Arc<dyn Interface>)
    };
    ports.iter().map(interface).collect()
}

/// The public address of each address that has one of its own; `None` where this Neutron has no
/// floating IPs, and what the internet sees is the affair of others.
type Floating = Option<BTreeMap<(InterfaceId, IpAddr), IpAddr>>;

async fn floating_ips(neutron: &Neutron, ports: &[Port]) -> Result<Floating> {
    let doing = "list the floating IPs of this server";
    let call = Call { action: Action::ListFloatingIps, doing, path: "floatingips" };
    let filter: Vec<(&str, &str)> =
        ports.iter().map(|port| ("port_id", port.id.as_str())).collect();
    let listed: Vec<FloatingIp> = match neutron.list(call, &filter).await {
        // A Neutron without routers has none.
        Err(error) if error.kind() == Kind::Unsupported => return Ok(None),
        listed => listed?,
    };
    let pairs =
        listed.into_iter().filter_map(|ip| Some(((ip.port_id?, ip.fixed_ip_address?), ip.address)));
    Ok(Some(pairs.collect()))
}

/// A port of this server.
struct ServerPort {
    facts: InterfaceFacts,
    check: SourceCheck,
}

#[async_trait]
impl Interface for ServerPort {
    fn facts(&self) -> &InterfaceFacts {
        &self.facts
    }

    async fn set_source_dest_check(
        &self,
        enabled: bool,
        earlier: Option<&CheckSettings>,
    ) -> Result<()> {
        if enabled {
            self.check.switch_on(earlier).await
        } else {
            self.check.switch_off(self.facts.source_dest_check.overwrites()).await
        }
    }

    async fn source_dest_check(&self) -> Result<bool> {
        let doing = format!("read the source/destination check of {}", self.facts.id);
        Ok(source_check::is_on(&self.check.read(&doing).await?))
    }
}

fn facts(
    port: &Port,
    floating: &Floating,
    topology: &Topology,
    source_dest_check: SourceDestCheck,
    security: Result<SecurityRules>,
) -> Result<InterfaceFacts> {
    // The primary IPv4 address first.
    let mut ips = port.fixed_ips.clone();
    ips.sort_by_key(|ip| !ip.ip_address.is_ipv4());
    let subnet = ips.first().map(|ip| ip.subnet_id.clone()).ok_or_else(|| {
        let doing = format!("use port {}", port.id);
        Error::new(Kind::Invalid, doing, "it has no fixed IP")
            .with_advice("give it an address on a subnet, or detach it from this server")
    })?;
    let address = |ip: &super::wire::FixedIp| Address {
        private: ip.ip_address,
        public: floating.as_ref().map_or(PublicAddress::Unknown, |floating| {
            match floating.get(&(port.id.clone(), ip.ip_address)) {
                Some(address) => PublicAddress::Is(*address),
                None => topology.translated_to(&ip.subnet_id),
            }
        }),
    };
    Ok(InterfaceFacts {
        id: port.id.clone(),
        mac: port.mac_address,
        addresses: ips.iter().map(address).collect(),
        subnet,
        source_dest_check,
        security,
    })
}
