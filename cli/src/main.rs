//! The `natd` binary: reads the command line, runs one command, exits with its code.

mod args;
mod commands;
mod exit;
mod logging;
mod output;
mod session;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};
use tracing::Level;

use crate::{
    args::{Cli, Command},
    exit::Exit,
    output::complain,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to be done if standard output or error is closed.
            error.print().ok();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            }
            .into();
        }
    };
    let default = match cli.command {
        None | Some(Command::Run) => Level::INFO,
        Some(_) => Level::WARN,
    };
    logging::start(&cli.common, default);
    // One thread: natd waits far more than it works, and every thread costs memory.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(commands::run(cli)).into(),
        Err(error) => {
            complain(&format!("could not start: {error}"));
            Exit::Failed.into()
        }
    }
}
