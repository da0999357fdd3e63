//! `OpenStack`: Keystone and Neutron themselves, and what the lab needs of them, in code that shares nothing with natd's
//! own provider.
//!
//! - [`prepared`]: the files that the servers start from.
//! - [`servers`]: the servers' processes.
//! - [`api`]: calls of their API.
//! - [`seed`]: makes the lab's topology in it.
//! - [`read`]: reads Neutron's state back, as a neutral [`Picture`].
//! - [`groups`]: the security groups in it.
//! - [`dialect`]: the API as instances call it.
//! - [`metadata`]: the metadata service.
//! - [`credential`]: what natd calls the API with.
//! - [`owner`]: what only a test of `OpenStack` does by hand.

pub mod api;
pub mod credential;
pub mod dialect;
pub mod groups;
pub mod metadata;
pub mod owner;
pub mod prepared;
pub mod read;
pub mod seed;
pub mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::calls::Calls;
use super::cloud::{Answers, Cloud, CloudKind, Ground, Starting};
use super::endpoint::Endpoint;
use super::fabric::Current;
use super::ids::Ids;
use super::namespace::Namespace;
use super::natd::Nat;
use super::picture::Picture;
use super::topology::{API, ENDPOINT, Topology};
use api::{Api, items, text};
use credential::Credential;
use dialect::{Identity, Networking};
use prepared::Environment;
use seed::Seeded;
use servers::{ApiServer, Service};

/// The servers themselves.
pub const KEYSTONE: SocketAddr = API;
pub const NEUTRON: SocketAddr = SocketAddr::new(API.ip(), 9696);
/// The servers as instances reach them.
pub const FRONT_OF_KEYSTONE: SocketAddr = ENDPOINT;
pub const FRONT_OF_NEUTRON: SocketAddr = SocketAddr::new(ENDPOINT.ip(), 9696);

/// A small `OpenStack`. The fields are dropped in their order.
#[derive(Debug)]
pub struct Openstack {
    pub seeded: Seeded,
    /// Whether hosts learn their routes by DHCP: a table is a subnet then, and else a router.
    host_routes: bool,
    two_interfaces: bool,
    /// How many routers were made since the cloud was seeded.
    further_routers: AtomicUsize,
    /// Networks by their subnet.
    networks: Arc<BTreeMap<String, String>>,
    credential: Credential,
    calls: Calls,
    fronts: [Endpoint; 2],
    api: Api,
    neutron: Mutex<ApiServer>,
    keystone: Mutex<ApiServer>,
    site: Site,
}

/// Where the servers run.
#[derive(Debug)]
struct Site {
    environment: Environment,
    router: Namespace,
    folder: PathBuf,
}

impl Site {
    fn start(&self, service: Service) -> Result<ApiServer> {
        ApiServer::start(&self.environment, &self.router, &self.folder, service)
    }
}

struct Launched {
    ground: Ground,
    site: Site,
    /// What an earlier lab of this topology kept.
    kept: Option<Value>,
    keystone: ApiServer,
    neutron: ApiServer,
}

/// Starts Keystone and Neutron.
pub fn start(ground: Ground) -> Result<Box<dyn Starting>> {
    let folder = ground.folder.join("openstack");
    let environment = Environment::find()?;
    let kept = environment.furnish(&folder, &ground.topology)?;
    let site = Site { environment, router: ground.router.clone(), folder };
    let (keystone, neutron) = (site.start(Service::Keystone)?, site.start(Service::Neutron)?);
    Ok(Box::new(Launched { ground, site, kept, keystone, neutron }))
}

