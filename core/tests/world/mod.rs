//! A cloud and a host in memory, which can die after any number of changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    apply::{Attempt, Cloud, Outcome, Tools, apply},
    canary::{Flight, Sighting},
    cloud::{
        CheckSettings, Instance, Interface, InterfaceFacts, Provider, RouteTable, RouteTables,
        SecurityRules, SourceDestCheck, TableFacts, TableSelector,
    },
    desired::Desired,
    error::{Error, Kind, Result},
    host::{
        AtBoot, Canary, Conntrack, Depth, Egress, Firewall, Host, Links, Loaded,
        NeighbouringFirewall, Sysctl, SysctlKey,
    },
    journal::JournalFile,
    model::{
        InterfaceId, InterfaceName, MacAddress, NextHop, Route, RouteKey, RouteOrigin, RouteState,
        RouteTableId,
    },
    neighbours::{Neighbour, Passage},
    network::{Flow, Network},
    observed::Observed,
    persist::{Boot, Edit, FileSeen, Form, HostPath, Part, ServiceName, places},
    plan::{Plan, plan},
    proof::Course,
    ruleset::{FirewallKind, Rendering},
};
use tokio::sync::OnceCell;

/// All that there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub rules: BTreeMap<FirewallKind, Loaded>,
    pub sysctls: BTreeMap<SysctlKey, String>,
    pub checks: BTreeMap<InterfaceId, bool>,
    pub routes: BTreeMap<RouteKey, Route>,
    /// Content and permissions.
    pub files: BTreeMap<HostPath, (String, u32)>,
    pub services: BTreeSet<ServiceName>,
    /// What natd has in other firewalls.
    pub passages: BTreeMap<Neighbour, Loaded>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// What was changed, in order.
    changes: Vec<String>,
    /// After that many changes nothing answers any more.
    lives: Option<usize>,
}

/// A world to share.
#[derive(Debug, Clone, Default)]
pub struct World(Arc<Mutex<Inner>>);

/// The tables of this world.
pub const TABLES: [&str; 3] = ["rtb-a", "rtb-b", "rtb-c"];
/// The services that can be started at boot.
pub const SERVICES: [&str; 4] = ["ip6tables", "iptables", "netfilter-persistent", "nftables"];
/// Other firewalls of this machine.
pub const NEIGHBOURS: [Neighbour; 2] = [Neighbour::Docker, Neighbour::Ufw];
/// The interfaces of this machine.
pub const INTERFACES: [&str; 2] = ["eni-0", "eni-1"];

impl World {
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(Inner { state, ..Inner::default() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("not poisoned")
    }

    pub fn state(&self) -> State {
        self.inner().state.clone()
    }

    pub fn changes(&self) -> Vec<String> {
        self.inner().changes.clone()
    }

    pub fn edit(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.inner().state);
    }

    /// Dies after that many more changes.
    pub fn dies_after(&self, changes: usize) {
        let mut inner = self.inner();
        inner.lives = Some(inner.changes.len() + changes);
    }

    pub fn revive(&self) {
        self.inner().lives = None;
    }

    fn change(&self, what: String, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut inner = self.inner();
        if inner.lives.is_some_and(|lives| inner.changes.len() >= lives) {
            return Err(Error::new(Kind::Unreachable, what, "the world is dead"));
        }
        inner.changes.push(what);
        change(&mut inner.state);
        Ok(())
    }

    /// What natd would observe.
    pub fn observed(&self) -> Observed {
        let state = self.state();
        Observed {
            rules: state.rules,
            passages: state.passages,
            sysctls: state.sysctls,
            checks: state.checks,
            check_settings: BTreeMap::new(),
            files: places()
                .into_iter()
                .map(|(path, form)| {
                    let seen = self.look(&path, form).expect("a world can be looked at");
                    (path, seen)
                })
                .collect(),
            services: SERVICES
                .iter()
                .map(|name| ServiceName::new(name))
                .map(|name| (name.clone(), state.services.contains(&name)))
                .collect(),
            tables: TABLES.iter().map(|id| id.parse().expect("an id")).collect(),
            routes: state.routes,
        }
    }

    fn host(&self) -> Host {
        let this = Arc::new(self.clone());
        let firewall = |kind| {
            let firewall: Arc<dyn Firewall> = Arc::new(BackEnd { world: self.clone(), kind });
            (kind, firewall)
        };
        Host {
            firewalls: [FirewallKind::Nftables, FirewallKind::Iptables].map(firewall).into(),
            sysctl: this.clone(),
            links: this.clone(),
            conntrack: this.clone(),
            egress: this.clone(),
            canary: this.clone(),
            boot: this,
            neighbours: NEIGHBOURS
                .into_iter()
                .map(|who| (who, Arc::new(Beside { world: self.clone(), who }) as _))
                .collect(),
        }
    }

    fn tables(&self) -> BTreeMap<RouteTableId, Arc<dyn RouteTable>> {
        let state = self.state();
        TABLES
            .iter()
            .map(|id| {
                let id: RouteTableId = id.parse().expect("an id");
                let routes = state
                    .routes
                    .iter()
                    .filter(|(key, _)| key.table == id)
                    .map(|(_, route)| route.clone())
                    .collect();
                let facts = TableFacts {
                    id: id.clone(),
                    subnets: BTreeSet::new(),
                    tags: BTreeSet::new(),
                    routes,
                };
                let table: Arc<dyn RouteTable> = Arc::new(Table { world: self.clone(), facts });
                (id, table)
            })
            .collect()
    }

