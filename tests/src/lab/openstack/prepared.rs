//! The files that a lab's Keystone and Neutron start from: made once a machine, and copied into each lab.
//!
//! First those of an empty cloud. The first lab of each shape then makes its topology by the API and keeps what became
//! of it, so that the next one of that shape starts with it: the servers are slow.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, Permissions};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::super::run::finish;
use super::super::topology::Topology;
use super::api;

/// What decides about the prepared files, by name.
const SOURCES: [(&str, &str); 5] = [
    ("keystone.conf", include_str!("../../../openstack/keystone.conf")),
    ("neutron.conf", include_str!("../../../openstack/neutron.conf")),
    ("ml2.ini", include_str!("../../../openstack/ml2.ini")),
    ("follow_parent.py", include_str!("../../../openstack/follow_parent.py")),
    ("prepare.py", include_str!("../../../openstack/prepare.py")),
];
const VENV: &str = "/var/cache/natd-openstack-venv";
/// Beside the environment, since it is of no use without it.
const PREPARED: &str = "natd-prepared";
/// What a lab kept, beside the databases.
const KEPT: &str = "kept.json";

/// The Python environment with Keystone and Neutron.
#[derive(Clone, Debug)]
pub struct Environment(PathBuf);

/// The accounts that `prepare.py` makes.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// natd's project, by its id.
    pub project: String,
    /// natd's user in it, by its id.
    pub user: String,
}

impl Environment {
    /// That of `NATD_OPENSTACK_VENV`, by default `/var/cache/natd-openstack-venv`.
    pub fn find() -> Result<Self> {
        let venv = std::env::var("NATD_OPENSTACK_VENV").unwrap_or_else(|_| VENV.to_owned());
        if !Path::new(&venv).join("bin/uwsgi").exists() {
            bail!(
                "no {venv}/bin/uwsgi: the lab needs a virtual environment with Keystone and Neutron, which \
                 tests/setup/install.sh makes; NATD_OPENSTACK_VENV says where"
            );
        }
        Ok(Self(venv.into()))
    }

    /// The environment's folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A program of the environment.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }

    /// Copies the files of the cloud that has this topology already into `folder`, which is made, and gives what was
    /// kept with them; or else, and `None`, those of an empty cloud.
    pub fn furnish(&self, folder: &Path, topology: &Topology) -> Result<Option<Value>> {
        let seeded = self.seeded(topology)?;
        if !seeded.exists() {
            copy(&self.prepared()?, folder)?;
            return Ok(None);
        }
        copy(&seeded, folder)?;
        let text = fs::read_to_string(folder.join(KEPT))?;
        serde_json::from_str(&text).map(Some).context(KEPT)
    }

    /// Keeps the files in `folder`, and `what` came of making the topology, for labs to come. Nobody may write to the
    /// cloud meanwhile.
    pub fn keep(&self, folder: &Path, topology: &Topology, what: &Value) -> Result<()> {
        let place = self.seeded(topology)?;
        let unfinished = place.with_extension(std::process::id().to_string());
        copy(folder, &unfinished)?;
        fs::write(unfinished.join(KEPT), what.to_string())?;
        for name in ["keystone.log", "keystone.out", "neutron.log", "neutron.out"] {
            let _none = fs::remove_file(unfinished.join(name));
        }
        if fs::rename(&unfinished, &place).is_err() {
            // Another lab was faster.
            fs::remove_dir_all(&unfinished)?;
        }
        Ok(())
    }

    /// natd's accounts, in a furnished folder.
    pub fn accounts(folder: &Path) -> Result<Accounts> {
        let text = fs::read_to_string(folder.join("accounts.json"))?;
        let accounts: Value = serde_json::from_str(&text).context("accounts.json")?;
        let id = |field| api::text(&accounts, field).map(str::to_owned);
        Ok(Accounts { project: id("project")?, user: id("user")? })
    }

    fn seeded(&self, topology: &Topology) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        (format!("{topology:?}"), include_str!("seed.rs"), include_str!("credential.rs"))
            .hash(&mut hasher);
        Ok(self.0.join(PREPARED).join(format!("{}-{:016x}", self.key()?, hasher.finish())))
    }

    /// Several labs may want them at once: the first makes them while the others wait.
    fn prepared(&self) -> Result<PathBuf> {
        let all = self.0.join(PREPARED);
        fs::create_dir_all(&all).with_context(|| format!("making {}", all.display()))?;
        let folder = all.join(self.key()?);
        let lock = File::create(all.join("lock")).context("creating the lock")?;
        lock.lock().context("locking the prepared files")?;
        if folder.exists() {
            return Ok(folder);
        }
        let unfinished = folder.with_extension("unfinished");
        let _of_a_killed_test = fs::remove_dir_all(&unfinished);
        fs::create_dir(&unfinished)?;
        // There are keys in it.
        fs::set_permissions(&unfinished, Permissions::from_mode(0o700))?;
        for (name, text) in SOURCES {
            fs::write(unfinished.join(name), text)?;
        }
        let mut prepare = Command::new(self.program("python"));
        prepare.arg("prepare.py").current_dir(&unfinished).env("PYTHONWARNINGS", "ignore");
        finish(&mut prepare, "").context("preparing Keystone and Neutron")?;
        let _none = fs::remove_file(unfinished.join("keystone.log"));
        fs::rename(&unfinished, &folder)?;
        Ok(folder)
    }

    /// Other versions, or another way of preparing, get another folder.
    fn key(&self) -> Result<String> {
        let mut hasher = DefaultHasher::new();
        SOURCES.hash(&mut hasher);
        let packages = self.0.join("lib");
        let mut versions: Vec<_> = fs::read_dir(&packages)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("reading {}", packages.display()))?
            .into_iter()
            .flat_map(|python| fs::read_dir(python.path().join("site-packages")))
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".dist-info"))
            .collect();
        versions.sort();
        versions.hash(&mut hasher);
        Ok(format!("{:016x}", hasher.finish()))
    }
}

/// Copies a folder with all that is in it. Permissions go with the files.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("copying {}", entry.path().display()))?;
        }
    }
    Ok(())
}
