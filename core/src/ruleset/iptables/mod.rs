//! The `iptables-restore` text: chains of natd's own, named by digest, entered by jumps from
//! built-in chains that let by what is not for them. For IPv6 a second text of the same make.
//!
//! | file | holds |
//! |---|---|
//! | `part` | one family's part of a ruleset |
//! | `filter`, `nat` | its tables |
//! | `pool` | which clients get which address of several |
//! | `lookup`, `set` | whether an address is in one of many blocks: by a tree of chains, or by a set of ipset's |
//! | `text` | chains and rules as values, and as text |
//! | `passage` | what natd has in Docker's chain for others |
//! | `cost` | what many blocks cost |

mod cost;
mod filter;
mod lookup;
mod nat;
mod part;
mod passage;
mod pool;
mod set;
mod text;

pub use cost::Cost;
use part::Part;
pub use passage::{DOCKER_USER, PASSAGE_PREFIX, in_docker_user};
use set::Set;
use text::{Table, text};

use super::{Blocks, Family, FirewallKind, Mark, Rendering, Ruleset, RulesetDigest};

/// Chains and sets whose names begin so are natd's own.
pub const CHAIN_PREFIX: &str = "NATD-";

/// How much of the digest is in a chain's name: names have at most 28 bytes.
const DIGEST_IN_NAME: usize = 8;

/// The chains whose names end so, after [`CHAIN_PREFIX`] and what they are for, belong to the
/// rendering of that digest.
#[must_use]
pub fn chain_suffix(digest: &RulesetDigest) -> String {
    let digits: String = digest.0.chars().take(DIGEST_IN_NAME).collect();
    format!("-{digits}")
}