impl Starting for Launched {
    fn seed(mut self: Box<Self>, topology: &Topology) -> Result<Arc<dyn Cloud>> {
        let Ground { router, changed, .. } = self.ground;
        self.keystone.wait(&router)?;
        let api = Api::new(router.clone(), changed);
        api.alone(|| self.neutron.wait(&router))?;
        let (seeded, credential) = match self.kept {
            Some(kept) => {
                (Seeded::from_kept(&kept["seeded"])?, Credential::from_kept(&kept["credential"])?)
            }
            None => make(&api, &self.site, topology)?,
        };
        let calls = Calls::default();
        let fronts = [
            Endpoint::start(&router, FRONT_OF_KEYSTONE, &calls, Identity(api.clone()))?,
            Endpoint::start(&router, FRONT_OF_NEUTRON, &calls, Networking(api.clone()))?,
        ];
        let network = |(name, subnet): (&String, &String)| {
            Some((subnet.clone(), seeded.networks.get(name)?.clone()))
        };
        Ok(Arc::new(Openstack {
            host_routes: topology.host_routes,
            further_routers: AtomicUsize::new(0),
            two_interfaces: seeded.ids.interfaces.contains_key("nat/eth1"),
            networks: Arc::new(seeded.ids.subnets.iter().filter_map(network).collect()),
            seeded,
            credential,
            calls,
            fronts,
            api,
            neutron: Mutex::new(self.neutron),
            keystone: Mutex::new(self.keystone),
            site: self.site,
        }))
    }
}

/// Makes the topology and natd's credential, and keeps the cloud that has them for labs to come.
fn make(api: &Api, site: &Site, topology: &Topology) -> Result<(Seeded, Credential)> {
    let accounts = Environment::accounts(&site.folder)?;
    let credential = Credential::new(api, &accounts, &Value::Null)?;
    let seeded = seed::seed(api, topology, &accounts)?;
    let kept = json!({ "seeded": seeded.kept(), "credential": credential.kept() });
    site.environment.keep(&site.folder, topology, &kept)?;
    Ok((seeded, credential))
}

impl Cloud for Openstack {
    fn kind(&self) -> CloudKind {
        CloudKind::Openstack
    }

    fn ids(&self) -> &Ids {
        &self.seeded.ids
    }

    fn picture(&self) -> Result<Picture> {
        read::read(&self.api, &self.ids().network)
    }

