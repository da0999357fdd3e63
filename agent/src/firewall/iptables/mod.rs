//! The iptables back end: chains of natd's own, entered by a jump or two in each table, for IPv4
//! and, if there are IPv6 sources, for IPv6.
//!
//! It works alike over iptables-nft and iptables-legacy, whichever the program is; only the one
//! that it is now is looked at. Read back is what `iptables-save` prints: unlike `iptables -S`, it
//! makes no table and loads no module where there is none. A jump is in its place wherever it stands in
//! its built-in chain, since neighbours put theirs at the head, too.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use natd_core::{
    error::{Kind, Result},
    host::{Depth, Firewall, Loaded},
    ruleset::{FirewallKind, Rendering, iptables_chain_suffix},
};

use super::audit;
use crate::process::Program;

mod commands;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod saved;
mod sets;
mod steps;

use commands::Commands;
use saved::Tables;
use sets::Sets;

/// The package that brings the programs.
const PACKAGE: &str = "iptables";

/// The tables that natd has chains in, and where they are entered.
const ENTRANCES: [(&str, &str); 3] =
    [("filter", "FORWARD"), ("nat", "PREROUTING"), ("nat", "POSTROUTING")];

/// Natd's own chains, by way of the program `iptables` and its siblings, and its sets, by `ipset`.
#[derive(Debug)]
pub struct Iptables {
    program: Program,
    v4: Part,
    v6: Part,
    sets: Sets,
}

/// One family's programs.
#[derive(Debug)]
struct Part {
    save: Program,
    commands: Commands,
}

impl Part {
    fn new(program: &'static str, lock: PathBuf, deadline: Duration) -> Self {
        let sibling = |purpose| Program::new(format!("{program}-{purpose}"), PACKAGE, deadline);
        let restore = sibling("restore");
        Self { save: sibling("save"), commands: Commands { program, restore, deadline, lock } }
    }

    async fn saved(&self, doing: &str) -> Result<String> {
        self.save.run(doing, &[], None).await?.success(doing)
    }

    /// The tables in which natd can have something.
    async fn read(&self, doing: &str) -> Result<Tables> {
        let mut tables = saved::parse(&self.saved(doing).await?);
        tables.retain(|name, _| ENTRANCES.iter().any(|(table, _)| table == name));
        Ok(tables)
    }

    async fn replace(&self, doing: &'static str, current: &Tables, wanted: &Tables) -> Result<()> {
        let steps = steps::replace(current, wanted);
        if steps.is_empty() { Ok(()) } else { self.commands.run(doing, steps).await }
    }
}

impl Iptables {
    /// The path of `iptables`, or a name that is looked for in `PATH` (static, since the
    /// `iptables` crate wants it so); the file of the xtables lock; and how long one change or
    /// look may take.
    pub fn new(program: &'static str, lock: impl Into<PathBuf>, deadline: Duration) -> Self {
        let lock = lock.into();
        Self {
            program: Program::new(program, PACKAGE, deadline),
            v4: Part::new(program, lock.clone(), deadline),
            v6: Part::new(sibling_for_ipv6(program), lock, deadline),
            sets: Sets::new("ipset", deadline),
        }
    }

    /// The version and variant that is on this host, in the program's words.
    ///
    /// # Errors
    /// `NotFound` with the package to install.
    pub async fn version(&self) -> Result<String> {
        let doing = "ask iptables for its version";
        let stdout = self.program.run(doing, &["--version"], None).await?.success(doing)?;
        Ok(stdout.lines().next().unwrap_or_default().to_owned())
    }

    /// Whether sets of ipset's can hold blocks here.
    pub async fn has_sets(&self) -> bool {
        self.sets.names("ask for ipset").await.is_ok()
    }

