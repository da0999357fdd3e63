//! The nftables back end: the table `inet natd`, replaced by `nft` in one transaction, and read back from the
//! kernel; what its sets hold by `nft`, as JSON.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use natd_core::{
    error::{Error, Kind, Result},
    host::{Depth, Firewall, Loaded},
    ruleset::{
        ElementsDigest, FirewallKind, NFTABLES_BASE_CHAINS as BASE_CHAINS,
        NFTABLES_CHAINS as CHAINS, NFTABLES_TABLE as TABLE, Rendering,
    },
};

use super::audit;
use crate::process::Program;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod kernel;
mod listing;

use listing::Listing;

/// Natd's own table, by way of the program `nft`.
#[derive(Debug)]
pub struct Nftables {
    nft: Program,
    deadline: Duration,
}

impl Nftables {
    /// The path of `nft`, or a name that is looked for in `PATH`; and how long one run of it may
    /// take, and one look into the kernel.
    pub fn new(nft: impl Into<PathBuf>, deadline: Duration) -> Self {
        Self { nft: Program::new(nft, "nftables", deadline), deadline }
    }

    /// The version that is on this host, in the program's words.
    ///
    /// # Errors
    /// `NotFound` with the package to install.
    pub async fn version(&self) -> Result<String> {
        let doing = "ask nft for its version";
        let stdout = self.nft.run(doing, &["--version"], None).await?.success(doing)?;
        Ok(stdout.lines().next().unwrap_or_default().to_owned())
    }

    /// The tables that are neither natd's nor iptables' (which has `ip` and `ip6` tables with the
    /// names of old), for people.
    ///
    /// # Errors
    /// As for [`Firewall::loaded`].
    pub async fn foreign_tables(&self) -> Result<Vec<String>> {
        const OF_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
        let is_foreign = |table: &(&str, String)| {
            let (family, name) = (table.0, table.1.as_str());
            let of_iptables =
                matches!(family, "ip" | "ip6" | "bridge" | "arp") && OF_IPTABLES.contains(&name);
            !of_iptables && (family, name) != ("inet", TABLE)
        };
        let tables = kernel::tables("look for nftables tables", self.deadline).await?;
        let foreign = tables.into_iter().filter(is_foreign);
        Ok(foreign.map(|(family, name)| format!("{family} {name}")).collect())
    }

    /// The table, all but what its sets hold; `None` if there is none.
    ///
    /// A host without `nft` is told apart from one without the table.
    async fn table(&self, doing: &str) -> Result<Option<kernel::Table>> {
        match kernel::read(doing, TABLE, self.deadline).await {
            Ok(None) => self.version().await.map(|_| None),
            // A kernel without nftables has no table. If the program is there, it will say so when it loads.
            Err(error) if error.kind() == Kind::NotFound => self.version().await.map(|_| None),
            table => table,
        }
    }

    /// What its sets hold, by name; `None` of what aren't addresses.
    async fn elements(&self, doing: &str) -> Result<BTreeMap<String, Option<ElementsDigest>>> {
        let args = ["-j", "list", "table", "inet", TABLE];
        let stdout = self.nft.run(doing, &args, None).await?.success(doing)?;
        let listing: Listing = serde_json::from_str(&stdout).map_err(|error| {
            Error::new(Kind::Invalid, doing, format!("nft's JSON is not understood: {error}"))
        })?;
        Ok(listing.sets().map(|set| (set.name.clone(), set.elements())).collect())
    }

    async fn execute(&self, doing: &str, script: &str) -> Result<()> {
        self.nft.run(doing, &["-f", "-"], Some(script)).await?.success(doing).map(drop)
    }
}

#[async_trait]
impl Firewall for Nftables {
    fn kind(&self) -> FirewallKind {
        FirewallKind::Nftables
    }

