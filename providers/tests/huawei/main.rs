//! The Huawei provider against canned answers of the VPC service and of the metadata service.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "tests say what they expect and panic where it isn't so"
)]

mod cloud;
mod credentials;
mod errors;
mod identity;
mod interfaces;
mod route_tables;
mod signing;
mod writing;
