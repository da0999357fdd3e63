//! A cloud in memory, with a provider that can have one defect.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use ipnet::IpNet;
use natd_core::{
    cloud::{
        Address, CheckSettings, Instance, Interface, InterfaceFacts, OwnSubnet, Provider,
        PublicAddress, RouteTable, RouteTables, SecurityRules, SourceDestCheck, TableFacts,
        TableSelector,
    },
    error::{Error, Kind, Result},
    model::{InterfaceId, NextHop, Route, RouteOrigin, RouteState, RouteTableId},
};
use natd_providers::contract::Promise;

/// What is wrong with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    IdentityChanges,
    NoBlocks,
    InterfaceTwice,
    ListShowsTheCheckOff,
    EmptySelectorFindsAll,
    OwnSubnetForgotten,
    TableFoundTwice,
    TablesOutOfOrder,
    RoutesOfTheFirstPageOnly,
    AbsentTableFailsAll,
    AbsentTableIsSilent,
    AbsentTableIsUnreachable,
    RouteShownTwice,
    PutDoesNothing,
    PutTwiceIsAConflict,
    PutTwiceTouchesTheTable,
    PutDoesNotReplace,
    ForeignTargetsAreFlattened,
    NowhereIsAccepted,
    NowhereRemovesTheRoute,
    PutTrustsItsSnapshot,
    RemoveTrustsItsSnapshot,
    WholeTableIsWrittenFromTheSnapshot,
    RemoveDoesNothing,
    RemoveOfTheAbsentFails,
    RemoveTakesMore,
    WriteDropsForeignRoutes,
    CheckStaysOn,
    CheckOnLosesSettings,
    CheckOnDoesNothing,
    CheckTwiceFails,
}

impl Defect {
    /// Each with the promise that has to catch it.
    pub const ALL: [(Self, Promise); 31] = [
        (Self::IdentityChanges, Promise::Identity),
        (Self::NoBlocks, Promise::Identity),
        (Self::InterfaceTwice, Promise::Interfaces),
        (Self::ListShowsTheCheckOff, Promise::CheckIsShown),
        (Self::EmptySelectorFindsAll, Promise::NothingAskedNothingFound),
        (Self::OwnSubnetForgotten, Promise::TablesBySubnet),
        (Self::TableFoundTwice, Promise::TablesById),
        (Self::TablesOutOfOrder, Promise::TablesById),
        (Self::RoutesOfTheFirstPageOnly, Promise::TablesById),
        (Self::AbsentTableFailsAll, Promise::AbsentTable),
        (Self::AbsentTableIsSilent, Promise::AbsentTable),
        (Self::AbsentTableIsUnreachable, Promise::AbsentTable),
        (Self::RouteShownTwice, Promise::OneRouteADestination),
        (Self::PutDoesNothing, Promise::PutCreates),
        (Self::PutTwiceIsAConflict, Promise::PutTwice),
        (Self::PutTwiceTouchesTheTable, Promise::PutTwice),
        (Self::PutDoesNotReplace, Promise::PutReplaces),
        (Self::ForeignTargetsAreFlattened, Promise::PutGivesBack),
        (Self::NowhereIsAccepted, Promise::PutRefusesNowhere),
        (Self::NowhereRemovesTheRoute, Promise::OthersUntouched),
        (Self::PutTrustsItsSnapshot, Promise::StaleSnapshot),
        (Self::RemoveTrustsItsSnapshot, Promise::StaleSnapshot),
        (Self::WholeTableIsWrittenFromTheSnapshot, Promise::ConcurrentWriters),
        (Self::RemoveDoesNothing, Promise::Remove),
        (Self::RemoveOfTheAbsentFails, Promise::RemoveAbsent),
        (Self::RemoveTakesMore, Promise::OthersUntouched),
        (Self::WriteDropsForeignRoutes, Promise::OthersUntouched),
        (Self::CheckStaysOn, Promise::CheckBothWays),
        (Self::CheckOnLosesSettings, Promise::CheckBothWays),
        (Self::CheckOnDoesNothing, Promise::CheckBothWays),
        (Self::CheckTwiceFails, Promise::CheckBothWays),
    ];
}

