//! The iptables back end: chains of natd's own, entered by a jump or two in each table.
//!
//! It works alike over iptables-nft and iptables-legacy, whichever the program is; only the one
//! that it is now is looked at. Read back is what `iptables-save` prints: unlike `iptables -S`, it
//! makes no table and loads no module where there is none. A jump is in its place wherever it stands in
//! its built-in chain, since neighbours put theirs at the head, too.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use natd_core::{
    error::Result,
    host::{Firewall, Loaded},
    ruleset::{FirewallKind, Rendering, iptables_chain_suffix},
};

use super::audit;
use crate::process::Program;

mod commands;
mod saved;
mod steps;

use commands::Commands;
use saved::Tables;

/// The package that brings the programs.
const PACKAGE: &str = "iptables";

/// The tables that natd has chains in, and where they are entered.
const ENTRANCES: [(&str, &str); 2] = [("filter", "FORWARD"), ("nat", "POSTROUTING")];

/// Natd's own chains, by way of the program `iptables` and its sibling `iptables-save`.
#[derive(Debug)]
pub struct Iptables {
    program: Program,
    save: Program,
    commands: Commands,
}

impl Iptables {
    /// The path of `iptables`, or a name that is looked for in `PATH` (static, since the
    /// `iptables` crate wants it so); the file of the xtables lock; and how long one change or
    /// look may take.
    pub fn new(program: &'static str, lock: impl Into<PathBuf>, deadline: Duration) -> Self {
        Self {
            program: Program::new(program, PACKAGE, deadline),
            save: Program::new(format!("{program}-save"), PACKAGE, deadline),
            commands: Commands { program, deadline, lock: lock.into() },
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

    /// The tables in which natd can have something.
    async fn read(&self, doing: &str) -> Result<Tables> {
        let text = self.save.run(doing, &[], None).await?.success(doing)?;
        let mut tables = saved::parse(&text);
        tables.retain(|name, _| ENTRANCES.iter().any(|(table, _)| table == name));
        Ok(tables)
    }

    async fn replace(&self, doing: &'static str, wanted: &Tables) -> Result<()> {
        let current = self.read(doing).await?;
        let steps = steps::replace(&current, wanted);
        if steps.is_empty() { Ok(()) } else { self.commands.run(doing, steps).await }
    }
}

#[async_trait]
impl Firewall for Iptables {
    fn kind(&self) -> FirewallKind {
        FirewallKind::Iptables
    }

    async fn loaded(&self) -> Result<Option<Loaded>> {
        Ok(inspect(&self.read("read natd's iptables chains").await?))
    }

    async fn load(&self, rendering: &Rendering) -> Result<()> {
        self.replace("load natd's iptables chains", &saved::parse(&rendering.text)).await
    }

    async fn unload(&self) -> Result<()> {
        self.replace("remove natd's iptables chains", &Tables::new()).await
    }
}

fn inspect(tables: &Tables) -> Option<Loaded> {
    let mut chains: Vec<audit::Chain> = Vec::new();
    for (name, table) in tables {
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
        let own = tables.values().flat_map(saved::Table::own);
        let leftover = own.filter(|chain| !chain.ends_with(&suffix));
        loaded.damage.extend(
            leftover.map(|chain| format!("chain {chain} is left over from an interrupted change")),
        );
    }
    Some(loaded)
}
