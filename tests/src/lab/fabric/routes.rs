//! Route tables as policy routes of the router: what enters by a port is routed by the table of that port's subnet.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use ipnet::Ipv4Net;

use super::super::network::LOCAL_TABLE;
use super::super::picture::{Picture, Port, Target};

/// The first of the kernel's tables that stand for the cloud's.
const FIRST_TABLE: u32 = 1000;
/// Where the rules "what enters by this port is looked up there" stand, ahead of the local table.
const PREFERENCE: u32 = 100;

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
    /// The table that each of the router's ports is routed by.
    tables: BTreeMap<usize, u32>,
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
    for (port, number) in picture.ports.keys().filter_map(|id| port(id)) {
        rendered.tables.insert(number, tables.of(&port.table));
        if port.alive {
            let own = port
                .addresses
                .iter()
                .map(|address| ((LOCAL_TABLE, (*address).into()), Hop::Port(number)));
            rendered.routes.extend(own);
        }
    }
    rendered
}

impl Routes {
    /// The `ip` commands that lead from `earlier` to this; empty if there is nothing to do.
    /// What changes is replaced in one step, and nothing is taken away before its successor is there.
    pub fn commands_from(&self, earlier: &Self) -> String {
        let mut commands = Commands(String::new());
        for (key, hop) in &self.routes {
            if earlier.routes.get(key) != Some(hop) {
                commands.route("replace", *key, *hop);
            }
        }
        for (port, table) in &self.tables {
            if earlier.tables.get(port) != Some(table) {
                commands.rule("add", *port, *table);
            }
        }
        for (port, table) in &earlier.tables {
            if self.tables.get(port) != Some(table) {
                commands.rule("del", *port, *table);
            }
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

    fn rule(&mut self, verb: &str, port: usize, table: u32) {
        self.line(format_args!("rule {verb} pref {PREFERENCE} iif port{port} lookup {table}"));
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
