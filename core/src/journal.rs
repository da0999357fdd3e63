//! The journal: what natd found before it changed it, so that `natd down` can give it back.
//!
//! An entry is written before the change that it is about, and dropped after it has been given
//! back. An entry whose change never happened (a crash in between) is harmless: giving back looks
//! at what is there now first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    cloud::CheckSettings,
    error::{Error, Kind, Result},
    file,
    host::SysctlKey,
    model::{InstanceId, InterfaceId, NextHop, RouteKey, RouteOrigin},
    persist::{HostPath, PartDigest, ServiceName},
    ruleset::{FirewallKind, Served},
};

/// The format that this version writes and reads.
const VERSION: u32 = 1;

/// Everything that natd has changed outside its own tables, with what was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    /// The machine that it is about: an image of a machine carries the journal to others.
    pub instance: Option<InstanceId>,
    /// The same for machines without a cloud: what `/etc/machine-id` says (machine-id(5)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Where an earlier journal is kept that could not be used: what it remembered is not known, until
    /// `natd down` has told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<PathBuf>,
    /// Back ends into which natd has loaded rules.
    #[serde(default)]
    pub firewalls: BTreeSet<FirewallKind>,
    /// Rules were about to be loaded or removed, and it is not yet known that the connections
    /// which that makes stale are deleted.
    #[serde(default)]
    pub stale_flows: bool,
    /// Whom the rules serve that natd has loaded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
    /// Kernel parameters.
    #[serde(default)]
    pub sysctls: BTreeMap<SysctlKey, EarlierSysctl>,
    /// Files that bring NAT back after a reboot.
    #[serde(default)]
    pub files: BTreeMap<HostPath, WrittenFile>,
    /// Services that were not started at boot.
    #[serde(default)]
    pub services: BTreeSet<ServiceName>,
    /// Interfaces whose source/destination check was on, with what switching it off overwrote.
    #[serde(default)]
    pub checks: BTreeMap<InterfaceId, Option<CheckSettings>>,
    /// Routes.
    #[serde(default, with = "as_list")]
    pub routes: BTreeMap<RouteKey, EarlierRoute>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            version: VERSION,
            instance: None,
            machine: None,
            predecessor: None,
            firewalls: BTreeSet::new(),
            stale_flows: false,
            served: None,
            sysctls: BTreeMap::new(),
            files: BTreeMap::new(),
            services: BTreeSet::new(),
            checks: BTreeMap::new(),
            routes: BTreeMap::new(),
        }
    }
}

impl Journal {
    /// Whether nothing is left to give back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self
            == Self {
                instance: self.instance.clone(),
                machine: self.machine.clone(),
                ..Self::default()
            }
    }

    /// Drops what is known of an earlier journal, if nothing else is left.
    pub fn forget_predecessor(&mut self) {
        let predecessor = self.predecessor.take();
        if !self.is_empty() {
            self.predecessor = predecessor;
        }
    }

    /// Notes that a back end holds no rules of natd's any more.
    pub fn forget_rules(&mut self, kind: FirewallKind) {
        self.firewalls.remove(&kind);
        if self.firewalls.is_empty() {
            self.stale_flows = false;
            self.served = None;
        }
    }

    /// Whether giving back needs the cloud.
    #[must_use]
    pub fn needs_cloud(&self) -> bool {
        !self.checks.is_empty() || !self.routes.is_empty()
    }
}

/// A kernel parameter before natd changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierSysctl {
    /// What it was.
    pub earlier: String,
    /// What natd made of it. If it is something else by now, somebody else decided.
    pub ours: String,
}

/// A file that natd has put a part into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// What natd has written, or was about to. If it is something else by now, somebody has edited
    /// it.
    pub ours: BTreeSet<PartDigest>,
    /// What was there before.
    #[serde(flatten)]
    pub before: FileBefore,
}

/// What was there, beside its content, before natd put a part into a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBefore {
    /// Its permissions, where natd has to change them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The folders on the way to it that were missing, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<HostPath>,
}

/// A route before natd took it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierRoute {
    /// The interfaces that natd has pointed it at. If it points elsewhere by now, somebody else decided.
    pub ours: BTreeSet<InterfaceId>,
    /// What it was; `None` if there was no route.
    pub earlier: Option<EarlierTarget>,
}

impl EarlierRoute {
    /// Whether natd made the route go there.
    #[must_use]
    pub fn is_ours(&self, next_hop: &NextHop) -> bool {
        matches!(next_hop, NextHop::Interface(interface) if self.ours.contains(interface))
    }
}

/// Where a route went before natd took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierTarget {
    /// Its next hop.
    pub next_hop: NextHop,
    /// Who had made it. A propagated route comes back by itself.
    pub origin: RouteOrigin,
}

/// JSON has only strings for keys: a map with a structured key is a list of pairs.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<
        'de,
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    >(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Where it is, below the root folder.
const PATH: &str = "var/lib/natd/journal.json";

/// Where the machine's id is, below the root folder.
const MACHINE_ID: &str = "etc/machine-id";

/// The journal's file.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    written: Journal,
    /// What is in the journal now.
    pub journal: Journal,
}

