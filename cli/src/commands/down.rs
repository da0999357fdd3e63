//! `natd down`: gives back everything that natd has changed.

use crate::{
    args::{Common, Format},
    exit::Exit,
    output::{self, print_json},
    session::{self, Obstacle},
};

/// Gives back: routes first, rules last.
pub async fn run(common: &Common, force: bool) -> Result<Exit, Obstacle> {
    let config = session::configuration(common)?;
    let mut gateway = session::gateway(config, &common.root).await?;
    gateway.force = force;
    let (lock, mut journal) = session::to_change(&common.root, &gateway).await?;
    let view = gateway.look_down(&journal.journal).await?;
    if !force && output::plan::refuse_edited(&view.plan, "down") {
        return Ok(Exit::Refused);
    }
    let report = gateway.give_back(&view, &mut journal).await;
    match common.output {
        Format::Json => print_json(&report),
        Format::Text => output::report::print_return(&report, &view.plan),
    }
    if journal.retire() {
        lock.retire();
    }
    Ok(Exit::of_return(&report))
}
