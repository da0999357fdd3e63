//! Plugins, as real programs: good ones, and broken ones that have to be caught.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests say what they expect and panic where it isn't so"
)]

mod broken;
mod good;
mod linux_router;
mod lives;
mod page;
mod program;
mod schema;
