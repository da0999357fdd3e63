//! A cloud and a host in memory, which can die after any number of changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use natd_core::{
    apply::{Attempt, Cloud, Outcome, Tools, apply},
    cloud::{Interface, InterfaceFacts, RouteTable, SecurityRules, SourceDestCheck, TableFacts},
    desired::Desired,
    error::{Error, Kind, Result},
    host::{AtBoot, Firewall, Host, Loaded, SysctlKey},
    journal::JournalFile,
    model::{InterfaceId, MacAddress, Route, RouteKey, RouteTableId},
    neighbours::Neighbour,
    network::Network,
    observed::Observed,
    persist::{HostPath, ServiceName, places},
    plan::{Plan, plan},
    proof::Course,
    ruleset::FirewallKind,
};
use tokio::sync::OnceCell;

mod cloud;
mod host;
pub mod mischief;
pub mod random;

use cloud::{Port, Table};
use host::{BackEnd, Beside};
use mischief::{Fate, Mischief, fault, kill};

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
    /// What goes wrong.
    mischief: Option<Mischief>,
    /// What the cloud shows in place of what there is.
    outdated: Option<State>,
    /// What natd must never do, and did.
    wrongs: Vec<String>,
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

    /// Has things go wrong from now on, or no more. Gives what went wrong so far.
    pub fn suffers(&self, mischief: Option<Mischief>) -> Option<Mischief> {
        std::mem::replace(&mut self.inner().mischief, mischief)
    }

    /// Has the cloud show that in place of what there is.
    pub fn shows(&self, outdated: Option<State>) {
        self.inner().outdated = outdated;
    }

    /// What natd must never do, and did.
    pub fn wrongs(&self) -> Vec<String> {
        self.inner().wrongs.clone()
    }

    fn ask(&self, what: &str) -> Result<()> {
        self.inner().mischief.as_mut().map_or(Ok(()), |mischief| mischief.answer(what))
    }

    /// The state as the cloud shows it.
    fn shown(&self) -> State {
        let inner = self.inner();
        inner.outdated.as_ref().unwrap_or(&inner.state).clone()
    }

    fn change(&self, what: String, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut inner = self.inner();
        if inner.lives.is_some_and(|lives| inner.changes.len() >= lives) {
            return Err(Error::new(Kind::Unreachable, what, "the world is dead"));
        }
        let fate = match &mut inner.mischief {
            Some(mischief) => mischief.fate(&what),
            None => Fate::Made,
        };
        match fate {
            Fate::Refused(kind) => return Err(fault(kind, &what)),
            Fate::KilledBefore => {
                drop(inner);
                kill();
            }
            _ => {}
        }
        inner.changes.push(what.clone());
        change(&mut inner.state);
        drop(inner);
        match fate {
            Fate::MadeUnheard(kind) => Err(fault(kind, &what)),
            Fate::KilledAfter => kill(),
            _ => Ok(()),
        }
    }

    /// What natd would observe.
    pub fn observed(&self) -> Observed {
        let (state, shown) = (self.state(), self.shown());
        Observed {
            rules: state.rules,
            passages: state.passages,
            sysctls: state.sysctls,
            checks: shown.checks,
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
            routes: shown.routes,
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
        let state = self.shown();
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
        self.shown()
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
        let attempts = self.run(&plan, desired, &mut journal).await;
        (plan, attempts)
    }

    /// Runs a plan.
    pub async fn run(
        &self,
        plan: &Plan,
        desired: &Desired,
        journal: &mut JournalFile,
    ) -> Vec<Attempt> {
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
        apply(plan, &tools, journal).await
    }
}

/// Whether every step came out.
pub fn all_done(attempts: &[Attempt]) -> bool {
    attempts.iter().all(|attempt| matches!(attempt.outcome, Outcome::Done { .. }))
}

/// An address for rules.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 10);
