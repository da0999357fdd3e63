//! Makes the lab's topology in an empty account, by the API, and keeps the ids that came of it.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::super::ids::Ids;
use super::super::topology::{Instance, NETWORKS, Role, Topology, interface_name};
use super::ZONE;
use super::api::Api;
use super::xml::Xml;

/// What was made, with what only AWS has.
#[derive(Clone, Debug, Default)]
pub struct Seeded {
    pub ids: Ids,
    pub allocation: String,
    pub association: String,
}

/// Makes everything.
pub fn seed(api: &Api, topology: &Topology) -> Result<Seeded> {
    let mut ids = Ids::default();
    network(api, &mut ids)?;
    for subnet in &topology.subnets {
        let block = subnet.block.to_string();
        let zone =
            [("VpcId", ids.network.as_str()), ("CidrBlock", &block), ("AvailabilityZone", ZONE)];
        let subnet_id = id(&api.call("CreateSubnet", &zone)?, "subnetId")?;
        let table = id(&api.call("CreateRouteTable", &[("VpcId", &ids.network)])?, "routeTableId")?;
        api.call("AssociateRouteTable", &[("RouteTableId", &table), ("SubnetId", &subnet_id)])?;
        if subnet.public {
            let gateway = ids.elsewhere.as_str();
            api.call(
                "CreateRoute",
                &[
                    ("RouteTableId", table.as_str()),
                    ("DestinationCidrBlock", "0.0.0.0/0"),
                    ("GatewayId", gateway),
                ],
            )?;
        }
        ids.subnets.insert(subnet.name.to_owned(), subnet_id);
        ids.tables.insert(subnet.name.to_owned(), table);
    }
    groups(api, &mut ids)?;
    for instance in &topology.instances {
        launch(api, &mut ids, instance)?;
    }
    let mut seeded = Seeded { ids, ..Seeded::default() };
    for (instance, number, interface) in topology.interfaces() {
        let Some(public) = interface.public else { continue };
        let id = seeded.ids.interface(&interface_name(&instance.name, number));
        let (allocation, association) = public_address(api, public, id)?;
        if instance.role == Role::Nat {
            (seeded.allocation, seeded.association) = (allocation, association);
        }
    }
    Ok(seeded)
}

fn network(api: &Api, ids: &mut Ids) -> Result<()> {
    let [first, others @ ..] = NETWORKS;
    ids.network = id(&api.call("CreateVpc", &[("CidrBlock", &first.to_string())])?, "vpcId")?;
    for other in others {
        api.call(
            "AssociateVpcCidrBlock",
            &[("VpcId", ids.network.as_str()), ("CidrBlock", &other.to_string())],
        )?;
    }
    let main = api.call(
        "DescribeRouteTables",
        &[("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", &ids.network)],
    )?;
    ids.tables.insert("main".to_owned(), id(&main, "routeTableId")?);
    ids.elsewhere = id(&api.call("CreateInternetGateway", &[])?, "internetGatewayId")?;
    api.call(
        "AttachInternetGateway",
        &[("VpcId", ids.network.as_str()), ("InternetGatewayId", &ids.elsewhere)],
    )?;
    Ok(())
}

/// Everything out, as groups are made; in, the NAT instance's group lets the whole network, and the clients' group nothing.
fn groups(api: &Api, ids: &mut Ids) -> Result<()> {
    for name in ["clients", "nat"] {
        let new =
            [("GroupName", name), ("GroupDescription", "of the lab"), ("VpcId", &ids.network)];
        let group = id(&api.call("CreateSecurityGroup", &new)?, "groupId")?;
        ids.groups.insert(name.to_owned(), group);
    }
    for network in NETWORKS {
        api.call(
            "AuthorizeSecurityGroupIngress",
            &[
                ("GroupId", ids.group("nat")),
                ("IpPermissions.1.IpProtocol", "-1"),
                ("IpPermissions.1.IpRanges.1.CidrIp", &network.to_string()),
            ],
        )?;
    }
    Ok(())
}

fn launch(api: &Api, ids: &mut Ids, instance: &Instance) -> Result<()> {
    let group = ids.group(if instance.role == Role::Nat { "nat" } else { "clients" }).to_owned();
    let mut parameters: Vec<(String, String)> = [
        ("ImageId", "ami-12c6146b"),
        ("InstanceType", "t3.micro"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "Name"),
        ("TagSpecification.1.Tag.1.Value", &instance.name),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    for (number, interface) in instance.interfaces.iter().enumerate().take(1) {
        let of_interface = [
            ("DeviceIndex", number.to_string()),
            ("SubnetId", ids.subnet(interface.subnet).to_owned()),
            ("SecurityGroupId.1", group.clone()),
            ("PrivateIpAddress", interface.address.to_string()),
            ("AssociatePublicIpAddress", "false".to_owned()),
        ];
        parameters.extend(
            of_interface.map(|(name, value)| (format!("NetworkInterface.1.{name}"), value)),
        );
    }
    let parameters: Vec<_> =
        parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = api.call("RunInstances", &parameters)?;
    let instance_id = id(&answer, "instanceId")?;
    for (number, interface) in instance.interfaces.iter().enumerate() {
        let interface_id = match number {
            0 => id(&answer, "networkInterfaceId")?,
            _ => attach(
                api,
                ids,
                &instance_id,
                number,
                (interface.subnet, interface.address),
                &group,
            )?,
        };
        for address in &interface.secondary {
            api.call(
                "AssignPrivateIpAddresses",
                &[
                    ("NetworkInterfaceId", interface_id.as_str()),
                    ("PrivateIpAddress.1", &address.to_string()),
                ],
            )?;
        }
        ids.interfaces.insert(interface_name(&instance.name, number), interface_id);
    }
    ids.instances.insert(instance.name.clone(), instance_id);
    Ok(())
}

/// Makes a further interface and attaches it.
fn attach(
    api: &Api,
    ids: &Ids,
    instance: &str,
    number: usize,
    (subnet, address): (&str, Ipv4Addr),
    group: &str,
) -> Result<String> {
    let answer = api.call(
        "CreateNetworkInterface",
        &[
            ("SubnetId", ids.subnet(subnet)),
            ("PrivateIpAddress", &address.to_string()),
            ("SecurityGroupId.1", group),
        ],
    )?;
    let interface = id(&answer, "networkInterfaceId")?;
    api.call(
        "AttachNetworkInterface",
        &[
            ("NetworkInterfaceId", interface.as_str()),
            ("InstanceId", instance),
            ("DeviceIndex", &number.to_string()),
        ],
    )?;
    Ok(interface)
}

/// Allocates a public address and associates it. Gives the ids of both.
fn public_address(api: &Api, public: Ipv4Addr, interface: &str) -> Result<(String, String)> {
    let wanted = public.to_string();
    let allocation = id(
        &api.call("AllocateAddress", &[("Domain", "vpc"), ("Address", &wanted)])?,
        "allocationId",
    )?;
    let of = [("AllocationId", allocation.as_str()), ("NetworkInterfaceId", interface)];
    let association = id(&api.call("AssociateAddress", &of)?, "associationId")?;
    Ok((allocation, association))
}

/// The first element of that name in an answer.
fn id(answer: &Xml, name: &str) -> Result<String> {
    let found = answer.find(name).with_context(|| format!("no {name} in {}", answer.name))?;
    Ok(found.text.clone())
}
