//! The `nft` script: one table of natd's own, replaced in one transaction.
//!
//! Written for nft 0.9.3 (RHEL 8) and later: before each `}` there is a line end, addresses are
//! translated with `snat ip to` since the table is of the family `inet`, and marks are comments on
//! rules, because sets and chains can't have any there.
//!
//! Blocks of addresses are in interval sets, so that 60,000 of them cost a packet one look-up.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{
    ElementsDigest, Family, FirewallKind, Forward, Mark, Rendering, Ruleset, RulesetDigest,
    Translation,
};
use crate::model::InterfaceName;

/// The table that is natd's own, of the family `inet`.
pub const TABLE: &str = "natd";

/// Base chains that the script can make: name, type, hook, priority. Their policy is to accept.
pub const BASE_CHAINS: [(&str, &str, &str, i64); 3] = [
    ("forward", "filter", "forward", 0),
    ("prerouting", "nat", "prerouting", -100),
    ("postrouting", "nat", "postrouting", 100),
];

/// All chains that the script can make.
pub const CHAINS: [&str; 5] = ["forward", "invalid", "new", "prerouting", "postrouting"];

/// Which client gets which address of a pool is a matter of this, so that it is the same after
/// every change of the rules and on every host. It has no other meaning.
const SEED: &str = "0x6e617464";

pub(super) fn render(ruleset: &Ruleset) -> Rendering {
    let chains = chains(ruleset);
    let sets = sets(ruleset);
    let total = chains.iter().map(|chain| chain.rules.len()).sum();

    let digest = RulesetDigest::of(&script(&sets, &chains));
    let mut vouched = sets
        .iter()
        .map(|set| BTreeMap::from([(set.name.clone(), ElementsDigest::of_nets(&set.nets))]));
    let mut marks = (1..=total).map(|index| Mark {
        digest: digest.clone(),
        index,
        total,
        // One set a rule: a comment holds no more than 128 bytes.
        sets: vouched.next().unwrap_or_default(),
    });
    let marked: Vec<Chain> = chains
        .iter()
        .map(|chain| {
            let rules = chain.rules.iter().zip(&mut marks);
            let rules = rules.map(|(rule, mark)| format!("{rule} comment \"{mark}\"")).collect();
            Chain { rules, ..*chain }
        })
        .collect();
    Rendering {
        kind: FirewallKind::Nftables,
        text: script(&sets, &marked),
        text6: None,
        ipsets: None,
        digest,
    }
}

/// The first two lines make the third replace what is there, whether or not there is something:
/// the whole script is one transaction.
fn script(sets: &[Set], chains: &[Chain]) -> String {
    let sets: String = sets.iter().map(Set::text).collect();
    let chains: Vec<String> = chains.iter().map(Chain::text).collect();
    let chains = chains.join("\n");
    format!(
        "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{sets}{chains}}}\n"
    )
}

struct Chain {
    name: &'static str,
    rules: Vec<String>,
}

impl Chain {
    fn text(&self) -> String {
        let base = BASE_CHAINS.iter().find(|(name, ..)| *name == self.name);
        let hook = base.map_or_else(String::new, |(_, kind, hook, priority)| {
            let priority = match *priority {
                -100 => "dstnat",
                100 => "srcnat",
                _ => "filter",
            };
            format!("\t\ttype {kind} hook {hook} priority {priority}; policy accept;\n")
        });
        let rules: String = self.rules.iter().flat_map(|rule| ["\t\t", rule, "\n"]).collect();
        format!("\tchain {} {{\n{hook}{rules}\t}}\n", self.name)
    }
}

struct Set {
    name: String,
    family: Family,
    nets: Vec<IpNet>,
}

impl Set {
    fn text(&self) -> String {
        let Self { name, family, nets } = self;
        let kind = match family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        let elements: Vec<String> = nets.iter().map(IpNet::to_string).collect();
        let elements = elements.join(", ");
        format!(
            "\tset {name} {{\n\t\ttype {kind}\n\t\tflags interval\n\t\telements = {{ {elements} }}\n\t}}\n\n"
        )
    }
}

fn sets(ruleset: &Ruleset) -> Vec<Set> {
    let families = ruleset.families().into_iter();
    families
        .flat_map(|family| {
            let sources = ruleset.translated(family);
            [("sources", sources), ("exclude", family.of(&ruleset.exclude))]
                .map(|(name, nets)| Set { name: set_name(name, family), family, nets })
        })
        .filter(|set| !set.nets.is_empty())
        .collect()
}

