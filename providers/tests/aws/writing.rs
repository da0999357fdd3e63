//! Routes put and removed, also when somebody else was faster.

use std::sync::Arc;

use natd_core::{
    cloud::{Provider, RouteTable, TableSelector},
    error::Kind,
    model::NextHop,
};

use crate::cloud::{Cloud, field, route, table, tables};

const NO_ROUTE: &str =
    "There is no route defined for '0.0.0.0/0' in the route table. Use CreateRoute instead.";
const EXISTS: &str = "The route identified by 0.0.0.0/0 already exists.";

fn eni() -> NextHop {
    NextHop::Interface("eni-1".parse().expect("id"))
}

fn other(kind: &str, id: &str) -> NextHop {
    NextHop::Other { kind: kind.to_owned(), id: id.to_owned() }
}

fn default_route() -> ipnet::IpNet {
    "0.0.0.0/0".parse().expect("block")
}

async fn listed(cloud: &Cloud, routes: &str) -> Arc<dyn RouteTable> {
    cloud.answer("DescribeRouteTables", &tables(&[table("rtb-1", "vpc-1", "", routes)])).await;
    let selector =
        TableSelector { ids: ["rtb-1".parse().expect("id")].into(), ..TableSelector::default() };
    let answer = cloud.connect().await.route_tables(&selector).await.expect("listed");
    answer.found.into_iter().next().expect("one table")
}

/// What was called after the listing.
async fn writes(cloud: &Cloud) -> Vec<String> {
    cloud.calls().await.split_off(1)
}

async fn accept_all(cloud: &Cloud) {
    for action in ["CreateRoute", "ReplaceRoute", "DeleteRoute"] {
        cloud.answer(action, "<return>true</return>").await;
    }
}

#[tokio::test]
async fn a_route_is_created_where_there_is_none_and_replaced_where_there_is_one() {
    let cloud = Cloud::start().await;
    accept_all(&cloud).await;
    let table = listed(&cloud, &route("0.0.0.0/0", "<natGatewayId>nat-1</natGatewayId>")).await;
    table.put(default_route(), &eni()).await.expect("replaced");
    table.put("198.51.100.0/24".parse().expect("block"), &eni()).await.expect("created");
    table.put("::/0".parse().expect("block"), &eni()).await.expect("created");
    assert_eq!(writes(&cloud).await, ["ReplaceRoute", "CreateRoute", "CreateRoute"]);
    let forms = cloud.forms().await;
    assert_eq!(field(&forms[1], "RouteTableId"), "rtb-1");
    assert_eq!(field(&forms[1], "DestinationCidrBlock"), "0.0.0.0/0");
    assert_eq!(field(&forms[1], "NetworkInterfaceId"), "eni-1");
    assert_eq!(field(&forms[3], "DestinationIpv6CidrBlock"), "::/0");
}

#[tokio::test]
async fn a_propagated_route_is_no_route_to_replace() {
    let cloud = Cloud::start().await;
    accept_all(&cloud).await;
    let propagated = route("0.0.0.0/0", "<gatewayId>vgw-1</gatewayId>")
        .replace("CreateRoute", "EnableVgwRoutePropagation");
    listed(&cloud, &propagated).await.put(default_route(), &eni()).await.expect("created");
    assert_eq!(writes(&cloud).await, ["CreateRoute"]);
}

#[tokio::test]
async fn a_route_that_came_since_the_listing_is_replaced() {
    let cloud = Cloud::start().await;
    cloud.refuse("CreateRoute", 1, 400, "RouteAlreadyExists", EXISTS).await;
    accept_all(&cloud).await;
    listed(&cloud, "").await.put(default_route(), &eni()).await.expect("replaced");
    assert_eq!(writes(&cloud).await, ["CreateRoute", "ReplaceRoute"]);
}

#[tokio::test]
async fn a_route_that_went_since_the_listing_is_created() {
    for (code, message) in [("InvalidParameterValue", NO_ROUTE), ("InvalidRoute.NotFound", "gone")]
    {
        let cloud = Cloud::start().await;
        cloud.refuse("ReplaceRoute", 1, 400, code, message).await;
        accept_all(&cloud).await;
        let table = listed(&cloud, &route("0.0.0.0/0", "<gatewayId>igw-1</gatewayId>")).await;
        table.put(default_route(), &eni()).await.expect("created");
        assert_eq!(writes(&cloud).await, ["ReplaceRoute", "CreateRoute"], "{code}");
    }
}

