//! The access rules that an application credential needs for a configuration.

use natd_core::{
    cloud::TableSelector,
    config::{Config, OpenstackRoutes, OpenstackSourceCheck},
    desired::tables_to_ask_for,
};
use serde_json::{Value, json};

use super::permissions::Action;
use crate::kind::Permission;

/// What the configuration takes.
pub(super) fn permissions(config: &Config) -> Vec<Permission> {
    actions(config)
        .map(|action| Permission { name: action.access_rule(), changes: action.changes() })
        .collect()
}

/// As `openstack application credential create --access-rules` takes it.
pub(super) fn policy(config: &Config) -> Value {
    actions(config)
        .map(|action| {
            json!({ "service": "network", "method": action.method(), "path": action.path() })
        })
        .collect()
}

fn actions(config: &Config) -> impl Iterator<Item = Action> {
    let has_tables = tables_to_ask_for(config) != TableSelector::default();
    let routes = config.openstack.routes;
    let source_check = config.openstack.source_check;
    Action::ALL.into_iter().filter(move |action| match action {
        Action::ListSecurityGroups => source_check == OpenstackSourceCheck::PortSecurity,
        Action::ListExtensions
        | Action::ShowRouter
        | Action::UpdateRouter
        | Action::AddExtraRoutes
        | Action::RemoveExtraRoutes => has_tables && routes == OpenstackRoutes::Router,
        Action::ShowSubnet | Action::UpdateSubnet => {
            has_tables && routes == OpenstackRoutes::HostRoutes
        }
        _ => true,
    })
}
