//! Kernel parameters, as files below `/proc/sys` (`proc_sys(5)`).

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Component, Path, PathBuf},
};

use natd_core::{
    error::{Error, Kind, Result},
    host::{Sysctl, SysctlKey},
};
use rustix::io::Errno;

/// The parameters below one folder. Those of the network (`net/…`) are of the network namespace of
/// the thread that reads or writes (`net_ctl_header_lookup` in the kernel's `net/sysctl_net.c`).
#[derive(Debug, Clone)]
pub struct ProcSys {
    root: PathBuf,
}

impl ProcSys {
    /// `root` is `/proc/sys`, or a folder that stands for it.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The key's file. A key may come from a file that somebody wrote: it must not lead elsewhere.
    fn file(&self, key: &SysctlKey, doing: &str) -> Result<PathBuf> {
        let path = Path::new(key.path());
        let below = path.components().all(|part| matches!(part, Component::Normal(_)));
        if below && path.components().next().is_some() {
            Ok(self.root.join(path))
        } else {
            Err(Error::new(Kind::Invalid, format!("{doing} {key}"), "not a path below /proc/sys"))
        }
    }
}

impl Default for ProcSys {
    /// This machine's own `/proc/sys`.
    fn default() -> Self {
        Self::new("/proc/sys")
    }
}

impl Sysctl for ProcSys {
    fn read(&self, key: &SysctlKey) -> Result<Option<String>> {
        match fs::read_to_string(self.file(key, "read")?) {
            Ok(value) => Ok(Some(value.trim().to_owned())),
            Err(cause) if is_absent(&cause) => Ok(None),
            Err(cause) => Err(failed(format!("read {key}"), &cause)),
        }
    }

    fn write(&self, key: &SysctlKey, value: &str) -> Result<()> {
        // Never created: a file that isn't there is a key that this kernel doesn't have. And one
        // write, since the kernel takes each write for a whole value.
        OpenOptions::new()
            .write(true)
            .open(self.file(key, "write")?)
            .and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()))
            .map_err(|cause| failed(format!("set {key} to {value:?}"), &cause))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(doing: String, cause: &io::Error) -> Error {
    let (kind, advice) = match cause.raw_os_error().map(Errno::from_raw_os_error) {
        _ if is_absent(cause) => (
            Kind::NotFound,
            "check that the interface exists, or that the module is loaded (nf_conntrack for \
             net.netfilter.*)",
        ),
        Some(Errno::ROFS) => {
            (Kind::Denied, "/proc/sys is read-only here, as in a container: set it on the host")
        }
        Some(Errno::PERM | Errno::ACCESS) => {
            (Kind::Denied, "run as root with CAP_NET_ADMIN, in the machine's own network namespace")
        }
        Some(Errno::INVAL | Errno::RANGE) => {
            (Kind::Invalid, "the kernel takes another sort of value here")
        }
        _ => return Error::new(Kind::Invalid, doing, cause),
    };
    Error::new(kind, doing, cause).with_advice(advice)
}
