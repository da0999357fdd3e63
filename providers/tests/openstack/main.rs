//! The OpenStack provider against canned answers of Keystone, Neutron and the metadata service.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests say what they expect and panic where it isn't so"
)]

mod cloud;
mod configuration;
mod errors;
mod identity;
mod source_check;
mod tables;
mod token;
mod writing;
