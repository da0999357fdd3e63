//! From the marks of the rules in the kernel to what has become of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use natd_core::{
    host::Loaded,
    ruleset::{Mark, RulesetDigest},
};

/// The rules of one chain, in order: each with its mark, or `None` if it is not natd's.
pub(crate) struct Chain {
    pub name: String,
    pub marks: Vec<Option<Mark>>,
}

impl Chain {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), marks: Vec::new() }
    }
}

/// What the rules of these chains amount to: whose rendering, and what is missing, doubled, out of
/// its place, or somebody else's.
pub(crate) fn audit(chains: &[Chain]) -> Loaded {
    let mut damage: Vec<String> = Vec::new();
    for chain in chains {
        let foreign = chain.marks.iter().filter(|mark| mark.is_none()).count();
        damage.extend((foreign > 0).then(|| format!("foreign rules in {}: {foreign}", chain.name)));
    }
    let marks = || chains.iter().flat_map(|chain| chain.marks.iter().flatten());
    let digests: BTreeSet<&RulesetDigest> = marks().map(|mark| &mark.digest).collect();
    let digest = match (digests.first(), digests.len()) {
        (Some(digest), 1) => Some((*digest).clone()),
        (None, _) => {
            damage.push("all rules are missing".to_owned());
            None
        }
        (_, renderings) => {
            damage.push(format!("rules of {renderings} rulesets are mixed"));
            None
        }
    };
    if digest.is_some() {
        let total = marks().map(|mark| mark.total).max().unwrap_or_default();
        damage.extend(count(marks(), total));
        damage.extend(chains.iter().flat_map(out_of_place));
    }
    Loaded { digest, damage }
}

/// As many missing rules are told one by one. A mark may claim any total, whoever has written it.
const MOST_MISSING: usize = 20;

fn count<'a>(marks: impl Iterator<Item = &'a Mark>, total: usize) -> Vec<String> {
    let mut times = BTreeMap::new();
    for mark in marks {
        *times.entry(mark.index).or_insert(0_usize) += 1;
    }
    let missing = total.saturating_sub(times.len());
    let mut damage: Vec<String> = (1..=total)
        .filter(|index| !times.contains_key(index))
        .take(MOST_MISSING)
        .map(|index| format!("rule {index} of {total} is missing"))
        .collect();
    if missing > MOST_MISSING {
        damage.push(format!("and {} more", missing - MOST_MISSING));
    }
    let doubled = times.into_iter().filter(|(_, times)| *times > 1);
    damage.extend(
        doubled.map(|(index, times)| format!("rule {index} of {total} is there {times} times")),
    );
    damage
}

fn out_of_place(chain: &Chain) -> Vec<String> {
    let mut highest = 0;
    let mut misplaced = Vec::new();
    for mark in chain.marks.iter().flatten() {
        if mark.index < highest {
            misplaced.push(format!("rule {} of {} is out of its place", mark.index, mark.total));
        }
        highest = highest.max(mark.index);
    }
    misplaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, rules: &[&str]) -> Chain {
        Chain { name: name.to_owned(), marks: rules.iter().map(|rule| rule.parse().ok()).collect() }
    }

    fn damage(chains: &[Chain]) -> Vec<String> {
        audit(chains).damage
    }

    #[test]
    fn all_rules_in_their_places_are_intact() {
        let loaded =
            audit(&[chain("a", &["natd:d1:1/3", "natd:d1:2/3"]), chain("b", &["natd:d1:3/3"])]);
        assert_eq!(loaded, Loaded { digest: Some(RulesetDigest("d1".to_owned())), damage: vec![] });
        // Which chain is listed first is the tool's affair.
        assert_eq!(
            damage(&[chain("b", &["natd:d1:3/3"]), chain("a", &["natd:d1:1/3", "natd:d1:2/3"])]),
            [""; 0]
        );
    }

    #[test]
    fn each_sort_of_damage_is_named() {
        assert_eq!(
            damage(&[chain("a", &["natd:d1:1/3", "natd:d1:3/3"])]),
            ["rule 2 of 3 is missing"]
        );
        assert_eq!(
            damage(&[chain("a", &["natd:d1:1/2", "natd:d1:2/2", "natd:d1:2/2"])]),
            ["rule 2 of 2 is there 2 times"]
        );
        assert_eq!(
            damage(&[chain("a", &["natd:d1:2/2", "natd:d1:1/2"])]),
            ["rule 1 of 2 is out of its place"]
        );
        assert_eq!(damage(&[chain("a", &["natd:d1:1/1", "else"])]), ["foreign rules in a: 1"]);
        assert_eq!(damage(&[chain("a", &[])]), ["all rules are missing"]);
    }

    #[test]
    fn a_mixture_has_no_digest() {
        let loaded = audit(&[chain("a", &["natd:d1:1/1", "natd:d2:1/1"])]);
        assert_eq!(
            loaded,
            Loaded { digest: None, damage: vec!["rules of 2 rulesets are mixed".to_owned()] }
        );
    }
}
