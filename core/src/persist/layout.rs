//! Which files bring NAT back after a reboot, and what natd's part of each says. Pure.

use std::collections::BTreeMap;

use super::{
    Boot, Form, HostPath, Part, PartDigest, PersistKind, Persistence, Place, ServiceName, nftables,
    rc_local::{self, Load},
    sysctl,
};
use crate::{
    desired::{Rules, Setting},
    host::SysctlKey,
    ruleset::{FirewallKind, Rendering},
};

/// natd's rules as a script of `nft`.
const NFT_SCRIPT: &str = "/etc/natd/boot.nft";
/// natd's rules for `iptables-restore --noflush`.
const IPTABLES_SCRIPT: &str = "/etc/natd/boot.iptables";
/// Those for IPv6, for `ip6tables-restore --noflush`.
const IP6TABLES_SCRIPT: &str = "/etc/natd/boot.ip6tables";
/// What netfilter-persistent's plugins give to `iptables-restore` and `ip6tables-restore`.
const NETFILTER_PERSISTENT: [&str; 2] = ["/etc/iptables/rules.v4", "/etc/iptables/rules.v6"];
/// What the services `iptables` and `ip6tables` give to them.
const IPTABLES_SERVICES: [&str; 2] = ["/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables"];
const RC_LOCAL: &str = "/etc/rc.local";
const SYSCTLS: &str = "/etc/sysctl.d/90-natd.conf";
/// Kernel parameters for interfaces that appear later; gone after a reboot.
const RUNTIME_SYSCTLS: &str = "/run/sysctl.d/90-natd-forwarding.conf";
const MODULES: &str = "/etc/modules-load.d/natd.conf";

const READABLE: u32 = 0o644;
const PRIVATE: u32 = 0o600;
const RUNNABLE: u32 = 0o755;

/// Every file in which natd may have a part, on any host, in the order in which they are written:
/// what a file refers to comes before it.
#[must_use]
pub fn places() -> Vec<(HostPath, Form)> {
    [
        (NFT_SCRIPT, Form::Whole),
        (IPTABLES_SCRIPT, Form::Whole),
        (IP6TABLES_SCRIPT, Form::Whole),
        (NETFILTER_PERSISTENT[0], Form::Chains),
        (NETFILTER_PERSISTENT[1], Form::Chains),
        (IPTABLES_SERVICES[0], Form::Chains),
        (IPTABLES_SERVICES[1], Form::Chains),
        ("/etc/nftables.conf", Form::Block(Place::End)),
        ("/etc/sysconfig/nftables.conf", Form::Block(Place::End)),
        (RC_LOCAL, Form::Block(Place::BeforeExit)),
        (MODULES, Form::Whole),
        (SYSCTLS, Form::Whole),
        (RUNTIME_SYSCTLS, Form::Whole),
    ]
    .map(|(path, form)| (HostPath::new(path), form))
    .into()
}

/// The files by which natd's kernel parameters are applied at boot.
#[must_use]
pub fn sysctl_files() -> [HostPath; 2] {
    [SYSCTLS, RUNTIME_SYSCTLS].map(HostPath::new)
}

/// The files for `kind`, such that these rules and kernel parameters are there after a reboot:
/// packets are translated before the first one is forwarded.
#[must_use]
pub fn lay_out(
    kind: PersistKind,
    why: String,
    rules: &Rules,
    sysctls: &BTreeMap<SysctlKey, Setting>,
    boot: &Boot,
) -> Persistence {
    // On whatever address the machine has after the reboot, or another machine that is made of its
    // image: source NAT to an address that isn't there would be a black hole.
    let at_boot = rules.ruleset.on_any_address().render(rules.rendering.kind);
    let mut files = BTreeMap::new();
    let mut put = |path: &str, part: Part| {
        files.insert(HostPath::new(path), part);
    };
    let whole = |text: String, mode| Part::new(Form::Whole, text, mode);
    let mut early = sysctls.clone();
    match kind {
        PersistKind::RcLocal => {
            let loads = match at_boot.kind {
                FirewallKind::Nftables => vec![Load::nft(NFT_SCRIPT)],
                FirewallKind::Iptables => {
                    vec![Load::iptables(IPTABLES_SCRIPT), Load::ip6tables(IP6TABLES_SCRIPT)]
                }
            };
            let mut needed = Vec::new();
            for (load, text) in loads.into_iter().zip(texts(&at_boot)) {
                let Some(text) = text else { continue };
                put(load.script, whole(text.to_owned(), PRIVATE));
                needed.push(load);
            }
            // It runs when packets come in already: forwarding has to wait for the rules.
            let late = early.extract_if(.., |key, _| key.is_forwarding()).collect();
            let block = rc_local::block(&needed, &late, RUNTIME_SYSCTLS);
            put(RC_LOCAL, Part::new(Form::Block(Place::BeforeExit), block, RUNNABLE));
            put(RUNTIME_SYSCTLS, whole(sysctl::text(&late), READABLE));
        }
        PersistKind::Nftables => {
            put(NFT_SCRIPT, whole(at_boot.text.clone(), PRIVATE));
            let include = nftables::include(NFT_SCRIPT);
            let script = boot.nftables_script.as_str();
            put(script, Part::new(Form::Block(Place::End), include, RUNNABLE));
        }
        PersistKind::NetfilterPersistent | PersistKind::IptablesServices => {
            let paths = match kind {
                PersistKind::NetfilterPersistent => NETFILTER_PERSISTENT,
                _ => IPTABLES_SERVICES,
            };
            let both = texts(&at_boot).into_iter().zip(texts(&rules.rendering));
            for (path, (at_boot, now)) in paths.into_iter().zip(both) {
                let (Some(at_boot), Some(now)) = (at_boot, now) else { continue };
                let mut part = Part::new(Form::Chains, at_boot, PRIVATE);
                // Whoever saves all rules saves natd's as they are in the kernel.
                part.alike.push(PartDigest::of(&Form::Chains.normal(now)));
                put(path, part);
            }
        }
    }
    put(SYSCTLS, whole(sysctl::text(&early), READABLE));
    if sysctls.keys().any(SysctlKey::is_conntrack) {
        put(MODULES, whole("nf_conntrack\n".to_owned(), READABLE));
    }
    let services: Vec<&str> = match kind {
        PersistKind::RcLocal => Vec::new(),
        PersistKind::Nftables => vec!["nftables"],
        PersistKind::NetfilterPersistent => vec!["netfilter-persistent"],
        PersistKind::IptablesServices => {
            let services = ["iptables", "ip6tables"].into_iter().zip(texts(&at_boot));
            services.filter_map(|(service, text)| text.map(|_| service)).collect()
        }
    };
    let services = services.into_iter().filter(|_| boot.live).map(ServiceName::new).collect();
    Persistence { kind: Some(kind), why, files, services, problem: None }
}

/// The texts of a rendering for IPv4, or for both, and for IPv6, where there are rules in them.
fn texts(rendering: &Rendering) -> [Option<&str>; 2] {
    [Some(rendering.text.as_str()), rendering.text6.as_deref()]
        .map(|text| text.filter(|text| !text.is_empty()))
}
