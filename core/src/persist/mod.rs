//! What brings NAT back after a reboot, before or without natd: files, as plain values, and the pure
//! functions that edit them.
//!
//! | file | holds |
//! |---|---|
//! | `part` | natd's part of a file: the whole of it, a marked block, or chains among those of others |
//! | `block` | the editing of a marked block |
//! | `saved` | the merging of chains into what `iptables-restore` reads at boot |
//! | `diff` | what somebody has changed in natd's part, for people |
//! | `boot` | what a host has that loads rules at boot |
//! | `choose` | which of it is taken, and why |
//! | `layout` | which files that takes |
//! | `rc_local`, `nftables`, `sysctl` | the text of each |

mod block;
mod boot;
mod choose;
mod diff;
mod layout;
mod nftables;
mod part;
mod rc_local;
mod saved;
mod sysctl;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

pub use boot::{Availability, Boot};
pub use choose::choose;
pub use diff::diff;
pub use layout::{lay_out, places, sysctl_files};
pub use part::{Edit, FileSeen, Form, Part, PartDigest, Place};
pub use sysctl::is_set_in;

use crate::error::Error;

/// What loads rules at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersistKind {
    /// A block in `/etc/rc.local`.
    RcLocal,
    /// The service `iptables` of the package iptables-services.
    IptablesServices,
    /// The service `netfilter-persistent` of the package iptables-persistent.
    NetfilterPersistent,
    /// The service `nftables`.
    Nftables,
}

impl fmt::Display for PersistKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RcLocal => "rc-local",
            Self::IptablesServices => "iptables-services",
            Self::NetfilterPersistent => "netfilter-persistent",
            Self::Nftables => "nftables",
        })
    }
}

/// A file of the host, by its absolute path as the host itself sees it: natd's root folder is not
/// part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPath(String);

impl HostPath {
    /// Of an absolute path.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The path, with its `/` in front.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A service that is started at boot, by its name without `.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceName(String);

impl ServiceName {
    /// `nftables`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What should bring NAT back after a reboot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Persistence {
    /// What loads the rules; `None`: nothing does.
    pub kind: Option<PersistKind>,
    /// Why it is that.
    pub why: String,
    /// natd's part of each file.
    pub files: BTreeMap<HostPath, Part>,
    /// The services that have to be started at boot.
    pub services: BTreeSet<ServiceName>,
    /// Why what was asked for can't be had.
    pub problem: Option<Error>,
}
