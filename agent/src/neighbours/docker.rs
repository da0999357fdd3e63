//! Docker: natd's traffic passes by `DOCKER-USER`, the chain that Docker leaves to others.
//!
//! Docker has its rules in the table `filter` of iptables, over nftables or legacy, whichever it has found;
//! natd asks the kernel which. natd's jump stands behind the rules that others have in that chain, which so
//! go on to decide first, and before one that ends the chain for all that is left, as Docker's own `RETURN`.

use std::{fs, time::Duration};

use async_trait::async_trait;
use natd_core::{
    error::{Error, Kind, Result},
    host::{Loaded, NeighbouringFirewall},
    neighbours::{Neighbour, Passage},
    ruleset::{DOCKER_USER, Family, PASSAGE_PREFIX, in_docker_user},
};

use crate::{
    firewall::{
        audit,
        iptables::saved::{self, Rule, Table},
        nftables::kernel,
    },
    process::{Output, Program},
};

/// How long one look or one change may take.
const DEADLINE: Duration = Duration::from_secs(10);

const PACKAGE: &str = "iptables";

/// Docker's table.
const FILTER: &str = "filter";

/// Docker, by way of the `iptables` programs of this host.
#[derive(Debug, Clone)]
pub struct Docker {
    deadline: Duration,
}

impl Default for Docker {
    fn default() -> Self {
        Self { deadline: DEADLINE }
    }
}

/// A table `filter` with Docker's chain, or something of natd's, in it.
struct Place {
    family: Family,
    variant: Variant,
    table: Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Nft,
    Legacy,
}

impl Variant {
    /// The programs that work on it, the surest first.
    fn programs(self, family: Family, purpose: &str) -> [String; 2] {
        let name = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let variant = match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        };
        [format!("{name}-{variant}-{purpose}"), format!("{name}-{purpose}")]
    }
}

fn is_own(chain: &str) -> bool {
    chain.starts_with(PASSAGE_PREFIX)
}

impl Docker {
    /// Where Docker has its chain, or natd something of a passage.
    async fn places(&self, doing: &str) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let chains = match kernel::chains(doing, self.deadline).await {
            Err(error) if error.kind() == Kind::NotFound => Vec::new(),
            chains => chains?,
        };
        for (family, name, legacy) in [
            (Family::V4, "ip", "/proc/net/ip_tables_names"),
            (Family::V6, "ip6", "/proc/net/ip6_tables_names"),
        ] {
            let concerns = |chain: &str| chain == DOCKER_USER || is_own(chain);
            let nft = chains.iter().any(|(family, table, chain)| {
                *family == name && table == FILTER && concerns(&chain.name)
            });
            // The file is there once the module of iptables-legacy is loaded.
            let legacy = fs::read_to_string(legacy)
                .is_ok_and(|tables| tables.lines().any(|table| table == FILTER));
            for (variant, is_there) in [(Variant::Nft, nft), (Variant::Legacy, legacy)] {
                if !is_there {
                    continue;
                }
                let args = ["-t", FILTER];
                let text = self.run(doing, variant.programs(family, "save"), &args, None).await?;
                let mut tables = saved::parse(&text.success(doing)?);
                if let Some(table) = tables.remove(FILTER)
                    && table.chains.iter().any(|chain| concerns(chain))
                {
                    places.push(Place { family, variant, table });
                }
            }
        }
        Ok(places)
    }

    /// Runs the first of the programs that is on this host.
    async fn run(
        &self,
        doing: &str,
        programs: [String; 2],
        args: &[&str],
        stdin: Option<&str>,
    ) -> Result<Output> {
        let [surest, other] = programs;
        let run = async |program: String| {
            Program::new(program, PACKAGE, self.deadline).run(doing, args, stdin).await
        };
        match run(surest).await {
            Err(error) if error.kind() == Kind::NotFound => run(other).await,
            outcome => outcome,
        }
    }

    async fn commit(&self, doing: &str, place: &Place, text: &str) -> Result<()> {
        // A second less, so that the program tells itself that it didn't get the lock.
        let wait = self.deadline.as_secs().saturating_sub(1).max(1).to_string();
        let programs = place.variant.programs(place.family, "restore");
        let args = ["--noflush", "--wait", &wait];
        let output = self.run(doing, programs, &args, Some(text)).await?;
        output.success(doing).map(drop)
    }
}

impl Place {
    fn is_dockers(&self) -> bool {
        self.table.chains.contains(DOCKER_USER)
    }

    /// natd's own chains.
    fn chains(&self) -> impl Iterator<Item = &String> {
        self.table.chains.iter().filter(|chain| is_own(chain))
    }

    /// The rules of others' chains that lead into natd's.
    fn jumps(&self) -> impl Iterator<Item = &Rule> {
        self.table.rules.iter().filter(|rule| {
            !is_own(&rule.chain) && rule.target().is_some_and(|target| is_own(&target))
        })
    }

    /// What natd has here; `None` if nothing.
    fn loaded(&self) -> Option<Loaded> {
        let mut chains: Vec<audit::Chain> = self
            .chains()
            .map(|name| {
                let rules = self.table.rules.iter().filter(|rule| rule.chain == *name);
                audit::Chain { name: name.clone(), marks: rules.map(Rule::mark).collect() }
            })
            .collect();
        chains.extend(self.jumps().map(|jump| {
            let mark = jump.mark().filter(|_| jump.chain == DOCKER_USER);
            audit::Chain { name: jump.chain.clone(), marks: vec![mark] }
        }));
        if chains.is_empty() {
            return None;
        }
        let mut loaded = audit::audit(&chains);
        if self.is_cut_off() {
            loaded.damage.push(format!("a rule of {DOCKER_USER} that ends it comes before natd's"));
        }
        Some(loaded)
    }