    fn metadata(&self, port: &str, current: &Current) -> Option<Answers> {
        let service = metadata::Service::new(port, current, &self.ids().network, &self.networks);
        Some(Box::new(move |request| Some(service.answer(request))))
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn furnish(&self, nat: &Nat) -> Result<()> {
        self.credential.furnish(nat)
    }

    fn configuration(&self) -> String {
        let routes = if self.host_routes { "routes = \"host_routes\"\n" } else { "" };
        let interface = if self.two_interfaces { "interface = \"eth1\"\n" } else { "" };
        format!(
            "provider = \"openstack\"\n\n[openstack]\ncloud = \"lab\"\n{routes}\n\
             [routes]\ntables = {:?}\n{interface}",
            self.ids().private_tables()
        )
    }

    fn target(&self) -> &str {
        self.ids().interface(if self.two_interfaces { "nat/eth1" } else { "nat/eth0" })
    }

    fn calls(&self) -> &Calls {
        &self.calls
    }

    fn writes(&self) -> &'static [(&'static str, u32)] {
        &[
            // A route that led elsewhere is replaced, and so is natd's own when it is given back.
            ("PUT /v2.0/routers/*", 1),
            ("PUT /v2.0/routers/*/add_extraroutes", 1),
            ("PUT /v2.0/routers/*/remove_extraroutes", 1),
            // Of both of its ports.
            ("PUT /v2.0/ports/*", 2),
        ]
    }

    fn state(&self) -> Result<BTreeMap<String, String>> {
        let mut state = BTreeMap::new();
        let mut note = |kind, fields: &[&str]| -> Result<()> {
            for object in self.api.list(kind)? {
                let name = format!("{kind} {} {}", text(&object, "name")?, text(&object, "id")?);
                let told =
                    fields.iter().map(|field| format!("{field}: {:#}\n", sorted(&object[*field])));
                state.insert(name, told.collect());
            }
            Ok(())
        };
        note("routers", &["routes"])?;
        note("subnets", &["host_routes"])?;
        note("ports", &["port_security_enabled", "allowed_address_pairs", "security_groups"])?;
        note("security_groups", &["security_group_rules"])?;
        Ok(state)
    }

    /// The lab's own calls go past the front and are still answered.
    fn interrupt(&self) -> Result<()> {
        self.fronts.iter().for_each(Endpoint::interrupt);
        Ok(())
    }

    /// Neutron is started anew, on the state that it left.
    fn resume(&self) -> Result<()> {
        self.restart()?;
        self.fronts.iter().try_for_each(Endpoint::resume)
    }

    fn route(&self, table: &str, destination: &str) -> Result<Option<String>> {
        let found =
            self.routes(table)?.into_iter().find(|route| route["destination"] == destination);
        let Some(route) = found else {
            return Ok(None);
        };
        let next = text(&route, "nexthop")?;
        let owner = self
            .api
            .list("ports")?
            .into_iter()
            .find(|port| items(port, "fixed_ips").any(|fixed| fixed["ip_address"] == next));
        owner.map_or(Ok(next.to_owned()), |port| text(&port, "id").map(str::to_owned)).map(Some)
    }

    fn point_route(&self, table: &str, destination: &str, target: &str) -> Result<()> {
        let next = self.next_hop(target)?;
        let route = json!({ "destination": destination, "nexthop": next });
        let mut routes = self.routes(table)?;
        let is_new = routes.iter().all(|route| route["destination"] != destination);
        if is_new && !self.host_routes {
            // Takes nothing away that somebody else has added meanwhile.
            let path = format!("/v2.0/routers/{table}/add_extraroutes");
            return self.api.put(&path, &json!({ "router": { "routes": [route] } })).map(drop);
        }
        routes.retain(|route| route["destination"] != destination);
        routes.push(route);
        self.set_routes(table, &routes)
    }

    /// Whose interface has that address, natd doesn't ask.
    fn told(&self, target: &str) -> String {
        self.next_hop(target).map_or(target.to_owned(), |address| format!("{address} (address)"))
    }

    fn remove_route(&self, table: &str, destination: &str) -> Result<()> {
        let mut routes = self.routes(table)?;
        routes.retain(|route| route["destination"] != destination);
        self.set_routes(table, &routes)
    }

    fn check(&self, interface: &str) -> Result<Option<bool>> {
        let port = self.port(interface)?;
        let open = items(&port, "allowed_address_pairs").any(is_everything);
        Ok(Some(port["port_security_enabled"] != false && !open))
    }

    /// By the pair for everything. Others stay.
    fn set_check(&self, interface: &str, on: bool) -> Result<()> {
        let port = self.port(interface)?;
        let others = items(&port, "allowed_address_pairs").filter(|pair| !is_everything(pair));
        let mut pairs: Vec<_> = others.cloned().collect();
        if !on {
            pairs.push(json!({ "ip_address": "0.0.0.0/0" }));
        }
        let fields = json!({ "port_security_enabled": true, "allowed_address_pairs": pairs });
        self.change_port(interface, &fields)
    }

    /// A router with an interface in the subnet of the port that natd's routes lead to: an extra route's next hop has
    /// to be in a subnet of the router's.
    fn new_table(&self) -> Result<String> {
        let project = &self.ids().network;
        let number = self.further_routers.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            // A project may have ten, unless told otherwise.
            let quota = json!({ "quota": { "router": -1, "port": -1 } });
            self.api.put(&format!("/v2.0/quotas/{project}"), &quota)?;
        }
        let fields = json!({ "name": "new", "project_id": project });
        let router = self.api.make("router", &fields)?;
        let router = text(&router, "id")?.to_owned();
        let target = self.port(self.target())?;
        let fixed = items(&target, "fixed_ips").next().context("a port without addresses")?;
        let neighbour: Ipv4Addr = text(fixed, "ip_address")?.parse().context("its address")?;
        // `Ids::elsewhere` is nobody's, and what is below has owners since the cloud was seeded.
        let mut free = (20..200).chain(201..255);
        let last: u32 = free.nth(number).context("the subnet is full")?;
        let port = self.api.make(
            "port",
            &json!({
                "network_id": target["network_id"],
                "project_id": project,
                "fixed_ips": [{
                    "subnet_id": fixed["subnet_id"],
                    "ip_address": Ipv4Addr::from(u32::from(neighbour) & !0xff | last),
                }],
            }),
        )?;
        let interface = json!({ "port_id": text(&port, "id")? });
        self.api.put(&format!("/v2.0/routers/{router}/add_router_interface"), &interface)?;
        Ok(router)
    }
}

