//! ufw: natd's traffic passes by its route rules.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use natd_core::{
    error::{Error, Kind, Result},
    host::{Loaded, NeighbouringFirewall},
    neighbours::{
        Neighbour, Passage,
        ufw::{
            MOST, Match, RouteRule, Standing, in_kernel, kernel_rules, matches, parse, standing,
        },
    },
    ruleset::{Mark, RulesetDigest},
};

use crate::process::Program;

/// How long one command of ufw may take: it waits for another one to end, and for the lock of iptables.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often, and how far apart, the kernel is looked at while it has no route rule at all: ufw empties its
/// chains, and fills each family's at once, when it starts and when it loads them anew.
const LOOKS: usize = 10;
const BETWEEN: Duration = Duration::from_millis(500);

const OPENING: &str = "have ufw let natd's traffic through";
const CLOSING: &str = "remove natd's rules from ufw";
const LOOKING: &str = "look at ufw's rules";

/// Where ufw has its settings, and the rules that were added, with comments in hexadecimal digits.
const CONF: &str = "etc/ufw/ufw.conf";
const RULES: [&str; 2] = ["etc/ufw/user.rules", "etc/ufw/user6.rules"];
/// "natd:", with which a mark begins.
const MARKED: &str = "comment=6e6174643a";

/// The chains of its route rules: there while it is active.
const CHAIN_V4: &str = "ufw-user-forward";
const CHAIN_V6: &str = "ufw6-user-forward";

/// ufw, by way of its command.
#[derive(Debug, Clone)]
pub struct Ufw {
    root: PathBuf,
    command: Program,
    iptables: Program,
    ip6tables: Program,
}

/// What the kernel has of ufw's route rules.
struct InForce {
    v4: Vec<Vec<String>>,
    /// `None`: ufw leaves IPv6 alone.
    v6: Option<Vec<Vec<String>>>,
}

/// What natd has among ufw's rules.
struct Own<'a> {
    rule: &'a RouteRule,
    mark: Mark,
}

impl Ufw {
    /// ufw as it is below that folder, which is `/` on a host.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            command: Program::new("ufw", "ufw", DEADLINE),
            iptables: Program::new("iptables", "iptables", DEADLINE),
            ip6tables: Program::new("ip6tables", "iptables", DEADLINE),
        }
    }

    fn read(&self, path: &str) -> String {
        // A file that isn't there has nothing in it.
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    fn is_enabled(&self) -> bool {
        self.read(CONF).lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"))
    }

    /// Whether a rule of natd's is in ufw's files. To ask ufw itself takes a sixth of a second, on hosts
    /// where it is disabled, too.
    fn has_marks(&self) -> bool {
        RULES.iter().any(|path| self.has_marks_in(path))
    }

    fn has_marks_in(&self, path: &str) -> bool {
        self.read(path).contains(MARKED)
    }

    /// The kernel's part of it; `None` if ufw isn't active.
    async fn in_force(&self, doing: &str) -> Result<Option<InForce>> {
        if !self.is_enabled() {
            return Ok(None);
        }
        let v4 = chain(&self.iptables, CHAIN_V4, doing).await?;
        let Some(v4) = v4 else { return Ok(None) };
        let v6 = chain(&self.ip6tables, CHAIN_V6, doing).await?;
        Ok(Some(InForce { v4, v6 }))
    }

    /// The same once ufw has loaded its rules, as far as natd has some there.
    async fn loaded_by_ufw(&self, doing: &str) -> Result<Option<InForce>> {
        let mut in_force = self.in_force(doing).await?;
        for _ in 0..LOOKS {
            let is_loading = |in_force: &InForce| {
                let [v4, v6] = RULES.map(|path| self.has_marks_in(path));
                v4 && in_force.v4.is_empty()
                    || v6 && in_force.v6.as_ref().is_some_and(Vec::is_empty)
            };
            if !in_force.as_ref().is_some_and(is_loading) {
                break;
            }
            tokio::time::sleep(BETWEEN).await;
            in_force = self.in_force(doing).await?;
        }
        Ok(in_force)
    }

    async fn rules(&self, doing: &str) -> Result<Vec<RouteRule>> {
        let added = self.command.run(doing, &["show", "added"], None).await?;
        Ok(parse(&added.success(doing)?))
    }

    async fn allow(&self, wanted: &Match, mark: &Mark) -> Result<()> {
        let mark = mark.to_string();
        let mut args = vec!["route", "allow"];
        args.extend(wanted.words());
        args.extend(["comment", &mark]);
        self.command.run(OPENING, &args, None).await?.success(OPENING).map(drop)
    }

    /// Takes exactly that rule away: with another comment, ufw finds none. It loads its other rules anew
    /// then, as whenever a rule is deleted.
    async fn delete(&self, rule: &RouteRule, doing: &str) -> Result<()> {
        let mut args = vec!["route", "delete", "allow"];
        args.extend(rule.matches.words());
        args.extend(["comment", rule.comment.as_deref().unwrap_or_default()]);
        self.command.run(doing, &args, None).await?.success(doing).map(drop)
    }
}

