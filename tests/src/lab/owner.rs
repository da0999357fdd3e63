//! What the owner of the cloud does by hand, past natd: routes, source/destination checks, addresses.
//!
//! Each returns once the network has followed.

use anyhow::{Context, Result};

use super::Lab;

/// The destination of a default route.
pub const DEFAULT: &str = "0.0.0.0/0";

impl Lab {
    /// Calls the API as its owner, and waits for the network to follow.
    pub fn owner(&self, action: &str, parameters: &[(&str, &str)]) -> Result<()> {
        self.api().call(action, parameters)?;
        self.sync()
    }

    /// What the route to `destination` in the table of that id targets, by its id.
    pub fn route(&self, table: &str, destination: &str) -> Result<Option<String>> {
        let answer = self.api().call("DescribeRouteTables", &[("RouteTableId.1", table)])?;
        let tables = answer.at("routeTableSet/item").context("no table in the answer")?;
        let route = tables
            .items("routeSet")
            .find(|route| route.text("destinationCidrBlock") == Some(destination));
        let target = |route: &super::aws::xml::Xml| {
            let ids = ["networkInterfaceId", "gatewayId", "instanceId"];
            ids.into_iter().find_map(|id| route.text(id)).unwrap_or("nothing").to_owned()
        };
        Ok(route.map(target))
    }

    /// Points a route at an interface or a gateway, whether it was there or not.
    pub fn point_route(&self, table: &str, destination: &str, target: &str) -> Result<()> {
        let kind = if target.starts_with("eni-") { "NetworkInterfaceId" } else { "GatewayId" };
        let action = match self.route(table, destination)? {
            Some(_) => "ReplaceRoute",
            None => "CreateRoute",
        };
        let of = [("RouteTableId", table), ("DestinationCidrBlock", destination), (kind, target)];
        self.owner(action, &of)
    }

    /// Takes a route away.
    pub fn remove_route(&self, table: &str, destination: &str) -> Result<()> {
        let of = [("RouteTableId", table), ("DestinationCidrBlock", destination)];
        self.owner("DeleteRoute", &of)
    }

    /// Whether the source/destination check of the interface of that id is on.
    pub fn checks(&self, interface: &str) -> Result<bool> {
        let of = [("NetworkInterfaceId.1", interface)];
        let answer = self.api().call("DescribeNetworkInterfaces", &of)?;
        let check = answer.find("sourceDestCheck").context("no check in the answer")?;
        Ok(check.text != "false")
    }

    /// Switches it.
    pub fn set_check(&self, interface: &str, on: bool) -> Result<()> {
        let value = if on { "true" } else { "false" };
        let of = [("NetworkInterfaceId", interface), ("SourceDestCheck.Value", value)];
        self.owner("ModifyNetworkInterfaceAttribute", &of)
    }

    /// A new route table in the lab's network, that serves no subnet yet, by its id.
    pub fn new_table(&self) -> Result<String> {
        let answer = self.api().call("CreateRouteTable", &[("VpcId", &self.ids.vpc)])?;
        let id = answer.find("routeTableId").context("no id in the answer")?;
        Ok(id.text.clone())
    }

    /// Gives something a tag.
    pub fn tag(&self, id: &str, key: &str, value: &str) -> Result<()> {
        let of = [("ResourceId.1", id), ("Tag.1.Key", key), ("Tag.1.Value", value)];
        self.owner("CreateTags", &of)
    }
}
