//! A plan, as a diff that an operator can decide on.

use natd_core::{
    persist::Form,
    plan::{EditedFile, Plan},
    step::{Phase, Step},
};

use super::{BAD, GOOD, NOTE, complain, print, print_heading, print_warnings, sign};

/// Prints the plan.
pub fn print_plan(plan: &Plan) {
    let mut heading = "";
    for step in &plan.steps {
        let part = part(step);
        if part != heading {
            print_heading(part);
            heading = part;
        }
        print_step(step);
    }
    if !plan.left_alone.is_empty() {
        print_heading("left alone");
        for left in &plan.left_alone {
            sign(NOTE, '·', &format!("{}: {}", left.what, left.why));
        }
    }
    print_shortfall(plan);
    let changes = plan.steps.iter().filter(|step| step.is_change()).count();
    match changes {
        0 if plan.falls_short() && plan.served.is_empty() => print("\nNothing can be done."),
        0 => print("Nothing to do: all is as it should be."),
        1 => print("\n1 change. natd apply makes it."),
        n => print(&format!("\n{n} changes. natd apply makes them.")),
    }
}

/// Prints what somebody has edited of natd's, and what to do about it; tells whether there is such.
pub fn refuse_edited(plan: &Plan, command: &str) -> bool {
    for EditedFile { path, diff } in &plan.edited {
        complain(&format!(
            "somebody has edited natd's part of {path}; nothing is changed. natd {command} --force goes on and overwrites that:\n  {}",
            diff.join("\n  ")
        ));
    }
    !plan.edited.is_empty()
}

/// Prints what is refused, what can't be done and what to know.
fn print_shortfall(plan: &Plan) {
    for (heading, errors) in [("refused", &plan.refusals), ("not possible", &plan.problems)] {
        if !errors.is_empty() {
            print_heading(heading);
            for error in errors {
                sign(BAD, '!', &error.to_string());
            }
        }
    }
    print_warnings(&plan.warnings);
}

/// The heading that a step stands under.
fn part(step: &Step) -> &'static str {
    match step.phase() {
        Phase::ReturnRoutes | Phase::TakeRoutes => "routes",
        Phase::Rules | Phase::Flows | Phase::ReturnRules => "firewall",
        Phase::Sysctls | Phase::ReturnSysctls => "kernel parameters",
        Phase::Persist | Phase::ReturnPersisted => "after a reboot",
        Phase::Checks | Phase::ReturnChecks => "interfaces",
        Phase::Proof => "before routes are taken",
    }
}

fn print_step(step: &Step) {
    match step {
        Step::LoadRules { rules, damage, replaces } => {
            let (style, mark) = if *replaces { (NOTE, '~') } else { (GOOD, '+') };
            let why = match (replaces, damage.is_empty()) {
                (false, _) => String::new(),
                (true, true) => " (older than the configuration)".to_owned(),
                (true, false) => format!(" ({})", damage.join(", ")),
            };
            sign(style, mark, &format!("{step}{why}"));
            for line in rules.rendering.text.lines() {
                print(&format!("      {line}"));
            }
        }
        Step::SetSysctl { key, from, to, .. } => {
            sign(
                NOTE,
                '~',
                &format!("{key:<42} {} → {to}", from.as_deref().unwrap_or("(missing)")),
            );
        }
        Step::RestoreSysctl { key, from, to } => {
            sign(NOTE, '~', &format!("{key:<42} {from} → {to}"));
        }
        Step::Persist { path, part, replaces, .. } => {
            let (style, mark) = if *replaces { (NOTE, '~') } else { (GOOD, '+') };
            let part = match part.form {
                Form::Whole => "",
                Form::Block(_) => "natd's block",
                Form::Chains => "natd's chains",
            };
            sign(style, mark, &format!("{path:<42} {part}"));
        }
        Step::Unpersist { path, form, .. } => {
            let part = match form {
                Form::Whole => "removed",
                Form::Block(_) => "without natd's block",
                Form::Chains => "without natd's chains",
            };
            sign(BAD, '-', &format!("{path:<42} {part}"));
        }
        Step::EnableService { service } => {
            sign(GOOD, '+', &format!("{:<42} started at boot", format!("{service}.service")));
        }
        Step::DisableService { service } => {
            sign(
                BAD,
                '-',
                &format!("{:<42} no longer started at boot", format!("{service}.service")),
            );
        }
        Step::SwitchCheckOff { interface, .. } => {
            sign(NOTE, '~', &format!("{interface:<42} source/destination check on → off"));
        }
        Step::SwitchCheckOn { interface, .. } => {
            sign(NOTE, '~', &format!("{interface:<42} source/destination check off → on"));
        }
        Step::TakeRoute { key, target, from: None } => {
            sign(GOOD, '+', &format!("{:<22} {:<19} → {target}", key.table, key.destination));
        }
        Step::TakeRoute { key, target, from: Some(route) } => {
            sign(
                NOTE,
                '~',
                &format!("{:<22} {:<19} {} → {target}", key.table, key.destination, route.next_hop),
            );
        }
        Step::ReturnRoute { key, to: Some(next_hop) } => {
            sign(
                NOTE,
                '~',
                &format!("{:<22} {:<19} back to {next_hop}", key.table, key.destination),
            );
        }
        Step::ReturnRoute { key, to: None } => {
            sign(BAD, '-', &format!("{:<22} {:<19} removed", key.table, key.destination));
        }
        Step::ClearStaleFlows { .. } | Step::ProveEgress { .. } => {
            sign(NOTE, '·', &step.to_string());
        }
        Step::UnloadRules { .. } => sign(BAD, '-', &step.to_string()),
    }
}
