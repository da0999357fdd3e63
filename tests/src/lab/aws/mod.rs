//! AWS: what the lab needs of it, in code that shares nothing with natd's own provider.
//!
//! - [`xml`]: the answers of the EC2 Query protocol as trees.
//! - [`api`]: calls of the EC2 API.
//! - [`moto`]: the process that keeps the cloud's state.
//! - [`seed`]: makes the lab's topology in that state.
//! - [`read`]: reads that state back, as a neutral [`Picture`].
//! - [`groups`]: the security groups in it.
//! - [`dialect`]: the API as instances call it.
//! - [`strict`]: what EC2 refuses and moto lets pass.
//! - [`metadata`]: the instance metadata service.
//! - [`metadata_tree`]: what it knows.
//! - [`owner`]: what only a test of AWS does by hand.

pub mod api;
pub mod dialect;
pub mod groups;
pub mod metadata;
pub mod metadata_tree;
pub mod moto;
pub mod owner;
pub mod read;
pub mod seed;
pub mod strict;
pub mod xml;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::calls::Calls;
use super::cloud::{Answers, Cloud, CloudKind, Ground, Starting};
use super::endpoint::Endpoint;
use super::fabric::Current;
use super::ids::Ids;
use super::picture::Picture;
use super::topology::{ENDPOINT, Topology};
use api::Api;
use dialect::Query;
use moto::Moto;

/// The lab's region and zone.
pub const REGION: &str = "eu-central-1";
pub const ZONE: &str = "eu-central-1a";

/// A small AWS. The fields are dropped in their order.
#[derive(Debug)]
pub struct Aws {
    pub ids: Ids,
    /// The allocation of the NAT instance's public address; empty if it has none.
    pub allocation: String,
    /// The association of the NAT instance's public address.
    pub association: String,
    calls: Calls,
    endpoint: Endpoint,
    api: Api,
    moto: Moto,
}

struct Launched {
    ground: Ground,
    moto: Moto,
}

/// Starts moto.
pub fn start(ground: Ground) -> Result<Box<dyn Starting>> {
    let moto = Moto::start(&ground.router, &ground.folder)?;
    Ok(Box::new(Launched { ground, moto }))
}

impl Starting for Launched {
    fn seed(mut self: Box<Self>, topology: &Topology) -> Result<Arc<dyn Cloud>> {
        let Ground { router, changed, .. } = self.ground;
        self.moto.wait(&router)?;
        let api = Api::new(router.clone(), changed);
        let seeded = seed::seed(&api, topology)?;
        let calls = Calls::default();
        let endpoint = Endpoint::start(&router, ENDPOINT, &calls, Query(api.clone()))?;
        let seed::Seeded { ids, allocation, association } = seeded;
        Ok(Arc::new(Aws { ids, allocation, association, calls, endpoint, api, moto: self.moto }))
    }
}

impl Cloud for Aws {
    fn kind(&self) -> CloudKind {
        CloudKind::Aws
    }

    fn ids(&self) -> &Ids {
        &self.ids
    }

    fn picture(&self) -> Result<Picture> {
        read::read(&self.api, &self.ids.network)
    }

    fn metadata(&self, port: &str, current: &Current) -> Option<Answers> {
        let service = metadata::Service::new(port, current);
        Some(Box::new(move |request| Some(service.answer(request))))
    }

    /// All else natd has from the metadata service.
    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("AWS_ENDPOINT_URL_EC2", format!("http://{ENDPOINT}"))]
    }

    fn calls(&self) -> &Calls {
        &self.calls
    }

    fn writes(&self) -> &'static [(&'static str, u32)] {
        &[
            ("CreateRoute", 1),
            ("ReplaceRoute", 1),
            ("DeleteRoute", 1),
            ("ModifyNetworkInterfaceAttribute", 1),
        ]
    }

    fn state(&self) -> Result<BTreeMap<String, String>> {
        let mut state = BTreeMap::new();
        for (name, id) in &self.ids.tables {
            let answer = self.api.call("DescribeRouteTables", &[("RouteTableId.1", id)])?;
            let routes =
                answer.at("routeTableSet/item/routeSet").map(|routes| format!("{routes:#?}"));
            state.insert(format!("routes of {name}"), routes.unwrap_or_default());
        }
        for (name, id) in &self.ids.interfaces {
            let check = self.checks(id)?.to_string();
            state.insert(format!("source/destination check of {name}"), check);
        }
        Ok(state)
    }

    /// moto forgets everything with its process, so that only its front goes away.
    fn interrupt(&self) -> Result<()> {
        self.endpoint.interrupt();
        Ok(())
    }

    fn resume(&self) -> Result<()> {
        self.endpoint.resume()
    }

    fn route(&self, table: &str, destination: &str) -> Result<Option<String>> {
        let answer = self.api.call("DescribeRouteTables", &[("RouteTableId.1", table)])?;
        let tables = answer.at("routeTableSet/item").context("no table in the answer")?;
        let route = tables
            .items("routeSet")
            .find(|route| route.text("destinationCidrBlock") == Some(destination));
        let target = |route: &xml::Xml| {
            let ids = ["networkInterfaceId", "gatewayId", "instanceId"];
            ids.into_iter().find_map(|id| route.text(id)).unwrap_or("nothing").to_owned()
        };
        Ok(route.map(target))
    }

    fn point_route(&self, table: &str, destination: &str, target: &str) -> Result<()> {
        let kind = if target.starts_with("eni-") { "NetworkInterfaceId" } else { "GatewayId" };
        let action = match self.route(table, destination)? {
            Some(_) => "ReplaceRoute",
            None => "CreateRoute",
        };
        let of = [("RouteTableId", table), ("DestinationCidrBlock", destination), (kind, target)];
        self.api.call(action, &of).map(drop)
    }

    fn remove_route(&self, table: &str, destination: &str) -> Result<()> {
        let of = [("RouteTableId", table), ("DestinationCidrBlock", destination)];
        self.api.call("DeleteRoute", &of).map(drop)
    }

    fn check(&self, interface: &str) -> Result<Option<bool>> {
        self.checks(interface).map(Some)
    }

    fn set_check(&self, interface: &str, on: bool) -> Result<()> {
        let value = if on { "true" } else { "false" };
        let of = [("NetworkInterfaceId", interface), ("SourceDestCheck.Value", value)];
        self.api.call("ModifyNetworkInterfaceAttribute", &of).map(drop)
    }

    fn new_table(&self) -> Result<String> {
        let answer = self.api.call("CreateRouteTable", &[("VpcId", &self.ids.network)])?;
        let id = answer.find("routeTableId").context("no id in the answer")?;
        Ok(id.text.clone())
    }
}

impl Aws {
    fn checks(&self, interface: &str) -> Result<bool> {
        let of = [("NetworkInterfaceId.1", interface)];
        let answer = self.api.call("DescribeNetworkInterfaces", &of)?;
        let check = answer.find("sourceDestCheck").context("no check in the answer")?;
        Ok(check.text != "false")
    }
}
