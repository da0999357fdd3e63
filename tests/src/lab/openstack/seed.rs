//! Makes the lab's topology in an empty cloud, by the API, and keeps the ids that came of it.
//!
//! - Every subnet is a network of its own, as `OpenStack`'s users have it.
//! - Public subnets are on the router `edge`, which has the gateway to the external network, without translation of
//!   its own: who has no floating address doesn't get out.
//! - Every private subnet has a router of its name, which is its gateway. These routers have an interface in each
//!   other's subnets, and in `nat-inside`, so that any port there can be the next hop of their routes.
//! - Where hosts learn their routes by DHCP, all subnets are on `edge`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::ids::Ids;
use super::super::topology::{
    Instance, Interface, NETWORKS, PUBLIC_ADDRESSES, Role, Subnet, Topology, interface_name,
};
use super::api::{Api, text};
use super::prepared::Accounts;

const EDGE: &str = "edge";

/// What became of the topology.
#[derive(Clone, Debug, Default)]
pub struct Seeded {
    pub ids: Ids,
    /// By the lab's name of their only subnet, and `internet`.
    pub networks: BTreeMap<String, String>,
    /// `edge`, and those of the private subnets.
    pub routers: BTreeMap<String, String>,
}

impl Seeded {
    /// As [`kept`](Self::kept) gave it.
    pub fn from_kept(kept: &Value) -> Result<Self> {
        let ids = |field: &str| -> Result<BTreeMap<String, String>> {
            let ids = kept[field].as_object().with_context(|| format!("no {field} were kept"))?;
            Ok(ids
                .iter()
                .filter_map(|(name, id)| Some((name.clone(), id.as_str()?.to_owned())))
                .collect())
        };
        Ok(Self {
            ids: Ids {
                network: text(kept, "network")?.to_owned(),
                elsewhere: text(kept, "elsewhere")?.to_owned(),
                subnets: ids("subnets")?,
                tables: ids("tables")?,
                groups: ids("groups")?,
                instances: ids("instances")?,
                interfaces: ids("interfaces")?,
            },
            networks: ids("networks")?,
            routers: ids("routers")?,
        })
    }

    /// To be kept with the cloud that was seeded.
    pub fn kept(&self) -> Value {
        let Ids { network, elsewhere, subnets, tables, groups, instances, interfaces } = &self.ids;
        json!({
            "network": network,
            "elsewhere": elsewhere,
            "subnets": subnets,
            "tables": tables,
            "groups": groups,
            "instances": instances,
            "interfaces": interfaces,
            "networks": self.networks,
            "routers": self.routers,
        })
    }
}

/// Makes everything.
pub fn seed(api: &Api, topology: &Topology, accounts: &Accounts) -> Result<Seeded> {
    let mut seed = Seed { api, topology, project: &accounts.project, seeded: Seeded::default() };
    seed.external_network()?;
    for subnet in &topology.subnets {
        seed.subnet(subnet)?;
    }
    seed.routers()?;
    seed.groups()?;
    for (number, instance) in topology.instances.iter().enumerate() {
        seed.instance(number, instance)?;
    }
    let Seed { mut seeded, .. } = seed;
    seeded.ids.network.clone_from(&accounts.project);
    // Nobody has this address, in a subnet that each router is in.
    let subnet = topology.subnet("nat-inside").or_else(|| topology.subnet("private-a"));
    let block = subnet.context("a topology without private subnets")?.block;
    seeded.ids.elsewhere = Ipv4Addr::from(u32::from(block.network()) + 200).to_string();
    Ok(seeded)
}

struct Seed<'a> {
    api: &'a Api,
    topology: &'a Topology,
    project: &'a str,
    seeded: Seeded,
}

