//! Whatever `iptables-save` prints: it is understood the same when it is printed again, and nothing follows from it
//! that would touch a chain of others.

use super::{
    inspect,
    saved::{self, Rule, Table, Tables, is_own},
    sets,
    steps::{Jump, Step, replace},
};
use crate::fuzzing::shared::{pieces, text};

/// What is wanted, while the input is what is there.
const WANTED: &str = "*filter
:NATD-FWD-b2 - [0:0]
-A FORWARD -m comment --comment natd:b2:1/4 -j NATD-FWD-b2
-A NATD-FWD-b2 -m comment --comment natd:b2:2/4 -j DROP
COMMIT
*nat
:NATD-POST-b2 - [0:0]
-A POSTROUTING -m comment --comment natd:b2:3/4 -j NATD-POST-b2
-A NATD-POST-b2 -m comment --comment natd:b2:4/4 -j MASQUERADE
COMMIT
";

/// A print for IPv4 and, behind a line of `====`, one for IPv6.
pub(crate) fn iptables_save(input: &[u8]) {
    let families: Vec<Tables> =
        pieces(input).into_iter().take(2).map(|piece| saved::parse(&text(piece))).collect();
    for tables in &families {
        assert_eq!(&saved::parse(&printed(tables)), tables);
        let wanted = saved::parse(WANTED);
        for goal in [&wanted, &Tables::new(), tables] {
            for step in replace(tables, goal) {
                of_natds_alone(&step, tables, goal);
            }
        }
    }
    let loaded = inspect(&families);
    let has_own = |table: &Table| table.own().next().is_some() || table.jumps().next().is_some();
    assert_eq!(loaded.is_some(), families.iter().flat_map(Tables::values).any(has_own));
    if let Some(loaded) = loaded {
        let lines = input.split(|byte| *byte == b'\n').count() - 1;
        let told: usize = loaded.damage.iter().map(String::len).sum();
        assert!(loaded.damage.len() < 2 * lines + 40, "{} for {lines}", loaded.damage.len());
        assert!(told < 200 * (input.len() + 40), "{told} bytes for {}", input.len());
    }
    // A set of ipset's is printed by another program, in another format.
    let elements = sets::elements(&text(input));
    assert!(elements.len() <= input.len());
}

fn printed(tables: &Tables) -> String {
    let mut lines = Vec::new();
    for (name, Table { chains, rules }) in tables {
        lines.push(format!("*{name}"));
        lines.extend(chains.iter().map(|chain| format!(":{chain} - [0:0]")));
        lines.extend(rules.iter().map(|Rule { chain, spec }| format!("-A {chain} {spec}")));
        lines.push("COMMIT\n".to_owned());
    }
    lines.join("\n")
}

fn of_natds_alone(step: &Step, there: &Tables, wanted: &Tables) {
    let none = Table::default();
    match step {
        Step::Commit(commit) => {
            let appended = commit.append.iter().map(|rule| &rule.chain);
            for chain in commit.fresh.iter().chain(appended).chain(&commit.remove) {
                assert!(is_own(chain), "{chain} is not natd's");
            }
            assert_eq!(commit.to_string().lines().count(), commit.len(), "{commit}");
        }
        Step::Jump { table, jump: Jump::Insert(rule) } => {
            let wanted = wanted.get(table).unwrap_or(&none);
            assert!(wanted.jumps().any(|jump| jump == rule), "{rule:?} is not wanted");
        }
        Step::Jump { table, jump: Jump::Delete(rule) } => {
            let there = there.get(table).unwrap_or(&none);
            assert!(there.jumps().any(|jump| jump == rule), "{rule:?} is no jump of natd's");
            assert!(!is_own(&rule.chain) && rule.target().is_some_and(|chain| is_own(&chain)));
        }
    }
}
