//! The targets that routes can have, read and written.
//!
//! Types: <https://support.huaweicloud.com/intl/en-us/api-vpc/vpc_apiroutetab_0004.html>.

use std::net::Ipv4Addr;

use natd_core::{
    config::{self, HuaweiNextHop},
    error::{Error, Kind, Result},
    model::{InstanceId, InterfaceId, NextHop, RouteState},
};

use super::interfaces::Own;

const ECS: &str = "ecs";
const ENI: &str = "eni";
const VIP: &str = "vip";
const LOCAL: &str = "local";

/// How this ECS is named in a route.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// How natd names it.
    way: HuaweiNextHop,
    instance: InstanceId,
    virtual_address: Option<Ipv4Addr>,
    own: Own,
}

impl Here {
    pub(super) fn new(options: &config::Huawei, instance: InstanceId, own: Own) -> Self {
        Self { way: options.next_hop, instance, virtual_address: options.virtual_address, own }
    }

    /// Where a route leads.
    ///
    /// One that leads here in another way than natd's own is natd's all the same, but shown as one
    /// that carries nothing: so it is written anew, and what was there before natd stays known.
    pub(super) fn read(&self, kind: &str, target: &str) -> (NextHop, RouteState) {
        let primary = self.own.ports.first();
        let (port, way) = match kind {
            LOCAL => return (NextHop::Local, RouteState::Active),
            ECS if target == self.instance.as_str() => (primary, HuaweiNextHop::Ecs),
            ENI => (self.own.ports.iter().find(|port| port.as_str() == target), HuaweiNextHop::Eni),
            VIP if self.virtual_address.is_some_and(|own| target.parse() == Ok(own)) => {
                (primary, HuaweiNextHop::Vip)
            }
            _ => (None, self.way),
        };
        if let Some(port) = port {
            let state = if way == self.way { RouteState::Active } else { RouteState::Blackhole };
            (NextHop::Interface(port.clone()), state)
        } else {
            let other = NextHop::Other { kind: kind.to_owned(), id: target.to_owned() };
            (other, RouteState::Active)
        }
    }

    /// Type and target of a route to a next hop.
    pub(super) fn write<'a>(&'a self, next_hop: &'a NextHop) -> Result<(&'a str, String)> {
        let refused = |cause: &str| {
            Error::new(Kind::Unsupported, format!("point a route at {next_hop}"), cause)
        };
        match next_hop {
            NextHop::Interface(port) => self.name(port),
            NextHop::Other { kind, id } if kind != LOCAL => Ok((kind, id.clone())),
            NextHop::Local | NextHop::Other { .. } => {
                Err(refused("only the cloud itself makes routes to this target"))
            }
            NextHop::InternetGateway(_) => Err(refused("Huawei Cloud has no such target")),
        }
    }

    fn name(&self, port: &InterfaceId) -> Result<(&'static str, String)> {
        let refused = |cause: String, advice: &str| {
            Err(Error::new(Kind::Unsupported, format!("point a route at {port}"), cause)
                .with_advice(advice))
        };
        if !self.own.ports.contains(port) {
            return Ok((ENI, port.to_string()));
        }
        let is_primary = self.own.ports.first() == Some(port) || !self.own.primary_is_known;
        match self.way {
            HuaweiNextHop::Eni => Ok((ENI, port.to_string())),
            HuaweiNextHop::Ecs if is_primary => Ok((ECS, self.instance.to_string())),
            HuaweiNextHop::Vip if is_primary => match self.virtual_address {
                Some(address) => Ok((VIP, address.to_string())),
                None => refused(
                    "which virtual address is meant is not said".to_owned(),
                    "set huawei.virtual_address",
                ),
            },
            HuaweiNextHop::Ecs => refused(
                "a route to a server leads to its primary interface, and this is another"
                    .to_owned(),
                "set huawei.next_hop = \"eni\", or routes.interface to the primary one",
            ),
            HuaweiNextHop::Vip => refused(
                "natd takes virtual addresses on the primary interface alone".to_owned(),
                "set huawei.next_hop = \"eni\", or routes.interface to the primary one",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(way: HuaweiNextHop) -> Here {
        let own = Own {
            ports: ["port-1", "port-2"].iter().filter_map(|id| id.parse().ok()).collect(),
            primary_is_known: true,
            ..Own::default()
        };
        let options = config::Huawei {
            next_hop: way,
            virtual_address: Some(Ipv4Addr::new(10, 0, 0, 9)),
            ..config::Huawei::default()
        };
        Here::new(&options, "server-1".parse().expect("id"), own)
    }

    #[test]
    fn each_way_of_naming_this_machine_is_written_and_read_back_as_its_port() {
        for (way, kind, target, port) in [
            (HuaweiNextHop::Ecs, "ecs", "server-1", "port-1"),
            (HuaweiNextHop::Eni, "eni", "port-2", "port-2"),
            (HuaweiNextHop::Vip, "vip", "10.0.0.9", "port-1"),
        ] {
            let here = here(way);
            let hop = NextHop::Interface(port.parse().expect("id"));
            assert_eq!(here.write(&hop), Ok((kind, target.to_owned())));
            assert_eq!(here.read(kind, target), (hop, RouteState::Active));
        }
    }

    #[test]
    fn a_route_that_leads_here_in_another_way_is_ours_and_in_need_of_repair() {
        let (hop, state) = here(HuaweiNextHop::Vip).read("ecs", "server-1");
        assert_eq!(hop, NextHop::Interface("port-1".parse().expect("id")));
        assert_eq!(state, RouteState::Blackhole);
    }

    #[test]
    fn every_other_target_is_carried_through() {
        let here = here(HuaweiNextHop::Ecs);
        for (kind, id) in [
            ("ecs", "server-2"),
            ("eni", "port-9"),
            ("vip", "10.0.0.8"),
            ("nat", "n-1"),
            ("flux", "f-1"),
        ] {
            let (hop, state) = here.read(kind, id);
            assert_eq!(hop, NextHop::Other { kind: kind.to_owned(), id: id.to_owned() });
            assert_eq!(state, RouteState::Active);
            assert_eq!(here.write(&hop), Ok((kind, id.to_owned())));
        }
    }

    #[test]
    fn what_cant_be_written_is_refused() {
        let here = here(HuaweiNextHop::Ecs);
        assert_eq!(here.read("local", "-").0, NextHop::Local);
        let second = NextHop::Interface("port-2".parse().expect("id"));
        for hop in [NextHop::Local, NextHop::InternetGateway("igw".to_owned()), second] {
            let error = here.write(&hop).expect_err("refused");
            assert_eq!(error.kind(), Kind::Unsupported);
        }
    }
}
