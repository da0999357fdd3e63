//! Which rules of iptables-legacy may have dropped packets: those that drop, and whose counters have
//! risen by as many, at least, as were sent.

use std::collections::BTreeMap;

use super::{Rule, neighbour};

/// What `iptables-legacy-save -c` printed before and after `sent` packets: the rules and policies
/// that may have dropped them, as `TABLE: RULE`.
#[must_use]
pub fn suspects(before: &str, after: &str, sent: u64) -> Vec<String> {
    let earlier = counts(before);
    counts(after)
        .into_iter()
        .filter(|(rule, count)| {
            count.saturating_sub(earlier.get(rule).copied().unwrap_or(0)) >= sent
        })
        .map(|(rule, _)| if is_dockers(&rule, after) { rule + DOCKERS } else { rule })
        .collect()
}

/// Ends what is said of a policy that Docker has set, as far as names tell.
const DOCKERS: &str = " (probably Docker)";

fn is_dockers(rule: &str, saved: &str) -> bool {
    rule == "filter: the policy of FORWARD" && saved.contains("\n:DOCKER-USER ")
}

/// How often each rule that drops has met a packet; of rules that are there more than once the sum.
fn counts(saved: &str) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut table = "";
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        }
        if let Some((name, count)) = dropping(line) {
            let sum = counts.entry(format!("{table}: {name}")).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    counts
}

/// A rule or policy that drops, and its count: `[12:720] -A FORWARD -j DROP`, `:FORWARD DROP [1:60]`.
fn dropping(line: &str) -> Option<(String, u64)> {
    let count = |text: &str| text.split(':').next()?.parse().ok();
    if let Some(chain) = line.strip_prefix(':') {
        let (name, rest) = chain.split_once(' ')?;
        let packets = rest.strip_prefix("DROP [")?;
        return Some((format!("the policy of {name}"), count(packets)?));
    }
    let (packets, rule) = line.strip_prefix('[')?.split_once("] ")?;
    let target = rule.split(" -j ").nth(1)?.split(' ').next()?;
    let drops = ["DROP", "REJECT", "TARPIT", "STEAL"].contains(&target);
    drops.then_some((rule.to_owned(), count(packets)?))
}

/// What a suspect says of itself, as a rule; `None` if it isn't in a chain that forwarded packets come by.
#[must_use]
pub fn rule(suspect: &str) -> Option<Rule> {
    let (table, what) = suspect.split_once(": ")?;
    let of_docker = what.strip_suffix(DOCKERS);
    let (chain, text) = match of_docker.unwrap_or(what).strip_prefix("the policy of ") {
        Some(chain) => (chain, None),
        None => (what.strip_prefix("-A ")?.split(' ').next()?, Some(what.to_owned())),
    };
    let is_forward = table == "filter" && !["INPUT", "OUTPUT"].contains(&chain);
    is_forward.then(|| Rule {
        family: "ip".to_owned(),
        table: table.to_owned(),
        chain: chain.to_owned(),
        handle: None,
        text,
        owner: match of_docker {
            Some(_) => Some("Docker".to_owned()),
            None => neighbour("ip", table, chain, &[].into()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(policy: u64, theirs: u64, other: u64, jump: u64) -> String {
        format!(
            "# by iptables-save\n*filter\n:INPUT DROP [7:420]\n:FORWARD DROP [{policy}:60]\n:MINE - [0:0]\n\
             [{jump}:60] -A FORWARD -j MINE\n[{theirs}:60] -A MINE -s 10.0.0.0/8 -j REJECT --reject-with icmp-port-unreachable\n\
             [{other}:60] -A MINE -s 172.16.0.0/12 -j DROP\nCOMMIT\n"
        )
    }

    #[test]
    fn who_drops_and_has_counted_as_many_is_suspected() {
        let before = saved(5, 0, 3, 9);
        assert_eq!(suspects(&before, &before, 5), [""; 0]);
        assert_eq!(
            suspects(&before, &saved(5, 5, 4, 14), 5),
            ["filter: -A MINE -s 10.0.0.0/8 -j REJECT --reject-with icmp-port-unreachable"]
        );
        assert_eq!(suspects(&before, &saved(11, 0, 3, 15), 5), ["filter: the policy of FORWARD"]);
        assert_eq!(suspects("", "", 5), [""; 0]);
    }
}
