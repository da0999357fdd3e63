//! What a host has that loads rules at boot, by its files: no program is run, so that an image is
//! looked at like a machine.

use natd_core::persist::{Availability, Boot, HostPath, ServiceName};

use super::{
    rooted::Root,
    services::{UNIT_FOLDERS, is_enabled},
};

pub(super) fn take(root: &Root) -> Boot {
    let service = |name: &str, is_there: bool| match is_there {
        false => Availability::Absent,
        true if is_enabled(root, &ServiceName::new(name)) => Availability::Enabled,
        true => Availability::Disabled,
    };
    Boot {
        rc_local: runs_rc_local(root),
        iptables_services: service("iptables", has_iptables_services(root)),
        netfilter_persistent: service(
            "netfilter-persistent",
            root.has("/usr/share/netfilter-persistent/plugins.d/15-ip4tables")
                && unit(root, "netfilter-persistent").is_some(),
        ),
        nftables: service("nftables", unit(root, "nftables").is_some()),
        nftables_script: nftables_script(root),
        live: root.is_live(),
    }
}

/// The path of a unit's file.
fn unit(root: &Root, name: &str) -> Option<String> {
    UNIT_FOLDERS.iter().map(|folder| format!("{folder}/{name}.service")).find(|path| root.has(path))
}

fn has_systemd(root: &Root) -> bool {
    ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].iter().any(|path| root.has(path))
}

/// systemd runs it by a unit, which a generator has started if the script can be run; other inits
/// run it in their last script.
fn runs_rc_local(root: &Root) -> bool {
    if !has_systemd(root) {
        return root.has("/etc/rc.local") || root.has("/etc/rc.d/rc.local");
    }
    ["/usr/lib/systemd/system-generators", "/lib/systemd/system-generators"]
        .iter()
        .any(|folder| root.has(&format!("{folder}/systemd-rc-local-generator")))
        || unit(root, "rc-local").is_some()
}

/// On Debian that name is an alias of netfilter-persistent.
fn has_iptables_services(root: &Root) -> bool {
    match unit(root, "iptables") {
        Some(path) => {
            root.read(&path).contains("iptables.init") || root.has("/etc/sysconfig/iptables")
        }
        None => root.has("/etc/init.d/iptables") || root.has("/etc/rc.d/init.d/iptables"),
    }
}

/// What the unit gives to `nft -f`: /etc/nftables.conf on Debian, /etc/sysconfig/nftables.conf on
/// RHEL and Fedora.
fn nftables_script(root: &Root) -> HostPath {
    let text = unit(root, "nftables").map(|path| root.read(&path)).unwrap_or_default();
    let rhel = "/etc/sysconfig/nftables.conf";
    HostPath::new(if text.contains(rhel) { rhel } else { "/etc/nftables.conf" })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use natd_core::file;

    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        file::replace(&root.join(path), text.as_bytes()).expect("written");
    }

    #[test]
    fn an_empty_folder_has_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(take(&Root::new(folder.path())), Boot::default());
    }

    #[test]
    fn debian() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        write(root, "usr/lib/systemd/systemd", "");
        write(root, "usr/lib/systemd/system-generators/systemd-rc-local-generator", "");
        write(
            root,
            "usr/lib/systemd/system/nftables.service",
            "ExecStart=nft -f /etc/nftables.conf",
        );
        write(root, "usr/lib/systemd/system/netfilter-persistent.service", "");
        write(root, "usr/share/netfilter-persistent/plugins.d/15-ip4tables", "");
        let wants = root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).expect("made");
        let unit = "/lib/systemd/system/netfilter-persistent.service";
        symlink(unit, wants.join("netfilter-persistent.service")).expect("linked");
        // The alias that the package makes.
        symlink(unit, root.join("etc/systemd/system/iptables.service")).expect("linked");
        symlink("usr/lib", root.join("lib")).expect("linked");
        assert_eq!(
            take(&Root::new(root)),
            Boot {
                rc_local: true,
                netfilter_persistent: Availability::Enabled,
                nftables: Availability::Disabled,
                ..Boot::default()
            }
        );
    }

    #[test]
    fn rhel() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        write(root, "usr/lib/systemd/systemd", "");
        write(root, "usr/lib/systemd/system/rc-local.service", "");
        write(
            root,
            "usr/lib/systemd/system/iptables.service",
            "ExecStart=/usr/libexec/iptables/iptables.init start",
        );
        write(
            root,
            "usr/lib/systemd/system/nftables.service",
            "ExecStart=/sbin/nft -f /etc/sysconfig/nftables.conf",
        );
        let boot = take(&Root::new(root));
        assert_eq!(boot.iptables_services, Availability::Disabled);
        assert_eq!(boot.nftables_script.as_str(), "/etc/sysconfig/nftables.conf");
        assert!(boot.rc_local);
    }
}
