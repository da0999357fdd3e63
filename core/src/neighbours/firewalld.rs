//! What firewalld is to let through, as a policy of its own. Pure.
//!
//! A policy is for packets that go from one of some zones to one of others; its rich rules say whose. What
//! was redirected, and what belongs to a tracked connection, firewalld lets through by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::Passage;
use crate::{
    model::InterfaceName,
    ruleset::{Mark, RulesetDigest},
};

/// The policy that is natd's.
pub const POLICY: &str = "natd";

/// More than so many sources are not asked for: each is a rich rule, which firewalld has to read and to
/// load, and 1,000 of them take it more than a second.
pub const MOST: usize = 1_000;

/// Whatever zone: of interfaces that are in none, too.
const ANY: &str = "ANY";

/// What a policy is and does, as far as natd sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Zones that packets come from.
    pub ingress: BTreeSet<String>,
    /// Zones that they go to.
    pub egress: BTreeSet<String>,
    /// Its rich rules, as firewalld writes them.
    pub rules: BTreeSet<String>,
    /// What it says of itself.
    pub description: String,
}

/// The zones that firewalld has put interfaces into; one that is in none is not in here.
pub type Zones = BTreeMap<InterfaceName, String>;

impl Policy {
    /// The policy that lets natd's traffic through: from the zones of the entrances to that of the egress
    /// interface, by source. The zone of an interface that is in none can't be named: `ANY` has it.
    #[must_use]
    pub fn of(passage: &Passage, zones: &Zones) -> Self {
        let of = |interfaces: &mut dyn Iterator<Item = &InterfaceName>| {
            let zones: Option<BTreeSet<String>> =
                interfaces.map(|name| zones.get(name).cloned()).collect();
            // firewalld takes nothing beside it.
            zones.unwrap_or_else(|| [ANY.to_owned()].into())
        };
        let mark = Mark { digest: passage.digest(), index: 1, total: 1, sets: BTreeMap::default() };
        Self {
            ingress: of(&mut passage.entrances.iter()),
            egress: of(&mut [&passage.egress].into_iter()),
            rules: rich_rules(passage),
            description: format!("{mark} lets through what natd serves; natd down removes it"),
        }
    }

    /// The passage that it is for; `None` if natd has not made it.
    #[must_use]
    pub fn digest(&self) -> Option<RulesetDigest> {
        let mark: Mark = self.description.split(' ').next()?.parse().ok()?;
        Some(mark.digest)
    }

    /// Whether it does nothing: it is for no packets.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ingress.is_empty() || self.egress.is_empty()
    }

    /// What isn't as `wanted` is, in words.
    #[must_use]
    pub fn damage(&self, wanted: &Self) -> Vec<String> {
        let mut damage = Vec::new();
        for (what, is, should) in
            [("from", &self.ingress, &wanted.ingress), ("to", &self.egress, &wanted.egress)]
        {
            if is != should {
                let list = |zones: &BTreeSet<String>| match zones.len() {
                    0 => "no zone".to_owned(),
                    _ => zones.iter().cloned().collect::<Vec<_>>().join(", "),
                };
                damage.push(format!(
                    "policy {POLICY} is for packets {what} {}, and not {}",
                    list(is),
                    list(should)
                ));
            }
        }
        let missing = wanted.rules.difference(&self.rules);
        damage.extend(missing.map(|rule| format!("policy {POLICY} lacks {rule}")));
        let foreign = self.rules.difference(&wanted.rules);
        damage.extend(foreign.map(|rule| format!("policy {POLICY} has {rule}")));
        damage
    }
}

fn rich_rules(passage: &Passage) -> BTreeSet<String> {
    let rule = |source: ipnet::IpNet| {
        let family = if source.addr().is_ipv4() { "ipv4" } else { "ipv6" };
        format!("rule family=\"{family}\" source address=\"{source}\" accept")
    };
    passage.sources.iter().map(rule).collect()
}

/// What has firewalld let natd's traffic through, for somebody to type. The policy has another name than
/// natd's, and is whoever's types that.
#[must_use]
pub fn commands(passage: &Passage) -> Vec<String> {
    let change = "firewall-cmd --permanent";
    let of = "--policy=nat-clients";
    let rules = rich_rules(passage).into_iter();
    let begin = [
        format!("{change} --new-policy=nat-clients"),
        // One of them at a time: firewall-cmd takes no two of these.
        format!("{change} {of} --add-ingress-zone={ANY}"),
        format!("{change} {of} --add-egress-zone={ANY}"),
    ];
    let rules = rules.map(|rule| format!("{change} {of} --add-rich-rule='{rule}'"));
    begin.into_iter().chain(rules).chain(["firewall-cmd --reload".to_owned()]).collect()
}

