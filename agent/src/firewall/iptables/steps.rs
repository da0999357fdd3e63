//! From the chains that are there to the chains that are wanted, as single commands. Pure.
//!
//! New chains are filled before the jumps to them are made, and only then do the old jumps go:
//! at every moment either the old rules or the new ones are in force. Wherever natd is killed in
//! between, the steps that follow from what is there then lead to the same end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::saved::{Rule, Table, Tables, is_own};

/// One command of `iptables`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub table: String,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Create(String),
    Rename {
        from: String,
        to: String,
    },
    Append(Rule),
    /// At the head of its chain.
    Insert(Rule),
    Delete(Rule),
    Flush(String),
    /// Only of a chain that is empty and that nothing jumps to.
    Remove(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(chain) => write!(f, "-N {chain}"),
            Self::Rename { from, to } => write!(f, "-E {from} {to}"),
            Self::Append(Rule { chain, spec }) => write!(f, "-A {chain} {spec}"),
            Self::Insert(Rule { chain, spec }) => write!(f, "-I {chain} 1 {spec}"),
            Self::Delete(Rule { chain, spec }) => write!(f, "-D {chain} {spec}"),
            Self::Flush(chain) => write!(f, "-F {chain}"),
            Self::Remove(chain) => write!(f, "-X {chain}"),
        }
    }
}

/// What turns natd's part of `current` into `wanted`, in an order in which it is safe.
pub(super) fn replace(current: &Tables, wanted: &Tables) -> Vec<Step> {
    let none = Table::default();
    let names: BTreeSet<&String> = current.keys().chain(wanted.keys()).collect();
    // Stage by stage over all tables: no table's new rules are entered before all are complete.
    let (mut made, mut entered, mut cleared) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let part = Part::of(current.get(name).unwrap_or(&none), wanted.get(name).unwrap_or(&none));
        let steps = |changes: Vec<Change>| {
            changes.into_iter().map(|change| Step { table: name.clone(), change })
        };
        made.extend(steps(part.make()));
        entered.extend(steps(part.enter()));
        cleared.extend(steps(part.clear()));
    }
    [made, entered, cleared].concat()
}

/// One table's way from here to there.
struct Part<'a> {
    current: &'a Table,
    wanted: &'a Table,
    /// Chains that were in force under a name that is needed for a new one.
    renamed: BTreeMap<String, String>,
    /// What an interrupted run left behind: packets don't come here.
    leftover: BTreeSet<String>,
}

impl<'a> Part<'a> {
    fn of(current: &'a Table, wanted: &'a Table) -> Self {
        let in_force = current.in_force();
        let leftover = current.own().filter(|chain| !in_force.contains(*chain)).cloned().collect();
        let renamed = in_force
            .iter()
            .filter(|chain| wanted.chains.contains(*chain))
            .map(|chain| (chain.clone(), free_name(chain, &current.chains)))
            .collect();
        Self { current, wanted, renamed, leftover }
    }

    fn make(&self) -> Vec<Change> {
        let mut changes = discard(&self.leftover);
        changes.extend(
            self.renamed
                .iter()
                .map(|(from, to)| Change::Rename { from: from.clone(), to: to.clone() }),
        );
        changes.extend(self.wanted.own().cloned().map(Change::Create));
        changes.extend(
            self.wanted
                .rules
                .iter()
                .filter(|rule| is_own(&rule.chain))
                .cloned()
                .map(Change::Append),
        );
        changes
    }

    /// The last first: each comes before those that are there.
    fn enter(&self) -> Vec<Change> {
        self.wanted.jumps().rev().cloned().map(Change::Insert).collect()
    }

    fn clear(&self) -> Vec<Change> {
        let mut changes: Vec<Change> =
            self.current.jumps().map(|jump| Change::Delete(jump.retarget(&self.renamed))).collect();
        let old = self.current.own().filter(|chain| !self.leftover.contains(*chain));
        changes.extend(discard(
            &old.map(|chain| self.renamed.get(chain).unwrap_or(chain).clone()).collect(),
        ));
        changes
    }
}