/// Routes by table and destination, and the security groups and the check of each interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    tables: BTreeMap<RouteTableId, BTreeMap<IpNet, NextHop>>,
    interfaces: BTreeMap<InterfaceId, (bool, Vec<String>)>,
    /// How often a table was written to, whether or not that changed it.
    writes: u32,
}

/// The cloud and its provider.
#[derive(Clone)]
pub struct Model {
    state: Arc<Mutex<State>>,
    asked: Arc<AtomicU32>,
    defect: Option<Defect>,
}

const OWN_TABLE: &str = "rtb-public-000000001";
const PRIVATE_TABLE: &str = "rtb-private-00000001";
const PRIMARY: &str = "eni-00000000a";
const SECONDARY: &str = "eni-00000000b";

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("well formed")
}

fn other(kind: &str, id: &str) -> NextHop {
    NextHop::Other { kind: kind.to_owned(), id: id.to_owned() }
}

impl Model {
    pub fn new(defect: Option<Defect>) -> Self {
        let routes = |gateway: NextHop| {
            BTreeMap::from([
                (id("10.10.0.0/16"), NextHop::Local),
                (id("198.51.100.0/24"), gateway),
                (id("203.0.113.0/24"), other("peering", "pcx-00000001")),
            ])
        };
        let tables = BTreeMap::from([
            (id(OWN_TABLE), routes(NextHop::InternetGateway("igw-0000001".to_owned()))),
            (id(PRIVATE_TABLE), routes(other("nat-gateway", "nat-00000001"))),
        ]);
        let interface = |name: &str| (id(name), (true, vec!["sg-00000001".to_owned()]));
        let interfaces = BTreeMap::from([interface(PRIMARY), interface(SECONDARY)]);
        let state = State { tables, interfaces, writes: 0 };
        Self { state: Arc::new(Mutex::new(state)), asked: Arc::default(), defect }
    }

    /// The state, without how it came about.
    pub fn state(&self) -> State {
        State { writes: 0, ..self.lock().clone() }
    }

