//! What EC2 refuses and moto lets pass.

use anyhow::Result;

use super::super::calls::Call;
use super::api::Api;
use super::xml::Xml;

/// The code and the message with which EC2 would refuse a call, if moto wouldn't.
pub fn objection(api: &Api, call: &Call) -> Result<Option<(&'static str, String)>> {
    let field = |name| call.parameters.get(name).map(String::as_str);
    let (Some(table), Some(destination)) = (field("RouteTableId"), field("DestinationCidrBlock"))
    else {
        return Ok(None);
    };
    let exists = || -> Result<Option<bool>> {
        let answer = api.call(
            "DescribeRouteTables",
            &[("Filter.1.Name", "route-table-id"), ("Filter.1.Value.1", table)],
        )?;
        let found = answer.items("routeTableSet").next();
        Ok(found.map(|table| has_route(table, destination)))
    };
    Ok(match call.action.as_str() {
        "CreateRoute" if exists()? == Some(true) => Some((
            "RouteAlreadyExists",
            format!("The route identified by {destination} already exists."),
        )),
        "ReplaceRoute" if exists()? == Some(false) => Some((
            "InvalidParameterValue",
            format!(
                "There is no route defined for '{destination}' in the route table. Use CreateRoute instead."
            ),
        )),
        "DeleteRoute" if exists()? == Some(false) => Some((
            "InvalidRoute.NotFound",
            format!("no route with destination-cidr-block {destination} in route table {table}"),
        )),
        _ => None,
    })
}

fn has_route(table: &Xml, destination: &str) -> bool {
    table.items("routeSet").any(|route| route.text("destinationCidrBlock") == Some(destination))
}