/// What a reload of firewalld would undo, or put in force: the parts of its configuration that are not
/// the same now as after a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsaved(pub BTreeSet<String>);

impl fmt::Display for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::tests::nets;

    fn passage() -> Passage {
        let [eth0, eth1] = ["eth0", "eth1"].map(|name| name.parse().expect("a name"));
        Passage {
            egress: eth0,
            interfaces: ["eth0", "eth1"].map(|name| name.parse().expect("a name")).into(),
            entrances: [eth1].into(),
            sources: nets(&["10.10.2.0/24", "192.0.0.8/32", "fd00:10:2::/64"]),
            forwards: Vec::new(),
            clamp_mss: false,
        }
    }

    fn zones(zones: &[(&str, &str)]) -> Zones {
        let name = |name: &str| name.parse().expect("a name");
        zones.iter().map(|(interface, zone)| (name(interface), (*zone).to_owned())).collect()
    }

    #[test]
    fn it_is_for_the_zones_of_the_interfaces_or_any() {
        for (put, ingress, egress) in [
            (&[][..], "ANY", "ANY"),
            (&[("eth1", "internal")], "internal", "ANY"),
            (&[("eth0", "public")], "ANY", "public"),
            (&[("eth1", "public"), ("eth0", "public")], "public", "public"),
            (&[("eth2", "public")], "ANY", "ANY"),
        ] {
            let policy = Policy::of(&passage(), &zones(put));
            assert_eq!(policy.ingress, [ingress.to_owned()].into(), "{put:?}");
            assert_eq!(policy.egress, [egress.to_owned()].into(), "{put:?}");
        }
        let both = ["eth0", "eth1"].map(|name| name.parse().expect("a name")).into();
        let two = Passage { entrances: both, ..passage() };
        let policy = Policy::of(&two, &zones(&[("eth1", "internal"), ("eth0", "public")]));
        assert_eq!(policy.ingress, ["internal", "public"].map(str::to_owned).into());
        assert_eq!(Policy::of(&two, &zones(&[("eth1", "internal")])).ingress, [ANY.into()].into());
    }

    #[test]
    fn it_tells_what_it_is_for() {
        let policy = Policy::of(&passage(), &Zones::default());
        assert_eq!(policy.digest(), Some(passage().digest()));
        let foreign = Policy { description: "natd: mine".to_owned(), ..policy.clone() };
        assert_eq!(foreign.digest(), None);
        assert!(!policy.is_idle());
        assert!(Policy { egress: BTreeSet::new(), ..policy }.is_idle());
    }

    #[test]
    fn rich_rules_are_as_firewalld_writes_them() {
        let rules: Vec<String> = rich_rules(&passage()).into_iter().collect();
        assert_eq!(
            rules,
            [
                "rule family=\"ipv4\" source address=\"10.10.2.0/24\" accept",
                "rule family=\"ipv4\" source address=\"192.0.0.8/32\" accept",
                "rule family=\"ipv6\" source address=\"fd00:10:2::/64\" accept",
            ]
        );
    }

    #[test]
    fn what_differs_is_told() {
        let policy = Policy::of(&passage(), &Zones::default());
        assert_eq!(policy.damage(&policy), [""; 0]);
        let moved = Policy::of(&passage(), &zones(&[("eth1", "internal")]));
        assert_eq!(
            policy.damage(&moved),
            ["policy natd is for packets from ANY, and not internal"]
        );
        let narrow = Passage { sources: nets(&["10.10.2.0/24", "10.9.0.0/16"]), ..passage() };
        let damage = policy.damage(&Policy::of(&narrow, &Zones::default()));
        assert_eq!(damage.len(), 3, "{damage:?}");
        assert!(
            damage[0].starts_with("policy natd lacks rule") && damage[0].contains("10.9.0.0/16")
        );
    }

    #[test]
    fn commands_end_with_a_reload() {
        let commands = commands(&passage());
        assert_eq!(commands.len(), 7);
        assert_eq!(
            commands[3],
            "firewall-cmd --permanent --policy=nat-clients --add-rich-rule='rule family=\"ipv4\" source address=\"10.10.2.0/24\" accept'"
        );
        assert_eq!(commands[6], "firewall-cmd --reload");
    }
}
