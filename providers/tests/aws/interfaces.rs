//! Interfaces, their addresses, their security groups, their source/destination check.

use natd_core::{cloud::Provider, error::Kind};

use crate::cloud::{Cloud, MAC, eni, enis, field};

const ADDRESSES: &str = "<item><privateIpAddress>10.0.0.6</privateIpAddress><primary>false</primary></item>\
    <item><privateIpAddress>10.0.0.5</privateIpAddress><primary>true</primary>\
    <association><publicIp>203.0.113.5</publicIp></association></item>";

const GROUP: &str = "<securityGroupInfo><item><groupId>sg-1</groupId><ipPermissions>\
    <item><ipProtocol>tcp</ipProtocol><ipRanges><item><cidrIp>10.0.0.0/16</cidrIp></item></ipRanges></item>\
    <item><ipProtocol>icmp</ipProtocol><ipRanges><item><cidrIp>192.0.2.0/24</cidrIp></item></ipRanges></item>\
    <item><ipProtocol>-1</ipProtocol><groups><item><groupId>sg-2</groupId></item></groups></item>\
    </ipPermissions><ipPermissionsEgress>\
    <item><ipProtocol>-1</ipProtocol><ipv6Ranges><item><cidrIpv6>::/0</cidrIpv6></item></ipv6Ranges></item>\
    </ipPermissionsEgress></item></securityGroupInfo>";

#[tokio::test]
async fn the_primary_interface_and_the_primary_address_come_first() {
    let cloud = Cloud::start().await;
    let detaching =
        eni("eni-3", 2, "0a:00:00:00:00:03", "subnet-b", "").replace("attached", "detaching");
    let both = [
        eni("eni-1", 1, "0A:00:00:00:00:02", "subnet-b", ""),
        eni("eni-2", 0, MAC, "subnet-own", ADDRESSES),
        detaching,
    ];
    cloud.answer("DescribeNetworkInterfaces", &enis(&both)).await;
    cloud.answer("DescribeSecurityGroups", GROUP).await;

    let interfaces = cloud.connect().await.interfaces().await.expect("listed");
    let ids: Vec<_> = interfaces.iter().map(|interface| interface.facts().id.to_string()).collect();
    assert_eq!(ids, ["eni-2", "eni-1"]);
    let facts = interfaces[0].facts();
    assert_eq!(facts.mac.to_string(), MAC);
    assert_eq!(facts.subnet.as_str(), "subnet-own");
    assert!(facts.source_dest_check.is_on());
    let addresses: Vec<_> = facts
        .addresses
        .iter()
        .map(|address| {
            (address.private.to_string(), address.public.known().map(|public| public.to_string()))
        })
        .collect();
    assert_eq!(
        addresses,
        [("10.0.0.5".to_owned(), Some("203.0.113.5".to_owned())), ("10.0.0.6".to_owned(), None)]
    );
    let rules = facts.security.as_ref().expect("readable");
    assert_eq!(rules.inbound, ["10.0.0.0/16".parse().expect("block")].into(), "ICMP opens no port");
    assert!(rules.inbound_by_reference && rules.outbound);

    assert_eq!(cloud.calls().await, ["DescribeNetworkInterfaces", "DescribeSecurityGroups"]);
    let forms = cloud.forms().await;
    assert_eq!(field(&forms[0], "Filter.1.Name"), "attachment.instance-id");
    assert_eq!(field(&forms[0], "Filter.1.Value.1"), "i-1");
    assert!(field(&forms[1], "Filter.1.Value.2").is_empty(), "each group is asked for once");
}

#[tokio::test]
async fn the_interfaces_own_association_is_its_primary_addresss() {
    let cloud = Cloud::start().await;
    let addresses =
        ADDRESSES.replace("<association><publicIp>203.0.113.5</publicIp></association>", "");
    let own = eni("eni-1", 0, MAC, "subnet-own", &addresses).replace(
        "<groupSet>",
        "<association><publicIp>203.0.113.9</publicIp></association><groupSet>",
    );
    cloud.answer("DescribeNetworkInterfaces", &enis(&[own])).await;
    cloud.answer("DescribeSecurityGroups", GROUP).await;
    let interfaces = cloud.connect().await.interfaces().await.expect("listed");
    let public: Vec<_> =
        interfaces[0].facts().addresses.iter().map(|address| address.public.known()).collect();
    assert_eq!(public, [Some("203.0.113.9".parse().expect("address")), None]);
}

#[tokio::test]
async fn unreadable_security_groups_stop_nothing() {
    let cloud = Cloud::start().await;
    cloud
        .answer("DescribeNetworkInterfaces", &enis(&[eni("eni-1", 0, MAC, "subnet-own", "")]))
        .await;
    cloud.refuse("DescribeSecurityGroups", 9, 403, "UnauthorizedOperation", "no").await;
    let interfaces = cloud.connect().await.interfaces().await.expect("listed");
    let error = interfaces[0].facts().security.clone().expect_err("denied");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("ec2:DescribeSecurityGroups"), "{error}");
}

#[tokio::test]
async fn the_check_is_switched_on_the_interface_alone() {
    let cloud = Cloud::start().await;
    cloud
        .answer("DescribeNetworkInterfaces", &enis(&[eni("eni-1", 0, MAC, "subnet-own", "")]))
        .await;
    cloud.answer("DescribeSecurityGroups", GROUP).await;
    cloud.answer("ModifyNetworkInterfaceAttribute", "<return>true</return>").await;
    let interfaces = cloud.connect().await.interfaces().await.expect("listed");
    interfaces[0].set_source_dest_check(false, None).await.expect("switched");
    let forms = cloud.forms().await;
    let form = forms.last().expect("called");
    assert_eq!(field(form, "NetworkInterfaceId"), "eni-1");
    assert_eq!(field(form, "SourceDestCheck.Value"), "false");
}

#[tokio::test]
async fn an_answer_without_the_needed_fields_is_an_error_that_names_them() {
    let cloud = Cloud::start().await;
    let nameless = eni("eni-1", 0, "not a mac", "subnet-own", "");
    cloud.answer("DescribeNetworkInterfaces", &enis(&[nameless])).await;
    cloud.answer("DescribeSecurityGroups", GROUP).await;
    let error = cloud.connect().await.interfaces().await.err().expect("nonsense");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("macAddress of eni-1"), "{error}");
}
