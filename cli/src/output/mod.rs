//! What natd prints: for people on standard output, aligned, in colour on a terminal (`NO_COLOR` is
//! honoured, by anstream); for programs as JSON.

pub mod plan;
pub mod promises;
pub mod report;

use std::io::Write;

use anstyle::{AnsiColor, Style};
use natd_core::advise::Warning;
use serde::Serialize;

/// Something is made.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something is changed, or nobody knows.
pub const NOTE: Style = AnsiColor::Yellow.on_default();
/// Something is taken away, or wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// A heading.
pub const BOLD: Style = Style::new().bold();

/// Prints a line. A reader that has gone away (`natd plan | head`) is no error.
pub fn print(line: &str) {
    writeln!(anstream::stdout(), "{line}").ok();
}

/// Prints a value for programs.
pub fn print_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&text),
        Err(error) => complain(&format!("could not print JSON: {error}")),
    }
}

/// Prints an error, on standard error.
pub fn complain(message: &str) {
    writeln!(anstream::stderr(), "{BAD}error:{BAD:#} {message}").ok();
}

/// A line with its sign in front.
pub fn sign(style: Style, sign: char, text: &str) {
    print(&format!("  {style}{sign}{style:#} {text}"));
}

/// A heading over such lines.
pub fn print_heading(heading: &str) {
    print(&format!("{BOLD}{heading}{BOLD:#}"));
}

/// Prints what to know.
pub fn print_warnings(warnings: &[Warning]) {
    if warnings.is_empty() {
        return;
    }
    print_heading("warnings");
    for warning in warnings {
        sign(NOTE, '!', &warning.message);
    }
}
