//! The host of a world.

use std::{collections::BTreeSet, net::IpAddr};

use async_trait::async_trait;
use natd_core::{
    canary::{Flight, Sighting},
    error::{Error, Kind, Result},
    host::{
        AtBoot, Canary, Conntrack, Depth, Egress, Firewall, Links, Loaded, NeighbouringFirewall,
        Sysctl, SysctlKey,
    },
    model::InterfaceName,
    neighbours::{Neighbour, Passage},
    network::{Flow, Network},
    persist::{Boot, Edit, FileSeen, Form, HostPath, Part, ServiceName},
    ruleset::{FirewallKind, Rendering},
};

use super::World;

pub(super) struct BackEnd {
    pub(super) world: World,
    pub(super) kind: FirewallKind,
}

#[async_trait]
impl Firewall for BackEnd {
    fn kind(&self) -> FirewallKind {
        self.kind
    }
    async fn loaded(&self, _: Depth) -> Result<Option<Loaded>> {
        self.world.ask("read rules")?;
        Ok(self.world.state().rules.get(&self.kind).cloned())
    }
    async fn load(&self, rendering: &Rendering) -> Result<()> {
        let loaded = Loaded { digest: Some(rendering.digest.clone()), damage: Vec::new() };
        self.world.change(format!("load {}", self.kind), |state| {
            state.rules.insert(self.kind, loaded);
        })
    }
    async fn unload(&self) -> Result<()> {
        self.world.change(format!("unload {}", self.kind), |state| {
            state.rules.remove(&self.kind);
        })
    }
}

pub(super) struct Beside {
    pub(super) world: World,
    pub(super) who: Neighbour,
}

#[async_trait]
impl NeighbouringFirewall for Beside {
    fn who(&self) -> Neighbour {
        self.who
    }
    async fn is_running(&self) -> Result<bool> {
        Ok(true)
    }
    async fn passage(&self, _: Option<&Passage>) -> Result<Option<Loaded>> {
        Ok(self.world.state().passages.get(&self.who).cloned())
    }
    async fn open(&self, passage: &Passage) -> Result<()> {
        let open = Loaded { digest: Some(passage.digest()), damage: Vec::new() };
        self.world.change(format!("open {}", self.who), |state| {
            state.passages.insert(self.who, open);
        })
    }
    async fn close(&self) -> Result<()> {
        self.world.change(format!("close {}", self.who), |state| {
            state.passages.remove(&self.who);
        })
    }
}

impl Sysctl for World {
    fn read(&self, key: &SysctlKey) -> Result<Option<String>> {
        Ok(self.state().sysctls.get(key).cloned())
    }
    fn write(&self, key: &SysctlKey, value: &str) -> Result<()> {
        if !self.state().sysctls.contains_key(key) {
            return Err(Error::new(Kind::NotFound, format!("set {key}"), "there is no such key"));
        }
        self.change(format!("sysctl {key}"), |state| {
            state.sysctls.insert(key.clone(), value.to_owned());
        })
    }
}

#[async_trait]
impl Links for World {
    async fn network(&self) -> Result<Network> {
        Ok(Network::default())
    }
    async fn listening(&self) -> Result<BTreeSet<u16>> {
        Ok(BTreeSet::new())
    }
}

#[async_trait]
impl Conntrack for World {
    async fn load(&self) -> Result<()> {
        self.change("load conntrack".to_owned(), |state| {
            let key = SysctlKey::global("net/netfilter/nf_conntrack_max");
            state.sysctls.entry(key).or_insert_with(|| "65536".to_owned());
        })
    }
    async fn delete_where(
        &self,
        _: &(dyn for<'a> Fn(&'a Flow) -> bool + Send + Sync),
    ) -> Result<usize> {
        Ok(0)
    }
}

#[async_trait]
impl Egress for World {
    async fn reach(&self, _: &str, _: &InterfaceName, _: Option<IpAddr>) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Canary for World {
    async fn fly(&self, _: &Flight<'_>) -> Result<Vec<Sighting>> {
        Err(Error::new(Kind::Unsupported, "send a canary", "this world has no packets"))
    }
}

#[async_trait]
impl AtBoot for World {
    fn facts(&self) -> Boot {
        Boot::default()
    }
    fn look(&self, path: &HostPath, form: Form) -> Result<FileSeen> {
        let state = self.state();
        let file = state.files.get(path);
        let content = file.map(|(content, _)| content.as_str());
        Ok(FileSeen::new(form, content, file.map(|(_, mode)| *mode), Vec::new()))
    }
    fn write(&self, path: &HostPath, part: &Part) -> Result<()> {
        self.change(format!("write {path}"), |state| {
            let there = state.files.get(path);
            let run = if part.is_executable() { 0o111 } else { 0 };
            let mode = there.map_or(part.mode, |(_, mode)| mode | run);
            let content = part.form.put(there.map(|(content, _)| content.as_str()), &part.text);
            state.files.insert(path.clone(), (content, mode));
        })
    }
    fn remove(&self, path: &HostPath, form: Form, mode: Option<u32>, _: &[HostPath]) -> Result<()> {
        self.change(format!("remove {path}"), |state| {
            let Some((content, now)) = state.files.remove(path) else { return };
            if let Edit::Content(content) = form.take_out(&content) {
                state.files.insert(path.clone(), (content, mode.unwrap_or(now)));
            }
        })
    }
    fn is_enabled(&self, service: &ServiceName) -> bool {
        self.state().services.contains(service)
    }
    async fn enable(&self, service: &ServiceName, enabled: bool) -> Result<()> {
        self.change(format!("enable {service} {enabled}"), |state| {
            if enabled {
                state.services.insert(service.clone());
            } else {
                state.services.remove(service);
            }
        })
    }
}