    /// As a trial that was killed leaves it.
    pub fn leave_scratch_route(&self, destination: &str, interface: &str) {
        self.write(&id(PRIVATE_TABLE), |routes| {
            routes.insert(id(destination), NextHop::Interface(id(interface)));
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside")
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn write(&self, table: &RouteTableId, change: impl FnOnce(&mut BTreeMap<IpNet, NextHop>)) {
        let mut state = self.lock();
        state.writes += 1;
        change(state.tables.get_mut(table).expect("a table"));
    }

    fn table(&self, table: &RouteTableId, selector: &TableSelector) -> Arc<dyn RouteTable> {
        let state = self.lock();
        let by_id = selector.ids.contains(table);
        let mut routes: Vec<Route> = state.tables[table]
            .iter()
            .map(|(destination, next_hop)| Route {
                destination: *destination,
                next_hop: next_hop.clone(),
                state: RouteState::Active,
                origin: RouteOrigin::Static,
            })
            .collect();
        if self.has(Defect::RoutesOfTheFirstPageOnly) && by_id && selector.subnets.is_empty() {
            routes.pop();
        }
        if self.has(Defect::RouteShownTwice) {
            routes.extend(routes.last().cloned());
        }
        let mut tags = BTreeSet::new();
        if self.has(Defect::PutTwiceTouchesTheTable) {
            tags.insert(id(&format!("written={}", state.writes)));
        }
        let subnets = if table.as_str() == OWN_TABLE && !self.has(Defect::OwnSubnetForgotten) {
            BTreeSet::from([id("subnet-public")])
        } else {
            BTreeSet::new()
        };
        let facts = TableFacts { id: table.clone(), subnets, tags, routes };
        Arc::new(Table { model: self.clone(), facts })
    }
}

#[async_trait]
impl Provider for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    async fn instance(&self) -> Result<Instance> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let zone = if self.has(Defect::IdentityChanges) { asked } else { 0 };
        let blocks = if self.has(Defect::NoBlocks) { vec![] } else { vec![id("10.10.0.0/16")] };
        Ok(Instance {
            id: id("i-00000001"),
            region: "nowhere-1".to_owned(),
            zone: format!("nowhere-1{zone}"),
            network: id("vpc-00000001"),
            network_cidrs: blocks,
            subnets: BTreeSet::from([id("subnet-public")]),
            own_subnet: OwnSubnet::Loops,
        })
    }

    async fn interfaces(&self) -> Result<Vec<Arc<dyn Interface>>> {
        let state = self.lock().interfaces.clone();
        let list = state.into_iter().zip(1..).map(|((id_, (on, groups)), number)| {
            let listed = on && !self.has(Defect::ListShowsTheCheckOff);
            let facts = InterfaceFacts {
                id: id_,
                mac: natd_core::model::MacAddress([2, 0, 0, 0, 0, number]),
                addresses: vec![Address {
                    private: format!("10.10.1.{number}").parse().expect("an address"),
                    public: PublicAddress::Absent,
                }],
                subnet: id("subnet-public"),
                source_dest_check: if listed {
                    SourceDestCheck::On { overwrites: Some(CheckSettings(groups.into())) }
                } else {
                    SourceDestCheck::Off
                },
                security: Ok(SecurityRules {
                    inbound: BTreeSet::new(),
                    inbound_by_reference: false,
                    outbound: true,
                }),
            };
            let port: Arc<dyn Interface> = Arc::new(Port { model: self.clone(), facts });
            port
        });
        let mut list: Vec<_> = list.collect();
        if self.has(Defect::InterfaceTwice) {
            list.extend(list.last().cloned());
        }
        Ok(list)
    }

    async fn route_tables(&self, selector: &TableSelector) -> Result<RouteTables> {
        let mut answer = RouteTables::default();
        let known: Vec<RouteTableId> = self.lock().tables.keys().cloned().collect();
        for table in &known {
            let facts = self.table(table, selector);
            let asked_by_subnet =
                table.as_str() == OWN_TABLE && selector.subnets.contains(&id("subnet-public"));
            let nothing = *selector == TableSelector::default();
            let selected = asked_by_subnet
                || selector.ids.contains(table)
                || (nothing && self.has(Defect::EmptySelectorFindsAll));
            if selected {
                answer.found.push(Arc::clone(&facts));
                if self.has(Defect::TableFoundTwice) && !selector.ids.is_empty() {
                    answer.found.push(facts);
                }
            }
        }
        if self.has(Defect::TablesOutOfOrder) && selector.ids.len() > 1 {
            answer.found.reverse();
        }
        for table in selector.ids.iter().filter(|table| !known.contains(table)) {
            let kind = match self.defect {
                Some(Defect::AbsentTableIsUnreachable) => Kind::Unreachable,
                _ => Kind::NotFound,
            };
            let error = Error::new(kind, format!("serve {table}"), "there is no such table");
            match self.defect {
                Some(Defect::AbsentTableFailsAll) => return Err(error),
                Some(Defect::AbsentTableIsSilent) => {}
                _ => answer.missing.push(error),
            }
        }
        Ok(answer)
    }
}

struct Table {
    model: Model,
    facts: TableFacts,
}

impl Table {
    fn knows(&self, destination: IpNet) -> bool {
        self.facts.routes.iter().any(|route| route.destination == destination)
    }

    fn snapshot(&self) -> BTreeMap<IpNet, NextHop> {
        let route = |route: &Route| (route.destination, route.next_hop.clone());
        self.facts.routes.iter().map(route).collect()
    }

    fn fails(&self, kind: Kind, why: &str) -> Result<()> {
        Err(Error::new(kind, format!("write to {}", self.facts.id), why))
    }
}

#[async_trait]
impl RouteTable for Table {
    fn facts(&self) -> &TableFacts {
        &self.facts
    }