fn set_name(name: &str, family: Family) -> String {
    match family {
        Family::V4 => name.to_owned(),
        Family::V6 => format!("{name}6"),
    }
}

/// What a match on one family's addresses begins with.
fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn chains(ruleset: &Ruleset) -> Vec<Chain> {
    let view = View::of(ruleset);
    let chains = [
        Chain { name: "forward", rules: view.forward() },
        Chain { name: "invalid", rules: view.invalid() },
        Chain { name: "new", rules: view.unserved() },
        Chain { name: "prerouting", rules: view.prerouting() },
        Chain { name: "postrouting", rules: view.postrouting() },
    ];
    // Chains that are used must come before those that use them.
    let (base, others): (Vec<Chain>, Vec<Chain>) = chains
        .into_iter()
        .filter(|chain| !chain.rules.is_empty())
        .partition(|chain| BASE_CHAINS.iter().any(|(name, ..)| *name == chain.name));
    others.into_iter().chain(base).collect()
}

/// A ruleset with its names as `nft` writes them.
struct View<'a> {
    ruleset: &'a Ruleset,
    egress: String,
    ingress: String,
}

impl<'a> View<'a> {
    fn of(ruleset: &'a Ruleset) -> Self {
        Self {
            ruleset,
            egress: quoted(&ruleset.egress),
            ingress: any_of(ruleset.ingress.iter().map(quoted)),
        }
    }

    /// Every packet comes by here: first in each rule stands what almost none of them matches.
    fn forward(&self) -> Vec<String> {
        let Self { ruleset, egress, ingress } = self;
        let families = ruleset.families();
        let mut rules: Vec<String> = families
            .iter()
            .map(|family| {
                let (ip, metadata) = (ip(*family), family.metadata_service());
                format!("{ip} daddr {metadata} iifname {ingress} drop")
            })
            .collect();
        if ruleset.shut.is_empty() {
            rules.push("ct state invalid jump invalid".to_owned());
        } else {
            rules.push("ct state vmap { invalid : jump invalid, new : jump new }".to_owned());
        }
        if ruleset.clamp_mss {
            let opening = "tcp flags & (syn | rst) == syn";
            let clamp = "tcp option maxseg size set rt mtu";
            rules.push(format!("{opening} iifname {ingress} oifname {egress} {clamp}"));
            if ruleset.ingress.len() > 1 {
                rules.push(format!("{opening} iifname {egress} oifname {ingress} {clamp}"));
            }
        }
        rules
    }

    /// What conntrack can't place would leave untranslated. To excluded destinations it may: they
    /// are not translated, and conntrack may see only one direction of what goes there.
    fn invalid(&self) -> Vec<String> {
        let Self { ruleset, egress, ingress } = self;
        let families = ruleset.families().into_iter();
        families
            .map(|family| {
                let (from, unless) = (by_sources(family), self.unless_excluded(family));
                format!("iifname {ingress} oifname {egress} {from}{unless} drop")
            })
            .collect()
    }

    /// What isn't served: of others, or by ways that natd doesn't serve. What somebody has
    /// redirected (DNAT), natd or another, is meant to come.
    fn unserved(&self) -> Vec<String> {
        let Self { ruleset, ingress, .. } = self;
        let shut = ruleset.shut.iter().flat_map(|family| {
            let (ip, sources) = (ip(*family), set_name("sources", *family));
            let protocol = match family {
                Family::V4 => "ipv4",
                Family::V6 => "ipv6",
            };
            [
                format!("iifname {ingress} {ip} saddr != @{sources} drop"),
                format!("iifname {ingress} oifname != {ingress} meta nfproto {protocol} drop"),
            ]
        });
        let redirected = "ct status dnat return".to_owned();
        let shut: Vec<String> = shut.collect();
        if shut.is_empty() { shut } else { [vec![redirected], shut].concat() }
    }

