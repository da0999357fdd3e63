//! firewalld by D-Bus, with systemd's `busctl`: `firewall-cmd`, which asks the same way, takes more than half
//! a second to start.

use std::time::Duration;

use natd_core::{
    error::{Error, Kind, Result},
    neighbours::firewalld::{POLICY, Policy},
};
use serde_json::Value;

use crate::process::Program;

/// How long an answer may take; to reload takes the longest.
const DEADLINE: Duration = Duration::from_secs(30);

const NAME: &str = "org.fedoraproject.FirewallD1";

/// Whom a call is for: an object, and the interface of it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    path: String,
    interface: String,
}

impl Target {
    /// What firewalld does now.
    pub(super) fn runtime(part: &str) -> Self {
        Self { path: format!("/{}", NAME.replace('.', "/")), interface: format!("{NAME}{part}") }
    }

    /// What it has in its files.
    pub(super) fn permanent(part: &str) -> Self {
        Self {
            path: format!("/{}/config", NAME.replace('.', "/")),
            interface: format!("{NAME}.config{part}"),
        }
    }

    /// One thing of those.
    fn object(path: &str, part: &str) -> Self {
        Self { path: path.to_owned(), interface: format!("{NAME}.config{part}") }
    }
}

/// The way to firewalld.
#[derive(Debug, Clone)]
pub(super) struct Bus {
    busctl: Program,
}

impl Bus {
    pub(super) fn new() -> Self {
        Self { busctl: Program::new("busctl", "systemd", DEADLINE) }
    }

    async fn run(&self, doing: &str, args: &[&str]) -> Result<Value> {
        // Nobody is started by being asked.
        let options = ["--system", "--auto-start=no", "--json=short"];
        let all: Vec<&str> = options.into_iter().chain(args.iter().copied()).collect();
        let output = self.busctl.run(doing, &all, None).await?.success(doing)?;
        if output.trim().is_empty() {
            return Ok(Value::Null);
        }
        let answer: Value =
            serde_json::from_str(&output).map_err(|error| unexpected(doing, &error.to_string()))?;
        Ok(answer.get("data").cloned().unwrap_or_default())
    }

    /// What a method answers: its one value, or nothing.
    pub(super) async fn call(
        &self,
        doing: &str,
        target: &Target,
        method: &str,
        args: &[&str],
    ) -> Result<Value> {
        let head = ["call", NAME, &target.path, &target.interface, method];
        let all: Vec<&str> = head.into_iter().chain(args.iter().copied()).collect();
        let answer = self.run(doing, &all).await?;
        Ok(answer.get(0).cloned().unwrap_or_default())
    }

    pub(super) async fn property(&self, doing: &str, target: &Target, name: &str) -> Result<Value> {
        self.run(doing, &["get-property", NAME, &target.path, &target.interface, name]).await
    }

    /// Whether somebody answers to that name.
    pub(super) async fn has(&self, doing: &str, name: &str) -> Result<bool> {
        let bus = "org.freedesktop.DBus";
        let path = "/org/freedesktop/DBus";
        let answer = self.run(doing, &["call", bus, path, bus, "NameHasOwner", "s", name]).await?;
        Ok(answer.get(0).and_then(Value::as_bool) == Some(true))
    }

    /// Whether firewalld does.
    pub(super) async fn is_there(&self, doing: &str) -> Result<bool> {
        self.has(doing, NAME).await
    }

    pub(super) async fn names(
        &self,
        doing: &str,
        target: &Target,
        method: &str,
    ) -> Result<Vec<String>> {
        Ok(strings(&self.call(doing, target, method, &[]).await?))
    }

    /// The settings of one thing that is in firewalld's files: a zone, a policy, a set.
    pub(super) async fn saved(
        &self,
        doing: &str,
        (by_name, part, settings): (&str, &str, &str),
        name: &str,
    ) -> Result<Value> {
        let target = self.object(doing, (by_name, part), name).await?;
        self.call(doing, &target, settings, &[]).await
    }

    async fn object(
        &self,
        doing: &str,
        (by_name, part): (&str, &str),
        name: &str,
    ) -> Result<Target> {
        let found = self.call(doing, &Target::permanent(""), by_name, &["s", name]).await?;
        let path = found.as_str().ok_or_else(|| unexpected(doing, "an object has no path"))?;
        Ok(Target::object(path, part))
    }

    /// natd's policy, as it is now; `None` if there is none.
    pub(super) async fn runtime_policy(&self, doing: &str) -> Result<Option<Policy>> {
        let policies = Target::runtime(".policy");
        if !self.names(doing, &policies, "getPolicies").await?.iter().any(|name| name == POLICY) {
            return Ok(None);
        }
        let settings = self.call(doing, &policies, "getPolicySettings", &["s", POLICY]).await?;
        Ok(Some(policy(&settings)))
    }

    /// natd's policy, as it is in firewalld's files; `None` if there is none.
    pub(super) async fn permanent_policy(&self, doing: &str) -> Result<Option<Policy>> {
        let names = self.names(doing, &Target::permanent(""), "getPolicyNames").await?;
        if !names.iter().any(|name| name == POLICY) {
            return Ok(None);
        }
        let of = ("getPolicyByName", ".policy", "getSettings");
        Ok(Some(policy(&self.saved(doing, of, POLICY).await?)))
    }