impl Openstack {
    /// A table's kind in the API, the path of that one, and the field with its routes.
    fn table(&self, table: &str) -> (&'static str, String, &'static str) {
        if self.host_routes {
            ("subnet", format!("/v2.0/subnets/{table}"), "host_routes")
        } else {
            ("router", format!("/v2.0/routers/{table}"), "routes")
        }
    }

    fn routes(&self, table: &str) -> Result<Vec<Value>> {
        let (kind, path, field) = self.table(table);
        let answer = self.api.get(&path)?;
        Ok(items(&answer[kind], field).cloned().collect())
    }

    fn set_routes(&self, table: &str, routes: &[Value]) -> Result<()> {
        let (kind, path, field) = self.table(table);
        self.api.put(&path, &json!({ kind: { field: routes } })).map(drop)
    }

    /// A target as routes name it: by its address.
    fn next_hop(&self, target: &str) -> Result<String> {
        if target.contains('.') {
            return Ok(target.to_owned());
        }
        let port = self.port(target)?;
        let fixed = items(&port, "fixed_ips").next().context("a port without addresses")?;
        Ok(text(fixed, "ip_address")?.to_owned())
    }

    /// A port as Neutron describes it.
    pub fn port(&self, id: &str) -> Result<Value> {
        Ok(self.api.get(&format!("/v2.0/ports/{id}"))?["port"].take())
    }

    /// Changes fields of a port.
    pub fn change_port(&self, id: &str, fields: &Value) -> Result<()> {
        self.api.put(&format!("/v2.0/ports/{id}"), &json!({ "port": fields })).map(drop)
    }

    /// Adds a section to Keystone's configuration, and starts it anew.
    pub fn change_keystone(&self, section: &str) -> Result<()> {
        let file = self.site.folder.join("keystone.conf");
        let mut text = fs::read_to_string(&file).context("keystone.conf")?;
        text.push_str(section);
        fs::write(&file, text).context("keystone.conf")?;
        let mut keystone = self.keystone.lock().unwrap_or_else(PoisonError::into_inner);
        self.api.alone(|| {
            keystone.end();
            *keystone = self.site.start(Service::Keystone)?;
            keystone.wait(&self.site.router)
        })
    }

    fn restart(&self) -> Result<()> {
        let mut neutron = self.neutron.lock().unwrap_or_else(PoisonError::into_inner);
        self.api.alone(|| {
            neutron.end();
            *neutron = self.site.start(Service::Neutron)?;
            neutron.wait(&self.site.router)
        })
    }
}

/// Whether an address pair is for every address.
fn is_everything(pair: &Value) -> bool {
    pair["ip_address"].as_str().is_some_and(|block| block.ends_with("/0"))
}

/// The order of Neutron's lists means nothing.
fn sorted(value: &Value) -> Value {
    let Value::Array(elements) = value else {
        return value.clone();
    };
    let mut elements = elements.clone();
    elements.sort_by_key(Value::to_string);
    Value::Array(elements)
}
