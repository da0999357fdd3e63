//! Which files bring NAT back after a reboot, and what natd's part of each says. Pure.

use std::collections::BTreeMap;

use super::{
    Boot, Form, HostPath, Part, PartDigest, PersistKind, Persistence, Place, ServiceName, nftables,
    rc_local, sysctl,
};
use crate::{
    desired::{Rules, Setting},
    host::SysctlKey,
    ruleset::FirewallKind,
};

/// natd's rules as a script of `nft`.
const NFT_SCRIPT: &str = "/etc/natd/boot.nft";
/// natd's rules for `iptables-restore --noflush`.
const IPTABLES_SCRIPT: &str = "/etc/natd/boot.iptables";
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
        ("/etc/iptables/rules.v4", Form::Chains),
        ("/etc/iptables/rules.v6", Form::Chains),
        ("/etc/sysconfig/iptables", Form::Chains),
        ("/etc/sysconfig/ip6tables", Form::Chains),
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
    let mut put = |path: &str, form, text: String, mode| {
        files.insert(HostPath::new(path), Part::new(form, text, mode));
    };
    let mut early = sysctls.clone();
    match kind {
        PersistKind::RcLocal => {
            let script = match rules.rendering.kind {
                FirewallKind::Nftables => NFT_SCRIPT,
                FirewallKind::Iptables => IPTABLES_SCRIPT,
            };
            // It runs when packets come in already: forwarding has to wait for the rules.
            let late = early.extract_if(.., |key, _| key.is_forwarding()).collect();
            put(script, Form::Whole, at_boot.text.clone(), PRIVATE);
            let block = rc_local::block(rules.rendering.kind, script, &late, RUNTIME_SYSCTLS);
            put(RC_LOCAL, Form::Block(Place::BeforeExit), block, RUNNABLE);
            put(RUNTIME_SYSCTLS, Form::Whole, sysctl::text(&late), READABLE);
        }
        PersistKind::Nftables => {
            put(NFT_SCRIPT, Form::Whole, at_boot.text.clone(), PRIVATE);
            let script = boot.nftables_script.as_str();
            put(script, Form::Block(Place::End), nftables::include(NFT_SCRIPT), RUNNABLE);
        }
        PersistKind::NetfilterPersistent | PersistKind::IptablesServices => {
            let path = match kind {
                PersistKind::NetfilterPersistent => "/etc/iptables/rules.v4",
                _ => "/etc/sysconfig/iptables",
            };
            put(path, Form::Chains, at_boot.text.clone(), PRIVATE);
            // Whoever saves all rules saves natd's as they are in the kernel.
            let saved = Form::Chains.normal(&rules.rendering.text);
            if let Some(part) = files.get_mut(&HostPath::new(path)) {
                part.alike.push(PartDigest::of(&saved));
            }
        }
    }
    let mut put = |path: &str, text: String| {
        files.insert(HostPath::new(path), Part::new(Form::Whole, text, READABLE));
    };
    put(SYSCTLS, sysctl::text(&early));
    if sysctls.keys().any(SysctlKey::is_conntrack) {
        put(MODULES, "nf_conntrack\n".to_owned());
    }
    let service = match kind {
        PersistKind::RcLocal => None,
        PersistKind::Nftables => Some("nftables"),
        PersistKind::NetfilterPersistent => Some("netfilter-persistent"),
        PersistKind::IptablesServices => Some("iptables"),
    };
    let service = service.filter(|_| boot.live).map(ServiceName::new);
    Persistence { kind: Some(kind), why, files, service, problem: None }
}
