//! The AWS provider against canned answers of the EC2 API and of the metadata service.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect and panic where it isn't so"
)]

mod cloud;
mod errors;
mod identity;
mod interfaces;
mod route_tables;
mod writing;