pub(super) fn render(ruleset: &Ruleset, blocks: Blocks) -> Rendering {
    let families: Vec<Part> =
        ruleset.families().into_iter().map(|family| Part::new(ruleset, family, blocks)).collect();
    // Sets are named by what is in them: they come into being before the rules that refer to them,
    // and go after the last of those.
    let sets: Vec<&Set> = families.iter().flat_map(|part| &part.sets).collect();
    let ipsets: String = sets.iter().map(|set| set.text()).collect();
    let tables: Vec<(Family, Vec<Table>)> =
        families.iter().map(|part| (part.family, part.tables())).collect();
    let total: usize = tables.iter().flat_map(|(_, tables)| tables).map(|t| t.rules.len()).sum();

    let unmarked: String = tables
        .iter()
        .map(|(_, tables)| text(tables, CHAIN_PREFIX, "", |_| String::new()))
        .collect();
    let digest = RulesetDigest::of(&(ipsets.clone() + &unmarked));
    let suffix = chain_suffix(&digest);
    let mut before = 0;
    let (mut v4, mut v6) = (String::new(), None);
    for (family, tables) in &tables {
        let marked = text(tables, CHAIN_PREFIX, &suffix, |index| {
            let index = before + index;
            let mark = Mark { digest: digest.clone(), index, total, sets: [].into() };
            format!(" -m comment --comment {mark}")
        });
        before += tables.iter().map(|table| table.rules.len()).sum::<usize>();
        match family {
            Family::V4 => v4 = marked,
            Family::V6 => v6 = Some(marked),
        }
    }
    Rendering {
        kind: FirewallKind::Iptables,
        text: v4,
        text6: v6,
        ipsets: (!ipsets.is_empty()).then_some(ipsets),
        digest,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{
        super::{
            Pool, Translation,
            tests::{forwarding, nets, ruleset},
        },
        *,
    };

    /// Without comments, and with a short suffix.
    fn plain(text: &str, digest: &RulesetDigest) -> String {
        let text = text.replace(&chain_suffix(digest), "-x");
        text.lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let comment = words.iter().position(|word| *word == "--comment");
                let kept = words.iter().enumerate().filter(|(index, _)| {
                    comment.is_none_or(|at| !(at - 2..=at + 1).contains(index))
                });
                kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ") + "\n"
            })
            .collect()
    }

    #[test]
    fn one_interface_with_exclusions() {
        let rendering = ruleset().render(FirewallKind::Iptables);
        assert_eq!(
            plain(&rendering.text, &rendering.digest),
            "*filter
:NATD-META-x - [0:0]
:NATD-NEW-x - [0:0]
:NATD-FROM-x - [0:0]
:NATD-OWN-x - [0:0]
:NATD-KEPT-x - [0:0]
-A FORWARD -d 169.254.169.254/32 -j NATD-META-x
-A FORWARD -m conntrack --ctstate INVALID -j NATD-NEW-x
-A NATD-META-x -i eth0 -j DROP
-A NATD-NEW-x -i eth0 -o eth0 -g NATD-FROM-x
-A NATD-FROM-x -s 10.10.0.0/16 -g NATD-OWN-x
-A NATD-FROM-x -s 10.20.0.0/16 -g NATD-OWN-x
-A NATD-FROM-x -s 192.0.0.8/32 -g NATD-OWN-x
-A NATD-OWN-x -o eth0 -m conntrack --ctstate INVALID -g NATD-KEPT-x
-A NATD-KEPT-x -d 10.10.0.0/16 -j RETURN
-A NATD-KEPT-x -d 192.168.0.0/24 -j RETURN
-A NATD-KEPT-x -j DROP
COMMIT
*nat
:NATD-POST-x - [0:0]
:NATD-OWN-x - [0:0]
:NATD-OUT-x - [0:0]
-A POSTROUTING -o eth0 -j NATD-POST-x
-A NATD-POST-x -s 10.10.0.0/16 -g NATD-OWN-x
-A NATD-POST-x -s 10.20.0.0/16 -g NATD-OWN-x
-A NATD-POST-x -s 192.0.0.8/32 -g NATD-OWN-x
-A NATD-OWN-x -m addrtype --src-type LOCAL -j RETURN
-A NATD-OWN-x -o eth0 -g NATD-OUT-x
-A NATD-OUT-x -d 10.10.0.0/16 -j RETURN
-A NATD-OUT-x -d 192.168.0.0/24 -j RETURN
-A NATD-OUT-x -j SNAT --to-source 10.10.1.5 --random-fully
COMMIT
"
        );
        assert_eq!((rendering.text6, rendering.ipsets), (None, None));
    }

    fn assert_rules(text: &str, digest: &RulesetDigest, rules: &[&str]) {
        let plain = plain(text, digest);
        for rule in rules {
            assert!(plain.lines().any(|line| line == *rule), "{rule} is not in {plain}");
        }
    }

    #[test]
    fn ports_are_forwarded_and_what_is_not_served_is_dropped() {
        let rendering = Ruleset { shut: [Family::V4].into(), clamp_mss: true, ..forwarding() }
            .render(FirewallKind::Iptables);
        assert_rules(
            &rendering.text,
            &rendering.digest,
            &[
                "-A FORWARD -m conntrack --ctstate INVALID,NEW -j NATD-NEW-x",
                "-A NATD-NEW-x -m conntrack --ctstate DNAT -j RETURN",
                "-A NATD-FROM-x -m conntrack --ctstate NEW -j DROP",
                "-A NATD-OWN-x -o eth0 -j RETURN",
                "-A NATD-OWN-x -m conntrack --ctstate NEW -j DROP",
                "-A NATD-MSS-x -i eth0 -o eth0 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
                "-A PREROUTING -i eth0 -j NATD-PRE-x",
                "-A NATD-FRONT-x -d 203.0.113.10/32 -g NATD-DNAT-x",
                "-A NATD-DNAT-x -p tcp -m tcp --dport 8443 -j DNAT --to-destination 10.10.2.101:443",
                "-A NATD-DNAT-x -p udp -m udp --dport 53 -g NATD-WHO1-x",
                "-A NATD-WHO1-x -s 198.51.100.0/24 -g NATD-LET1-x",
                "-A NATD-LET1-x -p udp -m udp --dport 53 -j DNAT --to-destination 10.10.2.101",
                "-A NATD-DNAT-x -p tcp -m tcp --dport 8000:8002 -j DNAT --to-destination 10.10.2.101:9000-9002/8000",
                "-A NATD-HAIR-x -d 10.10.2.101/32 -p tcp -m tcp --dport 9000:9002 -j MASQUERADE --random-fully",
            ],
        );
    }

    #[test]
    fn ipv6_has_a_text_of_its_own() {
        let ruleset = Ruleset { sources: nets(&["10.10.0.0/16", "fd00:10::/32"]), ..forwarding() };
        let rendering = ruleset.render(FirewallKind::Iptables);
        let text6 = rendering.text6.expect("a text for IPv6");
        assert_rules(
            &text6,
            &rendering.digest,
            &[
                "-A FORWARD -d fd00:ec2::254/128 -j NATD-META-x",
                "-A NATD-POST-x -s fd00:10::/32 -g NATD-OWN-x",
                "-A NATD-OUT-x -j MASQUERADE --random-fully",
            ],
        );
        assert!(!text6.contains("DNAT --to") && !rendering.text.contains("fd00"));
    }

    #[test]
    fn many_blocks_are_in_a_set_where_there_are_sets_and_never_in_what_is_persisted() {
        let many: Vec<String> = (0..100).map(|n| format!("10.7.{n}.1/32")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let ruleset = Ruleset { sources: nets(&many), ..ruleset() };
        let with = ruleset.render_with(FirewallKind::Iptables, Blocks::Ipset);
        let sets = with.ipsets.expect("a set");
        let name = sets.split(' ').nth(1).expect("a name");
        assert!(name.len() <= 31 && sets.lines().count() == 102, "{sets}");
        assert!(with.text.contains(&format!("-m set --match-set {name} src")), "{}", with.text);
        assert!(!with.text.contains("10.7."), "{}", with.text);
        let without = ruleset.render(FirewallKind::Iptables);
        assert!(without.ipsets.is_none() && !without.text.contains("match-set"));
        // Once a table, and once more for each chain that the first one hands on to.
        assert_eq!(without.text.matches("-s 10.7.").count(), 2 * (100 + 13));
        assert_ne!(with.digest, without.digest);
        assert!(
            Cost::of(&without).rules
                > Cost::of(&Rendering { ipsets: Some(sets), ..without.clone() }).chains
        );
    }

    #[test]
    fn a_pool_is_given_out_by_the_clients_last_bits() {
        let [one, two] = [5, 6].map(|last| Ipv4Addr::new(10, 10, 1, last));
        let ruleset =
            Ruleset { translation: Translation::Snat(Pool::new(one, [two])), ..ruleset() };
        let rendering = ruleset.render(FirewallKind::Iptables);
        assert_rules(
            &rendering.text,
            &rendering.digest,
            &[
                "-A NATD-OUT-x -g NATD-POOL-x",
                "-A NATD-POOL-x -s 0.0.0.0/0.0.0.1 -j SNAT --to-source 10.10.1.5 --random-fully",
                "-A NATD-POOL-x -s 0.0.0.1/0.0.0.1 -j SNAT --to-source 10.10.1.6 --random-fully",
            ],
        );
    }

    #[test]
    fn names_of_chains_fit_into_the_kernel() {
        let many: Vec<String> =
            (0..5000).map(|n| format!("10.{}.{}.1/32", n / 250, n % 250)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let rendering =
            Ruleset { sources: nets(&many), ..forwarding() }.render(FirewallKind::Iptables);
        for name in rendering.text.lines().filter_map(|line| line.strip_prefix(':')) {
            assert!(name.split(' ').next().is_some_and(|name| name.len() <= 28), "{name}");
        }
    }
}
