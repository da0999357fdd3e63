//! What `make bench` measures: speed and memory, as ratios of what is taken side by side.
//!
//! No test depends on time; these numbers are for people, and say of each target whether it is met.
//!
//! - [`api_calls`]: calls of the EC2 API, by command and by tick.
//! - [`many_tables`]: two hundred route tables beside two, in each cloud.
//! - [`wall_time`]: `natd apply` beside the shell script that it replaces.
//! - [`idle`]: memory and processor time of a daemon with nothing to do.
//! - [`data_path`]: packets through natd's rules, beside a bare rule and none.
//! - [`report`]: tables and targets, as Markdown; [`machine`]: what it ran on; [`sample`]: repeated measurements.

pub mod api_calls;
pub mod data_path;
pub mod idle;
pub mod machine;
pub mod many_tables;
pub mod report;
pub mod sample;
pub mod wall_time;
