//! The rules of any configuration: whatever is rendered can be read back rule for rule, keeps to the limits of the
//! kernel, and goes into a file and out of it.

use std::collections::BTreeSet;

use super::shared::{head, pieces, text};
use crate::{
    config::Config,
    desired::desired,
    facts::Facts,
    model::{InterfaceName, MacAddress},
    network::{Link, Network},
    persist::{Boot, Form},
    ruleset::{Blocks, FirewallKind, Mark, Rendering, Ruleset},
};

/// The longest comment of a rule in nftables (`NFTNL_UDATA_COMMENT_MAXLEN`), its end included.
const COMMENT: usize = 128;
/// The longest name of a chain of iptables (`XT_EXTENSION_MAXNAMELEN`), without its end.
const CHAIN: usize = 28;
/// The longest name of a set of ipset's (`IPSET_MAXNAMELEN`), without its end.
const SET: usize = 31;

/// The name of the egress interface on the first line, then the configuration, as JSON: figment reads it quickest.
pub fn ruleset(input: &[u8]) {
    let Some(piece) = pieces(input).into_iter().next() else { return };
    let (name, configuration) = head(piece);
    let Ok(name) = text(name).parse::<InterfaceName>() else { return };
    let Ok(config) = serde_json::from_slice::<Config>(configuration) else { return };
    if !config.problems().is_empty() {
        return;
    }
    for (kind, blocks) in [
        (FirewallKind::Nftables, Blocks::Chains),
        (FirewallKind::Iptables, Blocks::Chains),
        (FirewallKind::Iptables, Blocks::Ipset),
    ] {
        let Ok(desired) = desired(&config, &facts(&name, kind, blocks)) else { return };
        let Some(rules) = desired.rules else { continue };
        sound(&rules.rendering);
        renders_the_same(&rules.ruleset, &rules.rendering, blocks);
    }
}

/// A host alone, with that interface to the internet and one inside.
fn facts(egress: &InterfaceName, firewall: FirewallKind, blocks: Blocks) -> Facts {
    let link = |name: &InterfaceName, mac, addresses: &[&str]| Link {
        name: name.clone(),
        mac: Some(MacAddress([2, 0, 0, 0, 0, mac])),
        up: true,
        addresses: addresses.iter().filter_map(|address| address.parse().ok()).collect(),
    };
    let out = ["10.10.1.10/24", "10.10.1.11/24", "10.10.1.12/24", "fd00:10::10/64"];
    let routes = ["0.0.0.0/0", "::/0"].into_iter().filter_map(|net| net.parse().ok());
    Facts {
        network: Network {
            links: vec![link(egress, 1, &out)],
            routes: routes.map(|net| (net, egress.clone())).collect(),
        },
        firewall,
        blocks,
        chosen: None,
        forwards: BTreeSet::new(),
        forwards_ipv6_by_interface: true,
        advertised: BTreeSet::new(),
        listening: BTreeSet::from([22, 9750]),
        neighbours: BTreeSet::new(),
        obstacles: Vec::new(),
        boot: Boot::default(),
        memory: Some(4 << 30),
        cloud: None,
    }
}

fn sound(rendering: &Rendering) {
    let texts = [Some(&rendering.text), rendering.text6.as_ref()];
    let mut marks: Vec<Mark> = Vec::new();
    for text in texts.into_iter().flatten() {
        for word in text.split([' ', '"', '\n']).filter(|word| word.starts_with("natd:")) {
            assert!(word.len() < COMMENT, "{word} is too long");
            let mark = word.parse::<Mark>();
            assert!(mark.is_ok(), "{mark:?}");
            marks.extend(mark);
        }
        for line in text.lines() {
            assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
            if let Some(chain) = line.strip_prefix(':').and_then(|line| line.split(' ').next()) {
                assert!(chain.len() <= CHAIN, "{chain} is too long");
            }
        }
        if rendering.kind == FirewallKind::Iptables {
            let saved = Form::Chains.put(None, text);
            assert_eq!(Form::Chains.own(&saved), Form::Chains.own(text));
        }
    }
    let indices: Vec<usize> = marks.iter().map(|mark| mark.index).collect();
    assert!(indices.iter().copied().eq(1..=marks.len()), "{indices:?} in {}", rendering.text);
    for mark in &marks {
        assert_eq!((&mark.digest, mark.total), (&rendering.digest, marks.len()));
    }
    for line in rendering.ipsets.iter().flat_map(|text| text.lines()) {
        let name = line.split(' ').nth(1).unwrap_or_default();
        assert!((1..=SET).contains(&name.len()), "{name} is too long");
    }
}

fn renders_the_same(ruleset: &Ruleset, rendering: &Rendering, blocks: Blocks) {
    assert_eq!(&ruleset.render_with(rendering.kind, blocks), rendering);
}
