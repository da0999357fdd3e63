//! What drops whatever it isn't told to let through, by looking at the rules alone: forward chains whose
//! policy or last rule drops, of nftables, of iptables over nftables, and of iptables-legacy.

use std::{collections::BTreeSet, fs, time::Duration};

use natd_core::{
    canary::{self, Rule, neighbour},
    neighbours::{ADVISED, Neighbour, Obstacle},
    ruleset::{DOCKER_USER, NFTABLES_TABLE},
};

use crate::{
    firewall::{iptables::saved, nftables::kernel},
    process::Program,
};

const DEADLINE: Duration = Duration::from_secs(10);
const DOING: &str = "look for firewalls that drop what this host forwards";
const FORWARD: &str = "FORWARD";

/// All that there are now; none of those that can't be looked at, since the canary tells of them.
pub(crate) async fn obstacles() -> Vec<Obstacle> {
    let mut found = of_nftables().await;
    for (family, names, programs) in [
        ("ip", "/proc/net/ip_tables_names", ["iptables-legacy-save", "iptables-save"]),
        ("ip6", "/proc/net/ip6_tables_names", ["ip6tables-legacy-save", "ip6tables-save"]),
    ] {
        // The file is there once the module is loaded.
        let has_filter = |tables: String| tables.lines().any(|table| table == "filter");
        if fs::read_to_string(names).is_ok_and(has_filter)
            && let Some(text) = saved_by(programs).await
        {
            found.extend(of_legacy(family, &text));
        }
    }
    found
}

async fn of_nftables() -> Vec<Obstacle> {
    let chains = kernel::chains(DOING, DEADLINE).await.unwrap_or_default();
    let mut found = Vec::new();
    for (family, table, chain) in &chains {
        let is_forward = chain.base.as_ref().is_some_and(|base| base.hook == "forward");
        let is_ip = ["ip", "ip6", "inet"].contains(family);
        let is_natds = [NFTABLES_TABLE, canary::TABLE].contains(&table.as_str());
        if !is_forward || !is_ip || is_natds {
            continue;
        }
        let read = async |chain: &str| {
            kernel::rules(DOING, family, table, chain, DEADLINE).await.unwrap_or_default()
        };
        let rules = read(&chain.name).await;
        let drops = chain.base.as_ref().is_some_and(|base| !base.accepts);
        let last = rules.last().filter(|rule| rule.drops_all).map(|rule| rule.handle);
        let handle = match (last, drops) {
            (Some(handle), _) => Some(handle),
            (None, true) => None,
            (None, false) => continue,
        };
        let beside: BTreeSet<String> = chains
            .iter()
            .filter(|(of, at, _)| of == family && at == table)
            .map(|(_, _, chain)| chain.name.clone())
            .collect();
        let mut advised = rules;
        if beside.contains(DOCKER_USER) {
            advised.extend(read(DOCKER_USER).await);
        }
        if advised.iter().any(|rule| rule.comment.as_deref() == Some(ADVISED)) {
            continue;
        }
        found.push(obstacle(family, table, &chain.name, handle, &beside));
    }
    found
}

fn obstacle(
    family: &str,
    table: &str,
    chain: &str,
    handle: Option<u64>,
    beside: &BTreeSet<String>,
) -> Obstacle {
    let asked = [
        (Neighbour::Docker, beside.contains(DOCKER_USER)),
        (Neighbour::Ufw, beside.iter().any(|chain| chain.starts_with("ufw"))),
        (Neighbour::Firewalld, table == "firewalld"),
    ];
    Obstacle {
        rule: Rule {
            family: family.to_owned(),
            table: table.to_owned(),
            chain: chain.to_owned(),
            handle,
            text: None,
            owner: neighbour(family, table, chain, beside),
        },
        legacy: false,
        asked: asked.into_iter().filter_map(|(who, there)| there.then_some(who)).collect(),
    }
}

async fn saved_by(programs: [&str; 2]) -> Option<String> {
    for program in programs {
        let program = Program::new(program, "iptables", DEADLINE);
        if let Ok(output) = program.run(DOING, &["-t", "filter"], None).await
            && let Ok(text) = output.success(DOING)
        {
            return Some(text);
        }
    }
    None
}

fn of_legacy(family: &str, text: &str) -> Option<Obstacle> {
    let table = saved::parse(text).remove("filter")?;
    let drops = text.lines().any(|line| line.starts_with(":FORWARD DROP "));
    let last = table.rules.iter().rfind(|rule| rule.chain == FORWARD);
    let ends = last.is_some_and(|rule| {
        let words = rule.words();
        words.get(1).is_some_and(|word| word == "-j")
            && words.get(2).is_some_and(|target| ["DROP", "REJECT"].contains(&target.as_str()))
    });
    let is_advised = |rule: &saved::Rule| rule.words().iter().any(|word| word == ADVISED);
    if !(drops || ends) || table.rules.iter().any(is_advised) {
        return None;
    }
    let mut obstacle = obstacle(family, "filter", FORWARD, None, &table.chains);
    obstacle.rule.text =
        last.filter(|_| ends).map(|rule| format!("-A {} {}", rule.chain, rule.spec));
    let owner = obstacle.rule.owner.take().unwrap_or_default();
    obstacle.rule.owner = Some(owner.replacen("iptables", "iptables-legacy", 1));
    obstacle.legacy = true;
    Some(obstacle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROPS: &str =
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

    #[test]
    fn a_policy_or_a_last_rule_that_drops_is_in_the_way() {
        let rule = of_legacy("ip", DROPS).expect("an obstacle").rule.to_string();
        assert_eq!(rule, "iptables-legacy: the policy of chain FORWARD in table ip filter");
        let rejects = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s 192.0.2.1/32 -j ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\nCOMMIT\n";
        let obstacle = of_legacy("ip", rejects).expect("an obstacle");
        assert!(obstacle.rule.text.expect("the rule").contains("-j REJECT"));
    }

    #[test]
    fn what_lets_through_is_not_and_nor_is_where_the_advice_was_taken() {
        let accepts = DROPS.replace("FORWARD DROP", "FORWARD ACCEPT");
        assert_eq!(of_legacy("ip", &accepts), None);
        let one = accepts.replace("COMMIT", "-A FORWARD -s 192.0.2.1/32 -j DROP\nCOMMIT");
        assert_eq!(of_legacy("ip", &one), None);
        let advised = DROPS.replace(
            "COMMIT",
            "-A FORWARD -i eth1 -m comment --comment natd-passage -j ACCEPT\nCOMMIT",
        );
        assert_eq!(of_legacy("ip", &advised), None);
    }
}
