//! natd's core: what there is (model), what is wanted (`desired`), what to do (`plan`), and how it
//! is done (`apply`), over two sets of small traits, the cloud's and the host's.
//!
//! `desired` and `plan` are pure: plain values in, plain values out.

pub mod advise;
pub mod apply;
pub mod canary;
pub mod cloud;
pub mod config;
mod confirm;
pub mod conntrack;
pub mod desired;
pub mod error;
pub mod facts;
pub mod file;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod journal;
pub mod model;
pub mod neighbours;
pub mod network;
pub mod networks;
pub mod observed;
pub mod persist;
pub mod plan;
pub mod proof;
pub mod ruleset;
pub mod step;
pub mod streak;
pub mod verdict;