    /// How many rules there are that aren't natd's.
    ///
    /// # Errors
    /// As for [`Firewall::loaded`].
    pub async fn foreign_rules(&self) -> Result<usize> {
        let tables = saved::parse(&self.v4.saved("look for iptables rules").await?);
        let rules = tables.values().flat_map(|table| &table.rules);
        Ok(rules.filter(|rule| rule.mark().is_none() && !saved::is_own(&rule.chain)).count())
    }

    /// The tables for IPv6; none where its programs are not on this host.
    async fn read6(&self, doing: &str) -> Result<Tables> {
        match self.v6.read(doing).await {
            Err(error) if error.kind() == Kind::NotFound => Ok(Tables::new()),
            tables => tables,
        }
    }
}

/// `ip6tables` beside `iptables`, in whichever folder and variant.
fn sibling_for_ipv6(program: &'static str) -> &'static str {
    let (folder, name) = match program.rsplit_once('/') {
        Some((folder, name)) => (format!("{folder}/"), name),
        None => (String::new(), program),
    };
    format!("{folder}{}", name.replacen("iptables", "ip6tables", 1)).leak()
}

#[async_trait]
impl Firewall for Iptables {
    fn kind(&self) -> FirewallKind {
        FirewallKind::Iptables
    }

    async fn loaded(&self, depth: Depth) -> Result<Option<Loaded>> {
        let doing = "read natd's iptables chains";
        let (v4, v6) = (self.v4.read(doing).await?, self.read6(doing).await?);
        let mut loaded = inspect(&[v4, v6]);
        if let (Depth::Elements, Some(loaded)) = (depth, &mut loaded) {
            loaded.damage.extend(self.sets.damage("read natd's sets").await?);
        }
        Ok(loaded)
    }

    async fn load(&self, rendering: &Rendering) -> Result<()> {
        let doing = "load natd's iptables chains";
        self.sets.fill(doing, rendering.ipsets.as_deref()).await?;
        let (v4, v6) = (self.v4.read(doing).await?, self.read6(doing).await?);
        self.v4.replace(doing, &v4, &saved::parse(&rendering.text)).await?;
        let text6 = rendering.text6.as_deref().unwrap_or_default();
        self.v6.replace(doing, &v6, &saved::parse(text6)).await?;
        self.sets.keep_only(doing, rendering.ipsets.as_deref()).await
    }

    async fn unload(&self) -> Result<()> {
        let doing = "remove natd's iptables chains";
        let (v4, v6) = (self.v4.read(doing).await?, self.read6(doing).await?);
        self.v4.replace(doing, &v4, &Tables::new()).await?;
        self.v6.replace(doing, &v6, &Tables::new()).await?;
        self.sets.keep_only(doing, None).await
    }
}

fn inspect(families: &[Tables]) -> Option<Loaded> {
    let mut chains: Vec<audit::Chain> = Vec::new();
    for (name, table) in families.iter().flatten() {
        let mut own: BTreeMap<&String, audit::Chain> =
            table.own().map(|chain| (chain, audit::Chain::new(chain))).collect();
        for rule in &table.rules {
            if let Some(chain) = own.get_mut(&rule.chain) {
                chain.marks.push(rule.mark());
            }
        }
        chains.extend(own.into_values());
        for jump in table.jumps() {
            let entrance = ENTRANCES.contains(&(name.as_str(), jump.chain.as_str()));
            let mark = jump.mark().filter(|_| entrance);
            chains.push(audit::Chain { name: jump.chain.clone(), marks: vec![mark] });
        }
    }
    if chains.is_empty() {
        return None;
    }
    let mut loaded = audit::audit(&chains);
    if let Some(digest) = &loaded.digest {
        let suffix = iptables_chain_suffix(digest);
        let own = families.iter().flatten().flat_map(|(_, table)| table.own());
        let leftover = own.filter(|chain| !chain.ends_with(&suffix));
        loaded.damage.extend(
            leftover.map(|chain| format!("chain {chain} is left over from an interrupted change")),
        );
    }
    Some(loaded)
}
