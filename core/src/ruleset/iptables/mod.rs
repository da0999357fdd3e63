//! The `iptables-restore` text: chains of natd's own, named by digest, entered by jumps from
//! built-in chains that let by what is not for them. For IPv6 a second text of the same make.

use std::fmt;

use ipnet::IpNet;

use super::{
    Blocks, ElementsDigest, Family, FirewallKind, Forward, Mark, Rendering, Ruleset, RulesetDigest,
    Translation,
};

mod lookup;
mod text;

use lookup::{Lookup, Side, set_for};
use text::{Chain, Table, Target, text};

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

/// What a rendering costs a host that holds many blocks in chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Rules in the kernel.
    pub rules: usize,
    /// Chains.
    pub chains: usize,
}

impl Cost {
    /// Of that text.
    #[must_use]
    pub fn of(rendering: &Rendering) -> Self {
        let text6 = rendering.text6.as_deref().unwrap_or_default();
        let lines = || rendering.text.lines().chain(text6.lines());
        let count = |start: &str| lines().filter(|line| line.starts_with(start)).count();
        Self { rules: count("-A"), chains: count(":") }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules in {} chains", self.rules, self.chains)
    }
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

    let unmarked: String =
        tables.iter().map(|(_, tables)| text(tables, "", |_| String::new())).collect();
    let digest = RulesetDigest::of(&(ipsets.clone() + &unmarked));
    let suffix = chain_suffix(&digest);
    let mut before = 0;
    let (mut v4, mut v6) = (String::new(), None);
    for (family, tables) in &tables {
        let marked = text(tables, &suffix, |index| {
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

/// A set of ipset's.
struct Set {
    name: String,
    family: Family,
    nets: Vec<IpNet>,
}

impl Set {
    fn of(purpose: &str, family: Family, nets: &[IpNet], blocks: Blocks) -> Option<Self> {
        let family_digit = if family == Family::V4 { "4" } else { "6" };
        // Names have at most 31 bytes.
        let name =
            format!("{CHAIN_PREFIX}{purpose}{family_digit}-{}", ElementsDigest::of_nets(nets));
        let name = set_for(&name, nets, blocks)?;
        Some(Self { name, family, nets: nets.to_vec() })
    }

    /// `hash:net` takes no block of length 0: two halves are the same.
    fn text(&self) -> String {
        let Self { name, family, nets } = self;
        let family = if *family == Family::V4 { "inet" } else { "inet6" };
        let most = (nets.len() + 2).next_power_of_two().max(65_536);
        let create = format!("create {name} hash:net family {family} maxelem {most}\n");
        let elements = nets.iter().map(|net| format!("add {name} {net}\n"));
        [create].into_iter().chain(elements).collect()
    }
}

/// One family's part of a ruleset.
struct Part<'a> {
    ruleset: &'a Ruleset,
    family: Family,
    sources: Vec<IpNet>,
    exclude: Vec<IpNet>,
    sets: Vec<Set>,
}

impl<'a> Part<'a> {
    fn new(ruleset: &'a Ruleset, family: Family, blocks: Blocks) -> Self {
        let (sources, exclude) = (family.of(&ruleset.sources), family.of(&ruleset.exclude));
        let sets = [("SRC", &sources), ("DST", &exclude)]
            .into_iter()
            .filter_map(|(purpose, nets)| Set::of(purpose, family, nets, blocks))
            .collect();
        Self { ruleset, family, sources, exclude, sets }
    }

    fn set(&self, purpose: &str) -> Option<&str> {
        let prefix = format!("{CHAIN_PREFIX}{purpose}");
        self.sets.iter().find(|set| set.name.starts_with(&prefix)).map(|set| set.name.as_str())
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.filter(), self.nat()]
    }

    /// The rules from sources: what is found goes on with `found`, the rest with `otherwise`.
    fn by_source(
        &self,
        chain: &Chain,
        found: Target,
        otherwise: Vec<(String, Target)>,
        table: &mut Table,
    ) {
        let (nets, set) = (&self.sources, self.set("SRC"));
        Lookup { chain, side: Side::Source, nets, set, found, otherwise }.write(table);
    }

    /// Excluded destinations return; the rest goes on with `otherwise`.
    fn by_destination(&self, chain: &Chain, otherwise: Target, table: &mut Table) {
        let (nets, set) = (&self.exclude, self.set("DST"));
        let otherwise = vec![(String::new(), otherwise)];
        let found = Target::back();
        Lookup { chain, side: Side::Destination, nets, set, found, otherwise }.write(table);
    }

    /// Every packet comes by the first two jumps, and almost none takes one. A rule that every
    /// packet comes by costs 1 to 3 percent of the packets that the kernel can forward.
    fn filter(&self) -> Table {
        let Ruleset { egress, ingress, shut, clamp_mss, .. } = self.ruleset;
        let shut = shut.contains(&self.family);
        let [metadata, new, from, own, kept, mss] =
            ["META", "NEW", "FROM", "OWN", "KEPT", "MSS"].map(Chain::own);
        let mut table = Table::named("filter");
        let forward = Chain::BuiltIn("FORWARD");
        let service = IpNet::from(self.family.metadata_service());
        table.add(&forward, format!(" -d {service}"), Target::Jump(metadata.clone()));
        let states = if shut { "INVALID,NEW" } else { "INVALID" };
        let untracked = format!(" -m conntrack --ctstate {states}");
        table.add(&forward, untracked, Target::Jump(new.clone()));
        let opening = " -p tcp -m tcp --tcp-flags SYN,RST SYN";
        if *clamp_mss {
            table.add(&forward, opening, Target::Jump(mss.clone()));
        }
        for ingress in ingress {
            table.add(&metadata, format!(" -i {ingress}"), Target::drop());
        }
        // What somebody has redirected, natd or another, is meant to come.
        if shut {
            table.add(&new, " -m conntrack --ctstate DNAT", Target::back());
        }
        for ingress in ingress {
            let out = if shut { String::new() } else { format!(" -o {egress}") };
            table.add(&new, format!(" -i {ingress}{out}"), Target::Goto(from.clone()));
        }
        let is_new = || " -m conntrack --ctstate NEW".to_owned();
        let otherwise = if shut { vec![(is_new(), Target::drop())] } else { Vec::new() };
        self.by_source(&from, Target::Goto(own.clone()), otherwise, &mut table);
        // What conntrack can't place would leave untranslated.
        let invalid = format!(" -o {egress} -m conntrack --ctstate INVALID");
        table.add(&own, invalid, Target::Goto(kept.clone()));
        if shut {
            for ingress in ingress {
                table.add(&own, format!(" -o {ingress}"), Target::back());
            }
            table.add(&own, is_new(), Target::drop());
        }
        // To excluded destinations it may: they are not translated, and conntrack may see only one
        // direction of what goes there.
        self.by_destination(&kept, Target::drop(), &mut table);
        if *clamp_mss {
            let clamp = || Target::act("TCPMSS --clamp-mss-to-pmtu");
            for ingress in ingress {
                table.add(&mss, format!(" -i {ingress} -o {egress}{opening}"), clamp());
                if ingress != egress {
                    table.add(&mss, format!(" -i {egress} -o {ingress}{opening}"), clamp());
                }
            }
        }
        table
    }

    fn nat(&self) -> Table {
        let Ruleset { egress, ingress, forwards, .. } = self.ruleset;
        let [post, own, out, hairpin] = ["POST", "OWN", "OUT", "HAIR"].map(Chain::own);
        let forwards: &[Forward] = if self.family == Family::V4 { forwards } else { &[] };
        let mut table = Table::named("nat");
        if !forwards.is_empty() {
            self.front(forwards, &mut table);
        }
        let leaving = if forwards.is_empty() { [egress.clone()].into() } else { ingress.clone() };
        for interface in &leaving {
            let by = format!(" -o {interface}");
            table.add(&Chain::BuiltIn("POSTROUTING"), by, Target::Jump(post.clone()));
        }
        self.by_source(&post, Target::Goto(own.clone()), Vec::new(), &mut table);
        // The host's own packets.
        table.add(&own, " -m addrtype --src-type LOCAL", Target::back());
        if !forwards.is_empty() {
            let redirected = " -m conntrack --ctstate DNAT";
            table.add(&own, redirected, Target::Jump(hairpin.clone()));
        }
        table.add(&own, format!(" -o {egress}"), Target::Goto(out.clone()));
        // From inside to a forwarded port: the private host would answer its client directly.
        for Forward { protocol, to, to_ports, .. } in forwards {
            let ports = colon(*to_ports);
            let matches = format!(" -d {to}/32 -p {protocol} -m {protocol} --dport {ports}");
            table.add(&hairpin, matches, Target::act(self.randomly("MASQUERADE".to_owned())));
        }
        self.translate(&out, &mut table);
        table
    }

    fn translate(&self, out: &Chain, table: &mut Table) {
        let addresses = match (&self.ruleset.translation, self.family) {
            (Translation::Snat(pool), Family::V4) => pool.addresses(),
            _ => &[],
        };
        let snat = |address: &std::net::Ipv4Addr| {
            Target::act(self.randomly(format!("SNAT --to-source {address}")))
        };
        match addresses {
            [] => {
                let masquerade = Target::act(self.randomly("MASQUERADE".to_owned()));
                self.by_destination(out, masquerade, table);
            }
            [address] => self.by_destination(out, snat(address), table),
            addresses => {
                let pool = Chain::own("POOL");
                self.by_destination(out, Target::Goto(pool.clone()), table);
                for (bits, mask, address) in spread(addresses) {
                    table.add(&pool, format!(" -s {bits}/{mask}"), snat(&address));
                }
            }
        }
    }

    fn front(&self, forwards: &[Forward], table: &mut Table) {
        let Ruleset { ingress, front, .. } = self.ruleset;
        let [pre, at, dnat] = ["PRE", "FRONT", "DNAT"].map(Chain::own);
        let entrance = Chain::BuiltIn("PREROUTING");
        for interface in ingress {
            table.add(&entrance, format!(" -i {interface}"), Target::Jump(pre.clone()));
        }
        table.add(&pre, "", Target::Goto(at.clone()));
        for address in front {
            table.add(&at, format!(" -d {address}/32"), Target::Goto(dnat.clone()));
        }
        let mut limited = Vec::new();
        for (number, forward) in forwards.iter().enumerate() {
            let Forward { protocol, ports, to, to_ports, from } = forward;
            let dport = format!(" -p {protocol} -m {protocol} --dport {}", colon(*ports));
            let target = if to_ports == ports {
                format!("DNAT --to-destination {to}")
            } else if ports.is_range() {
                format!("DNAT --to-destination {to}:{to_ports}/{}", ports.first())
            } else {
                format!("DNAT --to-destination {to}:{to_ports}")
            };
            match from {
                None => table.add(&dnat, dport, Target::act(target)),
                Some(from) => {
                    let [asked, granted] =
                        ["WHO", "LET"].map(|purpose| Chain::own(format!("{purpose}{number}")));
                    table.add(&dnat, dport.clone(), Target::Goto(asked.clone()));
                    limited.push((asked, granted, self.family.of(from), dport, target));
                }
            }
        }
        for (asked, granted, nets, dport, target) in limited {
            let found = Target::Goto(granted.clone());
            let (side, otherwise) = (Side::Source, Vec::new());
            Lookup { chain: &asked, side, nets: &nets, set: None, found, otherwise }.write(table);
            table.add(&granted, dport, Target::act(target));
        }
    }

    fn randomly(&self, action: String) -> String {
        if self.ruleset.random_fully { action + " --random-fully" } else { action }
    }
}

/// As iptables writes a range.
fn colon(ports: super::Ports) -> String {
    if ports.is_range() { format!("{}:{}", ports.first(), ports.last()) } else { ports.to_string() }
}

/// As many parts as the pool's addresses share out among themselves, at most.
const MOST_PARTS: u32 = 256;

/// Which clients get which address: by the last bits of their own. Neither `-m statistic` nor
/// `-m cluster` is needed for it, and clients of one subnet, which are numbered in a row, are
/// spread as evenly as can be. Each part is given as address and mask.
fn spread(
    addresses: &[std::net::Ipv4Addr],
) -> Vec<(std::net::Ipv4Addr, std::net::Ipv4Addr, std::net::Ipv4Addr)> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    // Where the parts can't be equal, there are so many that it hardly matters.
    let parts = if count.is_power_of_two() {
        count
    } else {
        count.saturating_mul(8).next_power_of_two().clamp(count, MOST_PARTS.max(count))
    };
    let parts = parts.next_power_of_two();
    (0..parts)
        .zip(addresses.iter().cycle())
        .map(|(part, address)| (part.into(), (parts - 1).into(), *address))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr};

    use super::{
        super::{
            Pool,
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
        assert!(name.len() <= 31 && sets.lines().count() == 101, "{sets}");
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
    fn each_client_has_one_address_and_all_addresses_have_clients() {
        for count in 1..=20_u8 {
            let addresses: Vec<Ipv4Addr> =
                (1..=count).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
            let parts = spread(&addresses);
            let mut clients: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
            for client in 0..4096_u32 {
                let given: Vec<_> = parts
                    .iter()
                    .filter(|(bits, mask, _)| client & u32::from(*mask) == u32::from(*bits))
                    .collect();
                assert_eq!(given.len(), 1, "{client}");
                *clients.entry(given[0].2).or_default() += 1;
            }
            assert_eq!(clients.len(), usize::from(count));
            let (least, most) =
                (clients.values().min().expect("one"), clients.values().max().expect("one"));
            assert!(most * 10 <= least * 12, "{count}: {least} to {most}");
        }
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
