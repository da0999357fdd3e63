//! AWS: what the lab needs of it, in code that shares nothing with natd's own provider.
//!
//! - [`xml`]: the answers of the EC2 Query protocol as trees.
//! - [`api`]: calls of the EC2 API.
//! - [`moto`]: the process that keeps the cloud's state.
//! - [`seed`]: makes the lab's topology in that state.
//! - [`read`]: reads that state back, as a neutral [`Picture`](super::picture::Picture).
//! - [`groups`]: the security groups in it.
//! - [`endpoint`]: the API as instances reach it, with a log of every call and with faults on demand.
//! - [`strict`]: what EC2 refuses and moto lets pass.
//! - [`metadata`]: the instance metadata service.
//! - [`metadata_tree`]: what it knows.

pub mod api;
pub mod endpoint;
pub mod groups;
pub mod metadata;
pub mod metadata_tree;
pub mod moto;
pub mod read;
pub mod seed;
pub mod strict;
pub mod xml;

/// The lab's region and zone.
pub const REGION: &str = "eu-central-1";
pub const ZONE: &str = "eu-central-1a";
