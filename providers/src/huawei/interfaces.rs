//! The ports of the ECS, their elastic addresses, their source/destination check.
//!
//! Shapes: <https://support.huaweicloud.com/intl/en-us/api-vpc/vpc_port01_0003.html> and
//! <https://support.huaweicloud.com/intl/en-us/api-eip/eip_api_0003.html>.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use natd_core::{
    cloud::{Address, CheckSettings, Interface, InterfaceFacts, SourceDestCheck},
    error::{Error, Kind, Result},
    model::{InterfaceId, MacAddress, SubnetId},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    address_pairs::{self, Pair},
    api::{Api, Call, Identified},
    identity::Identity,
    permissions::Action,
};

/// A first write and three corrections: who loses so often is in a fight.
const WRITES: u32 = 4;

#[derive(Deserialize)]
struct Port {
    id: InterfaceId,
    mac_address: MacAddress,
    /// The subnet as everybody but Neutron calls it.
    network_id: SubnetId,
    #[serde(default)]
    fixed_ips: Vec<FixedIp>,
    #[serde(default)]
    allowed_address_pairs: Option<Vec<Pair>>,
    /// Holds `primary_interface`, among what is of no interest here.
    #[serde(default, rename = "binding:vif_details")]
    details: Value,
}

#[derive(Deserialize)]
struct FixedIp {
    ip_address: Option<IpAddr>,
}

#[derive(Deserialize)]
struct PublicIp {
    id: String,
    #[serde(rename = "public_ip_address")]
    address: Option<IpAddr>,
    /// Missing in some answers: the port's primary address, then.
    private_ip_address: Option<IpAddr>,
    port_id: Option<String>,
}

#[derive(Deserialize)]
struct OnePort {
    port: Port,
}

impl Identified for Port {
    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Identified for PublicIp {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The interfaces of the ECS, by what they are called where routes are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// The primary one first.
    pub(super) ports: Vec<InterfaceId>,
    /// Whether it is known that the first is the primary one.
    pub(super) primary_is_known: bool,
    /// The subnets that they are in.
    pub(super) subnets: BTreeSet<SubnetId>,
}

/// Lists them, the primary one first: a call for the ports and one a port for its elastic addresses.
pub(super) async fn list(
    api: &Arc<Api>,
    identity: &Identity,
) -> Result<(Vec<Arc<dyn Interface>>, Own)> {
    let (ports, own) = ports(api, identity).await?;
    let public = try_join_all(ports.iter().map(|port| public_ips(api, &port.id))).await?;
    let interfaces = ports
        .into_iter()
        .zip(public)
        .map(|(port, public)| {
            let port = VpcPort { facts: facts(port, &public), api: Arc::clone(api) };
            Arc::new(port) as Arc<dyn Interface>
        })
        .collect();
    Ok((interfaces, own))
}

/// What is known of the interfaces without their elastic addresses, in one call.
pub(super) async fn own(api: &Api, identity: &Identity) -> Result<Own> {
    ports(api, identity).await.map(|(_, own)| own)
}

async fn ports(api: &Api, identity: &Identity) -> Result<(Vec<Port>, Own)> {
    let instance = &identity.instance;
    let doing = format!("list the network interfaces of {instance}");
    let call =
        Call::v1(Action::PortsGet, doing.clone(), &["ports"]).by("device_id", instance.as_str());
    let mut ports: Vec<Port> = api.list(call, "ports").await?;
    if ports.is_empty() {
        return Err(Error::new(Kind::NotFound, doing, "there are none").with_advice(
            "check huawei.instance_id, huawei.region and huawei.project_id: the project must be the one that the ECS is in",
        ));
    }
    let place = |port: &Port| {
        let says_so = port.details.get("primary_interface").and_then(Value::as_bool);
        let at = identity.order.iter().position(|id| *id == port.id);
        (says_so != Some(true), at.unwrap_or(usize::MAX), port.id.clone())
    };
    ports.sort_by_key(place);
    let primary_is_known = ports.len() == 1
        || ports.first().map(place).is_some_and(|(unsaid, at, _)| !unsaid || at == 0);
    let own = Own {
        ports: ports.iter().map(|port| port.id.clone()).collect(),
        primary_is_known,
        subnets: ports.iter().map(|port| port.network_id.clone()).collect(),
    };
    Ok((ports, own))
}

async fn public_ips(api: &Api, port: &InterfaceId) -> Result<Vec<PublicIp>> {
    let doing = format!("list the elastic addresses of {port}");
    let call = Call::v1(Action::PublicIpsList, doing, &["publicips"]).by("port_id", port.as_str());
    let mut listed: Vec<PublicIp> = api.list(call, "publicips").await?;
    // A service that doesn't know the filter lists those of others too.
    listed.retain(|ip| ip.port_id.as_deref() == Some(port.as_str()));
    Ok(listed)
}

fn facts(port: Port, public: &[PublicIp]) -> InterfaceFacts {
    let mut private: Vec<_> = port.fixed_ips.iter().filter_map(|ip| ip.ip_address).collect();
    private.sort_by_key(IpAddr::is_ipv6);
    let primary = private.first().copied();
    let of = |address: IpAddr| {
        public
            .iter()
            .find(|ip| ip.private_ip_address.or(primary) == Some(address))
            .and_then(|ip| ip.address)
    };
    let pairs = port.allowed_address_pairs.unwrap_or_default();
    InterfaceFacts {
        addresses: private
            .iter()
            .map(|&private| Address { private, public: of(private).into() })
            .collect(),
        source_dest_check: if address_pairs::cover_everything(&pairs, port.mac_address) {
            SourceDestCheck::Off
        } else {
            SourceDestCheck::On { overwrites: address_pairs::settings(&pairs) }
        },
        security: Err(Error::new(
            Kind::Unsupported,
            format!("judge the security groups of {}", port.id),
            "natd asks for no permission to read them on Huawei Cloud",
        )
        .with_advice("see that they let the private hosts' traffic in and everything out")),
        mac: port.mac_address,
        subnet: port.network_id,
        id: port.id,
    }
}

/// A port.
struct VpcPort {
    facts: InterfaceFacts,
    api: Arc<Api>,
}

impl VpcPort {
    async fn pairs(&self) -> Result<Vec<Pair>> {
        let id = &self.facts.id;
        let doing = format!("read the source/destination check of {id}");
        let path = ["ports", id.as_str()];
        let OnePort { port } = self.api.read(Call::v1(Action::PortsGet, doing, &path)).await?;
        Ok(port.allowed_address_pairs.unwrap_or_default())
    }

