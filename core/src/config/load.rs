//! The layers of the configuration. figment merges them: tables merge key by key, everything else,
//! lists included, is replaced by the later layer.
//!
//! Defaults → `/etc/natd/natd.toml` (or `.yaml`, `.json`) → `/etc/natd/conf.d/*` in name order →
//! `NATD_*` → flags.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    error::{Actual, Kind},
    providers::{Format, Json, Serialized, Toml, Yaml},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Config, Problem, ProviderName, environment::Environment, secret};

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub struct Layers {
    /// What prefixes `/etc/natd`.
    pub root: PathBuf,
    /// A file named by the operator, in place of `/etc/natd/natd.*` and `/etc/natd/conf.d`.
    pub file: Option<PathBuf>,
    /// The flag `--provider`, not yet known to be one.
    pub provider: Option<String>,
    /// The clouds that there are.
    pub clouds: Vec<&'static str>,
}

/// Why a configuration can't be used: every reason, one a line, each with file and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The reasons.
    pub reasons: Vec<String>,
}

impl ConfigError {
    fn one(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The formats, by file name extension.
const EXTENSIONS: [&str; 4] = ["toml", "yaml", "yml", "json"];

impl Layers {
    /// Reads, merges and checks all layers.
    ///
    /// # Errors
    /// A file that can't be read or parsed, an unknown key (with the nearest known one), a value
    /// of the wrong form, or values that don't go together.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.load_for(|_| Vec::new())
    }

    /// As [`Layers::load`]; `of_the_cloud` tells what else is wrong for the cloud that is named.
    ///
    /// # Errors
    /// As for [`Layers::load`].
    pub fn load_for(
        &self,
        of_the_cloud: impl FnOnce(&Config) -> Vec<Problem>,
    ) -> Result<Config, ConfigError> {
        self.load_with(Environment::of_process(), of_the_cloud)
    }

    /// As [`Layers::load_for`], in that environment.
    pub(crate) fn load_with(
        &self,
        environment: Environment,
        of_the_cloud: impl FnOnce(&Config) -> Vec<Problem>,
    ) -> Result<Config, ConfigError> {
        let files = self.files()?;
        let mut figment = Figment::new();
        for file in &files {
            figment = merge(figment, file)?;
        }
        figment = figment.merge(environment);
        if let Some(provider) = &self.provider {
            figment = figment.merge(Serialized::default("provider", provider));
        }
        let config: Config = figment.extract().map_err(|errors| ConfigError {
            reasons: errors.into_iter().map(|error| explain(&error)).collect(),
        })?;
        let mut problems = Vec::from_iter(self.no_cloud(&config));
        problems.extend(config.problems());
        problems.extend(of_the_cloud(&config));
        if problems.is_empty() {
            return Ok(config);
        }
        let reasons = problems
            .into_iter()
            .map(|Problem { key, why }| match origin(&figment, &key) {
                Some(origin) => format!("{origin}: {key}: {why}"),
                None => format!(
                    "{key}: {why}{}",
                    if files.is_empty() { self.looked_in() } else { String::new() }
                ),
            })
            .collect();
        Err(ConfigError { reasons })
    }

    /// Without a name, or with one that no cloud has.
    fn no_cloud(&self, config: &Config) -> Option<Problem> {
        let known: Vec<&str> = self.clouds.iter().copied().chain([ProviderName::NONE]).collect();
        let names = known.join(", ");
        let why = match &config.provider {
            None => format!(
                "is not set; write provider = \"{}\" at the top, or give --provider; known are {names} (this host alone)",
                known.first().copied().unwrap_or(ProviderName::NONE)
            ),
            Some(name) if known.contains(&name.as_str()) => return None,
            Some(name) => format!("unknown value \"{name}\"; known are {names}"),
        };
        Some(Problem { key: "provider".to_owned(), why })
    }

    fn directory(&self) -> PathBuf {
        self.root.join("etc/natd")
    }

    fn looked_in(&self) -> String {
        format!(" (no configuration file was found in {})", self.directory().display())
    }

    /// The files that exist, in the order in which they are merged.
    fn files(&self) -> Result<Vec<PathBuf>, ConfigError> {
        if let Some(file) = &self.file {
            return Ok(vec![file.clone()]);
        }
        let main: Vec<PathBuf> = EXTENSIONS
            .iter()
            .map(|extension| self.directory().join(format!("natd.{extension}")))
            .filter(|path| path.symlink_metadata().is_ok())
            .collect();
        if let [first, second, ..] = main.as_slice() {
            return Err(ConfigError::one(format!(
                "{} and {} both exist; keep one of them",
                first.display(),
                second.display()
            )));
        }
        let conf_d = self.directory().join("conf.d");
        let mut parts = match fs::read_dir(&conf_d) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(|error| unreadable(&conf_d, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unreadable(&conf_d, &error)),
        };
        // Editors and package managers leave other files behind: `.natd.toml.swp`, `x.toml.rpmsave`.
        parts.retain(|path| {
            let hidden =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            !hidden && EXTENSIONS.contains(&extension(path))
        });
        parts.sort();
        Ok(main.into_iter().chain(parts).collect())
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::one(format!("{}: can't be read: {error}", path.display()))
}

fn merge(figment: Figment, path: &Path) -> Result<Figment, ConfigError> {
    // figment takes a file that it can't open for one that isn't there.
    fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    match extension(path) {
        "toml" => Ok(figment.merge(Toml::file_exact(path))),
        "yaml" | "yml" => Ok(figment.merge(Yaml::file_exact(path))),
        "json" => Ok(figment.merge(Json::file_exact(path))),
        other => Err(ConfigError::one(format!(
            "{}: the format {other:?} is unknown; natd reads .toml, .yaml and .json",
            path.display()
        ))),
    }
}

/// Where the value of a key comes from: a file, the environment, the command line. An array comes as a whole from one
/// of them.
fn origin(figment: &Figment, key: &str) -> Option<String> {
    let whole: Vec<&str> =
        key.split('.').take_while(|part| part.parse::<usize>().is_err()).collect();
    figment.find_metadata(&whole.join(".")).map(name)
}

fn name(metadata: &figment::Metadata) -> String {
    match &metadata.source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ if metadata.name.contains("environment") => "environment (NATD_*)".to_owned(),
        _ => "command line".to_owned(),
    }
}

/// Settings that are written under that name, as a struct of their owner's.
pub(super) fn section<T: DeserializeOwned>(
    name: &'static str,
    settings: &impl Serialize,
) -> Result<T, Problem> {
    #[derive(Deserialize)]
    struct Section<T> {
        section: T,
    }
    let figment = Figment::from(Serialized::default("section", settings));
    figment.extract().map(|Section { section }| section).map_err(|error| {
        let inner = error.path.iter().skip(1).map(String::as_str);
        Problem {
            key: [name].into_iter().chain(inner).collect::<Vec<_>>().join("."),
            why: what(&error),
        }
    })
}

/// One of figment's errors in natd's words: `FILE: KEY: what is wrong; what would be right`.
fn explain(error: &figment::Error) -> String {
    let key = error.path.join(".");
    let what = what(error);
    let place =
        error.metadata.as_ref().map(|metadata| format!("{}: ", name(metadata))).unwrap_or_default();
    if key.is_empty() { format!("{place}{what}") } else { format!("{place}{key}: {what}") }
}

fn what(error: &figment::Error) -> String {
    match &error.kind {
        Kind::UnknownField(found, known) => match nearest(found, known) {
            Some(nearest) => format!("unknown key {found:?}; did you mean {nearest:?}?"),
            None => format!("unknown key {found:?}; known are {}", known.join(", ")),
        },
        Kind::UnknownVariant(found, known) => {
            format!("unknown value {found:?}; known are {}", known.join(", "))
        }
        Kind::MissingField(name) => format!("the key {name:?} is missing"),
        // Of what may be a secret, not even the wrong form is repeated.
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected)
            if error.path.iter().any(|name| secret::is_named_by(name)) =>
        {
            format!("is not {}", form(expected))
        }
        Kind::InvalidType(Actual::Str(found), expected)
        | Kind::InvalidValue(Actual::Str(found), expected) => {
            format!("{found:?} is not {}", form(expected))
        }
        Kind::InvalidType(found, expected) => format!("{found} is not {}", form(expected)),
        // The parsers of TOML, YAML and JSON tell the line.
        other
            if error.path.iter().all(|name| !secret::is_named_by(name))
                && !error.path.is_empty() =>
        {
            without_excerpt(&other.to_string())
        }
        other => without_quoted(&without_excerpt(&other.to_string())),
    }
}

/// A file as a whole may be taken for one string, such as TOML that is called YAML.
fn without_quoted(told: &str) -> String {
    match (told.split_once('"'), told.rsplit_once('"')) {
        (Some((before, _)), Some((_, behind))) => format!("{before}…{behind}"),
        _ => told.to_owned(),
    }
}

/// TOML's parser quotes the line at which it stopped, and a secret may be on it.
fn without_excerpt(told: &str) -> String {
    let is_excerpt = |line: &&str| {
        line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|')
    };
    told.lines().filter(|line| !is_excerpt(line)).collect::<Vec<_>>().join("\n")
}

fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(found, known);
    let nearest = known.iter().copied().min_by_key(distance)?;
    (distance(&nearest) <= nearest.len().max(found.len()) / 2).then_some(nearest)
}

/// What serde expected, in words of configuration files.
fn form(expected: &impl fmt::Display) -> String {
    match expected.to_string().as_str() {
        "a sequence" => "an array, [...]".to_owned(),
        "a duration" => "a duration such as \"30s\"".to_owned(),
        "socket address" => "ADDRESS:PORT".to_owned(),
        other => other.to_owned(),
    }
}
