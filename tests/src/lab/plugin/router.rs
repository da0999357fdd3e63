//! The network's Linux router: what its operator sees of it, and reading that back.
//!
//! Its routing tables are the state of this cloud. It has a link to each subnet and one to the internet; what comes from
//! a subnet is looked up in that subnet's table, after the links themselves. It carries no packets in the lab: the fabric
//! does, as these tables say.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde_json::Value;

use super::super::namespace::Namespace;
use super::super::picture::{Table, Target};
use super::super::topology::Topology;

/// The link to the internet, the router's address there, and who is at its other end.
const UPLINK: &str = "uplink";
const OWN: &str = "203.0.113.1/24";
pub const PROVIDER: &str = "203.0.113.254";
/// The first subnet's table; the others count on from there.
const FIRST_TABLE: u32 = 100;

/// The router.
#[derive(Clone, Debug)]
pub struct Router(pub Namespace);

impl Router {
    /// Sets the links, the rules and the routes of the public subnets up. Gives the tables by their subnets' names.
    pub fn set_up(&self, topology: &Topology) -> Result<BTreeMap<String, u32>> {
        let mut lines = link(UPLINK, OWN);
        let mut tables = BTreeMap::new();
        // The links' own routes come first, the rest of the main table has no default route.
        lines += "rule add pref 100 lookup main suppress_prefixlength 0\n";
        for (number, subnet) in (FIRST_TABLE..).zip(&topology.subnets) {
            let own = subnet.block.hosts().next().context("an empty subnet")?;
            lines += &link(subnet.name, &format!("{own}/{}", subnet.block.prefix_len()));
            writeln!(lines, "rule add pref 200 iif {} lookup {number}", subnet.name)?;
            if subnet.public {
                writeln!(lines, "route add default via {PROVIDER} table {number}")?;
            }
            tables.insert(subnet.name.to_owned(), number);
        }
        self.0.ip(&lines)?;
        Ok(tables)
    }

    /// All routes of a table: destination and `ip`'s own description.
    pub fn routes(&self, table: &str) -> Result<Vec<(Ipv4Net, Value)>> {
        let text = match self.0.exec(["ip", "-json", "-4", "route", "show", "table", table]) {
            Ok(text) => text,
            // A table begins to be with its first route.
            Err(error) if format!("{error:#}").contains("FIB table does not exist") => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let routes: Vec<Value> = serde_json::from_str(&text).context("ip's answer")?;
        let of = |route: Value| Ok((destination(&route)?, route));
        routes.into_iter().map(of).collect()
    }

    /// The table in the fabric's words. `port` finds the port that has an address.
    pub fn table(
        &self,
        table: &str,
        links: &[Ipv4Net],
        port: impl Fn(Ipv4Addr) -> Option<String>,
    ) -> Result<Table> {
        let mut routes: BTreeMap<_, _> =
            links.iter().map(|block| (*block, Target::Local)).collect();
        for (destination, route) in self.routes(table)? {
            let via = gateway(&route).and_then(&port);
            let target = match (via, route["dev"].as_str()) {
                (Some(port), _) => Target::Port(port),
                (None, Some(UPLINK)) => Target::Internet,
                _ => Target::Nowhere,
            };
            routes.entry(destination).or_insert(target);
        }
        Ok(Table { routes })
    }
}

/// The address of the machine that a route leads to.
pub fn gateway(route: &Value) -> Option<Ipv4Addr> {
    route["gateway"].as_str()?.parse().ok()
}

fn destination(route: &Value) -> Result<Ipv4Net> {
    let text = route["dst"].as_str().context("a route without a destination")?;
    let whole = match text {
        "default" => "0.0.0.0/0".to_owned(),
        host if !host.contains('/') => format!("{host}/32"),
        block => block.to_owned(),
    };
    whole.parse().with_context(|| format!("the destination {text}"))
}

/// A link whose other end is nobody's: the kernel has none without another end that works in every namespace.
fn link(name: &str, own: &str) -> String {
    format!(
        "link add {name} type veth peer name {name}-x\nlink set {name} up\nlink set {name}-x up\n\
         addr add {own} dev {name}\n"
    )
}
