//! What should be, from configuration and facts; and what is judged of it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects, and writes its own files"
)]

mod flows;
mod machine;
mod nat;
mod routes;
mod verdict;
mod warnings;