impl Seed<'_> {
    fn make(&self, kind: &str, fields: &Value) -> Result<String> {
        let made = self.api.make(kind, fields)?;
        text(&made, "id").map(str::to_owned)
    }

    fn external_network(&mut self) -> Result<()> {
        let network =
            self.make("network", &json!({ "name": "internet", "router:external": true }))?;
        let address = |last: u32| Ipv4Addr::from(u32::from(PUBLIC_ADDRESSES.network()) + last);
        // Routers get theirs from the pool, and the lab gives floating addresses by hand.
        self.make(
            "subnet",
            &json!({
                "network_id": network,
                "ip_version": 4,
                "cidr": PUBLIC_ADDRESSES,
                "gateway_ip": address(1),
                "enable_dhcp": false,
                "allocation_pools": [{ "start": address(240), "end": address(250) }],
            }),
        )?;
        self.seeded.networks.insert("internet".to_owned(), network);
        Ok(())
    }

    fn subnet(&mut self, subnet: &Subnet) -> Result<()> {
        let of_natd = json!({ "name": subnet.name, "project_id": self.project });
        let network = self.make("network", &of_natd)?;
        let id = self.make(
            "subnet",
            &json!({
                "name": subnet.name,
                "project_id": self.project,
                "network_id": network,
                "ip_version": 4,
                "cidr": subnet.block,
            }),
        )?;
        self.seeded.networks.insert(subnet.name.to_owned(), network);
        self.seeded.ids.subnets.insert(subnet.name.to_owned(), id);
        Ok(())
    }

    fn routers(&mut self) -> Result<()> {
        let by_host_routes = self.topology.host_routes;
        let (outside, inside): (Vec<_>, Vec<_>) =
            self.topology.subnets.iter().partition(|subnet| subnet.public || by_host_routes);
        let edge = self.router(EDGE, true)?;
        for subnet in outside {
            self.gateway(&edge, subnet)?;
        }
        let owners: Vec<_> =
            inside.iter().filter(|subnet| subnet.name.starts_with("private")).collect();
        let mut routers = Vec::new();
        for owner in &owners {
            let router = self.router(owner.name, self.has_public_address(owner))?;
            self.gateway(&router, owner)?;
            routers.push((owner.name, router));
        }
        for subnet in &inside {
            let mut others = routers.iter().filter(|(name, _)| *name != subnet.name).peekable();
            if !owners.iter().any(|owner| owner.name == subnet.name) {
                let (_, first) = others.next().context("a topology without private subnets")?;
                self.gateway(first, subnet)?;
            }
            for (number, (_, router)) in others.enumerate() {
                self.further_interface(router, subnet, 2 + u32::try_from(number)?)?;
            }
        }
        Ok(())
    }

    fn router(&mut self, name: &str, to_the_internet: bool) -> Result<String> {
        let mut fields = json!({ "name": name, "project_id": self.project });
        if to_the_internet {
            let network = &self.seeded.networks["internet"];
            fields["external_gateway_info"] =
                json!({ "network_id": network, "enable_snat": false });
        }
        let router = self.make("router", &fields)?;
        self.seeded.routers.insert(name.to_owned(), router.clone());
        Ok(router)
    }

    /// A floating address takes a gateway to the internet on the router that is the subnet's gateway.
    fn has_public_address(&self, subnet: &Subnet) -> bool {
        let interfaces = || self.topology.interfaces().map(|(_, _, interface)| interface);
        interfaces().any(|interface| interface.subnet == subnet.name && interface.public.is_some())
    }

    /// Makes the router the subnet's gateway, and so what serves it.
    fn gateway(&mut self, router: &str, subnet: &Subnet) -> Result<()> {
        let by_host_routes = self.topology.host_routes;
        let mut interfaces = self.topology.interfaces().map(|(_, _, interface)| interface);
        let is_empty = !interfaces.any(|interface| interface.subnet == subnet.name);
        let ids = &mut self.seeded.ids;
        let id = ids.subnet(subnet.name).to_owned();
        // A neighbour can only serve hosts that are there.
        if !(by_host_routes && is_empty) {
            let table = if by_host_routes { &id } else { router };
            ids.tables.insert(subnet.name.to_owned(), table.to_owned());
        }
        self.attach(router, &json!({ "subnet_id": id }))
    }

    fn further_interface(&self, router: &str, subnet: &Subnet, last: u32) -> Result<()> {
        let port = self.make(
            "port",
            &json!({
                "network_id": self.seeded.networks[subnet.name],
                "project_id": self.project,
                "fixed_ips": [{
                    "subnet_id": self.seeded.ids.subnet(subnet.name),
                    "ip_address": Ipv4Addr::from(u32::from(subnet.block.network()) + last),
                }],
            }),
        )?;
        self.attach(router, &json!({ "port_id": port }))
    }

    fn attach(&self, router: &str, what: &Value) -> Result<()> {
        self.api.put(&format!("/v2.0/routers/{router}/add_router_interface"), what).map(drop)
    }

    /// Everything out, as groups are made; in, the NAT instance's group lets the whole network, and the clients' nothing.
    fn groups(&mut self) -> Result<()> {
        for name in ["clients", "nat"] {
            let group =
                self.make("security_group", &json!({ "name": name, "project_id": self.project }))?;
            self.seeded.ids.groups.insert(name.to_owned(), group);
        }
        for network in NETWORKS {
            let rule = json!({
                "security_group_id": self.seeded.ids.group("nat"),
                "project_id": self.project,
                "direction": "ingress",
                "ethertype": "IPv4",
                "remote_ip_prefix": network,
            });
            self.make("security_group_rule", &rule)?;
        }
        Ok(())
    }

    fn instance(&mut self, number: usize, instance: &Instance) -> Result<()> {
        // Nova would give it.
        let id = format!("5e12e7e5-0000-4000-8000-{number:012}");
        for (index, interface) in instance.interfaces.iter().enumerate() {
            let name = interface_name(&instance.name, index);
            let port = self.port(&name, &id, instance.role, interface)?;
            if let Some(public) = interface.public {
                let address = json!({
                    "floating_network_id": self.seeded.networks["internet"],
                    "floating_ip_address": public,
                    "project_id": self.project,
                    "port_id": port,
                    "fixed_ip_address": interface.address,
                });
                self.make("floatingip", &address)?;
            }
            self.seeded.ids.interfaces.insert(name, port);
        }
        self.seeded.ids.instances.insert(instance.name.clone(), id);
        Ok(())
    }

    fn port(
        &self,
        name: &str,
        instance: &str,
        role: Role,
        interface: &Interface,
    ) -> Result<String> {
        let ids = &self.seeded.ids;
        let addresses: Vec<_> = std::iter::once(interface.address)
            .chain(interface.secondary.iter().copied())
            .map(|address| json!({ "subnet_id": ids.subnet(interface.subnet), "ip_address": address }))
            .collect();
        let mut fields = json!({
            "name": name,
            "network_id": self.seeded.networks[interface.subnet],
            "project_id": self.project,
            "device_id": instance,
            "device_owner": "compute:nova",
            "fixed_ips": addresses,
            "security_groups": [ids.group(if role == Role::Nat { "nat" } else { "clients" })],
        });
        if self.topology.host_routes && role == Role::Nat {
            // Or DHCP would tell the NAT instance, too, that the way out is by the NAT instance.
            let subnet = self.topology.subnet(interface.subnet).context("no such subnet")?;
            let gateway = subnet.block.hosts().next().context("an empty subnet")?;
            let routes = format!("0.0.0.0/0,{gateway}");
            fields["extra_dhcp_opts"] =
                json!([{ "opt_name": CLASSLESS_ROUTES, "opt_value": routes, "ip_version": 4 }]);
        }
        self.make("port", &fields)
    }
}

/// DHCP's option 121, as dnsmasq calls it. A port that has its own isn't told the subnet's routes.
pub const CLASSLESS_ROUTES: &str = "classless-static-route";
