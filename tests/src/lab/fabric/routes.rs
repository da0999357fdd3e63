//! Route tables as policy routes of the router: what enters by a port is routed by the table of that port's subnet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::super::network::LOCAL_TABLE;
use super::super::picture::{Picture, Port, Target};

/// The first of the kernel's tables that stand for the cloud's.
const FIRST_TABLE: u32 = 1000;
/// Where the rules "what enters by this port is looked up there" stand, ahead of the local table: first what a port's
/// instance sends to its neighbours, then what a public address outranks, then the port's table.
const TO_NEIGHBOURS: u32 = 50;
const OUTRANKING: u32 = 90;
const BY_TABLE: u32 = 100;
const EVERYWHERE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);

/// The kernel's number of each of the cloud's tables. Once given it stays, so that a new table moves no other.
#[derive(Debug, Default)]
pub struct TableNumbers {
    given: BTreeMap<String, u32>,
    last: u32,
}

impl TableNumbers {
    fn of(&mut self, table: &str) -> u32 {
        *self.given.entry(table.to_owned()).or_insert_with(|| {
            self.last = FIRST_TABLE.max(self.last + 1);
            self.last
        })
    }
}

/// What should be in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    routes: BTreeMap<(u32, Ipv4Net), Hop>,
    /// The tables that the router's ports are routed by.
    rules: BTreeSet<Rule>,
}

/// What enters by a port, from that address if one is given, is looked up in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    preference: u32,
    port: usize,
    from: Option<Ipv4Addr>,
    table: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Port(usize),
    Internet,
    /// Ask the next table, which is that of the living ports.
    Local,
    Nowhere,
}

impl Hop {
    fn of_port(port: Option<(&Port, usize)>) -> Self {
        match port {
            Some((port, number)) if port.alive => Self::Port(number),
            _ => Self::Nowhere,
        }
    }
}

/// The picture in the kernel's terms. `numbers` are those of the router's ports by the cloud's id.
pub fn render(
    picture: &Picture,
    numbers: &BTreeMap<&str, usize>,
    tables: &mut TableNumbers,
) -> Routes {
    let port = |id: &str| Some((picture.ports.get(id)?, *numbers.get(id)?));
    let of_instance = |instance: &str| {
        let is_first = |port: &&Port| port.instance == instance && port.number == 0;
        let (id, _) = picture.ports.iter().find(|(_, port)| is_first(port))?;
        port(id)
    };
    let mut rendered = Routes::default();
    for (id, table) in &picture.tables {
        let number = tables.of(id);
        for (destination, target) in &table.routes {
            let hop = match target {
                Target::Local => Hop::Local,
                Target::Internet => Hop::Internet,
                Target::Nowhere => Hop::Nowhere,
                Target::Port(id) => Hop::of_port(port(id)),
                Target::Instance(instance) => Hop::of_port(of_instance(instance)),
            };
            rendered.routes.insert((number, *destination), hop);
        }
    }
    for (id, (port, number)) in picture.ports.keys().filter_map(|id| Some((id, port(id)?))) {
        let table = tables.of(&port.table);
        rendered.rule(BY_TABLE, number, None, table);
        if port.alive {
            let own = port
                .addresses
                .iter()
                .map(|address| ((LOCAL_TABLE, (*address).into()), Hop::Port(number)));
            rendered.routes.extend(own);
        }
        for private in picture.public.values().filter(|own| port.addresses.contains(own)) {
            if picture.public_outranks_default {
                let outranking = tables.of(&format!("{} outranked", port.table));
                rendered.copy(table, outranking);
                rendered.routes.insert((outranking, EVERYWHERE), Hop::Internet);
                rendered.rule(OUTRANKING, number, Some(*private), outranking);
            }
        }
        for (destination, neighbour) in &port.host_routes {
            let is_neighbour =
                |other: &&Port| other.subnet == port.subnet && other.addresses.contains(neighbour);
            let found = picture.ports.iter().find(|(_, other)| is_neighbour(other));
            let hop = Hop::of_port(
                found.and_then(|(id, other)| Some((other, *numbers.get(id.as_str())?))),
            );
            let table = tables.of(&format!("neighbours of {id}"));
            rendered.routes.insert((table, *destination), hop);
            rendered.rule(TO_NEIGHBOURS, number, None, table);
        }
    }
    rendered
}

impl Routes {
    fn rule(&mut self, preference: u32, port: usize, from: Option<Ipv4Addr>, table: u32) {
        self.rules.insert(Rule { preference, port, from, table });
    }

    fn copy(&mut self, table: u32, to: u32) {
        let of_table = self.routes.iter().filter(|((number, _), _)| *number == table);
        let copies: Vec<_> =
            of_table.map(|((_, destination), hop)| ((to, *destination), *hop)).collect();
        self.routes.extend(copies);
    }

    /// The `ip` commands that lead from `earlier` to this; empty if there is nothing to do.
    /// What changes is replaced in one step, and nothing is taken away before its successor is there.
    pub fn commands_from(&self, earlier: &Self) -> String {
        let mut commands = Commands(String::new());
        for (key, hop) in &self.routes {
            if earlier.routes.get(key) != Some(hop) {
                commands.route("replace", *key, *hop);
            }
        }
        for rule in self.rules.difference(&earlier.rules) {
            commands.rule("add", rule);
        }
        for rule in earlier.rules.difference(&self.rules) {
            commands.rule("del", rule);
        }
        for (key, hop) in &earlier.routes {
            if !self.routes.contains_key(key) {
                commands.route("del", *key, *hop);
            }
        }
        commands.0
    }
}

