//! natd-providers without AWS, whose SDK takes too long to build for a look at the others: the same files.

#![cfg(fuzzing)]
#![expect(dead_code, reason = "what only AWS and the command line use of these files is left over")]

#[path = "../../../providers/src/doubt.rs"]
mod doubt;
#[path = "../../../providers/src/fuzzing/mod.rs"]
pub mod fuzzing;
#[path = "../../../providers/src/http.rs"]
mod http;
#[path = "../../../providers/src/huawei/mod.rs"]
pub mod huawei;
#[path = "../../../providers/src/kind.rs"]
pub mod kind;
#[path = "../../../providers/src/metadata.rs"]
mod metadata;
#[path = "../../../providers/src/openstack/mod.rs"]
pub mod openstack;
#[path = "../../../providers/src/patience.rs"]
pub mod patience;
#[path = "../../../providers/src/plugin/mod.rs"]
pub mod plugin;

/// The target of AWS is in a package of its own, `fuzz/aws`.
mod aws {
    pub(crate) mod fuzzing {
        pub fn aws(_: &[u8]) {}
    }
}