    /// The answer is not looked at: what counts is what is read afterwards.
    async fn write(&self, doing: &str, pairs: &[Pair]) -> Result<()> {
        let body = json!({"port": {"allowed_address_pairs": pairs}});
        let path = ["ports", self.facts.id.as_str()];
        self.api.write(Call::v1(Action::PortsUpdate, doing, &path), &body).await.map(drop)
    }
}

#[async_trait]
impl Interface for VpcPort {
    fn facts(&self) -> &InterfaceFacts {
        &self.facts
    }

    /// The list has no version that a write could be tied to: it is read right before it is
    /// written and right after, and merged anew until it holds what it should. Whoever writes it
    /// between the two is kept; whoever writes it between natd's read and write is not seen.
    async fn set_source_dest_check(
        &self,
        enabled: bool,
        earlier: Option<&CheckSettings>,
    ) -> Result<()> {
        let (id, mac) = (&self.facts.id, self.facts.mac);
        let on_or_off = if enabled { "on" } else { "off" };
        let doing = format!("switch the source/destination check of {id} {on_or_off}");
        let mut failure = None;
        for write in 0..=WRITES {
            if write > 1 {
                sleep(self.api.patience().initial_backoff).await;
            }
            let pairs = self.pairs().await?;
            let wanted = if enabled {
                address_pairs::without_ours(&pairs, mac, earlier)
            } else if address_pairs::cover_everything(&pairs, mac) {
                return Ok(());
            } else {
                address_pairs::with_ours(&pairs, mac)
            };
            if pairs == wanted {
                if enabled && address_pairs::cover_everything(&pairs, mac) {
                    let cause = "natd's own pair is gone, and others keep it off";
                    return Err(Error::new(Kind::Conflict, doing, cause).with_advice(
                        "look at the port's allowed address pairs, and remove the one that covers everything",
                    ));
                }
                return Ok(());
            }
            if write == WRITES {
                break;
            }
            match self.write(&doing, &wanted).await {
                Ok(()) => failure = None,
                // It may have been done all the same.
                Err(error) if error.kind() == Kind::Unreachable => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let cause =
                format!("the port's address pairs were changed after each of {WRITES} writes");
            Error::new(Kind::Conflict, doing, cause)
                .with_advice("find out who else writes the allowed address pairs of this port")
        }))
    }

    async fn source_dest_check(&self) -> Result<bool> {
        Ok(!address_pairs::cover_everything(&self.pairs().await?, self.facts.mac))
    }
}
