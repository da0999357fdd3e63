//! The layer of `NATD_*` variables: `NATD_NAT__MODE=snat` is `nat.mode = "snat"`.
//!
//! Values are read as figment reads them: what looks like a number, a boolean, an array or a table is one, all else
//! is text. figment's own provider is not used: a name with an empty part, `NATD___NAT`, makes it panic, and a secret
//! of digits is a number to it, which the error then repeats.

use figment::{
    Error, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::secret;

const PREFIX: &str = "NATD_";
/// What stands between a section and its key.
const BETWEEN: &str = "__";

/// The variables, each a name without its prefix, and a value.
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        Self::new(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    /// Those among these.
    pub(crate) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let own = |(name, value): (String, String)| {
            let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
            prefix.eq_ignore_ascii_case(PREFIX).then(|| (rest.to_ascii_lowercase(), value))
        };
        let mut own: Vec<(String, String)> = variables.into_iter().filter_map(own).collect();
        own.sort();
        Self(own)
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("`NATD_` environment variable(s)")
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut all = Dict::new();
        for (name, value) in &self.0 {
            let parts: Vec<&str> = name.split(BETWEEN).collect();
            let Some((key, sections)) =
                parts.split_last().filter(|_| parts.iter().all(|part| !part.is_empty()))
            else {
                let name = name.to_ascii_uppercase();
                return Err(Error::from(format!(
                    "{PREFIX}{name} names no key; write {PREFIX}SECTION__KEY"
                )));
            };
            let value = if secret::is_named_by(key) {
                Value::from(value.as_str())
            } else {
                let Ok(value) = value.parse::<Value>();
                value
            };
            let leaf = Dict::from([((*key).to_owned(), value)]);
            let nested = sections.iter().rev().fold(leaf, |inner, section| {
                Dict::from([((*section).to_owned(), Value::from(inner))])
            });
            merge(&mut all, nested);
        }
        Ok(Profile::Default.collect(all))
    }
}

/// Tables merge; of all else what comes later wins.
fn merge(all: &mut Dict, more: Dict) {
    for (key, value) in more {
        match (all.get_mut(&key), value) {
            (Some(Value::Dict(_, there)), Value::Dict(_, more)) => merge(there, more),
            (_, value) => drop(all.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use serde_json::{Value, json};

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Value, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = Environment::new(variables.iter().map(owned));
        Figment::from(environment).extract().map_err(|error| error.to_string())
    }

    #[test]
    fn sections_and_keys_are_told_apart_and_values_are_read() {
        let read = read(&[
            ("NATD_PROVIDER", "aws"),
            ("NATD_NAT__MODE", "snat"),
            ("NATD_NAT__SOURCES", "[10.1.0.0/16, vpc]"),
            ("natd_nat__random_fully", "false"),
            ("NATD", "not one"),
            ("HOME", "/root"),
        ]);
        let nat = json!({"mode": "snat", "sources": ["10.1.0.0/16", "vpc"], "random_fully": false});
        assert_eq!(read, Ok(json!({"provider": "aws", "nat": nat})));
    }

    #[test]
    fn a_name_without_a_key_is_an_error() {
        for name in ["NATD_", "NATD___NAT", "NATD_NAT__", "NATD_NAT____MODE"] {
            let error = read(&[(name, "x")]).expect_err("no key");
            assert!(error.contains(&format!("{name} names no key")), "{error}");
        }
    }

    #[test]
    fn a_secret_of_digits_is_text() {
        let read = read(&[("NATD_HUAWEI__SECRET_KEY", "0123456789")]);
        assert_eq!(read, Ok(json!({"huawei": {"secret_key": "0123456789"}})));
    }
}
