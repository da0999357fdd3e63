//! The `iptables-restore` text: chains of natd's own, named by digest, entered by jumps from
//! built-in chains that let by what is not for them.
//!
//! It is for `iptables-restore --noflush`: no built-in chain is declared, so that no policy is set
//! and nobody's rules are flushed. Options stand in the order in which `iptables-save` prints them.

use super::{FirewallKind, METADATA_SERVICE, Mark, Rendering, Ruleset, RulesetDigest, Translation};

/// Chains whose names begin so are natd's own.
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

pub(super) fn render(ruleset: &Ruleset) -> Rendering {
    let tables = [filter(ruleset), nat(ruleset)];
    let total = tables.iter().map(|table| table.rules.len()).sum();

    let digest = RulesetDigest::of(&text(&tables, "", |_| String::new()));
    let text = text(&tables, &chain_suffix(&digest), |index| {
        let mark = Mark { digest: digest.clone(), index, total, sets: [].into() };
        format!(" -m comment --comment {mark}")
    });
    Rendering { kind: FirewallKind::Iptables, text, digest }
}

struct Table {
    name: &'static str,
    chains: &'static [Chain],
    rules: Vec<Rule>,
}

#[derive(Clone, Copy)]
enum Chain {
    BuiltIn(&'static str),
    /// One of natd's own, by what it is for.
    Own(&'static str),
}

impl Chain {
    fn name(self, suffix: &str) -> String {
        match self {
            Self::BuiltIn(name) => name.to_owned(),
            Self::Own(purpose) => format!("{CHAIN_PREFIX}{purpose}{suffix}"),
        }
    }
}

enum Target {
    Chain(Chain),
    Action(String),
}

struct Rule {
    chain: Chain,
    /// With a blank before each option.
    matches: String,
    target: Target,
}

impl Rule {
    fn jump(chain: Chain, matches: String, target: Chain) -> Self {
        Self { chain, matches, target: Target::Chain(target) }
    }

    fn act(chain: Chain, matches: String, action: impl Into<String>) -> Self {
        Self { chain, matches, target: Target::Action(action.into()) }
    }
}

fn text(tables: &[Table], suffix: &str, comment: impl Fn(usize) -> String) -> String {
    let mut indices = 1..;
    let mut lines = Vec::new();
    for table in tables {
        lines.push(format!("*{}\n", table.name));
        lines.extend(table.chains.iter().map(|chain| format!(":{} - [0:0]\n", chain.name(suffix))));
        for (rule, index) in table.rules.iter().zip(&mut indices) {
            let chain = rule.chain.name(suffix);
            let target = match &rule.target {
                Target::Chain(chain) => chain.name(suffix),
                Target::Action(action) => action.clone(),
            };
            lines.push(format!("-A {chain}{}{} -j {target}\n", rule.matches, comment(index)));
        }
        lines.push("COMMIT\n".to_owned());
    }
    lines.concat()
}

const TO_METADATA: Chain = Chain::Own("META");
const INVALID: Chain = Chain::Own("INV");
const INVALID_OUT: Chain = Chain::Own("OUT");
const INVALID_BACK: Chain = Chain::Own("BACK");
const TRANSLATED: Chain = Chain::Own("POST");

fn filter(ruleset: &Ruleset) -> Table {
    let Ruleset { egress, ingress, sources, exclude, .. } = ruleset;
    let paths =
        || ingress.iter().flat_map(|ingress| sources.iter().map(move |source| (ingress, source)));

    // Every packet comes by these two jumps, and almost none takes one. A rule that every packet
    // comes by costs 1 to 3 percent of the packets that the kernel can forward.
    let forward = Chain::BuiltIn("FORWARD");
    let mut rules = vec![
        Rule::jump(forward, format!(" -d {METADATA_SERVICE}/32"), TO_METADATA),
        Rule::jump(forward, " -m conntrack --ctstate INVALID".to_owned(), INVALID),
    ];
    rules.extend(paths().map(|(ingress, source)| {
        Rule::act(TO_METADATA, format!(" -s {source} -i {ingress}"), "DROP")
    }));
    rules.extend(paths().map(|(ingress, source)| {
        Rule::jump(INVALID, format!(" -s {source} -i {ingress} -o {egress}"), INVALID_OUT)
    }));
    rules.extend(paths().map(|(ingress, source)| {
        Rule::jump(INVALID, format!(" -d {source} -i {egress} -o {ingress}"), INVALID_BACK)
    }));
    // Packets from and to excluded destinations are left alone even if they are invalid: they
    // are not translated, and conntrack may see only one direction of them.
    rules.extend(exclude.iter().map(|net| Rule::act(INVALID_OUT, format!(" -d {net}"), "RETURN")));
    rules.push(Rule::act(INVALID_OUT, String::new(), "DROP"));
    rules.extend(exclude.iter().map(|net| Rule::act(INVALID_BACK, format!(" -s {net}"), "RETURN")));
    rules.push(Rule::act(INVALID_BACK, String::new(), "DROP"));
    let chains = &[TO_METADATA, INVALID, INVALID_OUT, INVALID_BACK];
    Table { name: "filter", chains, rules }
}

fn nat(ruleset: &Ruleset) -> Table {
    let action = match ruleset.translation {
        Translation::Snat(address) => format!("SNAT --to-source {address}"),
        Translation::Masquerade => "MASQUERADE".to_owned(),
    };
    let action = if ruleset.random_fully { action + " --random-fully" } else { action };

    let mut rules = vec![
        Rule::jump(Chain::BuiltIn("POSTROUTING"), format!(" -o {}", ruleset.egress), TRANSLATED),
        // The host's own packets.
        Rule::act(TRANSLATED, " -m addrtype --src-type LOCAL".to_owned(), "RETURN"),
    ];
    rules.extend(
        ruleset.exclude.iter().map(|net| Rule::act(TRANSLATED, format!(" -d {net}"), "RETURN")),
    );
    rules.extend(
        ruleset
            .sources
            .iter()
            .map(|source| Rule::act(TRANSLATED, format!(" -s {source}"), action.clone())),
    );
    Table { name: "nat", chains: &[TRANSLATED], rules }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ruleset;
    use super::*;

    #[test]
    fn one_interface_with_exclusions() {
        let rendering = ruleset().render(FirewallKind::Iptables);
        let digest = &rendering.digest.0;
        assert_eq!(
            rendering.text.replace(digest, "DIGEST").replace(&chain_suffix(&rendering.digest), "-x"),
            "*filter
:NATD-META-x - [0:0]
:NATD-INV-x - [0:0]
:NATD-OUT-x - [0:0]
:NATD-BACK-x - [0:0]
-A FORWARD -d 169.254.169.254/32 -m comment --comment natd:DIGEST:1/20 -j NATD-META-x
-A FORWARD -m conntrack --ctstate INVALID -m comment --comment natd:DIGEST:2/20 -j NATD-INV-x
-A NATD-META-x -s 10.10.0.0/16 -i eth0 -m comment --comment natd:DIGEST:3/20 -j DROP
-A NATD-META-x -s 10.20.0.0/16 -i eth0 -m comment --comment natd:DIGEST:4/20 -j DROP
-A NATD-INV-x -s 10.10.0.0/16 -i eth0 -o eth0 -m comment --comment natd:DIGEST:5/20 -j NATD-OUT-x
-A NATD-INV-x -s 10.20.0.0/16 -i eth0 -o eth0 -m comment --comment natd:DIGEST:6/20 -j NATD-OUT-x
-A NATD-INV-x -d 10.10.0.0/16 -i eth0 -o eth0 -m comment --comment natd:DIGEST:7/20 -j NATD-BACK-x
-A NATD-INV-x -d 10.20.0.0/16 -i eth0 -o eth0 -m comment --comment natd:DIGEST:8/20 -j NATD-BACK-x
-A NATD-OUT-x -d 10.10.0.0/16 -m comment --comment natd:DIGEST:9/20 -j RETURN
-A NATD-OUT-x -d 192.168.0.0/24 -m comment --comment natd:DIGEST:10/20 -j RETURN
-A NATD-OUT-x -m comment --comment natd:DIGEST:11/20 -j DROP
-A NATD-BACK-x -s 10.10.0.0/16 -m comment --comment natd:DIGEST:12/20 -j RETURN
-A NATD-BACK-x -s 192.168.0.0/24 -m comment --comment natd:DIGEST:13/20 -j RETURN
-A NATD-BACK-x -m comment --comment natd:DIGEST:14/20 -j DROP
COMMIT
*nat
:NATD-POST-x - [0:0]
-A POSTROUTING -o eth0 -m comment --comment natd:DIGEST:15/20 -j NATD-POST-x
-A NATD-POST-x -m addrtype --src-type LOCAL -m comment --comment natd:DIGEST:16/20 -j RETURN
-A NATD-POST-x -d 10.10.0.0/16 -m comment --comment natd:DIGEST:17/20 -j RETURN
-A NATD-POST-x -d 192.168.0.0/24 -m comment --comment natd:DIGEST:18/20 -j RETURN
-A NATD-POST-x -s 10.10.0.0/16 -m comment --comment natd:DIGEST:19/20 -j SNAT --to-source 10.10.1.5 --random-fully
-A NATD-POST-x -s 10.20.0.0/16 -m comment --comment natd:DIGEST:20/20 -j SNAT --to-source 10.10.1.5 --random-fully
COMMIT
"
        );
    }

    #[test]
    fn names_of_chains_fit_into_the_kernel() {
        let rendering = ruleset().render(FirewallKind::Iptables);
        for name in rendering.text.lines().filter_map(|line| line.strip_prefix(':')) {
            // Some room is left for the suffix of a chain that is put aside.
            assert!(name.split(' ').next().is_some_and(|name| name.len() <= 24), "{name}");
        }
    }
}
