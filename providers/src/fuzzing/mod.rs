//! What natd promises of what clouds and plugins answer, as functions of arbitrary bytes: they panic where a promise is
//! broken. See `natd_core::fuzzing` and `docs/fuzzing.md`.
//!
//! | file | holds |
//! |---|---|
//! | `server` | a server on loopback that answers as an input says |
//! | `drive` | asks a provider for all that natd ever asks, and checks what it tells |
//! | `huawei`, `openstack`, `metadata` | each cloud, and their metadata services |
//!
//! AWS and plugins have theirs in their own folders: `fuzz/clouds` is made of all these without AWS, whose SDK takes
//! long to build.

pub(crate) mod drive;
mod huawei;
mod metadata;
mod openstack;
pub(crate) mod server;
#[path = "../../../fuzz/shared.rs"]
pub(crate) mod shared;

use std::time::Duration;

use natd_core::config::Secret;

pub use crate::{aws::fuzzing::aws, plugin::fuzzing::plugin};
pub use huawei::huawei;
pub use metadata::metadata;
pub use openstack::openstack;

use crate::patience::Patience;

/// What must never be told. No input that is committed holds it, and none with it is looked at.
pub(crate) const SECRET: &str = "hunter2-of-the-fuzzer";

/// Nothing is waited for: the server is near, and what it refuses once it refuses again.
pub(crate) const HASTY: Patience = Patience {
    attempts: 2,
    initial_backoff: Duration::from_micros(1),
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(2),
    call: Duration::from_secs(4),
    metadata: Duration::from_secs(4),
};

fn secret() -> Secret {
    Secret::from(SECRET.to_owned())
}

#[cfg(test)]
mod tests {
    use super::shared::replay;

    #[test]
    fn aws() {
        replay("aws", super::aws);
    }

    #[test]
    fn huawei() {
        replay("huawei", super::huawei);
    }

    #[test]
    fn metadata() {
        replay("metadata", super::metadata);
    }

    #[test]
    fn openstack() {
        replay("openstack", super::openstack);
    }

    #[test]
    fn plugin() {
        replay("plugin", super::plugin);
    }
}
