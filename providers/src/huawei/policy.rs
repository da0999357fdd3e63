//! The least-privilege IAM policy for a configuration.
//!
//! Form: <https://support.huaweicloud.com/intl/en-us/usermanual-iam/iam_01_0017.html>. Actions of the VPC
//! service can't be narrowed down to single tables or ports.

use natd_core::{cloud::TableSelector, config::Config, desired::tables_to_ask_for};
use serde_json::{Value, json};

use super::permissions::Action;
use crate::kind::Permission;

/// What the configuration takes.
pub(super) fn permissions(config: &Config) -> Vec<Permission> {
    actions(config)
        .map(|action| Permission { name: action.name().to_owned(), changes: action.changes() })
        .collect()
}

/// As IAM takes it, for a custom policy.
pub(super) fn policy(config: &Config) -> Value {
    let names: Vec<_> = actions(config).map(Action::name).collect();
    json!({ "Version": "1.1", "Statement": [{ "Effect": "Allow", "Action": names }] })
}

fn actions(config: &Config) -> impl Iterator<Item = Action> {
    let tables = tables_to_ask_for(config);
    let writes_routes = tables != TableSelector::default();
    let asks_for_blocks = config.huawei.vpc_cidrs.is_empty();
    Action::ALL.into_iter().filter(move |action| match action {
        Action::SubnetsGet => !tables.subnets.is_empty(),
        Action::RouteTablesUpdate => writes_routes,
        Action::VpcsGet => asks_for_blocks,
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let mut config = Config::default();
        config.routes.0[0].tables = serde_json::from_str(text).expect("tables");
        permissions(&config).into_iter().map(|permission| permission.name).collect()
    }

    #[test]
    fn only_what_the_configuration_takes_is_asked_for() {
        let reads =
            ["ports:get", "publicIps:list", "routeTables:list", "routeTables:get", "vpcs:get"];
        let writes = ["ports:update", "routeTables:update"];
        let named = |parts: &[&[&str]]| -> Vec<String> {
            parts.concat().iter().map(|part| format!("vpc:{part}")).collect()
        };
        assert_eq!(names("[]"), named(&[&reads, &writes[..1]]));
        assert_eq!(names(r#"["rtb-1"]"#), named(&[&reads, &writes]));
        let by_subnet = names(r#"[{"subnets": ["subnet-1"]}]"#);
        assert_eq!(by_subnet, named(&[&reads, &["subnets:get"], &writes]));
    }
}
