//! What this host forwards already, and how it would forward IPv6.

use std::collections::BTreeSet;

use natd_core::{
    error::Result,
    host::{AtBoot, Host, Sysctl, SysctlKey},
    journal::Journal,
    model::InterfaceName,
    network::Network,
    persist::{Form, is_set_in, sysctl_files},
    ruleset::Family,
};

/// What the kernel says of forwarding, as [`Facts`](natd_core::facts::Facts) have it.
pub(crate) struct Forwarding {
    pub(crate) for_others: BTreeSet<Family>,
    pub(crate) ipv6_by_interface: bool,
    pub(crate) advertised: BTreeSet<InterfaceName>,
}

/// Reads it. What natd has set itself is in the journal; on a machine that was made of an image of
/// another, whose journal is void here, it is in the files that were applied at boot.
pub(crate) fn look(host: &Host, network: &Network, journal: &Journal) -> Result<Forwarding> {
    let sysctl = host.sysctl.as_ref();
    let persisted = persisted(host.boot.as_ref());
    let is_natds =
        |key: &SysctlKey| journal.sysctls.contains_key(key) || is_set_in(&persisted, key);
    let global = SysctlKey::global("net/ipv6/conf/all/forwarding");
    let by_interface = SysctlKey::global("net/ipv6/conf/all/force_forwarding");
    let mut for_others = BTreeSet::new();
    if is(sysctl, &SysctlKey::global("net/ipv4/ip_forward"), "1")? {
        for_others.insert(Family::V4);
    }
    let all_forward_ipv6 = is(sysctl, &global, "1")?;
    if all_forward_ipv6 && !is_natds(&global) {
        for_others.insert(Family::V6);
    }
    let mut advertised = BTreeSet::new();
    for link in network.links.iter().filter(|link| link.mac.is_some()) {
        let key = SysctlKey::ipv6(&link.name, "accept_ra");
        if is(sysctl, &key, "1")? || (is(sysctl, &key, "2")? && is_natds(&key)) {
            advertised.insert(link.name.clone());
        }
    }
    Ok(Forwarding {
        for_others,
        ipv6_by_interface: sysctl.read(&by_interface)?.is_some() && !all_forward_ipv6,
        advertised,
    })
}

fn is(sysctl: &dyn Sysctl, key: &SysctlKey, value: &str) -> Result<bool> {
    Ok(sysctl.read(key)?.is_some_and(|found| found == value))
}

/// The kernel parameters that natd has applied at boot.
fn persisted(boot: &dyn AtBoot) -> String {
    let files = sysctl_files().into_iter().filter_map(|path| boot.look(&path, Form::Whole).ok());
    files.filter(|seen| !seen.is_foreign()).filter_map(|seen| seen.own).collect()
}
