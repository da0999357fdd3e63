//! `natd apply`: converges once.

use std::collections::BTreeSet;

use natd_agent::gateway::Look;

use crate::{
    args::{Common, Format},
    exit::Exit,
    output::{self, complain, print_json},
    session::{self, Obstacle},
};

/// Converges once and tells what came of it.
pub async fn run(common: &Common, force: bool) -> Result<Exit, Obstacle> {
    let config = session::configuration(common)?;
    let mut gateway = session::gateway(config, &common.root).await?;
    gateway.force = force;
    let (_lock, mut journal) = session::to_change(&common.root, &gateway).await?;
    let view = match gateway.look(&journal.journal, Look::Everything, |_, _| BTreeSet::new()).await
    {
        Ok(view) => view,
        Err(trouble) => {
            complain(&trouble.to_string());
            return Ok(Exit::of_trouble(&trouble));
        }
    };
    if !force && output::plan::refuse_edited(&view.plan, "apply") {
        return Ok(Exit::Refused);
    }
    let report = gateway.converge(&view, &mut journal, None, |evidence, _| evidence).await;
    match common.output {
        Format::Json => print_json(&report),
        Format::Text => output::report::print_applied(&report),
    }
    Ok(Exit::of_report(&report))
}
