//! The configuration: from whatever layers, it is a whole one that is shown without its secrets and can be read
//! again, or reasons that hold no secret either.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    providers::{Format as _, Json, Toml, Yaml},
};
use serde_json::Value;

use super::shared::{head, pieces, text};
use crate::config::{Config, ConfigError, Layers, environment::Environment};

/// The layers that an input can have; any other name is the first's.
const FILES: [&str; 8] = [
    "natd.toml",
    "natd.yaml",
    "natd.yml",
    "natd.json",
    "conf.d/10.toml",
    "conf.d/20.yaml",
    "conf.d/30.json",
    "conf.d/40.toml",
];
const ENVIRONMENT: &str = "environment";
const FLAG: &str = "provider";

const CLOUDS: [&str; 4] = ["aws", "huawei", "openstack", "plugin"];

/// The keys of secrets.
const KEYS: [&str; 2] = ["secret_key", "security_token"];

/// As little as natd takes for a secret here: shorter ones are in other words by chance.
const LEAST_SECRET: usize = 10;

/// Pieces, each a layer: its name on the first line (`natd.toml`, `conf.d/20.yaml`, `environment`, `provider`),
/// its content on the others.
pub fn configuration(input: &[u8]) {
    let mut layers: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for piece in pieces(input) {
        let (name, content) = head(piece);
        let known = FILES.iter().chain(&[ENVIRONMENT, FLAG]);
        let name = known.copied().find(|known| known.as_bytes() == name);
        layers.insert(name.unwrap_or(FILES[0]), content);
    }
    let root = Folder::new();
    for (name, content) in layers.iter().filter(|(name, _)| FILES.contains(name)) {
        root.put(name, content);
    }
    let loaded = load(&root, layers.get(FLAG), layers.get(ENVIRONMENT));
    let secrets = secrets(&layers);
    match loaded {
        Ok(config) => usable(&config, &secrets),
        Err(ConfigError { reasons }) => {
            assert!(!reasons.is_empty(), "an error without a reason");
            hides(&reasons.join("\n"), &secrets);
        }
    }
}

fn load(root: &Folder, flag: Option<&&[u8]>, set: Option<&&[u8]>) -> Result<Config, ConfigError> {
    let set = text(set.copied().unwrap_or_default());
    let layers = Layers {
        root: root.0.clone(),
        file: None,
        provider: flag.map(|flag| text(flag).trim().to_owned()),
        clouds: CLOUDS.into(),
    };
    layers.load_with(Environment::new(variables(&set)), |_| Vec::new())
}

/// It passes natd's own check, and says the same when what is shown of it is read again.
fn usable(config: &Config, secrets: &[String]) {
    assert!(config.problems().is_empty(), "{:?}", config.problems());
    let shown = serde_json::to_string(config).unwrap_or_default();
    hides(&shown, secrets);
    hides(&format!("{config:?}"), secrets);
    let root = Folder::new();
    root.put("natd.json", shown.as_bytes());
    let again = load(&root, None, None);
    assert!(again.is_ok(), "{again:?} of {shown}");
    let again = again.map(|config| serde_json::to_string(&config).unwrap_or_default());
    assert_eq!(again.as_deref(), Ok(shown.as_str()));
}

fn hides(told: &str, secrets: &[String]) {
    for secret in secrets {
        assert!(!told.contains(secret.as_str()), "{secret:?} is told: {told}");
    }
}

/// What is written under `secret_key` and the like, if it stands nowhere else.
fn secrets(layers: &BTreeMap<&str, &[u8]>) -> Vec<String> {
    let all: Vec<String> = layers.values().map(|content| text(content)).collect();
    let all = all.join("\n");
    let mut secrets = Vec::new();
    for (name, content) in layers {
        let content = text(content);
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        let read = match extension {
            Some("toml") => Figment::from(Toml::string(&content)),
            Some("json") => Figment::from(Json::string(&content)),
            Some(_) => Figment::from(Yaml::string(&content)),
            None => Figment::from(Environment::new(variables(&content))),
        };
        match read.extract::<Value>() {
            Ok(read) => {
                let scalar = |value: &Value| match value {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                };
                let of = |key: &str| read.get("huawei")?.get(key);
                secrets.extend(KEYS.into_iter().filter_map(of).filter_map(scalar));
            }
            // What isn't understood: of a line that seems to hold one, no word is repeated.
            Err(_) => secrets.extend(content.lines().flat_map(words_behind)),
        }
    }
    secrets
        .retain(|secret| secret.len() >= LEAST_SECRET && all.matches(secret.as_str()).count() == 1);
    secrets
}

fn words_behind(line: &str) -> Vec<String> {
    let line = line.trim_start_matches([' ', '\t', '"', '\'', '{', '-']);
    let behind = KEYS.iter().find_map(|key| line.strip_prefix(key)).unwrap_or_default();
    let words = behind.split(|c: char| !c.is_ascii_alphanumeric());
    // No word of a language, which may be in a message by itself.
    words.filter(|word| word.contains(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

fn variables(text: &str) -> Vec<(String, String)> {
    let variables = text.lines().filter_map(|line| line.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A root folder, gone with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = format!("natd-fuzz-layers-{}", std::process::id());
        let root = std::env::temp_dir().join(folder);
        fs::remove_dir_all(&root).ok();
        Self(root)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.0.join("etc/natd").join(name);
        let folder = path.parent().unwrap_or(Path::new("/"));
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::File::create(&path))
            .and_then(|mut file| file.write_all(content));
        assert!(written.is_ok(), "{written:?}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
