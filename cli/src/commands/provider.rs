//! `natd provider check`: whether the cloud keeps what a provider promises, and what it refuses.

use std::time::Duration;

use natd_agent::{links::Netlink, lock::Lock};
use natd_core::{
    desired::{route_target, tables_to_ask_for},
    error::{Error, Kind},
    host::Links as _,
    model::RouteTableId,
};
use natd_providers::{
    contract::{self, Finding, Outcome, Scratch},
    kind::Permission,
};
use serde::Serialize;

use crate::{
    args::{Common, Format},
    exit::Exit,
    output::{print_json, promises::print_checked},
    session::{self, Obstacle},
};

/// For how long a change may stay invisible in the cloud's answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found out.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// The promises.
    pub promises: Vec<Finding>,
    /// The permissions that the configuration takes.
    pub permissions: Vec<Allowed>,
}

/// A permission and what is known of it.
#[derive(Debug, Serialize)]
pub struct Allowed {
    /// The permission.
    #[serde(flatten)]
    pub permission: Permission,
    /// What is known of it.
    pub state: AllowedState,
}

/// What is known of a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllowedState {
    /// Nothing that was tried was refused for its lack.
    NotRefused,
    /// It is missing.
    Missing,
    /// It takes `--write` to be tried.
    NotTried,
}

/// Checks, with writes to `table` if it is named.
pub async fn check(common: &Common, table: Option<RouteTableId>) -> Result<Exit, Obstacle> {
    let config = session::configuration(common)?;
    let kind = natd_providers::kind(&config)?.ok_or_else(|| {
        Error::new(Kind::Invalid, "check the provider", "provider = \"none\" has no cloud")
    })?;
    // A daemon would heal what is tried here.
    let _lock = match &table {
        Some(_) => Some(Lock::take(&common.root)?),
        None => None,
    };
    let provider = kind.connect(&config).await?;
    let selected = tables_to_ask_for(&config);
    let mut promises = contract::read(provider.as_ref(), &selected).await;
    if let Some(table) = &table {
        let network = Netlink::default().network().await?;
        let target = route_target(&config, &network)?.mac;
        let scratch = Scratch::choose(provider.as_ref(), table, target, PATIENCE).await?;
        promises.extend(contract::write(provider.as_ref(), &scratch).await);
    }
    let permissions = kind
        .permissions(&config)
        .into_iter()
        .map(|permission| Allowed {
            state: state(&permission, &promises, table.is_some()),
            permission,
        })
        .collect();
    let checked = Checked { promises, permissions };
    match common.output {
        Format::Json => print_json(&checked),
        Format::Text => print_checked(&checked),
    }
    let missing = checked.permissions.iter().any(|allowed| allowed.state == AllowedState::Missing);
    let fine = checked.promises.iter().all(Finding::is_fine) && !missing;
    Ok(if fine { Exit::Done } else { Exit::Failed })
}

/// A refusal names the permission that is missing.
fn state(permission: &Permission, promises: &[Finding], written: bool) -> AllowedState {
    let refused = promises.iter().any(|finding| match &finding.outcome {
        Outcome::Failed(error) => {
            error.kind() == Kind::Denied && error.to_string().contains(&permission.name)
        }
        _ => false,
    });
    match () {
        () if refused => AllowedState::Missing,
        () if permission.changes && !written => AllowedState::NotTried,
        () => AllowedState::NotRefused,
    }
}
