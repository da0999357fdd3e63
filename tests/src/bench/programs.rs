//! The programs that natd finds, each with a watch: which were run, with what, and for how long.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The programs of the packages nftables and ipset, of iptables in the form that Debian has by default, and what else
/// natd runs.
const PROGRAMS: [(&str, &str); 11] = [
    ("nft", "/usr/sbin/nft"),
    ("ipset", "/usr/sbin/ipset"),
    ("iptables", "/usr/sbin/xtables-nft-multi iptables"),
    ("iptables-save", "/usr/sbin/xtables-nft-multi iptables-save"),
    ("iptables-restore", "/usr/sbin/xtables-nft-multi iptables-restore"),
    ("ip6tables", "/usr/sbin/xtables-nft-multi ip6tables"),
    ("ip6tables-save", "/usr/sbin/xtables-nft-multi ip6tables-save"),
    ("ip6tables-restore", "/usr/sbin/xtables-nft-multi ip6tables-restore"),
    ("modprobe", "/usr/sbin/modprobe"),
    ("systemctl", "/usr/bin/systemctl"),
    ("conntrack", "/usr/sbin/conntrack"),
];

/// A folder of programs, the only ones that are found.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
    log: PathBuf,
}

/// One run of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Name and arguments.
    pub command: String,
    pub seconds: f64,
}

impl Programs {
    /// All of them in a folder below this one, or all but one.
    pub fn lay(below: &Path, missing: Option<&str>) -> Result<Self> {
        let (folder, log) = (below.join("programs"), below.join("programs.log"));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for (name, real) in PROGRAMS.iter().filter(|(name, _)| Some(*name) != missing) {
            let script = format!(
                "#!/bin/bash\nbegan=$EPOCHREALTIME\n{real} \"$@\"\nstatus=$?\n\
                 echo \"$began $EPOCHREALTIME {name} $*\" >>{}\nexit $status\n",
                log.display()
            );
            let path = folder.join(name);
            fs::write(&path, script).with_context(|| format!("writing {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { folder, log })
    }

    /// The `PATH` by which they are found.
    pub fn path(&self) -> OsString {
        self.folder.clone().into_os_string()
    }

    /// What was run so far.
    pub fn ran(&self) -> Result<Vec<Ran>> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().map(ran).collect()
    }

    /// Forgets it.
    pub fn forget(&self) {
        let _nothing_ran = fs::remove_file(&self.log);
    }
}

fn ran(line: &str) -> Result<Ran> {
    let mut words = line.splitn(3, ' ');
    let mut time = || words.next()?.parse::<f64>().ok();
    let (began, ended) = (time(), time());
    let (began, ended) = began.zip(ended).with_context(|| format!("no times in {line:?}"))?;
    let command = words.next().unwrap_or_default().to_owned();
    Ok(Ran { command, seconds: ended - began })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_is_noted() {
        let ran = ran("1796081234.500000 1796081235.250000 nft -f -").expect("a line");
        assert_eq!(ran.command, "nft -f -");
        assert!((ran.seconds - 0.75).abs() < 1e-6);
    }
}
