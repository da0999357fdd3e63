//! What drops natd's traffic, or may, and what to type against it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::Serialize;

use super::{Neighbour, Passage, firewalld, ufw};
use crate::{
    canary::{Rule, is_of_iptables},
    ruleset::{DOCKER_USER, Family},
};

/// The comment of the rules that an operator is told to type. Where one of them is, natd takes it that
/// they have been.
pub const ADVISED: &str = "natd-passage";

/// As many blocks are listed in a line to type.
const MANY: usize = 16;

/// Something that drops what it isn't told to let through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// Which rule or policy.
    pub rule: Rule,
    /// It is of iptables-legacy.
    pub legacy: bool,
    /// Those that are asked to let natd's traffic by it.
    pub asked: BTreeSet<Neighbour>,
}

impl Obstacle {
    /// Whether packets of that passage come by it.
    #[must_use]
    pub fn concerns(&self, passage: &Passage) -> bool {
        let families = passage.families();
        match self.rule.family.as_str() {
            "ip" => families.contains(&Family::V4),
            "ip6" => families.contains(&Family::V6),
            _ => true,
        }
    }

    /// What to type in a shell to let natd's traffic by it: commands, joined by `&&`. `None` if that is
    /// not known.
    #[must_use]
    pub fn way_by(&self, passage: &Passage) -> Option<String> {
        let Rule { family, table, chain, owner, .. } = &self.rule;
        let is_of = |who: &str| owner.as_ref().is_some_and(|owner| owner.contains(who));
        let is_dockers = is_of("Docker");
        let families: BTreeSet<Family> = match family.as_str() {
            "ip" => [Family::V4].into(),
            "ip6" => [Family::V6].into(),
            "inet" => [Family::V4, Family::V6].into(),
            _ => return None,
        };
        let families = passage.families().intersection(&families).copied().collect::<Vec<_>>();
        let lines: Vec<String> = if is_of("ufw") && !is_dockers {
            ufw::commands(passage)
        } else if is_of("firewalld") && !is_dockers {
            firewalld::commands(passage)
        } else if is_of_iptables(family, table, chain) {
            if table != "filter" {
                return None;
            }
            let chain = if is_dockers { DOCKER_USER } else { chain };
            families.iter().flat_map(|family| self.by_iptables(passage, *family, chain)).collect()
        } else {
            families.iter().flat_map(|of| by_nft(passage, *of, family, table, chain)).collect()
        };
        (!lines.is_empty()).then(|| lines.join(" && "))
    }

    fn by_iptables(&self, passage: &Passage, family: Family, chain: &str) -> Vec<String> {
        let program = match (family, self.legacy) {
            (Family::V4, false) => "iptables",
            (Family::V4, true) => "iptables-legacy",
            (Family::V6, false) => "ip6tables",
            (Family::V6, true) => "ip6tables-legacy",
        };
        let comment = format!("-m comment --comment {ADVISED} -j ACCEPT");
        let (egress, service) = (&passage.egress, family.metadata_service());
        let from =
            blocks(passage, family).map(|blocks| format!(" -s {blocks}")).unwrap_or_default();
        let to = blocks(passage, family).map(|blocks| format!(" -d {blocks}")).unwrap_or_default();
        let way = |entrance| {
            [
                // An accept here may come before natd's own rule for the metadata service.
                format!(
                    "{program} -I {chain} -i {entrance} -o {egress}{from} -m conntrack ! --ctorigdst {service} {comment}"
                ),
                format!(
                    "{program} -I {chain} -i {egress} -o {entrance}{to} -m conntrack --ctstate RELATED,ESTABLISHED {comment}"
                ),
            ]
        };
        passage.entrances.iter().flat_map(way).collect()
    }
}

