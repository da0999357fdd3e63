//! The nftables back end: the table `inet natd`, replaced in one transaction and read back as JSON.

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

mod listing;

use listing::Listing;

/// Natd's own table, by way of the program `nft`.
#[derive(Debug)]
pub struct Nftables {
    nft: Program,
}

impl Nftables {
    /// The path of `nft`, or a name that is looked for in `PATH`; and how long one run of it may
    /// take.
    pub fn new(nft: impl Into<PathBuf>, deadline: Duration) -> Self {
        Self { nft: Program::new(nft, "nftables", deadline) }
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
        let is_foreign = |table: &(String, String)| {
            let (family, name) = (table.0.as_str(), table.1.as_str());
            let of_iptables =
                matches!(family, "ip" | "ip6" | "bridge" | "arp") && OF_IPTABLES.contains(&name);
            !of_iptables && (family, name) != ("inet", TABLE)
        };
        let tables = self.tables("look for nftables tables").await?;
        let foreign = tables.into_iter().filter(is_foreign);
        Ok(foreign.map(|(family, name)| format!("{family} {name}")).collect())
    }

    /// Families and names of all tables. Not from JSON: over a table with flags nft 1.0.6 dies
    /// (Debian 12).
    async fn tables(&self, doing: &str) -> Result<Vec<(String, String)>> {
        let list = self.nft.run(doing, &["list", "tables"], None).await?.success(doing)?;
        let table = |line: &str| {
            let (family, name) = line.strip_prefix("table ")?.split_once(' ')?;
            Some((family.to_owned(), name.to_owned()))
        };
        Ok(list.lines().filter_map(table).collect())
    }

    async fn list(&self, doing: &str, what: &[&str]) -> Result<Listing> {
        let args = [&["-j"], what].concat();
        let stdout = self.nft.run(doing, &args, None).await?.success(doing)?;
        serde_json::from_str(&stdout).map_err(|error| {
            Error::new(Kind::Invalid, doing, format!("nft's JSON is not understood: {error}"))
        })
    }

    /// Asked for by a list of all tables, since `nft` tells an absent table from any other failure
    /// by words only.
    async fn is_present(&self, doing: &str) -> Result<bool> {
        let tables = self.tables(doing).await?;
        Ok(tables.iter().any(|(family, name)| family == "inet" && name == TABLE))
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
        if !self.is_present(doing).await? {
            return Ok(None);
        }
        // `-t` leaves out what sets hold; nft doesn't even ask the kernel for it then.
        let terse: &[&str] = if depth == Depth::Rules { &["-t"] } else { &[] };
        let table = ["list", "table", "inet", TABLE];
        match self.list(doing, &[terse, &table].concat()).await {
            Ok(listing) => Ok(Some(inspect(&listing, depth))),
            // Somebody may have deleted it since.
            Err(_) if !self.is_present(doing).await? => Ok(None),
            // nft 1.0.6 (Debian 12) dies over a table with flags. What can't be listed is replaced.
            Err(error) if error.kind() == Kind::Invalid => Ok(Some(Loaded {
                digest: None,
                damage: vec![format!("the table is not as natd made it: {error}")],
            })),
            Err(error) => Err(error),
        }
    }

    async fn load(&self, rendering: &Rendering) -> Result<()> {
        self.execute("load the nftables table inet natd", &rendering.text).await
    }

    async fn unload(&self) -> Result<()> {
        let doing = "delete the nftables table inet natd";
        if !self.is_present(doing).await? {
            return Ok(());
        }
        // The first line makes a success of the second if somebody else has been faster.
        self.execute(doing, &format!("table inet {TABLE}\ndelete table inet {TABLE}\n")).await
    }
}

fn inspect(listing: &Listing, depth: Depth) -> Loaded {
    let mut chains: BTreeMap<&str, audit::Chain> = listing
        .chains()
        .map(|chain| (chain.name.as_str(), audit::Chain::new(&chain.name)))
        .collect();
    for rule in listing.rules() {
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
    loaded.damage.extend(tables(listing));
    loaded.damage.extend(base_chains(listing));
    // A rendering that is torn is loaded anew in any case; what vouched for its sets may be gone.
    if loaded.digest.is_some() {
        loaded.damage.extend(sets(listing, &vouched, depth));
    }
    loaded.damage.extend(listing.others().map(|kind| format!("a foreign {kind} is in the table")));
    loaded
}

/// A flag makes the table dormant, or another program's own.
fn tables(listing: &Listing) -> Vec<String> {
    let flagged = listing.tables().filter(|table| table.flags.is_some());
    flagged
        .map(|_| "the table is not as natd made it: it has a flag, as dormant ones do".to_owned())
        .collect()
}

fn base_chains(listing: &Listing) -> Vec<String> {
    let mut damage = Vec::new();
    for (name, kind, hook, priority) in BASE_CHAINS {
        match listing.chains().find(|chain| chain.name == name) {
            // Without rules it does nothing, and with rules those are missing.
            None if name == "prerouting" => {}
            None => damage.push(format!("chain {name} is missing")),
            Some(chain)
                if chain.kind.as_deref() != Some(kind)
                    || chain.hook.as_deref() != Some(hook)
                    || chain.priority != Some(priority)
                    || chain.policy.as_deref() != Some("accept") =>
            {
                damage.push(format!("chain {name} has another hook, priority or policy"));
            }
            Some(_) => {}
        }
    }
    let foreign = listing.chains().filter(|chain| !CHAINS.contains(&chain.name.as_str()));
    damage.extend(foreign.map(|chain| format!("chain {} is foreign", chain.name)));
    damage
}

fn sets(listing: &Listing, vouched: &BTreeMap<&str, &ElementsDigest>, depth: Depth) -> Vec<String> {
    let there: BTreeMap<&str, Option<ElementsDigest>> =
        listing.sets().map(|set| (set.name.as_str(), set.elements())).collect();
    let mut damage: Vec<String> = vouched
        .iter()
        .filter_map(|(name, elements)| match there.get(name) {
            None => Some(format!("set {name} is missing")),
            Some(_) if depth == Depth::Rules => None,
            Some(Some(there)) if there == *elements => None,
            Some(_) => Some(format!("set {name} has other elements")),
        })
        .collect();
    let foreign = there.keys().filter(|name| !vouched.contains_key(*name));
    damage.extend(foreign.map(|name| format!("set {name} is foreign")));
    damage
}