    async fn loaded(&self, depth: Depth) -> Result<Option<Loaded>> {
        let doing = "read the nftables table inet natd";
        let Some(table) = self.table(doing).await? else { return Ok(None) };
        // What is to be replaced needs no audit of its sets; nft 1.0.6 (Debian 12) dies over a table with flags.
        let elements = if depth == Depth::Rules || table.is_flagged {
            None
        } else {
            match self.elements(doing).await {
                Ok(elements) => Some(elements),
                // Somebody may have deleted it since.
                Err(_) if self.table(doing).await?.is_none() => return Ok(None),
                Err(error) if error.kind() == Kind::Invalid => {
                    let damage = vec![format!("the table is not as natd made it: {error}")];
                    return Ok(Some(Loaded { digest: None, damage }));
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Some(inspect(&table, elements.as_ref())))
    }

    async fn load(&self, rendering: &Rendering) -> Result<()> {
        self.execute("load the nftables table inet natd", &rendering.text).await
    }

    async fn unload(&self) -> Result<()> {
        let doing = "delete the nftables table inet natd";
        if self.table(doing).await?.is_none() {
            return Ok(());
        }
        // The first line makes a success of the second if somebody else has been faster.
        self.execute(doing, &format!("table inet {TABLE}\ndelete table inet {TABLE}\n")).await
    }
}

/// `elements` are what the sets hold; `None` if that wasn't asked for.
fn inspect(
    table: &kernel::Table,
    elements: Option<&BTreeMap<String, Option<ElementsDigest>>>,
) -> Loaded {
    let mut chains: BTreeMap<&str, audit::Chain> = table
        .chains
        .iter()
        .map(|chain| (chain.name.as_str(), audit::Chain::new(&chain.name)))
        .collect();
    for rule in &table.rules {
        let mark = rule.comment.as_deref().and_then(|comment| comment.parse().ok());
        chains
            .entry(&rule.chain)
            .or_insert_with(|| audit::Chain::new(&rule.chain))
            .marks
            .push(mark);
    }
    let chains: Vec<audit::Chain> = chains.into_values().collect();

    let mut loaded = audit::audit(&chains);
    let vouched: BTreeMap<&str, &ElementsDigest> = chains
        .iter()
        .flat_map(|chain| chain.marks.iter().flatten())
        .flat_map(|mark| mark.sets.iter().map(|(name, elements)| (name.as_str(), elements)))
        .collect();
    loaded.damage.extend(
        table.is_flagged.then(|| {
            "the table is not as natd made it: it has a flag, as dormant ones do".to_owned()
        }),
    );
    loaded.damage.extend(base_chains(table));
    // A rendering that is torn is loaded anew in any case; what vouched for its sets may be gone.
    if loaded.digest.is_some() {
        loaded.damage.extend(sets(table, &vouched, elements));
    }
    loaded
        .damage
        .extend(table.others.iter().map(|kind| format!("a foreign {kind} is in the table")));
    loaded
}

fn base_chains(table: &kernel::Table) -> Vec<String> {
    let mut damage = Vec::new();
    for (name, kind, hook, priority) in BASE_CHAINS {
        let wanted = kernel::Base { kind: kind.to_owned(), hook, priority, accepts: true };
        match table.chains.iter().find(|chain| chain.name == name) {
            // Without rules it does nothing, and with rules those are missing.
            None if name == "prerouting" => {}
            None => damage.push(format!("chain {name} is missing")),
            Some(chain) if chain.base.as_ref() != Some(&wanted) => {
                damage.push(format!("chain {name} has another hook, priority or policy"));
            }
            Some(_) => {}
        }
    }
    let foreign = table.chains.iter().filter(|chain| !CHAINS.contains(&chain.name.as_str()));
    damage.extend(foreign.map(|chain| format!("chain {} is foreign", chain.name)));
    damage
}

fn sets(
    table: &kernel::Table,
    vouched: &BTreeMap<&str, &ElementsDigest>,
    elements: Option<&BTreeMap<String, Option<ElementsDigest>>>,
) -> Vec<String> {
    let mut damage: Vec<String> = vouched
        .iter()
        .filter_map(|(name, wanted)| {
            if !table.sets.iter().any(|there| there == name) {
                return Some(format!("set {name} is missing"));
            }
            let there = elements?.get(*name).and_then(Option::as_ref);
            (there != Some(*wanted)).then(|| format!("set {name} has other elements"))
        })
        .collect();
    let foreign = table.sets.iter().filter(|name| !vouched.contains_key(name.as_str()));
    damage.extend(foreign.map(|name| format!("set {name} is foreign")));
    damage
}
