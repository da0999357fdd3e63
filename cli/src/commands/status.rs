//! `natd status`: whether NAT works, by what, and what to know.

use natd_agent::serve::ask_control;
use natd_core::verdict::Verdict;

use crate::{
    args::{Common, Format},
    commands::look,
    exit::Exit,
    output::{self, print_json},
    session::Obstacle,
};

/// Tells. What the daemon knows is asked of it; the rest is looked at afresh.
pub async fn run(common: &Common) -> Result<Exit, Obstacle> {
    let looked = match look(common).await? {
        Ok(looked) => looked,
        Err(exit) => return Ok(exit),
    };
    let report = looked.gateway.inspect(&looked.view).await;
    let daemon = ask_control(&common.root).await;
    match common.output {
        Format::Json => print_json(&serde_json::json!({ "now": report, "daemon": daemon })),
        Format::Text => output::report::print_status(&report, daemon.as_ref()),
    }
    Ok(match report.judgement.verdict {
        Verdict::Works | Verdict::Unproven => Exit::Done,
        Verdict::Partly => Exit::Partly,
        Verdict::Broken => Exit::Failed,
    })
}
