//! Settings that natd has no words for: `[cloud]` and `[plugin.settings]`. Whoever they are for reads them.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{Problem, load, secret};

/// Settings as they are written. Shown, a value whose name has `secret`, `token`, `pass`, `key`,
/// `credential` or `auth` in it is `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct OpenSettings(BTreeMap<String, Value>);

impl OpenSettings {
    /// All of them, secrets included, for the one whom they are for.
    #[must_use]
    pub fn expose(&self) -> &BTreeMap<String, Value> {
        &self.0
    }

    /// Reads them as a struct of their owner's, whose mistakes are told as those of natd's own keys
    /// are. `section` is where they are written: `cloud`.
    ///
    /// # Errors
    /// An unknown key where the struct denies them, a value of the wrong form, a key that is missing.
    pub fn read<T: DeserializeOwned>(&self, section: &'static str) -> Result<T, Problem> {
        load::section(section, &self.0)
    }

    fn shown(&self) -> Map<String, Value> {
        let shown = |(name, value): (&String, &Value)| (name.clone(), covered(name, value));
        self.0.iter().map(shown).collect()
    }
}

/// The value of that name, without its secrets.
fn covered(name: &str, value: &Value) -> Value {
    if secret::is_named_by(name) {
        return Value::from("***");
    }
    match value {
        Value::Object(inner) => Value::Object(
            inner.iter().map(|(name, value)| (name.clone(), covered(name, value))).collect(),
        ),
        Value::Array(list) => list.iter().map(|value| covered("", value)).collect(),
        plain => plain.clone(),
    }
}

impl FromIterator<(String, Value)> for OpenSettings {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(settings: I) -> Self {
        Self(settings.into_iter().collect())
    }
}

impl Serialize for OpenSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

impl fmt::Debug for OpenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::Secret, model::NetworkId};

    fn settings(value: Value) -> OpenSettings {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn what_may_be_secret_is_never_shown() {
        let settings = settings(json!({
            "endpoint": "https://api", "Api_Token": "hunter2", "retries": 3,
            "login": {"user": "natd", "password": "hunter2"},
            "keys": ["hunter2"], "peers": [{"secret": "hunter2", "name": "a"}],
        }));
        let shown = serde_json::to_value(&settings).expect("shown");
        assert_eq!(
            shown,
            json!({
                "endpoint": "https://api", "Api_Token": "***", "retries": 3,
                "login": {"user": "natd", "password": "***"},
                "keys": "***", "peers": [{"secret": "***", "name": "a"}],
            })
        );
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(settings.expose().get("Api_Token"), Some(&json!("hunter2")));
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Owners {
        network: NetworkId,
        token: Secret,
    }

    #[test]
    fn mistakes_are_told_as_those_of_natds_own_keys_are() {
        let read = |value| settings(value).read::<Owners>("cloud");
        let right = read(json!({"network": "net-1", "token": "hunter2"})).expect("right");
        assert_eq!(right.network.as_str(), "net-1");
        for (wrong, key, why) in [
            (
                json!({"netwrok": "net-1", "token": "t"}),
                "cloud.netwrok",
                "unknown key \"netwrok\"; did you mean \"network\"?",
            ),
            (json!({"network": "net-1"}), "cloud", "the key \"token\" is missing"),
            (json!({"network": "net-1", "token": 7}), "cloud.token", "is not a string"),
            (json!({"network": "", "token": "t"}), "cloud.network", "can't be an id"),
        ] {
            let problem = read(wrong).expect_err("a mistake");
            assert_eq!(problem.key, key, "{problem:?}");
            assert!(problem.why.contains(why), "{problem:?}");
        }
    }
}