    /// The rules of `DOCKER-USER` that aren't natd's, and how many of them come before one that ends the
    /// chain for all that is left.
    fn before_the_end<'a>(rules: impl Iterator<Item = &'a Rule>) -> usize {
        rules.take_while(|rule| rule.words() != [DOCKER_USER, "-j", "RETURN"]).count()
    }

    fn is_cut_off(&self) -> bool {
        let rules = || self.table.rules.iter().filter(|rule| rule.chain == DOCKER_USER);
        let own = rules().position(|rule| rule.target().is_some_and(|target| is_own(&target)));
        own.is_some_and(|own| Self::before_the_end(rules()) < own)
    }

    /// The one commit after which natd has that here, and nothing else; `None` if it is so already.
    fn commit(&self, wanted: Option<&Table>) -> Option<String> {
        let nothing = Table::default();
        let wanted_table = wanted.unwrap_or(&nothing);
        let own = |table: &Table| -> Vec<Vec<String>> {
            let mut rules: Vec<_> = table
                .rules
                .iter()
                .filter(|rule| {
                    is_own(&rule.chain) || rule.target().is_some_and(|target| is_own(&target))
                })
                .map(Rule::words)
                .collect();
            // Stable: within a chain the order counts.
            rules.sort_by(|one, other| one.first().cmp(&other.first()));
            rules
        };
        let leftover =
            || self.chains().filter(|chain| !wanted_table.chains.contains(chain.as_str()));
        if own(&self.table) == own(wanted_table)
            && !self.is_cut_off()
            && leftover().next().is_none()
        {
            return None;
        }
        let others = self.table.rules.iter().filter(|rule| {
            rule.chain == DOCKER_USER && !rule.target().is_some_and(|target| is_own(&target))
        });
        let position = Self::before_the_end(others) + 1;
        let mut lines = vec![format!("*{FILTER}")];
        let declared = wanted_table.chains.iter().filter(|chain| is_own(chain));
        lines.extend(declared.map(|chain| format!(":{chain} - [0:0]")));
        lines.extend(self.jumps().map(|Rule { chain, spec }| format!("-D {chain} {spec}")));
        for Rule { chain, spec } in &wanted_table.rules {
            if is_own(chain) {
                lines.push(format!("-A {chain} {spec}"));
            } else {
                lines.push(format!("-I {chain} {position} {spec}"));
            }
        }
        // All are emptied first: they lead into each other.
        lines.extend(leftover().map(|chain| format!("-F {chain}")));
        lines.extend(leftover().map(|chain| format!("-X {chain}")));
        lines.push("COMMIT\n".to_owned());
        Some(lines.join("\n"))
    }
}

/// What is wanted of that family, as a table.
fn wanted(passage: &Passage, family: Family) -> Option<Table> {
    saved::parse(&in_docker_user(passage, family)?).remove(FILTER)
}

#[async_trait]
impl NeighbouringFirewall for Docker {
    fn who(&self) -> Neighbour {
        Neighbour::Docker
    }

    async fn is_running(&self) -> Result<bool> {
        // Its policy stays when it is stopped, and so does the chain.
        let places = self.places("look for Docker's rules").await?;
        Ok(places.iter().any(Place::is_dockers))
    }

    async fn passage(&self, passage: Option<&Passage>) -> Result<Option<Loaded>> {
        let places = self.places("read what natd has in Docker's chain").await?;
        let loaded: Vec<Loaded> = places.iter().filter_map(Place::loaded).collect();
        let Some(first) = loaded.first() else { return Ok(None) };
        let same = loaded.iter().all(|loaded| loaded.digest == first.digest);
        let digest = first.digest.clone().filter(|_| same);
        let mut damage: Vec<String> =
            loaded.iter().flat_map(|loaded| loaded.damage.clone()).collect();
        // A family's chain may have come since, or its sources may have gone.
        for place in places.iter().filter(|place| place.is_dockers()) {
            let is_wanted =
                passage.is_none_or(|passage| passage.families().contains(&place.family));
            if is_wanted && place.loaded().is_none() {
                damage.push(format!("one of the chains {DOCKER_USER} has nothing of natd's"));
            }
        }
        Ok(Some(Loaded { digest, damage }))
    }

    async fn open(&self, passage: &Passage) -> Result<()> {
        let doing = "have Docker let natd's traffic through";
        let places = self.places(doing).await?;
        if !places.iter().any(Place::is_dockers) {
            return Err(Error::new(
                Kind::NotFound,
                doing,
                format!("Docker's chain {DOCKER_USER} is not there"),
            )
            .with_advice("restart Docker: systemctl restart docker"));
        }
        for place in places {
            let wanted = wanted(passage, place.family).filter(|_| place.is_dockers());
            if let Some(commit) = place.commit(wanted.as_ref()) {
                self.commit(doing, &place, &commit).await?;
            }
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let doing = "remove what natd has in Docker's chain";
        for place in self.places(doing).await? {
            if let Some(commit) = place.commit(None) {
                self.commit(doing, &place, &commit).await?;
            }
        }
        Ok(())
    }
}
