//! `natd verify`: checks that NAT works.

use natd_core::verdict::Verdict;

use crate::{
    args::{Common, Format},
    commands::look,
    exit::Exit,
    output::{self, print_json},
    session::Obstacle,
};

/// Checks, one line each.
pub async fn run(common: &Common) -> Result<Exit, Obstacle> {
    let looked = match look(common).await? {
        Ok(looked) => looked,
        Err(exit) => return Ok(exit),
    };
    let report = looked.gateway.inspect(&looked.view).await;
    match common.output {
        Format::Json => print_json(&report.judgement),
        Format::Text => output::report::print_judgement(&report.judgement),
    }
    Ok(match report.judgement.verdict {
        Verdict::Works | Verdict::Unproven => Exit::Done,
        Verdict::Partly => Exit::Partly,
        Verdict::Broken => Exit::Failed,
    })
}
