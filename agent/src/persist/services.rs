//! What is started at boot: read from the links that say so, changed by the host's own tool.

use std::time::Duration;

use natd_core::{
    error::{Error, Kind, Result},
    persist::ServiceName,
};

use super::rooted::Root;
use crate::process::Program;

/// Where units are, in the order of systemd.unit(5), without those that are gone after a reboot.
pub(super) const UNIT_FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The runlevel of a server without graphics, where systemd isn't.
const RUNLEVEL: &str = "/etc/rc3.d";

pub(super) fn is_enabled(root: &Root, service: &ServiceName) -> bool {
    let unit = format!("{service}.service");
    let wanted = UNIT_FOLDERS.iter().any(|folder| {
        root.list(folder)
            .iter()
            .filter(|name| {
                name.rsplit_once('.').is_some_and(|(_, sort)| matches!(sort, "wants" | "requires"))
            })
            .any(|name| root.list(&format!("{folder}/{name}")).contains(&unit))
    });
    // S08iptables
    let started = |name: &String| {
        name.strip_prefix('S').is_some_and(|name| {
            name.trim_start_matches(|c: char| c.is_ascii_digit()) == service.as_str()
        })
    };
    wanted || root.list(RUNLEVEL).iter().any(started)
}

pub(super) async fn enable(
    root: &Root,
    service: &ServiceName,
    enabled: bool,
    deadline: Duration,
) -> Result<()> {
    let doing = if enabled {
        format!("have {service} started at boot")
    } else {
        format!("have {service} no longer started at boot")
    };
    if !root.is_live() {
        return Err(Error::new(Kind::Unsupported, doing, "this is an image, and not this machine")
            .with_advice("enable it in the image yourself"));
    }
    let unit = format!("{service}.service");
    let (program, package, arguments) = if root.has("/run/systemd/system") {
        let verb = if enabled { "enable" } else { "disable" };
        ("systemctl", "systemd", vec!["--no-ask-password", verb, &unit])
    } else {
        let state = if enabled { "on" } else { "off" };
        ("chkconfig", "chkconfig", vec![service.as_str(), state])
    };
    let program = Program::new(program, package, deadline);
    program.run(&doing, &arguments, None).await?.success(&doing)?;
    if is_enabled(root, service) == enabled {
        return Ok(());
    }
    Err(Error::new(Kind::Conflict, doing, "read back, it is as it was")
        .with_advice("see whether the service is masked"))
}