impl JournalFile {
    /// Reads the journal; an absent file is an empty journal. A file that can't be understood, or
    /// is about another machine, is never acted on: it is moved aside, where the operator finds
    /// it, and a new one begins.
    ///
    /// # Errors
    /// `Denied` or `Invalid` if the file system refuses.
    pub fn open(root: &Path, instance: Option<&InstanceId>) -> Result<Self> {
        let (path, machine) = (root.join(PATH), machine_id(root));
        let (written, mut journal) = match read(&path, instance, machine.as_deref())? {
            Read::Usable(journal) => (*journal.clone(), *journal),
            Read::Unusable(why) => {
                let predecessor = Some(set_aside(&path, &why)?);
                (Journal::default(), Journal { predecessor, ..Journal::default() })
            }
        };
        journal.instance = instance.cloned().or(journal.instance);
        journal.machine = machine.or(journal.machine);
        Ok(Self { path, written, journal })
    }

    /// Reads the journal for a command that changes nothing: what can't be used is left where it is.
    ///
    /// # Errors
    /// As for [`JournalFile::open`].
    pub fn peek(root: &Path, instance: Option<&InstanceId>) -> Result<Journal> {
        let path = root.join(PATH);
        match read(&path, instance, machine_id(root).as_deref())? {
            Read::Usable(journal) => Ok(*journal),
            Read::Unusable(why) => {
                tracing::warn!(why, "the journal is not usable; the next change moves it aside");
                Ok(Journal { predecessor: Some(path), ..Journal::default() })
            }
        }
    }

    /// Writes the journal if it has changed, and removes it when nothing is left in it. Returns
    /// after that is on the disk.
    ///
    /// # Errors
    /// `Denied` or `Invalid` if the file system refuses; the earlier journal is intact then.
    pub fn save(&mut self) -> Result<()> {
        if self.written == self.journal {
            return Ok(());
        }
        if self.journal.is_empty() {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &self.path, &error));
                }
                _ => {}
            }
            self.written = self.journal.clone();
            return Ok(());
        }
        let mut content = serde_json::to_vec_pretty(&self.journal)
            .map_err(|error| Error::new(Kind::Invalid, "write the journal", error))?;
        content.push(b'\n');
        file::replace(&self.path, &content).map_err(|error| failed("write", &self.path, &error))?;
        self.written = self.journal.clone();
        Ok(())
    }

    /// Takes away the folder, if nothing is left in it and in the journal: after `natd down`, nothing
    /// of natd's stays. Whoever has a use for it finds it made anew.
    ///
    /// Tells whether nothing is left in the journal.
    pub fn retire(self) -> bool {
        let is_empty = self.journal.is_empty() && self.written.is_empty();
        if is_empty {
            file::forget(&self.path).ok();
            self.path.parent().map(fs::remove_dir);
        }
        is_empty
    }
}

/// The cloud's word counts where there is one: it never gives an instance's id to another.
fn belongs_elsewhere(
    journal: &Journal,
    instance: Option<&InstanceId>,
    machine: Option<&str>,
) -> bool {
    match (&journal.instance, instance, &journal.machine, machine) {
        (Some(theirs), Some(ours), ..) => theirs != ours,
        (.., Some(theirs), Some(ours)) => theirs != ours,
        _ => false,
    }
}

/// What `/etc/machine-id` says; `None` where it says nothing yet: an image before its first boot.
fn machine_id(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join(MACHINE_ID)).ok()?;
    let id = text.trim();
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Error {
    let kind =
        if error.kind() == io::ErrorKind::PermissionDenied { Kind::Denied } else { Kind::Invalid };
    Error::new(kind, format!("{verb} the journal {}", path.display()), error).with_advice(
        "natd changes nothing that it can't note there: make room, or make the folder writable",
    )
}

fn set_aside(path: &Path, why: &str) -> Result<PathBuf> {
    let mut n = 0_u32;
    let aside = loop {
        let aside = path.with_extension(format!("json.aside.{n}"));
        if !aside.exists() {
            break aside;
        }
        n += 1;
    };
    fs::rename(path, &aside).map_err(|error| failed("move aside", path, &error))?;
    tracing::warn!(journal = %path.display(), kept_as = %aside.display(), why, "the journal is not usable and was moved aside");
    Ok(aside)
}

enum Read {
    Usable(Box<Journal>),
    Unusable(String),
}

fn read(path: &Path, instance: Option<&InstanceId>, machine: Option<&str>) -> Result<Read> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Read::Usable(Box::default()));
        }
        Err(error) => return Err(failed("read", path, &error)),
    };
    Ok(match serde_json::from_slice::<Journal>(&content) {
        Ok(journal) if journal.version != VERSION => {
            Read::Unusable(format!("its version {} is not {VERSION}", journal.version))
        }
        Ok(journal) if belongs_elsewhere(&journal, instance, machine) => {
            Read::Unusable("it is about another machine".to_owned())
        }
        Ok(journal) => Read::Usable(Box::new(journal)),
        Err(error) => Read::Unusable(error.to_string()),
    })
}