    fn prerouting(&self) -> Vec<String> {
        let Self { ruleset, ingress, .. } = self;
        let front = any_of(ruleset.front.iter().map(ToString::to_string));
        let rule = |forward: &Forward| {
            let Forward { protocol, ports, to, to_ports, from } = forward;
            let from = from.as_ref().map_or_else(String::new, |from| {
                format!("ip saddr {} ", any_of(from.v4().iter().map(ToString::to_string)))
            });
            let target = if to_ports == ports {
                to.to_string()
            } else if ports.is_range() {
                let pairs = (ports.first()..=ports.last()).zip(to_ports.first()..);
                let pairs: Vec<String> = pairs.map(|(from, to)| format!("{from} : {to}")).collect();
                format!("{to}:{protocol} dport map {{ {} }}", pairs.join(", "))
            } else {
                format!("{to}:{to_ports}")
            };
            format!(
                "iifname {ingress} ip daddr {front} {from}{protocol} dport {ports} dnat ip to {target}"
            )
        };
        ruleset.forwards.iter().map(rule).collect()
    }

    fn postrouting(&self) -> Vec<String> {
        let Self { ruleset, egress, ingress } = self;
        let ports = if ruleset.random_fully { " fully-random" } else { "" };
        // From inside to a forwarded port: the private host would answer its client directly.
        let mut rules: Vec<String> = ruleset
            .forwards
            .iter()
            .map(|Forward { protocol, to, to_ports, .. }| {
                format!(
                    "oifname {ingress} ct status dnat ip saddr @sources ip daddr {to} {protocol} dport {to_ports} masquerade{ports}"
                )
            })
            .collect();
        for family in ruleset.families() {
            let (from, unless) = (by_sources(family), self.unless_excluded(family));
            let translation = match (&ruleset.translation, family) {
                (Translation::Snat(pool), Family::V4) => match pool.addresses() {
                    [address] => format!("snat ip to {address}"),
                    addresses => spread(addresses),
                },
                _ => "masquerade".to_owned(),
            };
            // Not for packets of the host's own, which have a local source.
            rules.push(format!(
                "oifname {egress} {from}{unless} fib saddr type != local {translation}{ports}"
            ));
        }
        rules
    }

    fn unless_excluded(&self, family: Family) -> String {
        if !family.is_in(&self.ruleset.exclude) {
            return String::new();
        }
        format!(" {} daddr != @{}", ip(family), set_name("exclude", family))
    }
}

fn by_sources(family: Family) -> String {
    format!("{} saddr @{}", ip(family), set_name("sources", family))
}

/// Each client to one of the addresses, always the same.
fn spread(addresses: &[std::net::Ipv4Addr]) -> String {
    let pairs: Vec<String> = addresses
        .iter()
        .enumerate()
        .map(|(index, address)| format!("{index} : {address}"))
        .collect();
    format!(
        "snat ip to jhash ip saddr mod {} seed {SEED} map {{ {} }}",
        addresses.len(),
        pairs.join(", ")
    )
}

fn any_of(words: impl Iterator<Item = String>) -> String {
    let words: BTreeSet<String> = words.collect();
    let words: Vec<String> = words.into_iter().collect();
    match words.as_slice() {
        [word] => word.clone(),
        words => format!("{{ {} }}", words.join(", ")),
    }
}