/// All are emptied first: they may lead into each other.
fn discard(chains: &BTreeSet<String>) -> Vec<Change> {
    let flush = chains.iter().cloned().map(Change::Flush);
    flush.chain(chains.iter().cloned().map(Change::Remove)).collect()
}

fn free_name(chain: &str, taken: &BTreeSet<String>) -> String {
    let mut number = 1;
    loop {
        let name = format!("{chain}.{number}");
        if !taken.contains(&name) {
            return name;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::saved::parse, *};

    const FOREIGN: &str = "*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
-A FORWARD -j DOCKER
-A DOCKER -i docker0 -j ACCEPT
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
COMMIT
";

    fn wanted(suffix: &str) -> Tables {
        parse(&format!(
            "*filter
:NATD-FWD-{suffix} - [0:0]
:NATD-OUT-{suffix} - [0:0]
-A FORWARD -d 192.0.2.1/32 -m comment --comment natd:{suffix}:1/6 -j NATD-OUT-{suffix}
-A FORWARD -m comment --comment natd:{suffix}:2/6 -j NATD-FWD-{suffix}
-A NATD-FWD-{suffix} -m comment --comment natd:{suffix}:3/6 -j NATD-OUT-{suffix}
-A NATD-OUT-{suffix} -m comment --comment natd:{suffix}:4/6 -j DROP
COMMIT
*nat
:NATD-POST-{suffix} - [0:0]
-A POSTROUTING -m comment --comment natd:{suffix}:5/6 -j NATD-POST-{suffix}
-A NATD-POST-{suffix} -m comment --comment natd:{suffix}:6/6 -j MASQUERADE
COMMIT
"
        ))
    }

    /// What the kernel does with a command, refusals included.
    fn run(tables: &mut Tables, step: &Step) {
        let table = tables.get_mut(&step.table).expect("a table");
        let points_to = |table: &Table, chain: &str| {
            table.rules.iter().any(|rule| rule.target().as_deref() == Some(chain))
        };
        match &step.change {
            Change::Create(chain) => assert!(table.chains.insert(chain.clone()), "{chain} exists"),
            Change::Rename { from, to } => {
                assert!(
                    table.chains.remove(from) && table.chains.insert(to.clone()),
                    "{from} {to}"
                );
                let names = BTreeMap::from([(from.clone(), to.clone())]);
                for rule in &mut table.rules {
                    *rule = rule.retarget(&names);
                    if &rule.chain == from {
                        rule.chain.clone_from(to);
                    }
                }
            }
            Change::Append(rule) | Change::Insert(rule) => {
                assert!(table.chains.contains(&rule.chain), "no {}", rule.chain);
                let target = rule.target().expect("a target");
                assert!(!is_own(&target) || table.chains.contains(&target), "no {target}");
                let head = matches!(step.change, Change::Insert(_));
                table.rules.insert(if head { 0 } else { table.rules.len() }, rule.clone());
            }
            Change::Delete(rule) => {
                let position = table.rules.iter().position(|there| there == rule);
                table.rules.remove(position.unwrap_or_else(|| panic!("no {rule:?}")));
            }
            Change::Flush(chain) => table.rules.retain(|rule| &rule.chain != chain),
            Change::Remove(chain) => {
                assert!(!points_to(table, chain), "{chain} is in use");
                assert!(
                    table.rules.iter().all(|rule| &rule.chain != chain),
                    "{chain} is not empty"
                );
                assert!(table.chains.remove(chain), "no {chain}");
            }
        }
    }

    fn after(mut tables: Tables, steps: &[Step]) -> Tables {
        for step in steps {
            run(&mut tables, step);
        }
        tables
    }

    /// Natd's part and the rest, each in the order within its chains.
    fn parts(tables: &Tables) -> (Vec<String>, Vec<String>) {
        let mut lines: Vec<(bool, String)> = Vec::new();
        for (name, table) in tables {
            lines.extend(
                table.chains.iter().map(|chain| (is_own(chain), format!("{name} {chain}"))),
            );
            let mut rules: Vec<&Rule> = table.rules.iter().collect();
            rules.sort_by_key(|rule| &rule.chain);
            lines.extend(
                rules.into_iter().map(|rule| (rule.mark().is_some(), format!("{name} {rule:?}"))),
            );
        }
        let part =
            |own| lines.iter().filter(|(is, _)| *is == own).map(|(_, line)| line.clone()).collect();
        (part(true), part(false))
    }

    fn own_with_builtin_chains(wanted: &Tables) -> Vec<String> {
        let mut tables = wanted.clone();
        for (table, chain) in [("filter", "FORWARD"), ("nat", "POSTROUTING")] {
            tables.get_mut(table).expect("a table").chains.insert(chain.to_owned());
        }
        parts(&tables).0
    }

    /// Whether packets go through all rules of that ruleset.
    fn holds(tables: &Tables, suffix: &str) -> bool {
        let mut indices: Vec<usize> = Vec::new();
        for table in tables.values() {
            let in_force = table.in_force();
            let passed = |rule: &&Rule| !is_own(&rule.chain) || in_force.contains(&rule.chain);
            let marks = table.rules.iter().filter(passed).filter_map(Rule::mark);
            indices.extend(marks.filter(|mark| mark.digest.0 == suffix).map(|mark| mark.index));
        }
        (1..=6).all(|index| indices.contains(&index))
    }

    #[test]
    fn from_anywhere_and_killed_anywhere_it_converges_and_is_never_without_rules() {
        let foreign = parse(FOREIGN);
        let first = after(foreign.clone(), &replace(&foreign, &wanted("a1")));
        // To another ruleset, and to the same again, as a repair.
        for goal in ["b2", "a1"] {
            let steps = replace(&first, &wanted(goal));
            for killed in 0..=steps.len() {
                let halfway = after(first.clone(), &steps[..killed]);
                let again = replace(&halfway, &wanted(goal));
                for killed_again in 0..=again.len() {
                    let state = after(halfway.clone(), &again[..killed_again]);
                    assert!(
                        holds(&state, "a1") || holds(&state, goal),
                        "{killed} {killed_again}: {state:?}"
                    );
                    let end = after(state.clone(), &replace(&state, &wanted(goal)));
                    let (own, others) = parts(&end);
                    assert_eq!(
                        own,
                        own_with_builtin_chains(&wanted(goal)),
                        "{killed} {killed_again}"
                    );
                    assert_eq!(others, parts(&foreign).1);
                }
            }
        }
    }

    #[test]
    fn from_anywhere_and_killed_anywhere_nothing_is_left_when_it_goes() {
        let foreign = parse(FOREIGN);
        let mut there = after(foreign.clone(), &replace(&foreign, &wanted("a1")));
        let up = replace(&there, &wanted("b2"));
        for step in &up {
            let down = replace(&there, &Tables::new());
            for killed in 0..=down.len() {
                let halfway = after(there.clone(), &down[..killed]);
                assert_eq!(after(halfway.clone(), &replace(&halfway, &Tables::new())), foreign);
            }
            run(&mut there, step);
        }
    }

    #[test]
    fn where_nothing_is_natds_nothing_is_done() {
        assert_eq!(replace(&parse(FOREIGN), &Tables::new()), []);
    }

    #[test]
    fn a_jump_from_a_chain_of_others_goes_too() {
        let mut there = after(parse(FOREIGN), &replace(&parse(FOREIGN), &wanted("a1")));
        let stray = Rule { chain: "DOCKER".to_owned(), spec: "-j NATD-FWD-a1".to_owned() };
        there.get_mut("filter").expect("a table").rules.push(stray);
        assert_eq!(after(there.clone(), &replace(&there, &Tables::new())), parse(FOREIGN));
    }
}
