//! The `nft` script: one table of natd's own, replaced in one transaction.
//!
//! Written for nft 0.9.3 (RHEL 8) and later: before each `}` there is a line end, addresses are
//! translated with `snat ip to` since the table is of the family `inet`, and marks are comments on
//! rules, because sets and chains can't have any there.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::{
    ElementsDigest, FirewallKind, METADATA_SERVICE, Mark, Rendering, Ruleset, RulesetDigest,
    Translation,
};
use crate::model::InterfaceName;

/// The table that is natd's own, of the family `inet`.
pub const TABLE: &str = "natd";

pub(super) fn render(ruleset: &Ruleset) -> Rendering {
    let forward = forward(ruleset);
    let postrouting = vec![translate(ruleset)];
    let total = forward.len() + postrouting.len();

    let digest = RulesetDigest::of(&script(ruleset, &forward, &postrouting));
    let mut marks = (1..=total).map(|index| Mark {
        digest: digest.clone(),
        index,
        total,
        sets: if index == 1 { vouch(ruleset) } else { BTreeMap::new() },
    });
    let mut marked = |rules: &[String]| -> Vec<String> {
        rules
            .iter()
            .zip(&mut marks)
            .map(|(rule, mark)| format!("{rule} comment \"{mark}\""))
            .collect()
    };
    let (forward, postrouting) = (marked(&forward), marked(&postrouting));
    Rendering {
        kind: FirewallKind::Nftables,
        text: script(ruleset, &forward, &postrouting),
        digest,
    }
}

/// The first two lines make the third replace what is there, whether or not there is something:
/// the whole script is one transaction.
fn script(ruleset: &Ruleset, forward: &[String], postrouting: &[String]) -> String {
    let sets: String = sets(ruleset).iter().map(|(name, nets)| set(name, nets)).collect();
    let forward = lines(forward);
    let postrouting = lines(postrouting);
    format!(
        "table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
{sets}\tchain forward {{
\t\ttype filter hook forward priority filter; policy accept;
{forward}\t}}

\tchain postrouting {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
{postrouting}\t}}
}}
"
    )
}

fn forward(ruleset: &Ruleset) -> Vec<String> {
    let Some(ingress) = any_of(&ruleset.ingress) else {
        return Vec::new();
    };
    let egress = quoted(&ruleset.egress);
    // Packets from and to excluded destinations are left alone even if they are invalid: they
    // are not translated, and conntrack may see only one direction of them.
    let (to_excluded, from_excluded) = if ruleset.exclude.is_empty() {
        ("", "")
    } else {
        (" ip daddr != @exclude", " ip saddr != @exclude")
    };
    // Every packet comes by here: first in each rule stands what almost none of them matches.
    vec![
        format!("ip daddr {METADATA_SERVICE} iifname {ingress} ip saddr @sources drop"),
        format!(
            "ct state invalid iifname {ingress} oifname {egress} ip saddr @sources{to_excluded} drop"
        ),
        format!(
            "ct state invalid iifname {egress} oifname {ingress} ip daddr @sources{from_excluded} drop"
        ),
    ]
}

/// Not for packets of the host's own, which have a local source.
fn translate(ruleset: &Ruleset) -> String {
    let egress = quoted(&ruleset.egress);
    let excluded = if ruleset.exclude.is_empty() { "" } else { " ip daddr != @exclude" };
    let translation = match ruleset.translation {
        Translation::Snat(address) => format!("snat ip to {address}"),
        Translation::Masquerade => "masquerade".to_owned(),
    };
    let ports = if ruleset.random_fully { " fully-random" } else { "" };
    format!(
        "oifname {egress} ip saddr @sources{excluded} fib saddr type != local {translation}{ports}"
    )
}

fn sets(ruleset: &Ruleset) -> Vec<(&'static str, &BTreeSet<Ipv4Net>)> {
    [("sources", &ruleset.sources), ("exclude", &ruleset.exclude)]
        .into_iter()
        .filter(|(_, nets)| !nets.is_empty())
        .collect()
}

/// What the sets hold, so that an element that is added or removed later is noticed.
fn vouch(ruleset: &Ruleset) -> BTreeMap<String, ElementsDigest> {
    sets(ruleset)
        .into_iter()
        .map(|(name, nets)| (name.to_owned(), ElementsDigest::of_nets(nets)))
        .collect()
}

fn set(name: &str, nets: &BTreeSet<Ipv4Net>) -> String {
    let elements: Vec<String> = nets.iter().map(Ipv4Net::to_string).collect();
    let elements = elements.join(", ");
    format!(
        "\tset {name} {{\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\telements = {{ {elements} }}\n\t}}\n\n"
    )
}

fn lines(rules: &[String]) -> String {
    rules.iter().flat_map(|rule| ["\t\t", rule, "\n"]).collect()
}

fn any_of(interfaces: &BTreeSet<InterfaceName>) -> Option<String> {
    let names: Vec<String> = interfaces.iter().map(quoted).collect();
    match names.as_slice() {
        [] => None,
        [name] => Some(name.clone()),
        names => Some(format!("{{ {} }}", names.join(", "))),
    }
}

/// Quoted, because a name may begin with a digit or be a keyword.
fn quoted(interface: &InterfaceName) -> String {
    format!("\"{interface}\"")
}

#[cfg(test)]
mod tests {
    use super::super::tests::ruleset;
    use super::*;

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
		elements = { 10.10.0.0/16, 10.20.0.0/16 }
	}

	set exclude {
		type ipv4_addr
		flags interval
		elements = { 10.10.0.0/16, 192.168.0.0/24 }
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ip daddr 169.254.169.254 iifname "eth0" ip saddr @sources drop comment "natd:DIGEST:1/4:exclude=757eac3bc66a4b2f:sources=1c7024f39b8a1b7a"
		ct state invalid iifname "eth0" oifname "eth0" ip saddr @sources ip daddr != @exclude drop comment "natd:DIGEST:2/4"
		ct state invalid iifname "eth0" oifname "eth0" ip daddr @sources ip saddr != @exclude drop comment "natd:DIGEST:3/4"
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

    #[test]
    fn two_interfaces_without_exclusions() {
        let ruleset = Ruleset {
            ingress: ["eth1", "eth2"].map(|name| name.parse().expect("a name")).into(),
            exclude: BTreeSet::new(),
            translation: Translation::Masquerade,
            random_fully: false,
            ..ruleset()
        };
        let text = ruleset.render(FirewallKind::Nftables).text;
        assert!(!text.contains("exclude"), "{text}");
        for rule in [
            r#"ip daddr 169.254.169.254 iifname { "eth1", "eth2" } ip saddr @sources drop comment"#,
            r#"ct state invalid iifname { "eth1", "eth2" } oifname "eth0" ip saddr @sources drop comment"#,
            r#"ct state invalid iifname "eth0" oifname { "eth1", "eth2" } ip daddr @sources drop comment"#,
            r#"oifname "eth0" ip saddr @sources fib saddr type != local masquerade comment"#,
        ] {
            assert!(text.contains(rule), "{rule} is not in {text}");
        }
    }
}
