//! Kernel parameters for `/etc/sysctl.d`, which systemd-sysctl applies at boot, and, those of an
//! interface, whenever that interface appears (udev's `99-systemd.rules`).

use std::collections::BTreeMap;

use crate::{desired::Setting, host::SysctlKey};

/// In the form with slashes, in which a name of an interface may have a dot (sysctl.d(5)).
pub(super) fn text(settings: &BTreeMap<SysctlKey, Setting>) -> String {
    let line =
        |(key, setting): (&SysctlKey, &Setting)| format!("{} = {}\n", key.path(), setting.value);
    settings.iter().map(line).collect::<Vec<_>>().concat()
}

/// Whether the text of such a file sets that parameter.
#[must_use]
pub fn is_set_in(text: &str, key: &SysctlKey) -> bool {
    let is_key = |line: &str| line.split_once(" = ").is_some_and(|(path, _)| path == key.path());
    text.lines().any(is_key)
}
