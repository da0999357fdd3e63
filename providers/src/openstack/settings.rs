//! The settings of the chosen cloud: its entry in `clouds.yaml`, with `OS_*` over it.

use std::{collections::BTreeMap, path::Path};

use natd_core::{
    config,
    error::{Error, Kind, Result},
};
use serde_yaml_ng::{Mapping, Value};

use super::{clouds_file::CloudsFile, environment::Environment};

const DOING: &str = "find the credentials for OpenStack";

/// Variables that choose a cloud and say nothing about it.
const SELECTORS: [&str; 4] =
    ["OS_CLOUD", "OS_CLOUD_NAME", "OS_CLIENT_CONFIG_FILE", "OS_CLIENT_SECURE_FILE"];

/// Keys and values, each with the place that it is from. Not `Debug`: passwords are among them.
pub(super) struct Settings {
    values: BTreeMap<String, Setting>,
    /// Where a missing value belongs: a cloud in a file, or the environment.
    place: String,
}

/// A value and where it stands.
pub(super) struct Setting {
    pub(super) text: String,
    /// "`auth.password` of mycloud in /etc/openstack/clouds.yaml", or `OS_PASSWORD`.
    pub(super) place: String,
}

impl Settings {
    /// The cloud is `openstack.cloud`, else `$OS_CLOUD`, else what the variables alone describe
    /// (if `$OS_AUTH_URL` is there), else the only one in the file. Variables go over the file.
    pub(super) fn read(options: &config::Openstack, environment: &Environment) -> Result<Self> {
        let file = CloudsFile::read(environment, options.clouds_file.as_deref())?;
        let chosen = options.cloud.as_deref().or_else(|| environment.variable("OS_CLOUD"));
        let name = match (chosen, file.names().as_slice()) {
            (Some(name), _) => Some(name),
            (None, _) if environment.variable("OS_AUTH_URL").is_some() => None,
            (None, [only]) => Some(*only),
            (None, []) => return Err(nothing_there(&file, environment)),
            (None, several) => {
                let cause = format!("{} has {}", shown(&file), several.join(", "));
                return Err(Error::new(Kind::Invalid, DOING, cause)
                    .with_advice("choose one with openstack.cloud or OS_CLOUD"));
            }
        };
        let mut settings =
            Self { values: BTreeMap::new(), place: "the environment (OS_*)".to_owned() };
        if let Some(name) = name {
            let cloud = file.cloud(environment, name)?.ok_or_else(|| {
                let cause = match file.names().as_slice() {
                    [] => format!("there is no cloud {name}: {} has none", shown(&file)),
                    names => format!(
                        "there is no cloud {name} in {}; it has {}",
                        shown(&file),
                        names.join(", ")
                    ),
                };
                Error::new(Kind::Invalid, DOING, cause)
                    .with_advice("correct openstack.cloud or OS_CLOUD, or the file")
            })?;
            settings.place = format!("{name} in {}", shown(&file));
            settings.take_cloud(&cloud, options, environment);
        }
        settings.take_variables(environment);
        Ok(settings)
    }

    /// The value of the first of these keys that has one.
    pub(super) fn get(&self, keys: &[&str]) -> Option<&Setting> {
        keys.iter().find_map(|key| self.values.get(*key)).filter(|value| !value.text.is_empty())
    }

    /// As [`Self::get`], the text alone.
    pub(super) fn text(&self, keys: &[&str]) -> Option<String> {
        self.get(keys).map(|setting| setting.text.clone())
    }

    /// The value of a key that is needed.
    pub(super) fn needed(&self, key: &str) -> Result<&Setting> {
        self.get(&[key]).ok_or_else(|| {
            let cause = format!("{key} is missing in {}", self.place);
            let variable = format!("OS_{}", key.to_uppercase());
            Error::new(Kind::Invalid, DOING, cause)
                .with_advice(format!("write it there, or set {variable}"))
        })
    }

    /// `true`, `yes`, `1` and their opposites.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(setting) = self.get(&[key]) else { return Ok(None) };
        match setting.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(Some(true)),
            "false" | "no" | "off" | "0" => Ok(Some(false)),
            other => Err(setting.refused(format!("{other:?} is neither true nor false"))),
        }
    }

    /// An entry of `clouds.yaml`: `auth` first, since openstacksdk prefers what stands outside it,
    /// then what the chosen region's `values` say.
    fn take_cloud(
        &mut self,
        cloud: &Mapping,
        options: &config::Openstack,
        environment: &Environment,
    ) {
        if let Some(Value::Mapping(auth)) = cloud.get("auth") {
            self.take(auth, "auth.");
        }
        self.take(cloud, "");
        let wanted = options.region.as_deref().or_else(|| environment.variable("OS_REGION_NAME"));
        let regions = cloud.get("regions").or_else(|| cloud.get("region_name"));
        let Some(Value::Sequence(regions)) = regions else { return };
        let name = |region: &Value| match region {
            Value::Mapping(region) => region.get("name")?.as_str().map(str::to_owned),
            other => other.as_str().map(str::to_owned),
        };
        let chosen =
            regions.iter().find(|region| wanted.is_none() || name(region).as_deref() == wanted);
        if let Some(name) = chosen.and_then(name) {
            self.put("region_name", &name, "regions");
        }
        if let Some(Value::Mapping(values)) = chosen.and_then(|region| region.get("values")) {
            self.take(values, "regions.");
        }
    }

    /// Takes the scalars of a table; dashes in keys are underscores.
    fn take(&mut self, table: &Mapping, prefix: &str) {
        for (key, value) in table {
            let Some(key) = key.as_str() else { continue };
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                _ => continue,
            };
            self.put(&key.replace('-', "_"), &text, &format!("{prefix}{key}"));
        }
    }

    fn put(&mut self, key: &str, text: &str, written: &str) {
        let place = format!("{written} of {}", self.place);
        self.values.insert(key.to_owned(), Setting { text: text.to_owned(), place });
    }

    fn take_variables(&mut self, environment: &Environment) {
        for name in environment.variables.keys().filter(|name| !SELECTORS.contains(&name.as_str()))
        {
            let key = name.strip_prefix("OS_").map(str::to_lowercase);
            if let (Some(key), Some(value)) = (key, environment.variable(name)) {
                let setting = Setting { text: value.to_owned(), place: name.clone() };
                self.values.insert(key, setting);
            }
        }
    }
}

impl Setting {
    /// An error about this value; `cause` must not hold a secret.
    pub(super) fn refused(&self, cause: impl std::fmt::Display) -> Error {
        Error::new(Kind::Invalid, format!("use {}", self.place), cause)
    }
}

fn shown(file: &CloudsFile) -> String {
    let path = file.path.as_deref().unwrap_or(Path::new("clouds.yaml"));
    path.display().to_string()
}

fn nothing_there(file: &CloudsFile, environment: &Environment) -> Error {
    let cause = if let Some(path) = &file.path {
        format!("{} has no clouds", path.display())
    } else {
        let folders: Vec<String> =
            environment.folders.iter().map(|folder| folder.display().to_string()).collect();
        format!("there is no clouds.yaml in {} and OS_AUTH_URL is not set", folders.join(", "))
    };
    Error::new(Kind::Invalid, DOING, cause)
        .with_advice("write /etc/openstack/clouds.yaml, or name one in openstack.clouds_file")
}
