//! `natd completions SHELL`: what a shell completes.

use std::io;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{args::Cli, exit::Exit};

/// Prints them. A reader that has gone away is no error.
pub fn run(shell: Shell) -> Exit {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "natd", &mut script);
    io::Write::write_all(&mut io::stdout(), &script).ok();
    Exit::Done
}
