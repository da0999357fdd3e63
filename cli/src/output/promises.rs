//! What `provider check` prints: each promise, each permission, and a verdict.

use natd_providers::contract::{Finding, Outcome};

use super::{BAD, BOLD, GOOD, NOTE, print, print_heading, sign};
use crate::commands::provider::{AllowedState, Checked};

/// Prints what was found out.
pub fn print_checked(checked: &Checked) {
    print_heading("what a provider promises");
    for Finding { promise, outcome } in &checked.promises {
        match outcome {
            Outcome::Kept => sign(GOOD, '✓', &promise.to_string()),
            Outcome::NotTried(why) => sign(NOTE, '-', &format!("{promise}: not tried: {why}")),
            Outcome::Broken(how) => sign(BAD, '✗', &format!("{promise}: {how}")),
            Outcome::Failed(error) => sign(BAD, '✗', &format!("{promise}: {error}")),
        }
    }
    if !checked.permissions.is_empty() {
        print_heading("permissions");
    }
    for allowed in &checked.permissions {
        let name = &allowed.permission.name;
        match allowed.state {
            AllowedState::NotRefused => sign(GOOD, '✓', name),
            AllowedState::Missing => sign(BAD, '✗', &format!("{name}: missing")),
            AllowedState::NotTried => {
                sign(NOTE, '-', &format!("{name}: takes --write --table ID to be tried"));
            }
        }
    }
    let bad = checked.promises.iter().filter(|finding| !finding.is_fine()).count();
    let missing =
        checked.permissions.iter().filter(|allowed| allowed.state == AllowedState::Missing).count();
    if bad == 0 && missing == 0 {
        print(&format!("{BOLD}{GOOD}The cloud does what natd needs.{GOOD:#}{BOLD:#}"));
    } else {
        print(&format!(
            "{BOLD}{BAD}{bad} of {} promises not kept, {missing} permissions missing.{BAD:#}{BOLD:#}",
            checked.promises.len()
        ));
    }
}
