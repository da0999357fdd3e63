//! Makes the lab's topology in an empty account, by the API, and keeps the ids that came of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::super::topology::{Instance, NAT_PUBLIC, NETWORKS, Role, Topology, interface_name};
use super::ZONE;
use super::api::Api;
use super::xml::Xml;

/// The ids of what the lab made, by the lab's own names.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    pub vpc: String,
    pub internet_gateway: String,
    /// `public`, `private-a`, `private-b`, and `nat-inside` where the NAT instance has two interfaces.
    pub subnets: BTreeMap<String, String>,
    /// By the subnet they serve, and `main`, which serves none of them.
    pub tables: BTreeMap<String, String>,
    /// `clients` and `nat`.
    pub groups: BTreeMap<String, String>,
    /// `nat`, `client-a`, ...
    pub instances: BTreeMap<String, String>,
    /// `nat/eth0`, `nat/eth1`, `client-a/eth0`, ...
    pub interfaces: BTreeMap<String, String>,
    /// The allocation of the NAT instance's public address.
    pub allocation: String,
    /// The association of the NAT instance's public address.
    pub association: String,
}

/// The methods give the id of what has that name, and panic if the lab has no such thing.
impl Ids {
    pub fn subnet(&self, name: &str) -> &str {
        named("subnet", &self.subnets, name)
    }

    pub fn table(&self, name: &str) -> &str {
        named("route table", &self.tables, name)
    }

    pub fn group(&self, name: &str) -> &str {
        named("security group", &self.groups, name)
    }

    pub fn instance(&self, name: &str) -> &str {
        named("instance", &self.instances, name)
    }

    pub fn interface(&self, name: &str) -> &str {
        named("interface", &self.interfaces, name)
    }

    /// The private tables, which a NAT instance is to serve.
    pub fn private_tables(&self) -> Vec<&str> {
        let private = self.tables.iter().filter(|(name, _)| name.starts_with("private"));
        private.map(|(_, id)| id.as_str()).collect()
    }
}

fn named<'a>(kind: &str, ids: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    ids.get(name).unwrap_or_else(|| panic!("the lab has no {kind} {name}, but {:?}", ids.keys()))
}

/// Makes everything.
pub fn seed(api: &Api, topology: &Topology) -> Result<Ids> {
    let mut ids = Ids::default();
    network(api, &mut ids)?;
    for subnet in &topology.subnets {
        let block = subnet.block.to_string();
        let zone = [("VpcId", ids.vpc.as_str()), ("CidrBlock", &block), ("AvailabilityZone", ZONE)];
        let subnet_id = id(&api.call("CreateSubnet", &zone)?, "subnetId")?;
        let table = id(&api.call("CreateRouteTable", &[("VpcId", &ids.vpc)])?, "routeTableId")?;
        api.call("AssociateRouteTable", &[("RouteTableId", &table), ("SubnetId", &subnet_id)])?;
        if subnet.public {
            let gateway = ids.internet_gateway.as_str();
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
    public_address(api, &mut ids)?;
    Ok(ids)
}

fn network(api: &Api, ids: &mut Ids) -> Result<()> {
    let [first, others @ ..] = NETWORKS;
    ids.vpc = id(&api.call("CreateVpc", &[("CidrBlock", &first.to_string())])?, "vpcId")?;
    for other in others {
        api.call(
            "AssociateVpcCidrBlock",
            &[("VpcId", ids.vpc.as_str()), ("CidrBlock", &other.to_string())],
        )?;
    }
    let main = api.call(
        "DescribeRouteTables",
        &[("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", &ids.vpc)],
    )?;
    ids.tables.insert("main".to_owned(), id(&main, "routeTableId")?);
    ids.internet_gateway = id(&api.call("CreateInternetGateway", &[])?, "internetGatewayId")?;
    api.call(
        "AttachInternetGateway",
        &[("VpcId", ids.vpc.as_str()), ("InternetGatewayId", &ids.internet_gateway)],
    )?;
    Ok(())
}

/// Everything out, as groups are made; in, the NAT instance's group lets the whole network, and the clients' group nothing.
fn groups(api: &Api, ids: &mut Ids) -> Result<()> {
    for name in ["clients", "nat"] {
        let new = [("GroupName", name), ("GroupDescription", "of the lab"), ("VpcId", &ids.vpc)];
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

fn public_address(api: &Api, ids: &mut Ids) -> Result<()> {
    let wanted = NAT_PUBLIC.to_string();
    ids.allocation = id(
        &api.call("AllocateAddress", &[("Domain", "vpc"), ("Address", &wanted)])?,
        "allocationId",
    )?;
    let interface = ids.interface(&interface_name("nat", 0));
    let association =
        [("AllocationId", ids.allocation.as_str()), ("NetworkInterfaceId", interface)];
    ids.association = id(&api.call("AssociateAddress", &association)?, "associationId")?;
    Ok(())
}

/// The first element of that name in an answer.
fn id(answer: &Xml, name: &str) -> Result<String> {
    let found = answer.find(name).with_context(|| format!("no {name} in {}", answer.name))?;
    Ok(found.text.clone())
}