struct Commands(String);

impl Commands {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ok = writeln!(self.0, "{line}");
    }

    fn route(&mut self, verb: &str, (table, destination): (u32, Ipv4Net), hop: Hop) {
        match hop {
            Hop::Port(number) => {
                self.line(format_args!(
                    "route {verb} {destination} dev port{number} table {table}"
                ));
            }
            Hop::Internet => {
                self.line(format_args!("route {verb} {destination} dev internet table {table}"));
            }
            Hop::Local => self.line(format_args!("route {verb} throw {destination} table {table}")),
            Hop::Nowhere => {
                self.line(format_args!("route {verb} blackhole {destination} table {table}"));
            }
        }
    }

    fn rule(&mut self, verb: &str, rule: &Rule) {
        let Rule { preference, port, from, table } = rule;
        let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
        self.line(format_args!(
            "rule {verb} pref {preference} iif port{port}{from} lookup {table}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::picture::Table;
    use super::*;

    fn picture(target: Target) -> Picture {
        let all = "0.0.0.0/0".parse().expect("a block");
        let table = Table { routes: BTreeMap::from([(all, target)]) };
        Picture { tables: BTreeMap::from([("rtb-1".to_owned(), table)]), ..Picture::default() }
    }

    /// `client` with 10.0.0.5 and `nat` with 10.0.0.10 in one subnet, whose table leads to the NAT.
    fn neighbours() -> Picture {
        let port = |address: &str| Port {
            instance: address.to_owned(),
            number: 0,
            alive: true,
            mac: String::new(),
            addresses: vec![address.parse().expect("an address")],
            subnet: "subnet".to_owned(),
            subnet_block: "10.0.0.0/24".parse().expect("a block"),
            table: "rtb-1".to_owned(),
            source_check: true,
            pairs: BTreeSet::new(),
            host_routes: BTreeMap::new(),
            groups: Vec::new(),
            ingress: BTreeSet::new(),
            egress: BTreeSet::new(),
        };
        let mut picture = picture(Target::Port("nat".to_owned()));
        picture.ports.insert("client".to_owned(), port("10.0.0.5"));
        picture.ports.insert("nat".to_owned(), port("10.0.0.10"));
        picture
    }

    /// The kernel's way for what enters by a port from that address to the internet.
    fn way(routes: &Routes, port: usize, from: &str) -> Option<Hop> {
        let from: Ipv4Addr = from.parse().expect("an address");
        let applies = |rule: &&Rule| rule.port == port && rule.from.is_none_or(|of| of == from);
        let mut rules: Vec<_> = routes.rules.iter().filter(applies).collect();
        rules.sort_by_key(|rule| rule.preference);
        rules.iter().find_map(|rule| routes.routes.get(&(rule.table, EVERYWHERE))).copied()
    }

    const NUMBERS: [(&str, usize); 2] = [("client", 0), ("nat", 1)];

    #[test]
    fn a_public_address_outranks_the_default_route_where_the_cloud_has_it_so() {
        let mut picture = neighbours();
        let public = "203.0.113.10".parse().expect("an address");
        picture.public.insert(public, "10.0.0.10".parse().expect("an address"));
        for (outranks, expected) in [(false, Hop::Port(1)), (true, Hop::Internet)] {
            picture.public_outranks_default = outranks;
            let routes = render(&picture, &NUMBERS.into(), &mut TableNumbers::default());
            assert_eq!(way(&routes, 1, "10.0.0.10"), Some(expected));
            // Neither for others' addresses that the instance sends from, nor for other instances.
            assert_eq!(way(&routes, 1, "10.0.0.5"), Some(Hop::Port(1)));
            assert_eq!(way(&routes, 0, "10.0.0.5"), Some(Hop::Port(1)));
        }
    }

    #[test]
    fn a_host_route_leads_past_the_table_to_a_living_neighbour() {
        let mut picture = neighbours();
        picture.tables.insert("rtb-1".to_owned(), Table::default());
        let nat = "10.0.0.10".parse().expect("an address");
        let mut way_of_client = |change: &dyn Fn(&mut Port)| {
            change(picture.ports.get_mut("client").expect("a port"));
            let routes = render(&picture, &NUMBERS.into(), &mut TableNumbers::default());
            way(&routes, 0, "10.0.0.5")
        };
        assert_eq!(way_of_client(&|_| {}), None);
        let told = |port: &mut Port| port.host_routes = BTreeMap::from([(EVERYWHERE, nat)]);
        assert_eq!(way_of_client(&told), Some(Hop::Port(1)));
        // It is no neighbour's address in another subnet.
        assert_eq!(way_of_client(&|port| "other".clone_into(&mut port.subnet)), Some(Hop::Nowhere));
    }

    #[test]
    fn only_differences_become_commands() {
        let mut numbers = TableNumbers::default();
        let internet = render(&picture(Target::Internet), &BTreeMap::new(), &mut numbers);
        let dead =
            render(&picture(Target::Port("eni-gone".to_owned())), &BTreeMap::new(), &mut numbers);
        assert_eq!(internet.commands_from(&internet), "");
        assert_eq!(
            internet.commands_from(&Routes::default()),
            "route replace 0.0.0.0/0 dev internet table 1000\n"
        );
        assert_eq!(dead.commands_from(&internet), "route replace blackhole 0.0.0.0/0 table 1000\n");
        assert_eq!(
            Routes::default().commands_from(&dead),
            "route del blackhole 0.0.0.0/0 table 1000\n"
        );
    }
}