    pub(super) async fn add_permanent(&self, doing: &str, policy: &Policy) -> Result<()> {
        let settings = settings(policy);
        let args: Vec<&str> =
            ["sa{sv}", POLICY].into_iter().chain(settings.iter().map(String::as_str)).collect();
        self.call(doing, &Target::permanent(""), "addPolicy", &args).await.map(drop)
    }

    pub(super) async fn update_permanent(&self, doing: &str, policy: &Policy) -> Result<()> {
        let target = self.object(doing, ("getPolicyByName", ".policy"), POLICY).await?;
        let settings = settings(policy);
        let args: Vec<&str> =
            ["a{sv}"].into_iter().chain(settings.iter().map(String::as_str)).collect();
        self.call(doing, &target, "update", &args).await.map(drop)
    }

    pub(super) async fn remove_permanent(&self, doing: &str) -> Result<()> {
        let target = self.object(doing, ("getPolicyByName", ".policy"), POLICY).await?;
        self.call(doing, &target, "remove", &[]).await.map(drop)
    }

    /// Zones and rules: what a policy says of itself can't be changed at runtime.
    pub(super) async fn set_runtime(&self, doing: &str, policy: &Policy) -> Result<()> {
        let lists = lists(policy);
        let count = LISTS.len().to_string();
        let args: Vec<&str> = ["sa{sv}", POLICY, &count]
            .into_iter()
            .chain(lists.iter().map(String::as_str))
            .collect();
        let policies = Target::runtime(".policy");
        self.call(doing, &policies, "setPolicySettings", &args).await.map(drop)
    }

    pub(super) async fn reload(&self, doing: &str) -> Result<()> {
        self.call(doing, &Target::runtime(""), "reload", &[]).await.map(drop)
    }
}

fn unexpected(doing: &str, what: &str) -> Error {
    Error::new(Kind::Invalid, doing, format!("firewalld's answer is not understood: {what}"))
}

/// The strings of a list.
pub(super) fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Out of `a{sv}`, in which what is empty may be left out.
fn policy(settings: &Value) -> Policy {
    let data = |key: &str| settings.get(key).and_then(|value| value.get("data"));
    let list = |key: &str| data(key).map(strings).unwrap_or_default().into_iter().collect();
    Policy {
        ingress: list("ingress_zones"),
        egress: list("egress_zones"),
        rules: list("rich_rules"),
        description: data("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
    }
}

/// The settings that are lists.
const LISTS: [&str; 3] = ["ingress_zones", "egress_zones", "rich_rules"];

/// As entries of `a{sv}` for `busctl`.
fn lists(policy: &Policy) -> Vec<String> {
    let Policy { ingress, egress, rules, .. } = policy;
    let mut words: Vec<String> = Vec::new();
    for (key, list) in LISTS.into_iter().zip([ingress, egress, rules]) {
        words.extend([key.to_owned(), "as".to_owned(), list.len().to_string()]);
        words.extend(list.iter().cloned());
    }
    words
}

/// All that natd sets, as `a{sv}` for `busctl`.
fn settings(policy: &Policy) -> Vec<String> {
    let texts =
        [("description", policy.description.as_str()), ("short", POLICY), ("target", "CONTINUE")];
    let count = (LISTS.len() + texts.len()).to_string();
    let texts = texts.into_iter().flat_map(|(key, text)| [key, "s", text].map(str::to_owned));
    [count].into_iter().chain(lists(policy)).chain(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Policy {
        Policy {
            ingress: ["internal".to_owned()].into(),
            egress: ["ANY".to_owned()].into(),
            rules: ["rule family=\"ipv4\" source address=\"10.0.0.0/8\" accept".to_owned()].into(),
            description: "natd:0123456789abcdef:1/1 lets".to_owned(),
        }
    }

    #[test]
    fn settings_are_counted_for_busctl() {
        let words = settings(&some());
        assert_eq!(
            words[..8],
            ["6", "ingress_zones", "as", "1", "internal", "egress_zones", "as", "1"]
        );
        let idle = settings(&Policy { ingress: [].into(), ..some() });
        assert_eq!(idle[..5], ["6", "ingress_zones", "as", "0", "egress_zones"]);
    }

    /// As firewalld 1.3.3 answers.
    #[test]
    fn an_answer_is_a_policy() {
        let answer = r#"{"short":{"type":"s","data":"natd"},"description":{"type":"s","data":"natd:0123456789abcdef:1/1 lets"},"target":{"type":"s","data":"CONTINUE"},"masquerade":{"type":"b","data":false},"rich_rules":{"type":"as","data":["rule family=\"ipv4\" source address=\"10.0.0.0/8\" accept"]},"priority":{"type":"i","data":-1},"ingress_zones":{"type":"as","data":["internal"]},"egress_zones":{"type":"as","data":["ANY"]}}"#;
        let answer: Value = serde_json::from_str(answer).expect("JSON");
        assert_eq!(policy(&answer), some());
        // What is empty is left out.
        assert!(policy(&serde_json::json!({})).is_idle());
    }
}
