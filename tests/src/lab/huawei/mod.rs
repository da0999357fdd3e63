//! Huawei Cloud: what the lab needs of it, in code that shares nothing with natd's own provider.
//!
//! The API is a stand-in in Python (`tests/huawei`), which checks every signature with the official SDK.
//!
//! - [`stand_in`]: the process that keeps the cloud's state.
//! - [`owner`]: the owner's side of it.
//! - [`seed`]: makes the lab's topology in that state.
//! - [`read`]: reads that state back, as a neutral [`Picture`].
//! - [`dialect`]: the API as instances call it.
//! - [`metadata`]: the metadata service, and the agency's keys.

pub mod dialect;
pub mod metadata;
pub mod owner;
pub mod read;
pub mod seed;
pub mod stand_in;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Lab;
use super::build::Builder;
use super::calls::Calls;
use super::cloud::{Answers, Cloud, CloudKind, Ground, Starting};
use super::endpoint::Endpoint;
use super::fabric::Current;
use super::ids::Ids;
use super::namespace::Namespace;
use super::picture::Picture;
use super::topology::{ENDPOINT, Topology};
use dialect::Rest;
use metadata::{Service, Settings};
use owner::Owner;
use stand_in::StandIn;

/// The lab's region, zone and project.
pub const REGION: &str = "lab-south-1";
pub const ZONE: &str = "lab-south-1a";
pub const PROJECT: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
/// Among the allowed address pairs of a port it switches the source/destination check off.
pub const CHECK_OFF: &str = "1.1.1.1/0";

impl Lab {
    /// A lab of Huawei Cloud, with options.
    pub fn huawei() -> Builder {
        Builder::of(CloudKind::Huawei)
    }

    /// The lab's Huawei Cloud.
    ///
    /// # Panics
    /// If its cloud is another.
    pub fn as_huawei(&self) -> &Huawei {
        self.cloud_of()
    }
}

/// A small Huawei Cloud. The fields are dropped in their order.
#[derive(Debug)]
pub struct Huawei {
    ids: Ids,
    calls: Calls,
    endpoint: Endpoint,
    /// The metadata service's settings.
    pub metadata: Settings,
    /// The owner's side.
    pub owner: Owner,
    stand_in: Mutex<Option<StandIn>>,
    router: Namespace,
    folder: PathBuf,
}

struct Launched {
    ground: Ground,
    stand_in: StandIn,
}

/// Starts the stand-in.
pub fn start(ground: Ground) -> Result<Box<dyn Starting>> {
    let stand_in = StandIn::start(&ground.router, &ground.folder)?;
    Ok(Box::new(Launched { ground, stand_in }))
}

impl Starting for Launched {
    fn seed(mut self: Box<Self>, topology: &Topology) -> Result<Arc<dyn Cloud>> {
        let Ground { router, changed, folder, .. } = self.ground;
        self.stand_in.wait()?;
        let owner = Owner::new(router.clone(), changed.clone());
        let seeded = seed::seed(topology)?;
        owner.change("PUT", "/state", &seeded.state)?;
        let calls = Calls::default();
        let dialect = Rest { router: router.clone(), changed };
        let endpoint = Endpoint::start(&router, ENDPOINT, &calls, dialect)?;
        Ok(Arc::new(Huawei {
            ids: seeded.ids,
            calls,
            endpoint,
            metadata: Settings::default(),
            owner,
            stand_in: Mutex::new(Some(self.stand_in)),
            router,
            folder,
        }))
    }
}

impl Huawei {
    /// Gives the NAT instance's agency a new key, and has the old one be good no more.
    pub fn rotate_keys(&self) -> Result<()> {
        let path = format!("/securitykey/{}", self.ids.instance("nat"));
        self.owner.change("POST", &path, &json!({}))
    }

    /// Allows these actions and no others from now on; `None` allows all.
    pub fn allow(&self, actions: Option<&[&str]>) -> Result<()> {
        let policy = actions.map(|actions| {
            json!({ "Version": "1.1", "Statement": [{ "Effect": "Allow", "Action": actions }] })
        });
        self.owner.set(&json!({ "policy": policy }))
    }

    /// The allowed address pairs of a port, as the API shows them.
    pub fn pairs(&self, port: &str) -> Result<Value> {
        Ok(self.state_of("ports", port)?["allowed_address_pairs"].clone())
    }

    /// Gives it others.
    pub fn set_pairs(&self, port: &str, pairs: &Value) -> Result<()> {
        let pairs = json!({ "allowed_address_pairs": pairs });
        self.owner.change("PATCH", &format!("/resources/ports/{port}"), &pairs)
    }

    fn state_of(&self, kind: &str, id: &str) -> Result<Value> {
        let state = self.owner.get("/state")?;
        state["resources"][kind].get(id).cloned().with_context(|| format!("no {id} in {kind}"))
    }
}

impl Cloud for Huawei {
    fn kind(&self) -> CloudKind {
        CloudKind::Huawei
    }

