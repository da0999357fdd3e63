//! Links, addresses and routes, from rtnetlink(7).

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    error::{Error, Kind, Result},
    host::Links,
    model::{InterfaceName, MacAddress},
    network::{Link, Network},
};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable as _, NetlinkHeader, NetlinkMessage,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage},
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags,
        RouteType,
    },
};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::{
    netlink::{self, Dump},
    sockets,
};

/// Links, addresses and the main routing table of the calling thread's network namespace.
///
/// Each call opens sockets of its own and closes them, so nothing has to be kept alive between
/// calls. The three lists are read one after the other: what appears in between may be in the
/// later ones only, and then is left out until the next look.
#[derive(Debug, Clone)]
pub struct Netlink {
    deadline: Duration,
}

impl Netlink {
    /// Gives up on the kernel after that time.
    #[must_use]
    pub fn new(deadline: Duration) -> Self {
        Self { deadline }
    }
}

impl Default for Netlink {
    /// Five seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(5))
    }
}

#[async_trait]
impl Links for Netlink {
    async fn network(&self) -> Result<Network> {
        tokio::time::timeout(self.deadline, whole())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|cause| {
                Error::new(Kind::Unreachable, "read links, addresses and routes by netlink", cause)
            })
    }

    async fn listening(&self) -> Result<BTreeSet<u16>> {
        sockets::listening()
    }
}

/// Reads until no list has changed while it was read.
async fn whole() -> io::Result<Network> {
    loop {
        match read().await {
            Err(error) if netlink::is_torn(&error) => tokio::time::sleep(netlink::PAUSE).await,
            network => return network,
        }
    }
}

async fn read() -> io::Result<Network> {
    let mut links = BTreeMap::new();
    each(RouteNetlinkMessage::GetLink(LinkMessage::default()), |answer| {
        if let RouteNetlinkMessage::NewLink(message) = answer {
            links.extend(link(&message));
        }
    })
    .await?;

    each(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |answer| {
        if let RouteNetlinkMessage::NewAddress(message) = answer
            && let Some(link) = links.get_mut(&message.header.index)
        {
            link.addresses.extend(address(&message));
        }
    })
    .await?;

    let mut preferred: BTreeMap<IpNet, Candidate> = BTreeMap::new();
    each(RouteNetlinkMessage::GetRoute(RouteMessage::default()), |answer| {
        if let RouteNetlinkMessage::NewRoute(message) = answer
            && let Some((destination, candidate)) = route(&message)
        {
            match preferred.entry(destination) {
                Entry::Vacant(slot) => _ = slot.insert(candidate),
                Entry::Occupied(mut slot) if candidate.metric < slot.get().metric => {
                    slot.insert(candidate);
                }
                Entry::Occupied(_) => {}
            }
        }
    })
    .await?;

    let routes = preferred
        .into_iter()
        .filter_map(|(net, route)| Some((net, links.get(&route.interface)?.name.clone())))
        .collect();
    Ok(Network { links: links.into_values().collect(), routes })
}

/// Asks one question and hands over each answer. An answer that the parser doesn't know (a new
/// kind of tunnel, say) is left out.
async fn each(
    question: RouteNetlinkMessage,
    mut take: impl FnMut(RouteNetlinkMessage) + Send,
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut request = NetlinkMessage::new(header, question.into());
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let mut dump = Dump::ask(NETLINK_ROUTE, &bytes)?;
    while let Some(answers) = dump.next().await? {
        for answer in answers {
            let mut header = NetlinkHeader::default();
            header.message_type = answer.message_type();
            match RouteNetlinkMessage::deserialize(&header, answer.payload()) {
                Ok(answer) => take(answer),
                Err(error) => tracing::debug!(%error, "an answer of rtnetlink is left out"),
            }
        }
    }
    Ok(())
}

/// A link by its index; `None` if its name can't stand in a rule.
fn link(message: &LinkMessage) -> Option<(u32, Link)> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => name.parse::<InterfaceName>().ok(),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        // Loopback has six bytes of address too, all zero.
        LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
            bytes.as_slice().try_into().ok().map(MacAddress)
        }
        _ => None,
    });
    let up = message.header.flags.contains(LinkFlags::Up);
    Some((message.header.index, Link { name, mac, up, addresses: Vec::new() }))
}

/// The link's own address: on a point-to-point link `IFA_ADDRESS` is the other end's, and
/// `IFA_LOCAL` ours (`include/uapi/linux/if_addr.h`).
fn address(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(any)?, message.header.prefix_len).ok()
}

/// A way to a destination.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    metric: u32,
    interface: u32,
}

/// A route of the main table that takes every packet to its destination; `None` for all others.
fn route(message: &RouteMessage) -> Option<(IpNet, Candidate)> {
    let header = &message.header;
    let everyones = header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
        && header.tos == 0
        && header.source_prefix_length == 0
        && !header.flags.intersects(RouteFlags::Dead | RouteFlags::Cloned);
    if !everyones {
        return None;
    }

    let mut destination: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut metric = 0;
    let mut interface = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = (*address).into();
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = (*address).into();
            }
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::MultiPath(hops) => {
                interface = hops
                    .iter()
                    .find(|hop| !hop.flags.contains(RouteNextHopFlags::Dead))
                    .map(|hop| hop.interface_index);
            }
            _ => {}
        }
    }
    let net = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some((net, Candidate { metric, interface: interface? }))
}
