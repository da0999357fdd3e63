//! Which tables a selector finds, what they show, and what is said of those that it can't.

use natd_core::{
    cloud::{Provider, RouteTables, TableSelector},
    error::Kind,
    model::{NextHop, RouteOrigin, RouteState},
};

use crate::cloud::{Cloud, MAC, MAIN, association, eni, enis, field, route, table, tables};

fn by_ids(ids: &[&str]) -> TableSelector {
    let ids = ids.iter().map(|id| id.parse().expect("id")).collect();
    TableSelector { ids, ..TableSelector::default() }
}

fn by_subnets(subnets: &[&str]) -> TableSelector {
    let subnets = subnets.iter().map(|id| id.parse().expect("id")).collect();
    TableSelector { subnets, ..TableSelector::default() }
}

fn ids(answer: &RouteTables) -> Vec<&str> {
    answer.found.iter().map(|table| table.facts().id.as_str()).collect()
}

/// `rtb-main`, and `rtb-a` for `subnet-a`.
async fn two_tables(cloud: &Cloud) {
    let both = [
        table("rtb-main", "vpc-1", MAIN, &route("10.0.0.0/16", "<gatewayId>local</gatewayId>")),
        table("rtb-a", "vpc-1", &association("subnet-a"), ""),
    ];
    cloud.answer_if("DescribeRouteTables", "vpc-id", &tables(&both)).await;
}

#[tokio::test]
async fn tables_are_found_by_id_tag_and_subnet_each_once_in_order() {
    let cloud = Cloud::start().await;
    two_tables(&cloud).await;
    let selector = TableSelector {
        tags: ["name=rtb-main".parse().expect("tag"), "name=rtb-a".parse().expect("tag")].into(),
        ..by_ids(&["rtb-main"]).union(&by_subnets(&["subnet-a"]))
    };
    let answer = cloud.connect().await.route_tables(&selector).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-a", "rtb-main"]);
    assert_eq!(answer.missing, []);
    assert_eq!(cloud.calls().await, ["DescribeRouteTables"]);
    let form = &cloud.forms().await[0];
    assert_eq!(
        (field(form, "Filter.1.Name"), field(form, "Filter.1.Value.1")),
        ("vpc-id", "vpc-1")
    );
}

#[tokio::test]
async fn a_subnet_without_association_is_served_by_the_main_table_and_looked_up_once() {
    let cloud = Cloud::start().await;
    two_tables(&cloud).await;
    let subnets =
        "<subnetSet><item><subnetId>subnet-b</subnetId><vpcId>vpc-1</vpcId></item></subnetSet>";
    cloud.answer("DescribeSubnets", subnets).await;
    let aws = cloud.connect().await;
    for _ in 0..2 {
        let answer = aws.route_tables(&by_subnets(&["subnet-b"])).await.expect("listed");
        assert_eq!(ids(&answer), ["rtb-main"]);
        assert_eq!(answer.found[0].facts().subnets, ["subnet-b".parse().expect("id")].into());
    }
    assert_eq!(
        cloud.calls().await,
        ["DescribeRouteTables", "DescribeSubnets", "DescribeRouteTables"]
    );
}

#[tokio::test]
async fn the_instances_own_subnet_needs_no_look_up() {
    let cloud = Cloud::start().await;
    two_tables(&cloud).await;
    let aws = cloud.connect().await;
    let own = aws.instance().await.expect("known").subnets;
    let selector = TableSelector { subnets: own, ..TableSelector::default() };
    let answer = aws.route_tables(&selector).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-main"]);
    assert_eq!(cloud.calls().await, ["DescribeRouteTables"]);
}

#[tokio::test]
async fn a_dissolved_association_doesnt_count() {
    let cloud = Cloud::start().await;
    let dissolved = association("subnet-own").replace("associated", "disassociated");
    let both = [table("rtb-main", "vpc-1", MAIN, ""), table("rtb-a", "vpc-1", &dissolved, "")];
    cloud.answer("DescribeRouteTables", &tables(&both)).await;
    let aws = cloud.connect().await;
    aws.instance().await.expect("known");
    let answer = aws.route_tables(&by_subnets(&["subnet-own"])).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-main"]);
}

