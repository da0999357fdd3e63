//! A plan, as a diff that an operator can decide on.

use natd_core::{
    desired::Rules,
    networks::Networks,
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
        Phase::Passages | Phase::ReturnPassages => "neighbours",
        Phase::Sysctls | Phase::ReturnSysctls => "kernel parameters",
        Phase::Persist | Phase::ReturnPersisted => "after a reboot",
        Phase::Checks | Phase::ReturnChecks => "interfaces",
        Phase::Proof => "before routes are taken",
    }
}

/// As many blocks are worth a line each.
const MANY: usize = 16;

/// What the rules do, and the rules themselves: the text that is loaded, but for long lists of
/// blocks.
fn print_rules(rules: &Rules) {
    let Rules { ruleset, rendering, chosen, .. } = rules;
    if let Some(reason) = chosen {
        print(&format!("      {}: {reason}", rendering.kind));
    }
    let count = |networks: &Networks| match networks.len() {
        1 => "1 block".to_owned(),
        blocks => format!("{blocks} blocks"),
    };
    print(&format!(
        "      {} from {}, but to {}, out by {}",
        ruleset.translation,
        count(&ruleset.sources),
        count(&ruleset.exclude),
        ruleset.egress
    ));
    for forward in &ruleset.forwards {
        let from = forward.from.as_ref().map_or_else(|| "everyone".to_owned(), count);
        print(&format!("      forward {forward} for {from}"));
    }
    let texts = [Some(&rendering.text), rendering.text6.as_ref(), rendering.ipsets.as_ref()];
    for text in texts.into_iter().flatten() {
        print_text(text);
    }
}

/// Long lists, of elements in a line or of rules that differ in a block only, are cut short.
fn print_text(text: &str) {
    let is_block = |line: &str| {
        let mut words = line.split(' ');
        match words.next() {
            Some("add") => true,
            Some("-A") => matches!(words.nth(1), Some("-s" | "-d")),
            Some(word) => word.starts_with(":NATD-") && word.contains('.'),
            None => false,
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    for run in lines.chunk_by(|one, other| is_block(one) && is_block(other)) {
        for line in run.iter().take(MANY) {
            let elements: Vec<&str> = line.split(", ").collect();
            match elements.len().checked_sub(MANY) {
                Some(more @ 1..) => {
                    let shown: Vec<&str> = elements.into_iter().take(MANY).collect();
                    print(&format!("      {}, … and {more} more }}", shown.join(", ")));
                }
                _ => print(&format!("      {line}")),
            }
        }
        if let Some(more @ 1..) = run.len().checked_sub(MANY) {
            print(&format!("      … and {more} more lines of the kind"));
        }
    }
}

/// What is put where nothing is, or takes the place of something.
fn sign_put(replaces: bool, text: &str) {
    let (style, mark) = if replaces { (NOTE, '~') } else { (GOOD, '+') };
    sign(style, mark, text);
}

/// Why natd's rules are put anew; nothing if there are none yet.
fn why(replaces: bool, damage: &[String]) -> String {
    match (replaces, damage.is_empty()) {
        (false, _) => String::new(),
        (true, true) => " (older than the configuration)".to_owned(),
        (true, false) => format!(" ({})", damage.join(", ")),
    }
}

fn print_step(step: &Step) {
    match step {
        Step::LoadRules { rules, damage, replaces } => {
            sign_put(*replaces, &format!("{step}{}", why(*replaces, damage)));
            print_rules(rules);
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
            let part = match part.form {
                Form::Whole => "",
                Form::Block(_) => "natd's block",
                Form::Chains => "natd's chains",
            };
            sign_put(*replaces, &format!("{path:<42} {part}"));
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
        Step::OpenPassage { damage, replaces, .. } => {
            sign_put(*replaces, &format!("{step}{}", why(*replaces, damage)));
        }
        Step::ClearStaleFlows { .. } | Step::ProveEgress { .. } => {
            sign(NOTE, '·', &step.to_string());
        }
        Step::ClosePassage { .. } | Step::UnloadRules { .. } => sign(BAD, '-', &step.to_string()),
    }
}
