//! One route table of a VPC: its routes read, written and removed.
//!
//! Calls: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateRoute.html>,
//! `API_ReplaceRoute.html`, `API_DeleteRoute.html`.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ec2::{error::ProvideErrorMetadata, types};
use ipnet::IpNet;
use natd_core::{
    cloud::{RouteTable, TableFacts},
    error::{Error, Kind, Result},
    model::{NextHop, Route, RouteKey, RouteOrigin, RouteState},
};
use tokio::time::sleep;

use super::{
    api::Api,
    next_hop::{self, Target},
    permissions::Action,
};

/// A first call and three corrections: who loses so often is in a fight.
const WRITES: u32 = 4;

/// A route table as it was listed.
pub(super) struct VpcRouteTable {
    facts: TableFacts,
    api: Arc<Api>,
}

/// What has become of a write.
enum Written {
    Done,
    /// The route is there where none was expected, or the other way round.
    OtherCallNeeded,
}

/// The two calls take the same parameters and share no trait.
macro_rules! to {
    ($request:expr, $destination:expr, $target:expr, $id:expr) => {{
        let request = match $destination {
            IpNet::V4(block) => $request.destination_cidr_block(block.to_string()),
            IpNet::V6(block) => $request.destination_ipv6_cidr_block(block.to_string()),
        };
        match $target {
            Target::Interface => request.network_interface_id($id),
            Target::Instance => request.instance_id($id),
            Target::Gateway => request.gateway_id($id),
            Target::VpcEndpoint => request.vpc_endpoint_id($id),
            Target::NatGateway => request.nat_gateway_id($id),
            Target::TransitGateway => request.transit_gateway_id($id),
            Target::VpcPeeringConnection => request.vpc_peering_connection_id($id),
            Target::EgressOnlyInternetGateway => request.egress_only_internet_gateway_id($id),
            Target::CarrierGateway => request.carrier_gateway_id($id),
            Target::LocalGateway => request.local_gateway_id($id),
            Target::CoreNetwork => request.core_network_arn($id),
            Target::OdbNetwork => request.odb_network_arn($id),
        }
    }};
}

impl VpcRouteTable {
    pub(super) fn new(facts: TableFacts, api: Arc<Api>) -> Self {
        Self { facts, api }
    }

    fn key(&self, destination: IpNet) -> RouteKey {
        RouteKey { table: self.facts.id.clone(), destination }
    }

    /// Whether the snapshot has a route that can be replaced. A propagated one can't: a static
    /// route is created beside it and wins.
    fn has_static(&self, destination: IpNet) -> bool {
        self.facts
            .routes
            .iter()
            .any(|route| route.destination == destination && route.origin == RouteOrigin::Static)
    }

    async fn create(&self, destination: IpNet, target: Target, id: &str) -> Result<Written> {
        let request = self.api.ec2().create_route().route_table_id(self.facts.id.as_str());
        match to!(request, destination, target, id).send().await {
            Ok(_) => Ok(Written::Done),
            Err(error) if error.code() == Some("RouteAlreadyExists") => {
                Ok(Written::OtherCallNeeded)
            }
            Err(error) => {
                let doing = format!("create {}", self.key(destination));
                Err(self.api.failure(Action::CreateRoute, doing, &error))
            }
        }
    }

    async fn replace(&self, destination: IpNet, target: Target, id: &str) -> Result<Written> {
        let request = self.api.ec2().replace_route().route_table_id(self.facts.id.as_str());
        match to!(request, destination, target, id).send().await {
            Ok(_) => Ok(Written::Done),
            Err(error) if tells_no_route(&error) => Ok(Written::OtherCallNeeded),
            Err(error) => Err(self.replace_failed(destination, &error)),
        }
    }

    /// Points a route that AWS made with the table back at the network itself.
    async fn reset_local(&self, destination: IpNet) -> Result<()> {
        let request = self.api.ec2().replace_route().route_table_id(self.facts.id.as_str());
        let request = match destination {
            IpNet::V4(block) => request.destination_cidr_block(block.to_string()),
            IpNet::V6(block) => request.destination_ipv6_cidr_block(block.to_string()),
        };
        match request.local_target(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if tells_no_route(&error) => {
                Err(self.unsupported(destination, &NextHop::Local))
            }
            Err(error) => Err(self.replace_failed(destination, &error)),
        }
    }