#[tokio::test]
async fn a_route_that_comes_and_goes_for_ever_is_a_conflict() {
    let cloud = Cloud::start().await;
    cloud.refuse("CreateRoute", 99, 400, "RouteAlreadyExists", EXISTS).await;
    cloud.refuse("ReplaceRoute", 99, 400, "InvalidParameterValue", NO_ROUTE).await;
    let error = listed(&cloud, "").await.put(default_route(), &eni()).await.expect_err("a fight");
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(
        writes(&cloud).await,
        ["CreateRoute", "ReplaceRoute", "CreateRoute", "ReplaceRoute"]
    );
}

#[tokio::test]
async fn a_real_mistake_is_not_taken_for_an_absent_route() {
    let cloud = Cloud::start().await;
    cloud
        .refuse("ReplaceRoute", 9, 400, "InvalidParameterValue", "Route target is not supported.")
        .await;
    let table = listed(&cloud, &route("0.0.0.0/0", "<gatewayId>igw-1</gatewayId>")).await;
    let error = table.put(default_route(), &eni()).await.expect_err("a mistake");
    assert_eq!((error.kind(), error.code()), (Kind::Invalid, Some("InvalidParameterValue")));
    assert_eq!(writes(&cloud).await, ["ReplaceRoute"]);
}

#[tokio::test]
async fn whatever_target_a_route_had_is_given_back_by_its_own_parameter() {
    let cloud = Cloud::start().await;
    accept_all(&cloud).await;
    let table = listed(&cloud, "").await;
    let targets = [
        (NextHop::InternetGateway("igw-1".to_owned()), "GatewayId", "igw-1"),
        (other("virtual-private-gateway", "vgw-1"), "GatewayId", "vgw-1"),
        (other("nat-gateway", "nat-1"), "NatGatewayId", "nat-1"),
        (other("transit-gateway", "tgw-1"), "TransitGatewayId", "tgw-1"),
        (other("vpc-peering-connection", "pcx-1"), "VpcPeeringConnectionId", "pcx-1"),
        (other("egress-only-internet-gateway", "eigw-1"), "EgressOnlyInternetGatewayId", "eigw-1"),
        (other("carrier-gateway", "cagw-1"), "CarrierGatewayId", "cagw-1"),
        (other("local-gateway", "lgw-1"), "LocalGatewayId", "lgw-1"),
        (other("vpc-endpoint", "vpce-1"), "VpcEndpointId", "vpce-1"),
        (other("core-network", "arn:core"), "CoreNetworkArn", "arn:core"),
        (other("odb-network", "arn:odb"), "OdbNetworkArn", "arn:odb"),
        (other("instance", "i-2"), "InstanceId", "i-2"),
    ];
    for (next_hop, ..) in &targets {
        table.put(default_route(), next_hop).await.expect("written");
    }
    let forms = cloud.forms().await.split_off(1);
    for (form, (_, parameter, id)) in forms.iter().zip(&targets) {
        assert_eq!(field(form, parameter), *id, "{form}");
    }
}

#[tokio::test]
async fn a_local_route_is_reset_where_there_is_one_and_refused_elsewhere() {
    let cloud = Cloud::start().await;
    cloud.refuse("ReplaceRoute", 1, 400, "InvalidParameterValue", NO_ROUTE).await;
    accept_all(&cloud).await;
    let table = listed(&cloud, "").await;
    let error = table.put(default_route(), &NextHop::Local).await.expect_err("not local");
    assert_eq!(error.kind(), Kind::Unsupported);
    table.put("10.0.0.0/16".parse().expect("block"), &NextHop::Local).await.expect("reset");
    let forms = cloud.forms().await;
    assert_eq!(field(&forms[2], "LocalTarget"), "true");
    let error = table.put(default_route(), &other("unknown", "?")).await.expect_err("unknown");
    assert_eq!(error.kind(), Kind::Unsupported);
    assert_eq!(writes(&cloud).await, ["ReplaceRoute", "ReplaceRoute"]);
}

#[tokio::test]
async fn removing_an_absent_route_is_success() {
    let cloud = Cloud::start().await;
    cloud.refuse("DeleteRoute", 1, 400, "InvalidRoute.NotFound", "no route").await;
    cloud.refuse("DeleteRoute", 1, 400, "InvalidRouteTableID.NotFound", "no table").await;
    accept_all(&cloud).await;
    let table = listed(&cloud, "").await;
    table.remove(default_route()).await.expect("absent");
    let error = table.remove(default_route()).await.expect_err("the table is gone");
    assert_eq!(error.kind(), Kind::NotFound);
    table.remove(default_route()).await.expect("removed");
    assert_eq!(field(&cloud.forms().await[1], "DestinationCidrBlock"), "0.0.0.0/0");
}