/// The rules of a chain; `None` if there is no such chain.
async fn chain(program: &Program, name: &str, doing: &str) -> Result<Option<Vec<Vec<String>>>> {
    let listed = program.run(doing, &["-S"], None).await?.success(doing)?;
    let is_there = listed.lines().any(|line| line.strip_prefix("-N ") == Some(name));
    let head = format!("-A {name} ");
    let rules: Vec<&str> = listed.lines().filter(|line| line.starts_with(&head)).collect();
    Ok(is_there.then(|| kernel_rules(&rules.join("\n"))))
}

impl InForce {
    /// Whether the kernel has that match.
    fn has(&self, matches: &Match) -> bool {
        let v4 = || self.v4.contains(&in_kernel(matches, CHAIN_V4));
        let v6 = || match &self.v6 {
            Some(rules) => rules.contains(&in_kernel(matches, CHAIN_V6)),
            None => true,
        };
        match matches.is_ipv6() {
            Some(false) => v4(),
            Some(true) => v6(),
            None => v4() && v6(),
        }
    }
}

fn own(rules: &[RouteRule]) -> Vec<Own<'_>> {
    rules.iter().filter_map(|rule| rule.mark().map(|mark| Own { rule, mark })).collect()
}

/// The marks that a passage's rules are to have.
fn marked(passage: &Passage) -> Vec<(Match, Mark)> {
    let matches = matches(passage);
    let total = matches.len();
    let mark = |index| Mark { digest: passage.digest(), index, total, sets: [].into() };
    matches.into_iter().zip(1..).map(|(matches, index)| (matches, mark(index))).collect()
}

/// What natd has there, for the passage that is to be there.
fn loaded(wanted: &Passage, rules: &[RouteRule], in_force: &InForce) -> Option<Loaded> {
    let own = own(rules);
    let digests: Vec<&RulesetDigest> = own.iter().map(|own| &own.mark.digest).collect();
    let is_current = digests.iter().all(|digest| **digest == wanted.digest());
    if !is_current {
        let digest = digests.first().filter(|first| digests.iter().all(|digest| digest == *first));
        return Some(Loaded { digest: digest.copied().cloned(), damage: Vec::new() });
    }
    let marked = marked(wanted);
    let mut damage: Vec<String> = Vec::new();
    let mut granted = 0;
    for (matches, mark) in &marked {
        match standing(matches, rules) {
            Standing::Own(found) if found == *mark => {
                if !in_force.has(matches) {
                    damage.push(format!("its rule \"{matches}\" is not in the kernel"));
                }
            }
            Standing::Granted => granted += 1,
            Standing::Own(_) | Standing::Absent | Standing::Taken(_) => {
                damage.push(format!("a rule \"{matches}\" is missing"));
            }
        }
    }
    let is_wanted = |rule: &RouteRule| marked.iter().any(|(matches, _)| *matches == rule.matches);
    let extra = own.iter().filter(|own| !is_wanted(own.rule));
    damage.extend(extra.map(|own| format!("a rule \"{}\" is too many", own.rule.matches)));
    // Nothing of natd's is there, and not all is let through by somebody else.
    if own.is_empty() && granted < marked.len() {
        return None;
    }
    Some(Loaded { digest: Some(wanted.digest()), damage })
}

/// Why natd doesn't put its rule there.
fn taken(matches: &Match, by: &RouteRule) -> Error {
    Error::new(
        Kind::Conflict,
        OPENING,
        format!("somebody's rule \"{by}\" has the same match, and ufw would replace it"),
    )
    .with_advice(format!(
        "decide which it is: to let natd's traffic through, type: ufw route allow {matches}"
    ))
}