/// Quoted, because a name may begin with a digit or be a keyword.
fn quoted(interface: &InterfaceName) -> String {
    format!("\"{interface}\"")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Pool,
            tests::{forwarding, nets, ruleset},
        },
        *,
    };
    use crate::networks::Networks;

    #[test]
    fn one_interface_with_exclusions() {
        let rendering = ruleset().render(FirewallKind::Nftables);
        assert_eq!(
            rendering.text,
            r#"table inet natd
delete table inet natd
table inet natd {
	set sources {
		type ipv4_addr
		flags interval
		elements = { 10.10.0.0/16, 10.20.0.0/16, 192.0.0.8/32 }
	}

	set exclude {
		type ipv4_addr
		flags interval
		elements = { 10.10.0.0/16, 192.168.0.0/24 }
	}

	chain invalid {
		iifname "eth0" oifname "eth0" ip saddr @sources ip daddr != @exclude drop comment "natd:DIGEST:1/4:sources=26cb5b0938b65cb6"
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ip daddr 169.254.169.254 iifname "eth0" drop comment "natd:DIGEST:2/4:exclude=757eac3bc66a4b2f"
		ct state invalid jump invalid comment "natd:DIGEST:3/4"
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" ip saddr @sources ip daddr != @exclude fib saddr type != local snat ip to 10.10.1.5 fully-random comment "natd:DIGEST:4/4"
	}
}
"#
            .replace("DIGEST", &rendering.digest.0)
        );
    }

    fn assert_rules(ruleset: &Ruleset, rules: &[&str]) {
        let text = ruleset.render(FirewallKind::Nftables).text;
        for rule in rules {
            assert!(text.contains(&format!("{rule} comment")), "{rule} is not in {text}");
        }
    }

    #[test]
    fn two_interfaces_without_exclusions() {
        let ruleset = Ruleset {
            ingress: ["eth1", "eth2"].map(|name| name.parse().expect("a name")).into(),
            exclude: Networks::default(),
            translation: Translation::Masquerade,
            random_fully: false,
            clamp_mss: true,
            shut: [Family::V4].into(),
            ..ruleset()
        };
        let text = ruleset.render(FirewallKind::Nftables).text;
        assert!(!text.contains("exclude") && !text.contains("ip6"), "{text}");
        assert_rules(
            &ruleset,
            &[
                r#"ip daddr 169.254.169.254 iifname { "eth1", "eth2" } drop"#,
                "ct state vmap { invalid : jump invalid, new : jump new }",
                r#"iifname { "eth1", "eth2" } oifname "eth0" ip saddr @sources drop"#,
                "ct status dnat return",
                r#"iifname { "eth1", "eth2" } ip saddr != @sources drop"#,
                r#"iifname { "eth1", "eth2" } oifname != { "eth1", "eth2" } meta nfproto ipv4 drop"#,
                r#"tcp flags & (syn | rst) == syn iifname { "eth1", "eth2" } oifname "eth0" tcp option maxseg size set rt mtu"#,
                r#"oifname "eth0" ip saddr @sources fib saddr type != local masquerade"#,
            ],
        );
    }

    #[test]
    fn ports_are_forwarded_from_outside_and_from_inside() {
        let front = r#"iifname "eth0" ip daddr { 10.10.1.5, 203.0.113.10 }"#;
        assert_rules(
            &forwarding(),
            &[
                &format!("{front} tcp dport 8443 dnat ip to 10.10.2.101:443"),
                &format!("{front} ip saddr 198.51.100.0/24 udp dport 53 dnat ip to 10.10.2.101"),
                &format!(
                    "{front} tcp dport 8000-8002 dnat ip to 10.10.2.101:tcp dport map {{ 8000 : 9000, 8001 : 9001, 8002 : 9002 }}"
                ),
                r#"oifname "eth0" ct status dnat ip saddr @sources ip daddr 10.10.2.101 tcp dport 443 masquerade fully-random"#,
            ],
        );
    }

    #[test]
    fn a_pool_is_spread_over_clients_and_ipv6_is_masqueraded() {
        let [one, two] = [5, 6].map(|last| std::net::Ipv4Addr::new(10, 10, 1, last));
        let ruleset = Ruleset {
            translation: Translation::Snat(Pool::new(one, [two])),
            sources: nets(&["10.10.0.0/16", "fd00:10::/32"]),
            exclude: nets(&["fd00:10::/48"]),
            shut: [Family::V6].into(),
            ..ruleset()
        };
        assert_rules(
            &ruleset,
            &[
                r#"oifname "eth0" ip saddr @sources fib saddr type != local snat ip to jhash ip saddr mod 2 seed 0x6e617464 map { 0 : 10.10.1.5, 1 : 10.10.1.6 } fully-random"#,
                r#"oifname "eth0" ip6 saddr @sources6 ip6 daddr != @exclude6 fib saddr type != local masquerade fully-random"#,
                r#"iifname "eth0" ip6 saddr != @sources6 drop"#,
            ],
        );
        let text = ruleset.render(FirewallKind::Nftables).text;
        assert!(text.contains(r#"ip6 daddr fd00:ec2::254 iifname "eth0" drop comment"#), "{text}");
    }

    #[test]
    fn comments_fit_into_the_kernel() {
        let ruleset = Ruleset {
            sources: nets(&["10.10.0.0/16", "fd00:10::/32"]),
            exclude: nets(&["10.10.0.0/16", "fd00:10::/48"]),
            ..forwarding()
        };
        let text = ruleset.render(FirewallKind::Nftables).text;
        for name in ["sources=", "exclude=", "sources6=", "exclude6="] {
            assert!(text.contains(name), "{name} is not vouched for in {text}");
        }
        for comment in text.lines().filter_map(|line| line.split("comment ").nth(1)) {
            assert!(comment.len() <= 128 + 2, "{comment}");
        }
    }
}
