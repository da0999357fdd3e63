//! What the measurements were taken on: numbers without it mean little.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result};

use super::report::Section;
use crate::lab::natd::binary;
use crate::lab::run::{finish, run};

/// The Python environment with the AWS CLI.
pub const AWS_CLI: &str = "/var/cache/natd-venv/bin";

/// Processor, kernel and the programs that take part, as a table.
pub fn describe(command: &str) -> Result<Section> {
    let cpus = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let cores = available_parallelism().context("counting the processor's cores")?;
    let aws = finish(Command::new(format!("{AWS_CLI}/aws")).arg("--version"), "")?;
    let natd = finish(Command::new(binary()?).arg("--version"), "")?;
    let model = field(&cpus, "model name").unwrap_or("unknown");
    let memory = field(&memory, "MemTotal").unwrap_or("unknown");
    let load = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    let rows = [
        ("date", run("date", ["-u", "+%Y-%m-%d"])?),
        ("command", format!("`{command}`")),
        ("processor", format!("{model}, {cores} cores")),
        ("memory", memory.to_owned()),
        ("kernel", run("uname", ["-sr"])?),
        ("load average before", load.split(' ').next().unwrap_or_default().to_owned()),
        ("natd", natd),
        ("nftables", run("nft", ["--version"])?),
        ("iptables", run("iptables", ["--version"])?),
        ("AWS CLI", aws),
    ];
    let mut section = Section::new("The machine", ["", ""]);
    for (what, value) in rows {
        section.row([what, value.lines().next().unwrap_or_default().trim()]);
    }
    Ok(section)
}

/// The value of the first `name: value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}
