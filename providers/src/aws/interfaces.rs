//! The instance's attached network interfaces and their source/destination check.
//!
//! Shapes: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NetworkInterface.html>.

use std::{collections::BTreeSet, fmt::Display, str::FromStr, sync::Arc};

use async_trait::async_trait;
use aws_sdk_ec2::types::{
    AttachmentStatus, AttributeBooleanValue, NetworkInterface, NetworkInterfaceAssociation,
    NetworkInterfaceAttachment, NetworkInterfacePrivateIpAddress,
};
use natd_core::{
    cloud::{
        Address, CheckSettings, Interface, InterfaceFacts, PublicAddress, SecurityRules,
        SourceDestCheck,
    },
    error::{Error, Kind, Result},
    model::SubnetId,
};

use super::{
    api::{Api, filter},
    identity::Identity,
    permissions::Action,
    security,
    subnets::Subnets,
};

/// Lists them, the primary one first, in two calls. That security groups can't be read is said in
/// the facts and stops nothing.
pub(super) async fn list(
    api: &Arc<Api>,
    identity: &Identity,
    subnets: &Subnets,
) -> Result<Vec<Arc<dyn Interface>>> {
    let listed = describe(api, identity, subnets).await?;
    let groups = security::read(api, listed.iter().flat_map(group_ids).collect()).await;
    let eni = |interface: &NetworkInterface| {
        let security = groups
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|groups| security::together(groups, &group_ids(interface)));
        let eni = Eni { facts: facts(interface, security)?, api: Arc::clone(api) };
        Ok(Arc::new(eni) as Arc<dyn Interface>)
    };
    listed.iter().map(eni).collect()
}

/// The subnets of the interfaces that are in the instance's VPC, in one call.
pub(super) async fn own_subnets(
    api: &Api,
    identity: &Identity,
    subnets: &Subnets,
) -> Result<BTreeSet<SubnetId>> {
    describe(api, identity, subnets).await?;
    Ok(subnets.own().unwrap_or_default())
}

async fn describe(
    api: &Api,
    identity: &Identity,
    subnets: &Subnets,
) -> Result<Vec<NetworkInterface>> {
    let instance = &identity.instance;
    let mut listed = api
        .ec2()
        .describe_network_interfaces()
        .filters(filter("attachment.instance-id", [instance.as_str()]))
        .into_paginator()
        .items()
        .send()
        .try_collect()
        .await
        .map_err(|error| {
            let doing = format!("list the network interfaces of {instance}");
            api.failure(Action::DescribeNetworkInterfaces, doing, &error)
        })?;
    listed.retain(stays);
    listed.sort_by_key(place);
    let own = listed
        .iter()
        .filter(|interface| interface.vpc_id() == Some(identity.network.as_str()))
        .filter_map(|interface| interface.subnet_id()?.parse().ok())
        .collect();
    subnets.learn_own(own, &identity.network);
    Ok(listed)
}

/// An elastic network interface.
struct Eni {
    facts: InterfaceFacts,
    api: Arc<Api>,
}

#[async_trait]
impl Interface for Eni {
    fn facts(&self) -> &InterfaceFacts {
        &self.facts
    }

    async fn set_source_dest_check(&self, enabled: bool, _: Option<&CheckSettings>) -> Result<()> {
        let id = &self.facts.id;
        self.api
            .ec2()
            .modify_network_interface_attribute()
            .network_interface_id(id.as_str())
            .source_dest_check(AttributeBooleanValue::builder().value(enabled).build())
            .send()
            .await
            .map_err(|error| {
                let on_or_off = if enabled { "on" } else { "off" };
                let doing = format!("switch the source/destination check of {id} {on_or_off}");
                self.api.failure(Action::ModifyNetworkInterfaceAttribute, doing, &error)
            })?;
        Ok(())
    }

    async fn source_dest_check(&self) -> Result<bool> {
        let id = &self.facts.id;
        let doing = || format!("read the source/destination check of {id}");
        let answer = self
            .api
            .ec2()
            .describe_network_interfaces()
            .network_interface_ids(id.as_str())
            .send()
            .await
            .map_err(|error| {
                self.api.failure(Action::DescribeNetworkInterfaces, doing(), &error)
            })?;
        let shown = answer.network_interfaces().first();
        shown
            .map(|interface| interface.source_dest_check().unwrap_or(true))
            .ok_or_else(|| Error::new(Kind::NotFound, doing(), "the cloud doesn't show it"))
    }
}

/// Whether the interface isn't on its way out.
fn stays(interface: &NetworkInterface) -> bool {
    let status = interface.attachment().and_then(|attachment| attachment.status());
    !matches!(status, Some(AttachmentStatus::Detached | AttachmentStatus::Detaching))
}

/// The primary interface is device 0 of network card 0.
fn place(interface: &NetworkInterface) -> (i32, i32, String) {
    let attachment = interface.attachment();
    (
        attachment.and_then(NetworkInterfaceAttachment::device_index).unwrap_or(i32::MAX),
        attachment.and_then(NetworkInterfaceAttachment::network_card_index).unwrap_or_default(),
        interface.network_interface_id().unwrap_or_default().to_owned(),
    )
}

fn group_ids(interface: &NetworkInterface) -> BTreeSet<String> {
    interface.groups().iter().filter_map(|group| group.group_id()).map(str::to_owned).collect()
}

fn facts(interface: &NetworkInterface, security: Result<SecurityRules>) -> Result<InterfaceFacts> {
    let id = interface.network_interface_id();
    let name = id.unwrap_or("a network interface");
    Ok(InterfaceFacts {
        id: field(name, "networkInterfaceId", id)?,
        mac: field(name, "macAddress", interface.mac_address())?,
        addresses: addresses(interface),
        subnet: field(name, "subnetId", interface.subnet_id())?,
        source_dest_check: if interface.source_dest_check().unwrap_or(true) {
            SourceDestCheck::On { overwrites: None }
        } else {
            SourceDestCheck::Off
        },
        security,
    })
}

/// The primary IPv4 address, the other ones, then IPv6. The interface's own association is the one
/// of its primary address (moto shows it there alone).
fn addresses(interface: &NetworkInterface) -> Vec<Address> {
    let mut v4 = interface.private_ip_addresses().iter().collect::<Vec<_>>();
    v4.sort_by_key(|address| !is_primary(address));
    let v4 = v4.into_iter().filter_map(|address| {
        let own = || interface.association().filter(|_| is_primary(address));
        Some(Address {
            private: address.private_ip_address()?.parse().ok()?,
            public: address.association().or_else(own).and_then(public).into(),
        })
    });
    let v6 = interface.ipv6_addresses().iter().filter_map(|address| {
        Some(Address {
            private: address.ipv6_address()?.parse().ok()?,
            public: PublicAddress::Absent,
        })
    });
    v4.chain(v6).collect()
}

fn is_primary(address: &NetworkInterfacePrivateIpAddress) -> bool {
    address.primary().unwrap_or_default()
}

/// The address on the internet, or in a Wavelength zone the one of the carrier.
fn public(association: &NetworkInterfaceAssociation) -> Option<std::net::IpAddr> {
    association.public_ip().or(association.carrier_ip())?.parse().ok()
}

fn field<T: FromStr<Err: Display>>(interface: &str, name: &str, value: Option<&str>) -> Result<T> {
    let nonsense = |cause: &dyn Display| {
        Error::new(Kind::Invalid, format!("read {name} of {interface}"), cause)
    };
    value
        .ok_or_else(|| nonsense(&"it is missing in the API's answer"))?
        .parse()
        .map_err(|error| nonsense(&error))
}