    fn replace_failed<E>(
        &self,
        destination: IpNet,
        error: &aws_sdk_ec2::error::SdkError<E>,
    ) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let doing = format!("replace {}", self.key(destination));
        self.api.failure(Action::ReplaceRoute, doing, error)
    }

    fn unsupported(&self, destination: IpNet, next_hop: &NextHop) -> Error {
        let key = self.key(destination);
        let cause = "only AWS itself makes routes to this target";
        Error::new(Kind::Unsupported, format!("point {key} at {next_hop}"), cause)
    }
}

#[async_trait]
impl RouteTable for VpcRouteTable {
    fn facts(&self) -> &TableFacts {
        &self.facts
    }

    async fn put(&self, destination: IpNet, next_hop: &NextHop) -> Result<()> {
        let destination = destination.trunc();
        if *next_hop == NextHop::Local {
            return self.reset_local(destination).await;
        }
        let (target, id) =
            Target::of(next_hop).ok_or_else(|| self.unsupported(destination, next_hop))?;
        let mut exists = self.has_static(destination);
        for write in 0..WRITES {
            if write > 1 {
                // Both calls were refused: the API hasn't caught up with somebody's change yet.
                sleep(self.api.patience.initial_backoff).await;
            }
            let written = if exists {
                self.replace(destination, target, id).await?
            } else {
                self.create(destination, target, id).await?
            };
            match written {
                Written::Done => return Ok(()),
                Written::OtherCallNeeded => exists = !exists,
            }
        }
        let key = self.key(destination);
        let cause = format!("the route came or went before each of {WRITES} writes");
        Err(Error::new(Kind::Conflict, format!("point {key} at {next_hop}"), cause)
            .with_advice("find out who else changes this route"))
    }

    async fn remove(&self, destination: IpNet) -> Result<()> {
        let destination = destination.trunc();
        let request = self.api.ec2().delete_route().route_table_id(self.facts.id.as_str());
        let request = match destination {
            IpNet::V4(block) => request.destination_cidr_block(block.to_string()),
            IpNet::V6(block) => request.destination_ipv6_cidr_block(block.to_string()),
        };
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("InvalidRoute.NotFound") => Ok(()),
            Err(error) => {
                let doing = format!("delete {}", self.key(destination));
                Err(self.api.failure(Action::DeleteRoute, doing, &error))
            }
        }
    }
}

/// `ReplaceRoute` reports an absent route as `InvalidParameterValue`, a code that it shares with
/// real mistakes, so the text decides (found out against the real API in
/// <https://github.com/getmoto/moto/pull/6425>); the proper code is honoured too.
fn tells_no_route(error: &impl ProvideErrorMetadata) -> bool {
    match error.code() {
        Some("InvalidRoute.NotFound") => true,
        Some("InvalidParameterValue") => {
            error.message().is_some_and(|text| text.starts_with("There is no route defined"))
        }
        _ => false,
    }
}

/// A route to a block of addresses as natd sees it. Routes to prefix lists are not natd's affair;
/// one that is `filtered` (advertised by a route server and outranked) carries nothing.
pub(super) fn route(route: &types::Route) -> Option<Route> {
    let destination = route.destination_cidr_block().or(route.destination_ipv6_cidr_block())?;
    if route.state() == Some(&types::RouteState::Filtered) {
        return None;
    }
    let Ok(destination) = destination.parse::<IpNet>() else {
        tracing::debug!(destination, "a route to what is no block of addresses was passed over");
        return None;
    };
    let propagated = matches!(
        route.origin(),
        Some(types::RouteOrigin::EnableVgwRoutePropagation | types::RouteOrigin::Advertisement)
    );
    Some(Route {
        destination: destination.trunc(),
        next_hop: next_hop::read(route),
        state: match route.state() {
            Some(types::RouteState::Blackhole) => RouteState::Blackhole,
            _ => RouteState::Active,
        },
        origin: if propagated { RouteOrigin::Propagated } else { RouteOrigin::Static },
    })
}
