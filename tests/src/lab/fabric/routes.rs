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
