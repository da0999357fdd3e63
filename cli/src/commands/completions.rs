//! `natd completions SHELL`: what a shell completes.

use std::io;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{args::Cli, exit::Exit, session::Obstacle};

/// Prints them. A reader that has gone away is no error.
pub fn run(shell: Shell) -> Result<Exit, Obstacle> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "natd", &mut script);
    io::Write::write_all(&mut io::stdout(), &script).ok();
    Ok(Exit::Done)
}
