//! What is, as far as a plan needs it: a plain value.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    cloud::CheckSettings,
    host::{Loaded, SysctlKey},
    model::{InterfaceId, Route, RouteKey, RouteTableId},
    neighbours::Neighbour,
    persist::{FileSeen, HostPath, ServiceName},
    ruleset::FirewallKind,
};

/// What is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// natd's rules in the kernel, by back end; a back end that wasn't looked at is absent.
    pub rules: BTreeMap<FirewallKind, Loaded>,
    /// Kernel parameters; one that the kernel doesn't have is absent.
    pub sysctls: BTreeMap<SysctlKey, String>,
    /// The source/destination check of each attached interface.
    pub checks: BTreeMap<InterfaceId, bool>,
    /// What switching it off would overwrite.
    pub check_settings: BTreeMap<InterfaceId, CheckSettings>,
    /// What natd has in other firewalls of this host.
    pub passages: BTreeMap<Neighbour, Loaded>,
    /// natd's part of the files that bring NAT back after a reboot; one in which there is none, and is
    /// to be none, is absent.
    pub files: BTreeMap<HostPath, FileSeen>,
    /// Services, and whether they are started at boot.
    pub services: BTreeMap<ServiceName, bool>,
    /// The tables that were seen.
    pub tables: BTreeSet<RouteTableId>,
    /// Their routes.
    pub routes: BTreeMap<RouteKey, Route>,
}

impl Observed {
    /// Whether every interface forwards by the global key, so that no single one may be reset.
    #[must_use]
    pub fn forwards_everywhere(&self) -> bool {
        self.sysctls
            .get(&SysctlKey::global("net/ipv4/ip_forward"))
            .is_some_and(|value| value == "1")
    }
}
