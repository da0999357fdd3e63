//! What others have in a machine's firewall, by handle and by counter: whoever loads a rule anew gives it another handle,
//! and a counter that begins at zero.

use anyhow::{Result, ensure};

use super::machine::Machine;

/// The rules of everybody but natd, in order: each with its place and, where there is one, its handle, and how many
/// packets it has counted.
#[derive(Debug)]
pub struct Theirs(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// Table and chain.
    place: String,
    text: String,
    packets: Option<u64>,
}

/// What is in the name of a chain of natd's, in a rule that leads there, or in a comment; `_policy_natd` is what firewalld
/// makes of the policy that natd asks it for.
const OWN: [&str; 6] =
    ["chain NATD", "jump NATD", "goto NATD", "natd:", "comment \"natd", "_policy_natd"];

impl Theirs {
    /// Those that there are now.
    pub fn on(machine: &Machine) -> Result<Self> {
        let listed = machine.sh("nft -a list ruleset")?;
        let (mut table, mut chain) = ("", "");
        let mut rules = Vec::new();
        for line in listed.lines().filter(|line| !["", "}"].contains(&line.trim())) {
            let text = line.trim_start();
            match line.len() - text.len() {
                0 => (table, chain) = (text, ""),
                1 => chain = text,
                _ => {}
            }
            let is_natds = ["table inet natd ", "table ip natd-canary "]
                .iter()
                .any(|own| table.starts_with(own))
                || OWN.iter().any(|own| chain.contains(own) || text.contains(own));
            if !is_natds {
                let (text, packets) = without_counters(text);
                rules.push(Rule { place: format!("{table} {chain}"), text, packets });
            }
        }
        rules.extend(legacy(machine)?);
        Ok(Self(rules))
    }

    /// They are the same and no others, and count on. What is in chains that were not there is not looked at: iptables makes its
    /// built-in ones when it is used.
    ///
    /// # Errors
    /// If one has been changed, made, moved, removed, or has lost count.
    pub fn are_untouched(&self, machine: &Machine) -> Result<()> {
        let mut now = Self::on(machine)?;
        now.0.retain(|now| self.0.iter().any(|before| before.place == now.place));
        let texts = |theirs: &Self| -> Vec<(String, String)> {
            theirs.0.iter().map(|rule| (rule.place.clone(), rule.text.clone())).collect()
        };
        ensure!(texts(self) == texts(&now), "before: {self:#?}\nnow: {now:#?}");
        for (before, now) in self.0.iter().zip(&now.0) {
            ensure!(now.packets >= before.packets, "it lost count: {before:?}, {now:?}");
        }
        Ok(())
    }

    /// They are all there still, and count on; others may have come.
    ///
    /// # Errors
    /// If one has been changed or removed, or has lost count.
    pub fn are_all_there(&self, machine: &Machine) -> Result<()> {
        let now = Self::on(machine)?;
        for before in &self.0 {
            let is_it = |now: &&Rule| now.place == before.place && now.text == before.text;
            let found = now.0.iter().find(is_it);
            let counts_on = found.is_some_and(|now| now.packets >= before.packets);
            ensure!(counts_on, "{before:?} is gone, or has lost count: {found:?}");
        }
        Ok(())
    }

    /// The rules without handles, in the order of their letters: what a reload of theirs renews.
    pub fn texts(&self) -> Vec<String> {
        // Built-in chains of iptables stay in the kernel when they are empty.
        let is_rule = |text: &str| {
            text.contains("# handle ")
                && !["chain ", "table "].iter().any(|head| text.starts_with(head))
        };
        let rules = self.0.iter().filter(|rule| is_rule(&rule.text));
        let mut texts: Vec<String> = rules
            .map(|Rule { place, text, .. }| format!("{} {}", bare(place), bare(text)))
            .collect();
        texts.sort_unstable();
        texts
    }
}

/// Without handles.
fn bare(text: &str) -> String {
    let parts = text.split("# handle ");
    parts.map(|part| part.trim_start_matches(char::is_numeric)).collect()
}

/// Those of iptables-legacy, which have no handles.
fn legacy(machine: &Machine) -> Result<Vec<Rule>> {
    let saved = machine.sh(
        "for table in $(cat /proc/net/ip_tables_names); do iptables-legacy-save -c -t $table; done 2>/dev/null",
    )?;
    let is_theirs =
        |line: &&str| !line.contains("NATD") && !line.contains("natd") && !line.starts_with('#');
    let rule = |line: &str| {
        let counted = line.strip_prefix('[').and_then(|line| line.split_once("] "));
        let (text, packets) = match counted {
            Some((counts, rule)) => {
                (rule, counts.split(':').next().and_then(|count| count.parse().ok()))
            }
            // A chain, with its policy's count.
            None => (line.split(" [").next().unwrap_or(line), None),
        };
        Rule { place: "legacy".to_owned(), text: text.to_owned(), packets }
    };
    Ok(saved.lines().filter(is_theirs).map(rule).collect())
}

/// The rule without what it has counted, and how many packets that were.
fn without_counters(rule: &str) -> (String, Option<u64>) {
    let Some((before, after)) = rule.split_once("counter packets ") else {
        return (rule.to_owned(), None);
    };
    let mut words = after.split(' ');
    let packets = words.next().and_then(|packets| packets.parse().ok());
    // And "bytes", and how many.
    let rest: Vec<&str> = words.skip(2).collect();
    (format!("{before}counter {}", rest.join(" ")), packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_told_from_what_it_has_counted() {
        let rule = "oifname \"docker0\" counter packets 7 bytes 420 jump DOCKER # handle 12";
        let without = "oifname \"docker0\" counter jump DOCKER # handle 12";
        assert_eq!(without_counters(rule), (without.to_owned(), Some(7)));
        assert_eq!(without_counters("accept # handle 2"), ("accept # handle 2".to_owned(), None));
    }
}