    fn interfaces(&self) -> BTreeMap<InterfaceId, Arc<dyn Interface>> {
        self.state()
            .checks
            .into_iter()
            .map(|(id, on)| {
                let facts = InterfaceFacts {
                    id: id.clone(),
                    mac: MacAddress([2, 0, 0, 0, 0, 1]),
                    addresses: Vec::new(),
                    subnet: "subnet-0".parse().expect("an id"),
                    source_dest_check: if on {
                        SourceDestCheck::On { overwrites: None }
                    } else {
                        SourceDestCheck::Off
                    },
                    security: Ok(SecurityRules {
                        inbound: BTreeSet::new(),
                        inbound_by_reference: false,
                        outbound: true,
                    }),
                };
                let port: Arc<dyn Interface> = Arc::new(Port { world: self.clone(), facts });
                (id, port)
            })
            .collect()
    }

    /// What a tick would do.
    pub fn plan(&self, desired: &Desired, root: &Path) -> (Plan, JournalFile) {
        let journal = JournalFile::open(root, None).expect("the journal opens");
        let plan = plan(desired, &self.observed(), &journal.journal, &BTreeSet::new(), &[]);
        (plan, journal)
    }

    /// One tick: plans towards `desired` and runs the plan, with the journal in that folder.
    pub async fn tick(&self, desired: &Desired, root: &Path) -> (Plan, Vec<Attempt>) {
        let (plan, mut journal) = self.plan(desired, root);
        let host = self.host();
        let tools = Tools {
            host: &host,
            cloud: Some(Cloud {
                provider: self,
                interfaces: self.interfaces(),
                tables: self.tables(),
            }),
            network: &Network::default(),
            course: desired.rules.as_ref().map(|rules| Course { rules, targets: &[] }),
            evidence: OnceCell::new(),
            patience: Duration::ZERO,
            concurrency: NonZeroUsize::MIN,
            held_back: None,
        };
        let attempts = apply(&plan, &tools, &mut journal).await;
        (plan, attempts)
    }
}

/// Whether every step came out.
pub fn all_done(attempts: &[Attempt]) -> bool {
    attempts.iter().all(|attempt| matches!(attempt.outcome, Outcome::Done { .. }))
}

struct BackEnd {
    world: World,
    kind: FirewallKind,
}

#[async_trait]
impl Firewall for BackEnd {
    fn kind(&self) -> FirewallKind {
        self.kind
    }
    async fn loaded(&self, _: Depth) -> Result<Option<Loaded>> {
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

struct Beside {
    world: World,
    who: Neighbour,
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
        Ok(FileSeen {
            form,
            own: file.and_then(|(content, _)| form.own(content)),
            in_place: file.is_none_or(|(content, _)| form.in_place(content)),
            mode: file.map(|(_, mode)| *mode),
            missing: Vec::new(),
        })
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

struct Port {
    world: World,
    facts: InterfaceFacts,
}

#[async_trait]
impl Interface for Port {
    fn facts(&self) -> &InterfaceFacts {
        &self.facts
    }
    async fn set_source_dest_check(&self, enabled: bool, _: Option<&CheckSettings>) -> Result<()> {
        self.world.change(format!("check {} {enabled}", self.facts.id), |state| {
            state.checks.insert(self.facts.id.clone(), enabled);
        })
    }
    async fn source_dest_check(&self) -> Result<bool> {
        let Port { facts, .. } = self;
        Ok(self.world.interfaces()[&facts.id].facts().source_dest_check.is_on())
    }
}

struct Table {
    world: World,
    facts: TableFacts,
}

#[async_trait]
impl RouteTable for Table {
    fn facts(&self) -> &TableFacts {
        &self.facts
    }
    async fn put(&self, destination: IpNet, next_hop: &NextHop) -> Result<()> {
        let key = RouteKey { table: self.facts.id.clone(), destination };
        let route = Route {
            destination,
            next_hop: next_hop.clone(),
            state: RouteState::Active,
            origin: RouteOrigin::Static,
        };
        self.world.change(format!("put {key}"), |state| {
            state.routes.insert(key, route);
        })
    }
    async fn remove(&self, destination: IpNet) -> Result<()> {
        let key = RouteKey { table: self.facts.id.clone(), destination };
        self.world.change(format!("remove {key}"), |state| {
            state.routes.remove(&key);
        })
    }
}

#[async_trait]
impl Provider for World {
    fn name(&self) -> &'static str {
        "world"
    }
    async fn instance(&self) -> Result<Instance> {
        Err(Error::new(Kind::Unsupported, "tell who I am", "this world has no instances"))
    }
    async fn interfaces(&self) -> Result<Vec<Arc<dyn Interface>>> {
        Ok(World::interfaces(self).into_values().collect())
    }
    async fn route_tables(&self, _: &TableSelector) -> Result<RouteTables> {
        Ok(RouteTables { found: self.tables().into_values().collect(), missing: Vec::new() })
    }
}

/// An address for rules.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 10);
