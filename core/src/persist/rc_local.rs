//! natd's block in `/etc/rc.local`, for any shell and whatever the script sets besides.

use std::collections::BTreeMap;

use super::part::HEADER;
use crate::{desired::Setting, host::SysctlKey, ruleset::FirewallKind};

/// Loads the rules unless natd has loaded its own already, and then lets packets be forwarded: by
/// the interfaces that are there, and by those that appear later (udev's rule for network interfaces
/// has systemd-sysctl read `/run/sysctl.d`).
///
/// All in a subshell and a list that doesn't fail: the rest of the script runs as it would without.
pub(super) fn block(
    kind: FirewallKind,
    script: &str,
    forwarding: &BTreeMap<SysctlKey, Setting>,
    runtime: &str,
) -> String {
    let load = match kind {
        FirewallKind::Nftables => {
            format!("nft list table inet natd >/dev/null 2>&1 || nft -f {script} || exit")
        }
        FirewallKind::Iptables => format!(
            "iptables-save | grep -q '^:NATD-' || iptables-restore -w 10 --noflush <{script} || exit"
        ),
    };
    let keys =
        forwarding.keys().map(|key| format!(" '{}'", key.path())).collect::<Vec<_>>().concat();
    let header = HEADER.trim_end();
    let folder = runtime.rsplit_once('/').map_or("/", |(folder, _)| folder);
    format!(
        "(
    PATH=$PATH:/usr/sbin:/sbin
    {load}
    mkdir -p {folder}
    echo '{header}' >{runtime}
    for key in{keys}; do
        echo \"$key = 1\" >>{runtime}
        [ ! -e \"/proc/sys/$key\" ] || echo 1 >\"/proc/sys/$key\"
    done
) || echo 'natd: its rules were not loaded, and packets are not forwarded' >&2
"
    )
}