#[async_trait]
impl NeighbouringFirewall for Ufw {
    fn who(&self) -> Neighbour {
        Neighbour::Ufw
    }

    async fn is_running(&self) -> Result<bool> {
        Ok(self.has_marks() || self.in_force(LOOKING).await?.is_some())
    }

    async fn passage(&self, wanted: Option<&Passage>) -> Result<Option<Loaded>> {
        let in_force = self.loaded_by_ufw(LOOKING).await?;
        match (wanted, in_force) {
            // Nothing is in the way, and ufw is left alone.
            (Some(wanted), None) => Ok(self
                .has_marks()
                .then(|| Loaded { digest: Some(wanted.digest()), damage: Vec::new() })),
            (Some(wanted), Some(in_force)) => {
                Ok(loaded(wanted, &self.rules(LOOKING).await?, &in_force))
            }
            (None, _) if !self.has_marks() => Ok(None),
            (None, _) => {
                let rules = self.rules(LOOKING).await?;
                let digest = own(&rules).into_iter().next().map(|own| own.mark.digest);
                Ok(digest.map(|digest| Loaded { digest: Some(digest), damage: Vec::new() }))
            }
        }
    }

    async fn open(&self, passage: &Passage) -> Result<()> {
        let Some(mut in_force) = self.loaded_by_ufw(OPENING).await? else { return Ok(()) };
        let marked = marked(passage);
        if marked.len() > MOST {
            return Err(too_many(passage, marked.len()));
        }
        let rules = self.rules(OPENING).await?;
        let mut outcome = Ok(());
        let mut note = |result: Result<()>| {
            if outcome.is_ok() {
                outcome = result;
            }
        };
        // What is new comes before what is old goes: nothing is cut off meanwhile.
        for (matches, mark) in &marked {
            match standing(matches, &rules) {
                Standing::Granted => {}
                Standing::Absent if in_force.v6.is_none() && matches.is_ipv6() == Some(true) => {
                    note(Err(no_ipv6()));
                }
                Standing::Taken(by) => note(Err(taken(matches, by))),
                Standing::Own(found) if found == *mark && in_force.has(matches) => {}
                Standing::Own(_) if in_force.has(matches) => note(self.allow(matches, mark).await),
                Standing::Own(_) => {
                    // ufw takes it to be there, and puts it into the kernel only if it is new.
                    let stale = rules.iter().find(|rule| rule.matches == *matches);
                    if let Some(stale) = stale {
                        note(self.delete(stale, OPENING).await);
                    }
                    note(self.allow(matches, mark).await);
                    // All others that were missing are there by that.
                    if let Some(now) = self.in_force(OPENING).await? {
                        in_force = now;
                    }
                }
                Standing::Absent => note(self.allow(matches, mark).await),
            }
        }
        let is_wanted =
            |rule: &RouteRule| marked.iter().any(|(matches, _)| *matches == rule.matches);
        for old in own(&rules).into_iter().filter(|own| !is_wanted(own.rule)) {
            note(self.delete(old.rule, OPENING).await);
        }
        outcome
    }

    async fn close(&self) -> Result<()> {
        if !self.has_marks() {
            return Ok(());
        }
        let rules = self.rules(CLOSING).await?;
        let mut outcome = Ok(());
        for own in own(&rules) {
            let deleted = self.delete(own.rule, CLOSING).await;
            outcome = outcome.and(deleted);
        }
        outcome
    }
}

/// ufw drops what it has no rules for.
fn no_ipv6() -> Error {
    Error::new(
        Kind::Unsupported,
        OPENING,
        "its support of IPv6 is off, and nat.sources has IPv6 blocks",
    )
    .with_advice("set IPV6=yes in /etc/default/ufw, then type: ufw disable; ufw enable")
}

fn too_many(passage: &Passage, rules: usize) -> Error {
    let ways: Vec<String> = passage
        .entrances
        .iter()
        .map(|by| format!("ufw route allow in on {by} out on {}", passage.egress))
        .collect();
    Error::new(
        Kind::Unsupported,
        OPENING,
        format!(
            "it takes {rules} rules, and ufw a third of a second for each; natd adds up to {MOST}"
        ),
    )
    .with_advice(format!(
        "name fewer, larger blocks in nat.sources, or let everything pass that way: {}",
        ways.join("; ")
    ))
}
