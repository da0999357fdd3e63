//! From the chains that are there to the chains that are wanted, in the order in which it is safe.
//! Pure.
//!
//! Chains of natd's own are filled in one commit a table by `iptables-restore --noflush`, be they
//! ten rules or 60,000: a chain that is there under the same name is never seen half full. Then
//! the jumps to them are made, one by one, and only then do the old jumps go, and at last the
//! chains that they led to. At every moment either the old rules or the new ones are in force;
//! wherever natd is killed in between, the steps that follow from what is there then lead to the
//! same end.

use std::{collections::BTreeSet, fmt};

use super::saved::{Rule, Table, Tables, is_own};

/// What is done at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// One commit of `iptables-restore --noflush`.
    Commit(Commit),
    /// One command of `iptables`: a rule in a chain of others.
    Jump { table: String, jump: Jump },
}

/// What one table's own chains become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Commit {
    pub table: String,
    /// Made, or emptied if they are there.
    pub fresh: BTreeSet<String>,
    pub append: Vec<Rule>,
    /// Emptied and removed; nothing leads to them from outside.
    pub remove: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Jump {
    /// At the head of its chain.
    Insert(Rule),
    Delete(Rule),
}

impl Commit {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.append.is_empty() && self.remove.is_empty()
    }

    /// How many lines its text has.
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.append.len() + 2 * self.remove.len() + 2
    }
}

/// The text for `iptables-restore`.
impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "*{}", self.table)?;
        self.fresh.iter().try_for_each(|chain| writeln!(f, ":{chain} - [0:0]"))?;
        self.append.iter().try_for_each(|Rule { chain, spec }| writeln!(f, "-A {chain} {spec}"))?;
        // All are emptied first: they may lead into each other.
        self.remove.iter().try_for_each(|chain| writeln!(f, "-F {chain}"))?;
        self.remove.iter().try_for_each(|chain| writeln!(f, "-X {chain}"))?;
        writeln!(f, "COMMIT")
    }
}

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert(Rule { chain, spec }) => write!(f, "-I {chain} 1 {spec}"),
            Self::Delete(Rule { chain, spec }) => write!(f, "-D {chain} {spec}"),
        }
    }
}

/// What turns natd's part of `current` into `wanted`.
pub(super) fn replace(current: &Tables, wanted: &Tables) -> Vec<Step> {
    let none = Table::default();
    let names: BTreeSet<&String> = current.keys().chain(wanted.keys()).collect();
    // Stage by stage over all tables: no table's new rules are entered before all are complete.
    let (mut made, mut entered, mut left, mut cleared) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let current = current.get(name).unwrap_or(&none);
        let wanted = wanted.get(name).unwrap_or(&none);
        let jump = |jump| Step::Jump { table: name.clone(), jump };
        made.push(Commit {
            table: name.clone(),
            fresh: wanted.own().cloned().collect(),
            append: wanted.rules.iter().filter(|rule| is_own(&rule.chain)).cloned().collect(),
            ..Commit::default()
        });
        let there: Vec<&Rule> = current.jumps().collect();
        let words = |jumps: Vec<&Rule>| jumps.into_iter().map(Rule::words).collect::<Vec<_>>();
        if words(there.clone()) != words(wanted.jumps().collect()) {
            // The last first: each comes before those that are there.
            entered.extend(wanted.jumps().rev().cloned().map(Jump::Insert).map(jump));
            left.extend(there.into_iter().cloned().map(Jump::Delete).map(jump));
        }
        cleared.push(Commit {
            table: name.clone(),
            remove: current
                .own()
                .filter(|chain| !wanted.chains.contains(*chain))
                .cloned()
                .collect(),
            ..Commit::default()
        });
    }
    let commits = |commits: Vec<Commit>| {
        let commits = commits.into_iter().filter(|commit| !commit.is_empty());
        commits.map(Step::Commit).collect::<Vec<_>>()
    };
    [commits(made), entered, left, commits(cleared)].concat()
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

    /// What the kernel does with it, refusals included.
    fn run(tables: &mut Tables, step: &Step) {
        match step {
            Step::Commit(commit) => {
                let table = tables.get_mut(&commit.table).expect("a table");
                for chain in &commit.fresh {
                    table.chains.insert(chain.clone());
                    table.rules.retain(|rule| &rule.chain != chain);
                }
                for rule in &commit.append {
                    append(table, rule, table.rules.len());
                }
                table.rules.retain(|rule| !commit.remove.contains(&rule.chain));
                for chain in &commit.remove {
                    let used = |rule: &Rule| rule.target().as_ref() == Some(chain);
                    assert!(!table.rules.iter().any(used), "{chain} is in use");
                    assert!(table.chains.remove(chain), "no {chain}");
                }
            }
            Step::Jump { table, jump } => {
                let table = tables.get_mut(table).expect("a table");
                match jump {
                    Jump::Insert(rule) => append(table, rule, 0),
                    Jump::Delete(rule) => {
                        let position = table.rules.iter().position(|there| there == rule);
                        table.rules.remove(position.unwrap_or_else(|| panic!("no {rule:?}")));
                    }
                }
            }
        }
    }

    fn append(table: &mut Table, rule: &Rule, position: usize) {
        assert!(table.chains.contains(&rule.chain), "no {}", rule.chain);
        let target = rule.target().expect("a target");
        assert!(!is_own(&target) || table.chains.contains(&target), "no {target}");
        table.rules.insert(position, rule.clone());
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
    fn what_was_tampered_with_is_as_it_was() {
        let foreign = parse(FOREIGN);
        let whole = after(foreign.clone(), &replace(&foreign, &wanted("a1")));
        let mut damaged: Vec<Tables> = Vec::new();
        for table in ["filter", "nat"] {
            for index in 0..whole[table].rules.len() {
                let mut torn = whole.clone();
                let removed = torn.get_mut(table).expect("a table").rules.remove(index);
                let mut doubled = whole.clone();
                doubled.get_mut(table).expect("a table").rules.push(removed.clone());
                if removed.mark().is_some() {
                    damaged.extend([torn, doubled]);
                }
            }
        }
        for torn in damaged {
            let mended = after(torn.clone(), &replace(&torn, &wanted("a1")));
            // The jumps may have come in another order, which is nothing to them.
            let sorted = |tables: &Tables| {
                let (mut own, others) = parts(tables);
                own.sort();
                (own, others)
            };
            assert_eq!(sorted(&mended), sorted(&whole), "{torn:?}");
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

    #[test]
    fn a_commit_reads_as_iptables_restore_takes_it() {
        let Some(Step::Commit(commit)) =
            replace(&parse(FOREIGN), &wanted("a1")).into_iter().next_back()
        else {
            let steps = replace(&parse(FOREIGN), &wanted("a1"));
            assert!(
                matches!(&steps[0], Step::Commit(commit) if commit.to_string() == "*filter
:NATD-FWD-a1 - [0:0]
:NATD-OUT-a1 - [0:0]
-A NATD-FWD-a1 -m comment --comment natd:a1:3/6 -j NATD-OUT-a1
-A NATD-OUT-a1 -m comment --comment natd:a1:4/6 -j DROP
COMMIT
"),
                "{steps:?}"
            );
            return;
        };
        panic!("the last step makes a jump, not {commit}");
    }
}