fn by_nft(passage: &Passage, of: Family, family: &str, table: &str, chain: &str) -> Vec<String> {
    let l3 = match of {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let egress = &passage.egress;
    let side = |side: &str| {
        let blocks = blocks(passage, of);
        blocks.map(|blocks| format!(" {l3} {side} {{ {blocks} }}")).unwrap_or_default()
    };
    let (from, to) = (side("saddr"), side("daddr"));
    let way = |entrance| {
        [
            format!(
                "nft 'insert rule {family} {table} {chain} iifname \"{entrance}\" oifname \"{egress}\"{from} accept comment \"{ADVISED}\"'"
            ),
            format!(
                "nft 'insert rule {family} {table} {chain} iifname \"{egress}\" oifname \"{entrance}\"{to} ct state established,related accept comment \"{ADVISED}\"'"
            ),
        ]
    };
    passage.entrances.iter().flat_map(way).collect()
}

/// The sources, with commas; `None` if there are too many to type, so that interfaces have to do.
fn blocks(passage: &Passage, family: Family) -> Option<String> {
    let blocks: Vec<IpNet> = family.of(&passage.sources);
    let few = blocks.len() <= MANY;
    few.then(|| blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// What to do about whatever has dropped the canary; `None` if nothing is known.
#[must_use]
pub fn advice(obstacle: &Obstacle, passage: &Passage) -> Option<String> {
    let way = obstacle.way_by(passage)?;
    let many = passage.families().iter().any(|family| blocks(passage, *family).is_none());
    let all = if many {
        " (nat.sources are too many to type: this lets through whatever comes in there)"
    } else {
        ""
    };
    Some(format!("to let natd's traffic through{all}, type: {way}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::tests::{nets, ruleset};

    fn obstacle(family: &str, table: &str, chain: &str, owner: Option<&str>) -> Obstacle {
        Obstacle {
            rule: Rule {
                family: family.to_owned(),
                table: table.to_owned(),
                chain: chain.to_owned(),
                handle: None,
                text: None,
                owner: owner.map(str::to_owned),
            },
            legacy: false,
            asked: BTreeSet::new(),
        }
    }

    fn passage() -> Passage {
        let ruleset = crate::ruleset::Ruleset { sources: nets(&["10.10.2.0/24"]), ..ruleset() };
        Passage::of(&ruleset, &["eth1".parse().expect("a name")].into())
    }

    #[test]
    fn each_is_told_in_its_own_words() {
        let way = |obstacle: Obstacle| obstacle.way_by(&passage()).expect("a way");
        assert_eq!(
            way(obstacle("inet", "mine", "forward", None)),
            "nft 'insert rule inet mine forward iifname \"eth1\" oifname \"eth0\" ip saddr { 10.10.2.0/24,192.0.0.8/32 } accept comment \"natd-passage\"' && \
             nft 'insert rule inet mine forward iifname \"eth0\" oifname \"eth1\" ip daddr { 10.10.2.0/24,192.0.0.8/32 } ct state established,related accept comment \"natd-passage\"'"
        );
        assert_eq!(
            way(obstacle("ip", "filter", "FORWARD", Some("iptables, probably Docker"))),
            "iptables -I DOCKER-USER -i eth1 -o eth0 -s 10.10.2.0/24,192.0.0.8/32 -m conntrack ! --ctorigdst 169.254.169.254 -m comment --comment natd-passage -j ACCEPT && \
             iptables -I DOCKER-USER -i eth0 -o eth1 -d 10.10.2.0/24,192.0.0.8/32 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment natd-passage -j ACCEPT"
        );
        let legacy = Obstacle { legacy: true, ..obstacle("ip", "filter", "FORWARD", None) };
        assert!(way(legacy).starts_with("iptables-legacy -I FORWARD -i eth1 -o eth0 "));
        let ufws = way(obstacle("ip", "filter", "FORWARD", Some("iptables, probably ufw")));
        assert!(ufws.starts_with("ufw route allow in on eth1 out on eth0 from 10.10.2.0/24 && "));
        let firewallds = way(obstacle("inet", "firewalld", "filter_FORWARD", Some("firewalld")));
        assert!(firewallds.starts_with("firewall-cmd ") && firewallds.ends_with(" --reload"));
        // Where natd has no say, and where there is nothing of natd's.
        assert_eq!(obstacle("netdev", "mine", "in", None).way_by(&passage()), None);
        assert_eq!(obstacle("ip6", "mine", "forward", None).way_by(&passage()), None);
    }

    #[test]
    fn that_more_is_let_through_is_said() {
        let many = (0..40).map(|n| format!("10.{n}.2.0/24").parse().expect("a net")).collect();
        let many = Passage { sources: many, ..passage() };
        let said = advice(&obstacle("inet", "mine", "forward", None), &many).expect("a way");
        assert!(said.contains("whatever comes in there") && !said.contains("saddr"), "{said}");
    }
}
