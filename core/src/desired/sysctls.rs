//! The kernel parameters that should be.

use std::collections::BTreeMap;

use super::{Setting, Weight};
use crate::{
    config::{Config, ConntrackMax},
    conntrack::{TableSize, size_for},
    facts::Facts,
    host::SysctlKey,
    ruleset::{Family, Ruleset},
};

/// The size of the table of connections, and how long they are kept.
fn conntrack(config: &Config, memory: Option<u64>) -> impl Iterator<Item = (SysctlKey, Setting)> {
    let table = |name: &str, value: u32| {
        (SysctlKey::global(&format!("net/netfilter/nf_conntrack_{name}")), value.to_string())
    };
    let size = match (config.conntrack.max, memory) {
        (Some(ConntrackMax::Entries(entries)), _) => vec![table("max", entries)],
        (Some(ConntrackMax::Auto), Some(memory)) => {
            let TableSize { connections, buckets } = size_for(memory);
            vec![table("buckets", buckets), table("max", connections)]
        }
        (Some(ConntrackMax::Auto) | None, _) => Vec::new(),
    };
    let timeouts = config.conntrack.timeouts.iter();
    let timeouts = timeouts.map(|(timeout, time)| (timeout.key(), time.0.as_secs().to_string()));
    // The table's size is the whole kernel's: a container or a namespace can't write it.
    size.into_iter()
        .chain(timeouts)
        .map(|(key, value)| (key, Setting { value, weight: Weight::Optional }))
}

/// Forwarding on the interfaces that natd serves and on no other; no redirects; loose reverse-path
/// filtering. Kernel documentation, `networking/ip-sysctl`: `forwarding` is per input interface,
/// `send_redirects` is on if it is for `all` or for the interface, `rp_filter` is the maximum of both.
pub(super) fn sysctls(
    config: &Config,
    facts: &Facts,
    ruleset: &Ruleset,
) -> BTreeMap<SysctlKey, Setting> {
    let setting = |value: &str, weight| Setting { value: value.to_owned(), weight };
    let mut sysctls = BTreeMap::from([(
        SysctlKey::global("net/ipv4/conf/all/send_redirects"),
        setting("0", Weight::Improves),
    )]);
    for interface in &ruleset.ingress {
        sysctls.extend([
            (SysctlKey::ipv4(interface, "forwarding"), setting("1", Weight::Carries)),
            (SysctlKey::ipv4(interface, "send_redirects"), setting("0", Weight::Improves)),
            (SysctlKey::ipv4(interface, "rp_filter"), setting("2", Weight::Improves)),
        ]);
    }
    if Family::V6.is_in(&ruleset.sources) {
        sysctls.extend(ipv6_sysctls(facts, ruleset));
    }
    sysctls.extend(conntrack(config, facts.memory));
    sysctls
}

/// Before Linux 6.17 IPv6 is forwarded by all interfaces or by none, and one that forwards takes no
/// router advertisements, unless its `accept_ra` is 2. Since then `force_forwarding` forwards what
/// comes in by one interface, which stays a host as to advertisements (kernel documentation,
/// `networking/ip-sysctl`).
fn ipv6_sysctls(facts: &Facts, ruleset: &Ruleset) -> Vec<(SysctlKey, Setting)> {
    let setting = |value: &str, weight| Setting { value: value.to_owned(), weight };
    if facts.forwards.contains(&Family::V6) {
        return Vec::new();
    }
    if facts.forwards_ipv6_by_interface {
        let forced = |interface| {
            (SysctlKey::ipv6(interface, "force_forwarding"), setting("1", Weight::Carries))
        };
        return ruleset.ingress.iter().map(forced).collect();
    }
    let advertised = facts
        .advertised
        .iter()
        .map(|interface| (SysctlKey::ipv6(interface, "accept_ra"), setting("2", Weight::Improves)));
    let global = SysctlKey::global("net/ipv6/conf/all/forwarding");
    advertised.chain([(global, setting("1", Weight::Carries))]).collect()
}