    async fn put(&self, destination: IpNet, next_hop: &NextHop) -> Result<()> {
        // Another task may come in between, as on a wire.
        tokio::task::yield_now().await;
        let model = &self.model;
        let now = model.lock().tables[&self.facts.id].get(&destination).cloned();
        let exists = |interface: &InterfaceId| model.lock().interfaces.contains_key(interface);
        if let NextHop::Interface(interface) = next_hop
            && !exists(interface)
        {
            if model.has(Defect::NowhereRemovesTheRoute) {
                model.write(&self.facts.id, |routes| _ = routes.remove(&id("203.0.113.0/24")));
            }
            if !model.has(Defect::NowhereIsAccepted) {
                return self.fails(Kind::NotFound, "there is no such interface");
            }
        }
        let mut written = next_hop.clone();
        match model.defect {
            Some(Defect::PutDoesNothing) => return Ok(()),
            Some(Defect::PutTwiceIsAConflict) if now.as_ref() == Some(next_hop) => {
                return self.fails(Kind::Conflict, "it is there already");
            }
            Some(Defect::PutDoesNotReplace) if now.is_some() => {
                return Ok(());
            }
            Some(Defect::PutTrustsItsSnapshot) if self.knows(destination) != now.is_some() => {
                return self.fails(Kind::Conflict, "it is not as it was listed");
            }
            Some(Defect::ForeignTargetsAreFlattened) => {
                if let NextHop::Other { id, .. } = next_hop {
                    written = other("unknown", id);
                }
            }
            Some(Defect::WholeTableIsWrittenFromTheSnapshot) => {
                let mut whole = self.snapshot();
                whole.insert(destination, written);
                model.write(&self.facts.id, |routes| *routes = whole);
                return Ok(());
            }
            _ => {}
        }
        model.write(&self.facts.id, |routes| {
            routes.insert(destination, written);
            if model.has(Defect::WriteDropsForeignRoutes) {
                routes.remove(&id("203.0.113.0/24"));
            }
        });
        Ok(())
    }

    async fn remove(&self, destination: IpNet) -> Result<()> {
        tokio::task::yield_now().await;
        let model = &self.model;
        let now = model.lock().tables[&self.facts.id].get(&destination).cloned();
        match model.defect {
            Some(Defect::RemoveDoesNothing) => return Ok(()),
            Some(Defect::RemoveOfTheAbsentFails) if now.is_none() => {
                return self.fails(Kind::NotFound, "there is no such route");
            }
            Some(Defect::RemoveTrustsItsSnapshot) if self.knows(destination) && now.is_none() => {
                return self.fails(Kind::NotFound, "there is no such route");
            }
            _ => {}
        }
        model.write(&self.facts.id, |routes| {
            routes.remove(&destination);
            if model.has(Defect::RemoveTakesMore) {
                routes.remove(&id("203.0.113.0/24"));
            }
        });
        Ok(())
    }
}

struct Port {
    model: Model,
    facts: InterfaceFacts,
}

#[async_trait]
impl Interface for Port {
    fn facts(&self) -> &InterfaceFacts {
        &self.facts
    }

    async fn set_source_dest_check(
        &self,
        enabled: bool,
        earlier: Option<&CheckSettings>,
    ) -> Result<()> {
        let mut state = self.model.lock();
        let (on, groups) = state.interfaces.get_mut(&self.facts.id).expect("an interface");
        match self.model.defect {
            Some(Defect::CheckStaysOn) if !enabled => return Ok(()),
            Some(Defect::CheckOnDoesNothing) if enabled => return Ok(()),
            Some(Defect::CheckTwiceFails) if *on == enabled => {
                return Err(Error::new(Kind::Conflict, "switch the check", "it is so already"));
            }
            _ => {}
        }
        *on = enabled;
        // As on OpenStack: without the check there are no security groups.
        if !enabled {
            groups.clear();
        } else if let Some(CheckSettings(serde_json::Value::Array(earlier))) = earlier
            && !self.model.has(Defect::CheckOnLosesSettings)
        {
            *groups = earlier.iter().filter_map(|group| Some(group.as_str()?.to_owned())).collect();
        }
        Ok(())
    }

    async fn source_dest_check(&self) -> Result<bool> {
        Ok(self.model.lock().interfaces[&self.facts.id].0)
    }
}
