//! What the accidents have in common.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use natd_tests::lab::Lab;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::run::finish;

pub const JOURNAL: &str = "var/lib/natd/journal.json";

/// An image of a host whose rules are brought back by `/etc/rc.local`, which is somebody's.
pub fn with_rc_local(lab: &Lab) -> Result<()> {
    lab.nat().write("etc/rc.local", "#!/bin/sh -e\n# mine\n")?;
    let path = lab.nat().root.join("etc/rc.local");
    Ok(fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?)
}

/// A shell command that gives natd folders of its own in place of those: a file system of that size, with what was in
/// them. They are gone with natd.
pub fn on_a_file_system_of_its_own(folders: &[PathBuf], size: &str) -> String {
    let mount = |folder: &PathBuf| {
        let folder = folder.display();
        // `ip netns exec` has given this process mounts of its own.
        format!(
            "mkdir -p {folder}; cp -a {folder} {folder}.kept; mount -t tmpfs -o size={size} natd {folder}\n\
             cp -a {folder}.kept/. {folder}; rm -r {folder}.kept\n"
        )
    };
    folders.iter().map(mount).collect::<String>() + "exec \"$@\""
}

/// Runs a shell command that sees what natd sees mounted.
pub fn beside(daemon: &Daemon, script: &str) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.args(["--target", &daemon.pid().to_string(), "--mount", "--", "sh", "-ec", script]);
    finish(&mut command, "")
}
