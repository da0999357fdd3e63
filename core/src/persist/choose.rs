//! Which of the things that load rules at boot is taken, and why. Pure.

use super::{Availability, Boot, PersistKind};
use crate::{
    config::Persist,
    error::{Error, Kind, Result},
    ruleset::FirewallKind,
};

/// What `nat.persist` comes to on that host, and why; `None`: nothing loads the rules at boot.
///
/// # Errors
/// `NotFound`, with the package, if what was asked for isn't installed; `Invalid` if it can't hold
/// rules of that firewall back end.
pub fn choose(
    asked: Persist,
    firewall: FirewallKind,
    boot: &Boot,
) -> Result<(Option<PersistKind>, String)> {
    let kind = match asked {
        Persist::None => return Ok((None, "nat.persist is \"none\"".to_owned())),
        Persist::Auto => return Ok(automatic(firewall, boot)),
        Persist::RcLocal => PersistKind::RcLocal,
        Persist::IptablesServices => PersistKind::IptablesServices,
        Persist::NetfilterPersistent => PersistKind::NetfilterPersistent,
        Persist::Nftables => PersistKind::Nftables,
    };
    let doing = || format!("bring the rules back after a reboot by {kind}");
    let other_firewall = match (kind, firewall) {
        (PersistKind::Nftables, FirewallKind::Iptables) => Some("nftables"),
        (
            PersistKind::IptablesServices | PersistKind::NetfilterPersistent,
            FirewallKind::Nftables,
        ) => Some("iptables"),
        _ => None,
    };
    if let Some(other) = other_firewall {
        return Err(Error::new(Kind::Invalid, doing(), format!("the rules are in {firewall}"))
            .with_advice(format!("set nat.firewall = \"{other}\", or nat.persist = \"auto\"")));
    }
    let (absent, cause, advice) = match kind {
        PersistKind::RcLocal => (
            !boot.rc_local,
            "nothing on this host runs /etc/rc.local",
            "install the package that brings rc-local.service, or set nat.persist = \"auto\"",
        ),
        PersistKind::IptablesServices => (
            boot.iptables_services == Availability::Absent,
            "this host has no iptables.service",
            "install the package iptables-services",
        ),
        PersistKind::NetfilterPersistent => (
            boot.netfilter_persistent == Availability::Absent,
            "this host has no netfilter-persistent.service with the plugin for iptables",
            "install the package iptables-persistent",
        ),
        PersistKind::Nftables => (
            boot.nftables == Availability::Absent,
            "this host has no nftables.service",
            "install the package nftables",
        ),
    };
    if absent {
        return Err(Error::new(Kind::NotFound, doing(), cause).with_advice(advice));
    }
    Ok((Some(kind), format!("nat.persist is \"{kind}\"")))
}

/// What the host already loads its own rules with, else `/etc/rc.local`. `nftables.service` is not
/// enabled unasked: what its script holds besides would come into force, and it often begins with
/// `flush ruleset`.
fn automatic(firewall: FirewallKind, boot: &Boot) -> (Option<PersistKind>, String) {
    let (kind, why) = match firewall {
        FirewallKind::Nftables if boot.nftables == Availability::Enabled => {
            (PersistKind::Nftables, "nftables.service loads this host's rules at boot")
        }
        FirewallKind::Iptables if boot.netfilter_persistent != Availability::Absent => {
            (PersistKind::NetfilterPersistent, "netfilter-persistent is installed")
        }
        FirewallKind::Iptables if boot.iptables_services != Availability::Absent => {
            (PersistKind::IptablesServices, "iptables-services is installed")
        }
        FirewallKind::Nftables if boot.rc_local && boot.nftables == Availability::Disabled => {
            (PersistKind::RcLocal, "this host runs /etc/rc.local, and nftables.service is disabled")
        }
        _ if boot.rc_local => (
            PersistKind::RcLocal,
            "this host runs /etc/rc.local, and has no service for the rules of this firewall back end",
        ),
        FirewallKind::Nftables => {
            return (
                None,
                "this host neither runs /etc/rc.local nor has nftables.service enabled".to_owned(),
            );
        }
        FirewallKind::Iptables => {
            return (
                None,
                "this host neither runs /etc/rc.local nor has iptables-persistent or iptables-services".to_owned(),
            );
        }
    };
    (Some(kind), why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(firewall: FirewallKind, boot: &Boot) -> Option<PersistKind> {
        choose(Persist::Auto, firewall, boot).expect("auto never fails").0
    }

    #[test]
    fn auto_goes_by_the_firewall_and_by_what_is_installed() {
        use Availability::{Disabled, Enabled};
        use FirewallKind::{Iptables, Nftables};
        let bare = Boot::default();
        let debian = Boot { rc_local: true, nftables: Disabled, ..bare.clone() };
        let served = Boot { nftables: Enabled, netfilter_persistent: Enabled, ..debian.clone() };
        let rhel = Boot { rc_local: true, iptables_services: Disabled, ..bare.clone() };
        let cases = [
            (Nftables, &bare, None),
            (Iptables, &bare, None),
            (Nftables, &debian, Some(PersistKind::RcLocal)),
            (Iptables, &debian, Some(PersistKind::RcLocal)),
            (Nftables, &served, Some(PersistKind::Nftables)),
            (Iptables, &served, Some(PersistKind::NetfilterPersistent)),
            (Iptables, &rhel, Some(PersistKind::IptablesServices)),
            (Nftables, &rhel, Some(PersistKind::RcLocal)),
        ];
        for (firewall, boot, expected) in cases {
            assert_eq!(auto(firewall, boot), expected, "{firewall} {boot:?}");
        }
    }

    #[test]
    fn what_is_not_installed_names_its_package() {
        for (asked, firewall, package) in [
            (Persist::IptablesServices, FirewallKind::Iptables, "iptables-services"),
            (Persist::NetfilterPersistent, FirewallKind::Iptables, "iptables-persistent"),
            (Persist::Nftables, FirewallKind::Nftables, "nftables"),
        ] {
            let error = choose(asked, firewall, &Boot::default()).expect_err("absent");
            assert_eq!(error.kind(), Kind::NotFound);
            assert_eq!(error.advice(), Some(format!("install the package {package}").as_str()));
        }
    }

    #[test]
    fn rules_are_not_asked_of_what_cannot_hold_them() {
        for (asked, firewall) in [
            (Persist::Nftables, FirewallKind::Iptables),
            (Persist::NetfilterPersistent, FirewallKind::Nftables),
            (Persist::IptablesServices, FirewallKind::Nftables),
        ] {
            let error = choose(asked, firewall, &Boot::default()).expect_err("contradiction");
            assert_eq!(error.kind(), Kind::Invalid);
        }
    }
}
