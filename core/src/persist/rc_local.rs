//! natd's block in `/etc/rc.local`, for any shell and whatever the script sets besides.

use std::collections::BTreeMap;

use super::part::HEADER;
use crate::{desired::Setting, host::SysctlKey};

/// How rules are loaded that are not there yet.
pub(super) struct Load {
    /// The file that they are in.
    pub(super) script: &'static str,
    /// Shell commands: the first succeeds where natd has loaded its own already.
    command: String,
}

impl Load {
    pub(super) fn nft(script: &'static str) -> Self {
        let command = format!("nft list table inet natd >/dev/null 2>&1 || nft -f {script}");
        Self { script, command }
    }

    pub(super) fn iptables(script: &'static str) -> Self {
        Self::restored(script, "iptables")
    }

    pub(super) fn ip6tables(script: &'static str) -> Self {
        Self::restored(script, "ip6tables")
    }

    fn restored(script: &'static str, program: &str) -> Self {
        let command = format!(
            "{program}-save | grep -q '^:NATD-' || {program}-restore -w 10 --noflush <{script}"
        );
        Self { script, command }
    }
}

/// Loads all rules unless natd has loaded its own already, and then lets packets be forwarded: by
/// the interfaces that are there, and by those that appear later (udev's rule for network interfaces
/// has systemd-sysctl read `/run/sysctl.d`).
///
/// All in a subshell and a list that doesn't fail: the rest of the script runs as it would without.
pub(super) fn block(
    loads: &[Load],
    forwarding: &BTreeMap<SysctlKey, Setting>,
    runtime: &str,
) -> String {
    let load = |load: &Load| format!("    {} || exit\n", load.command);
    let loads = loads.iter().map(load).collect::<Vec<_>>().concat();
    let keys =
        forwarding.keys().map(|key| format!(" '{}'", key.path())).collect::<Vec<_>>().concat();
    let header = HEADER.trim_end();
    let folder = runtime.rsplit_once('/').map_or("/", |(folder, _)| folder);
    format!(
        "(
    PATH=$PATH:/usr/sbin:/sbin
{loads}    mkdir -p {folder}
    echo '{header}' >{runtime}
    for key in{keys}; do
        echo \"$key = 1\" >>{runtime}
        [ ! -e \"/proc/sys/$key\" ] || echo 1 >\"/proc/sys/$key\"
    done
) || echo 'natd: its rules were not loaded, and packets are not forwarded' >&2
"
    )
}
