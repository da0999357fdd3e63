//! `natd man`: the manual page.

use std::io;

use clap::CommandFactory;
use natd_core::error::{Error, Kind};

use crate::{args::Cli, exit::Exit, session::Obstacle};

/// Prints it as roff. A reader that has gone away is no error.
pub fn run() -> Result<Exit, Obstacle> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Error::new(Kind::Invalid, "print the manual page", error))?;
    io::Write::write_all(&mut io::stdout(), &page).ok();
    Ok(Exit::Done)
}