#[tokio::test]
async fn what_cant_be_served_is_told_one_by_one_and_hides_nothing() {
    let cloud = Cloud::start().await;
    two_tables(&cloud).await;
    let elsewhere = tables(&[table("rtb-far", "vpc-2", "", "")]);
    cloud.answer_if("DescribeRouteTables", "route-table-id", &elsewhere).await;
    let far =
        "<subnetSet><item><subnetId>subnet-far</subnetId><vpcId>vpc-2</vpcId></item></subnetSet>";
    cloud.answer("DescribeSubnets", far).await;
    let selector = by_ids(&["rtb-a", "rtb-far", "rtb-none"])
        .union(&by_subnets(&["subnet-far", "subnet-none"]));
    let answer = cloud.connect().await.route_tables(&selector).await.expect("listed");

    assert_eq!(ids(&answer), ["rtb-a"]);
    let told: Vec<_> =
        answer.missing.iter().map(|error| (error.kind(), error.to_string())).collect();
    let expected = [
        (Kind::Invalid, ["rtb-far", "vpc-2", "vpc-1"]),
        (Kind::NotFound, ["rtb-none", "does not exist", "InvalidRouteTableID.NotFound"]),
        (Kind::Invalid, ["subnet-far", "vpc-2", "vpc-1"]),
        (Kind::NotFound, ["subnet-none", "does not exist", "InvalidSubnetID.NotFound"]),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((kind, text), (expected, parts)) in told.iter().zip(expected) {
        assert_eq!(*kind, expected, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn a_denied_look_up_of_subnets_leaves_the_tables_served() {
    let cloud = Cloud::start().await;
    two_tables(&cloud).await;
    cloud.refuse("DescribeSubnets", 9, 403, "UnauthorizedOperation", "no").await;
    let selector = by_ids(&["rtb-a"]).union(&by_subnets(&["subnet-b"]));
    let answer = cloud.connect().await.route_tables(&selector).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-a"]);
    assert_eq!(answer.missing[0].kind(), Kind::Denied);
    assert!(answer.missing[0].to_string().contains("ec2:DescribeSubnets"));
}

#[tokio::test]
async fn further_pages_are_followed() {
    let cloud = Cloud::start().await;
    let second = tables(&[table("rtb-2", "vpc-1", "", "")]);
    cloud.answer_if("DescribeRouteTables", "NextToken=page-2", &second).await;
    let first = tables(&[table("rtb-1", "vpc-1", "", "")]) + "<nextToken>page-2</nextToken>";
    cloud.answer("DescribeRouteTables", &first).await;
    let answer =
        cloud.connect().await.route_tables(&by_ids(&["rtb-1", "rtb-2"])).await.expect("listed");
    assert_eq!(ids(&answer), ["rtb-1", "rtb-2"]);
}

#[tokio::test]
async fn routes_of_every_sort_are_shown_and_none_breaks_the_list() {
    let cloud = Cloud::start().await;
    let odd = |body: &str| format!("<item>{body}</item>");
    let routes = [
        route("10.0.0.0/16", "<gatewayId>local</gatewayId>"),
        route("0.0.0.0/0", "<natGatewayId>nat-1</natGatewayId>"),
        route(
            "10.1.0.0/16",
            "<networkInterfaceId>eni-1</networkInterfaceId><instanceId>i-2</instanceId>",
        )
        .replace("active", "blackhole"),
        route("10.2.0.0/16", "<gatewayId>vgw-1</gatewayId>")
            .replace("CreateRoute", "EnableVgwRoutePropagation"),
        route("10.3.0.0/16", "<fluxCapacitorId>flux-1</fluxCapacitorId>")
            .replace("active", "strange"),
        route("10.4.0.0/16", "<gatewayId>igw-1</gatewayId>").replace("active", "filtered"),
        odd("<destinationPrefixListId>pl-1</destinationPrefixListId><gatewayId>vpce-1</gatewayId>"),
        odd("<destinationIpv6CidrBlock>::/0</destinationIpv6CidrBlock>\
             <egressOnlyInternetGatewayId>eigw-1</egressOnlyInternetGatewayId>"),
        odd("<destinationCidrBlock>nonsense</destinationCidrBlock>"),
        odd(""),
    ];
    cloud
        .answer("DescribeRouteTables", &tables(&[table("rtb-1", "vpc-1", "", &routes.concat())]))
        .await;
    let answer = cloud.connect().await.route_tables(&by_ids(&["rtb-1"])).await.expect("listed");
    let shown = &answer.found[0].facts().routes;
    let lines: Vec<_> =
        shown.iter().map(|route| format!("{} {}", route.destination, route.next_hop)).collect();
    assert_eq!(
        lines,
        [
            "10.0.0.0/16 local",
            "0.0.0.0/0 nat-1 (nat-gateway)",
            "10.1.0.0/16 eni-1",
            "10.2.0.0/16 vgw-1 (virtual-private-gateway)",
            "10.3.0.0/16 ? (unknown)",
            "::/0 eigw-1 (egress-only-internet-gateway)",
        ]
    );
    assert_eq!(shown[0].next_hop, NextHop::Local);
    assert_eq!((shown[2].state, shown[2].origin), (RouteState::Blackhole, RouteOrigin::Static));
    assert_eq!((shown[3].state, shown[3].origin), (RouteState::Active, RouteOrigin::Propagated));
}

#[tokio::test]
async fn a_tick_is_three_read_calls_whatever_the_number_of_tables() {
    let cloud = Cloud::start().await;
    let many: Vec<_> = (0..60)
        .map(|n| table(&format!("rtb-{n}"), "vpc-1", &association(&format!("subnet-{n}")), ""))
        .collect();
    cloud.answer("DescribeRouteTables", &tables(&many)).await;
    cloud.answer("DescribeNetworkInterfaces", &enis(&[eni("eni-1", 0, MAC, "subnet-0", "")])).await;
    cloud.answer("DescribeSecurityGroups", "<securityGroupInfo/>").await;
    let aws = cloud.connect().await;
    let selector = by_ids(&["rtb-1", "rtb-2"]).union(&by_subnets(&["subnet-0", "subnet-40"]));
    let (instance, interfaces, answer) =
        tokio::join!(aws.instance(), aws.interfaces(), aws.route_tables(&selector));
    instance.expect("known");
    assert_eq!(interfaces.expect("listed").len(), 1);
    assert_eq!(ids(&answer.expect("listed")), ["rtb-0", "rtb-1", "rtb-2", "rtb-40"]);
    assert_eq!(cloud.calls().await.len(), 3);
}

#[tokio::test]
async fn an_empty_selector_costs_nothing() {
    let cloud = Cloud::start().await;
    let answer =
        cloud.connect().await.route_tables(&TableSelector::default()).await.expect("empty");
    assert!(answer.found.is_empty() && answer.missing.is_empty());
    assert!(cloud.calls().await.is_empty());
}
