//! `clouds.yaml`, `secure.yaml` and `clouds-public.yaml`: found, read and merged.
//!
//! As in openstacksdk (<https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html>):
//! the first file found wins, `secure.yaml` is merged over it key by key. Other than there, a file that
//! can't be read or parsed is an error and not passed over: a typing mistake must not choose another cloud.

use std::{
    io,
    path::{Path, PathBuf},
};

use natd_core::error::{Error, Kind, Result};
use serde_yaml_ng::{Mapping, Value};

use super::environment::Environment;

/// The clouds of a configuration, and the file that they are from.
#[derive(Default)]
pub(super) struct CloudsFile {
    /// The file; `None` if there is none.
    pub(super) path: Option<PathBuf>,
    clouds: Mapping,
}

impl CloudsFile {
    /// Reads `given`, else `$OS_CLIENT_CONFIG_FILE`, else the first of the usual files that is there.
    pub(super) fn read(environment: &Environment, given: Option<&Path>) -> Result<Self> {
        let named = given
            .map(Path::to_owned)
            .or_else(|| environment.variable("OS_CLIENT_CONFIG_FILE").map(PathBuf::from));
        let found = match named {
            Some(path) => Some((load(&path)?, path)),
            None => first(environment, "clouds")?,
        };
        let secure = match environment.variable("OS_CLIENT_SECURE_FILE").map(PathBuf::from) {
            Some(path) => Some((load(&path)?, path)),
            None => first(environment, "secure")?,
        };
        let mut file = Self::default();
        for (content, path) in [found, secure].into_iter().flatten() {
            merge(&mut file.clouds, section(content, "clouds", &path)?);
            file.path.get_or_insert(path);
        }
        Ok(file)
    }

    /// The names of the clouds, in the file's order.
    pub(super) fn names(&self) -> Vec<&str> {
        self.clouds.keys().filter_map(Value::as_str).collect()
    }

    /// What the file says of a cloud, over what `clouds-public.yaml` says of its `profile`.
    pub(super) fn cloud(&self, environment: &Environment, name: &str) -> Result<Option<Mapping>> {
        let Some(cloud) = self.clouds.get(name) else { return Ok(None) };
        let Value::Mapping(cloud) = cloud else {
            let path = self.path.clone().unwrap_or_default();
            return Err(refused(&path, format!("clouds.{name} is not a table")));
        };
        let profile = ["profile", "cloud"].into_iter().find_map(|key| cloud.get(key)?.as_str());
        let mut whole = Mapping::new();
        if let (Some(profile), Some((content, path))) =
            (profile, first(environment, "clouds-public")?)
        {
            let public = section(content, "public-clouds", &path)?;
            if let Some(Value::Mapping(public)) = public.get(profile) {
                merge(&mut whole, public.clone());
            }
        }
        merge(&mut whole, cloud.clone());
        Ok(Some(whole))
    }
}

/// The first file of that name in the folders.
fn first(environment: &Environment, name: &str) -> Result<Option<(Mapping, PathBuf)>> {
    let candidates = environment.folders.iter().flat_map(|folder| {
        ["yaml", "yml", "json"].map(|extension| folder.join(format!("{name}.{extension}")))
    });
    for path in candidates {
        if path.exists() {
            return Ok(Some((load(&path)?, path)));
        }
    }
    Ok(None)
}

/// A file's content; JSON is YAML too.
fn load(path: &Path) -> Result<Mapping> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refused(path, "it is not there"),
        _ => refused(path, error),
    })?;
    match serde_yaml_ng::from_str(&text) {
        Ok(Value::Mapping(content)) => Ok(content),
        Ok(_) => Err(refused(path, "it is empty, or no table of keys and values")),
        // The parser's message may quote the text, and with it a password: only the place is told.
        Err(error) => Err(refused(
            path,
            match error.location() {
                Some(at) => format!("line {}, column {}: not YAML", at.line(), at.column()),
                None => "not YAML".to_owned(),
            },
        )),
    }
}

fn section(mut content: Mapping, name: &str, path: &Path) -> Result<Mapping> {
    match content.remove(name) {
        Some(Value::Mapping(section)) => Ok(section),
        None | Some(Value::Null) => Ok(Mapping::new()),
        Some(_) => Err(refused(path, format!("{name} is not a table"))),
    }
}

/// Puts `over` over `under`, table by table.
fn merge(under: &mut Mapping, over: Mapping) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Mapping(under)), Value::Mapping(over)) => merge(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

fn refused(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, format!("read {}", path.display()), cause)
}
