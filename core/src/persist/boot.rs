//! What a host has that loads rules at boot: a plain value.

use serde::Serialize;

use super::HostPath;

/// Whether a host has something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// It isn't installed.
    #[default]
    Absent,
    /// It is installed, and isn't started at boot.
    Disabled,
    /// It is started at boot.
    Enabled,
}

/// What a host has that loads rules at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Something runs `/etc/rc.local`.
    pub rc_local: bool,
    /// The service `iptables`, of iptables-services.
    pub iptables_services: Availability,
    /// The service `netfilter-persistent`, with its plugins for iptables.
    pub netfilter_persistent: Availability,
    /// The service `nftables`.
    pub nftables: Availability,
    /// The script that the service `nftables` loads.
    pub nftables_script: HostPath,
    /// This is the machine that is to be booted, and not an image of one: services can be enabled.
    pub live: bool,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            rc_local: false,
            iptables_services: Availability::Absent,
            netfilter_persistent: Availability::Absent,
            nftables: Availability::Absent,
            nftables_script: HostPath::new("/etc/nftables.conf"),
            live: false,
        }
    }
}
