//! The least-privilege IAM policy for a configuration.
//!
//! Which resources an action takes:
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html>.

use natd_core::{cloud::TableSelector, config::Config, desired::tables_to_ask_for};
use serde_json::{Value, json};

use super::permissions::Action;
use crate::kind::Permission;

/// What the configuration takes.
pub(super) fn permissions(config: &Config) -> Vec<Permission> {
    actions(&tables_to_ask_for(config))
        .into_iter()
        .map(|action| Permission { name: action.name().to_owned(), changes: action.changes() })
        .collect()
}

/// As IAM takes it. Describing has no resources to narrow it down to; routes are written in the
/// tables that the configuration names, and in no other.
pub(super) fn policy(config: &Config) -> Value {
    let tables = tables_to_ask_for(config);
    let actions = actions(&tables);
    let names = |wanted: &dyn Fn(&Action) -> bool| -> Vec<&str> {
        actions.iter().filter(|action| wanted(action)).map(|action| action.name()).collect()
    };
    let mut statements = vec![json!({
        "Sid": "Look", "Effect": "Allow", "Action": names(&|action| !action.changes()), "Resource": "*"
    })];
    let routes = names(&|action| action.changes_routes());
    if !routes.is_empty() {
        statements.extend(where_routes_are_written(&tables, &routes));
    }
    statements.push(json!({
        "Sid": "SourceDestCheck", "Effect": "Allow",
        "Action": names(&|action| action.changes() && !action.changes_routes()),
        "Resource": "arn:aws:ec2:*:*:network-interface/*"
    }));
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// A table that is chosen by its subnets may be any.
fn where_routes_are_written(tables: &TableSelector, routes: &[&str]) -> Vec<Value> {
    if !tables.subnets.is_empty() {
        return vec![json!({
            "Sid": "Routes", "Effect": "Allow", "Action": routes,
            "Resource": "arn:aws:ec2:*:*:route-table/*"
        })];
    }
    let mut places = Vec::new();
    if !tables.ids.is_empty() {
        let arns: Vec<String> =
            tables.ids.iter().map(|id| format!("arn:aws:ec2:*:*:route-table/{id}")).collect();
        places.push(json!({
            "Sid": "Routes", "Effect": "Allow", "Action": routes, "Resource": arns
        }));
    }
    for (number, tag) in tables.tags.iter().enumerate() {
        let key = format!("aws:ResourceTag/{}", tag.key);
        places.push(json!({
            "Sid": format!("RoutesByTag{number}"), "Effect": "Allow", "Action": routes,
            "Resource": "arn:aws:ec2:*:*:route-table/*",
            "Condition": { "StringEquals": { key: tag.value } }
        }));
    }
    places
}

fn actions(tables: &TableSelector) -> Vec<Action> {
    let has_tables = *tables != TableSelector::default();
    Action::ALL
        .into_iter()
        .filter(|action| match action {
            Action::DescribeSubnets => !tables.subnets.is_empty(),
            action => has_tables || !action.changes_routes(),
        })
        .collect()
}
