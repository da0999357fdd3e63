//! What `make bench` measures: speed and memory, as ratios of what is taken side by side.
//!
//! No test depends on time; these numbers are for people, and say of each target whether it is met.
//!
//! - [`api_calls`]: calls of the EC2 API, by command and by tick.
//! - [`many_tables`]: two hundred route tables beside two, in each cloud.
//! - [`wall_time`]: `natd apply` beside the shell script that it replaces.
//! - [`idle`]: memory and processor time of a daemon with nothing to do.
//! - [`many_sources`]: a daemon with 60,000 sources, its memory and its ticks.
//! - [`loading`]: until sources are in the kernel, and what a flow loses when they change ([`steady`]).
//! - [`data_path`]: packets through natd's rules, beside a bare rule and none.
//! - [`connections`]: new connections with one source and with 60,000.
//! - [`flows`]: a quarter of a million flows to one destination, through a pool of addresses.
//! - [`chain`]: client, gateway and server, with nothing else on the way; [`sources`]: many blocks, and [`holder`]: what
//!   holds them; [`programs`]: what natd runs there.
//! - [`report`]: tables and targets, as Markdown; [`plot`]: what is drawn of them; [`machine`]: what it ran on;
//!   [`sample`]: repeated measurements; [`process`]: what the kernel says of a process.

pub mod api_calls;
pub mod chain;
pub mod connections;
pub mod data_path;
pub mod flows;
pub mod holder;
pub mod idle;
pub mod loading;
pub mod machine;
pub mod many_sources;
pub mod many_tables;
pub mod plot;
pub mod process;
pub mod programs;
pub mod report;
pub mod sample;
pub mod sources;
pub mod steady;
pub mod wall_time;
