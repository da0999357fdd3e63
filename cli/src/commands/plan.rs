//! `natd plan`: shows what `apply` would do.

use crate::{
    args::{Common, Format},
    commands::look,
    exit::Exit,
    output::{self, print_json},
    session::Obstacle,
};

/// Shows the plan.
pub async fn run(common: &Common, detailed_exitcode: bool) -> Result<Exit, Obstacle> {
    let looked = match look(common).await? {
        Ok(looked) => looked,
        Err(exit) => return Ok(exit),
    };
    let plan = &looked.view.plan;
    match common.output {
        Format::Json => print_json(plan),
        Format::Text => output::plan::print_plan(plan),
    }
    if output::plan::refuse_edited(plan, "apply") {
        return Ok(Exit::Refused);
    }
    let nothing_can_be_done = plan.falls_short() && plan.served.is_empty();
    Ok(match plan.is_empty() {
        true if nothing_can_be_done && !plan.refusals.is_empty() => Exit::Refused,
        true if nothing_can_be_done => Exit::Failed,
        false if detailed_exitcode => Exit::Pending,
        _ => Exit::Done,
    })
}
