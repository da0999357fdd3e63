//! The lab, in which natd is tested against packets, and what its tests share; and the benchmarks.

pub mod bench;
pub mod boot;
pub mod expect;
pub mod lab;
pub mod stream;
pub mod wait;
