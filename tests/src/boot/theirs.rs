//! What others have in the kernel's firewall, by handle and by counter: whoever loads a rule anew gives it another
//! handle, and a counter that begins at zero.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::machine::Machine;

/// Every rule and every chain that isn't natd's, with what has been counted at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theirs(BTreeMap<String, u64>);

impl Theirs {
    /// As it is now.
    pub fn on(machine: &Machine) -> Result<Self> {
        Ok(Self::parse(&machine.sh("nft -a list ruleset 2>/dev/null")?))
    }

    fn parse(text: &str) -> Self {
        let (mut table, mut chain) = (String::new(), String::new());
        let mut all = BTreeMap::new();
        for line in text.lines().map(str::trim) {
            if line.starts_with("table ") {
                table = line.to_owned();
                chain.clear();
            } else if line.starts_with("chain ") {
                chain = line.to_owned();
            }
            let is_own = ["table inet natd ", "table ip natd-canary "]
                .iter()
                .any(|own| table.starts_with(own))
                || chain.starts_with("chain NATD")
                || ["natd:", "_policy_natd", "jump NATD", "goto NATD"]
                    .iter()
                    .any(|own| line.contains(own) || chain.contains(own));
            if line.contains("# handle ") && !is_own {
                let (line, counted) = without_counter(line);
                all.insert(format!("{table} / {chain} / {line}"), counted);
            }
        }
        Self(all)
    }

    /// All of it is there still, loaded then and not since, and what has been counted is known still.
    pub fn are_untouched(&self, machine: &Machine) -> Result<()> {
        let now = Self::on(machine)?;
        let touched: Vec<String> = self
            .0
            .iter()
            .filter_map(|(rule, counted)| match now.0.get(rule) {
                None => Some(format!("gone: {rule}")),
                Some(now) if now < counted => Some(format!("counted {counted}, now {now}: {rule}")),
                Some(_) => None,
            })
            .collect();
        ensure!(touched.is_empty(), "{}", touched.join("\n"));
        Ok(())
    }

    /// The rules without handles and counters: what a reload of theirs may renew. Chains of iptables stay when they
    /// are empty.
    pub fn texts(&self) -> Vec<String> {
        let text = |rule: &String| {
            rule.split("# handle ").map(|part| part.trim_start_matches(char::is_numeric)).collect()
        };
        let is_chain = |rule: &str| {
            let line = rule.rsplit(" / ").next().unwrap_or_default();
            line.starts_with("chain ") || line.starts_with("table ")
        };
        let rules = self.0.keys().filter(|rule| !is_chain(rule));
        let mut texts: Vec<String> = rules.map(text).collect();
        texts.sort_unstable();
        texts
    }
}

fn without_counter(line: &str) -> (String, u64) {
    let words: Vec<&str> = line.split(' ').collect();
    let Some(at) = words.iter().position(|word| *word == "counter") else {
        return (line.to_owned(), 0);
    };
    match words.get(at + 1..at + 5) {
        Some(["packets", packets, "bytes", _]) => {
            let rest: Vec<&str> =
                words.iter().take(at + 1).chain(words.iter().skip(at + 5)).copied().collect();
            (rest.join(" "), packets.parse().unwrap_or(0))
        }
        _ => (line.to_owned(), 0),
    }
}