    fn ids(&self) -> &Ids {
        &self.ids
    }

    fn picture(&self) -> Result<Picture> {
        read::read(&self.owner.get("/state")?, &self.ids)
    }

    fn metadata(&self, port: &str, current: &Current) -> Option<Answers> {
        let service = Service {
            port: port.to_owned(),
            current: Arc::clone(current),
            settings: self.metadata.clone(),
            owner: self.owner.clone(),
        };
        Some(Box::new(move |request| Some(service.answer(request))))
    }

    /// Keys come from the agency.
    fn environment(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn configuration(&self) -> String {
        format!(
            "provider = \"huawei\"\n\n[huawei]\nendpoint = \"http://{ENDPOINT}\"\n\
             iam_endpoint = \"http://{ENDPOINT}\"\n\n[routes]\ntables = {:?}\n",
            self.ids.private_tables()
        )
    }

    fn calls(&self) -> &Calls {
        &self.calls
    }

    fn writes(&self) -> &'static [(&'static str, u32)] {
        &[("vpc:routeTables:update", 2), ("vpc:ports:update", 1)]
    }

    /// Routes and address pairs to the byte.
    fn state(&self) -> Result<BTreeMap<String, String>> {
        let whole = self.owner.get("/state")?;
        let mut state = BTreeMap::new();
        for (name, id) in &self.ids.tables {
            let routes = format!("{:#}", whole["resources"]["routetables"][id]["routes"]);
            state.insert(format!("routes of {name}"), routes);
        }
        for (name, id) in &self.ids.interfaces {
            let port = format!("{:#}", whole["resources"]["ports"][id]);
            state.insert(format!("port of {name}"), port);
        }
        Ok(state)
    }

    /// The server dies, with all that it has in memory.
    fn interrupt(&self) -> Result<()> {
        self.endpoint.interrupt();
        *self.stand_in.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn resume(&self) -> Result<()> {
        let mut stand_in = StandIn::start(&self.router, &self.folder)?;
        stand_in.wait()?;
        *self.stand_in.lock().unwrap_or_else(PoisonError::into_inner) = Some(stand_in);
        self.endpoint.resume()
    }

    fn route(&self, table: &str, destination: &str) -> Result<Option<String>> {
        let state = self.owner.get("/state")?;
        let routes = state["resources"]["routetables"][table]["routes"].as_array();
        let routes = routes.with_context(|| format!("no table {table}"))?;
        let found = routes.iter().find(|route| route["destination"] == destination);
        Ok(found.map(|route| {
            read::port_of_route(&state, route)
                .unwrap_or_else(|| route["nexthop"].as_str().unwrap_or("nothing").to_owned())
        }))
    }

    /// To an instance's first interface by its server, to others by themselves.
    fn point_route(&self, table: &str, destination: &str, target: &str) -> Result<()> {
        let found = self.ids.interfaces.iter().find(|(_, id)| *id == target);
        match found.map(|(name, _)| name.split_once("/eth").unwrap_or((name, "0"))) {
            Some((instance, "0")) => {
                let server = self.ids.instance(instance);
                self.owner.put_route(table, "ecs", destination, server)
            }
            Some(_) => self.owner.put_route(table, "eni", destination, target),
            None => self.owner.put_route(table, "peering", destination, target),
        }
    }

    /// By its server: whose interface that is, natd has no permission to ask.
    fn told(&self, target: &str) -> String {
        let found = self.ids.interfaces.iter().find(|(_, id)| *id == target);
        let instance = found.and_then(|(name, _)| name.strip_suffix("/eth0"));
        instance.map_or(target.to_owned(), |name| format!("{} (ecs)", self.ids.instance(name)))
    }

    fn remove_route(&self, table: &str, destination: &str) -> Result<()> {
        self.owner.remove_route(table, destination)
    }

    fn check(&self, interface: &str) -> Result<Option<bool>> {
        let pairs = self.pairs(interface)?;
        let off = pairs.as_array().context("no pairs")?;
        Ok(Some(off.iter().all(|pair| pair["ip_address"] != CHECK_OFF)))
    }

    fn set_check(&self, interface: &str, on: bool) -> Result<()> {
        let pairs = self.pairs(interface)?;
        let is_other = |pair: &&Value| pair["ip_address"] != CHECK_OFF;
        let mut kept: Vec<_> =
            pairs.as_array().context("no pairs")?.iter().filter(is_other).cloned().collect();
        if !on {
            kept.push(json!({ "ip_address": CHECK_OFF }));
        }
        self.set_pairs(interface, &kept.into())
    }

    fn new_table(&self) -> Result<String> {
        let state = self.owner.get("/state")?;
        let tables = state["resources"]["routetables"].as_object().context("no tables")?;
        let id = format!("6a0c9f3b-82d5-4e1f-8b47-{:012x}", tables.len());
        let table = seed::table("further", false, &self.ids.network, &[]);
        self.owner.change("PUT", &format!("/resources/routetables/{id}"), &table)?;
        Ok(id)
    }
}
