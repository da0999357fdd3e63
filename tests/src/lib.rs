//! The lab, in which natd is tested against packets, and what its tests share.

pub mod lab;
pub mod wait;
