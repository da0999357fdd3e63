//! What the kernel says of a process: processor time and memory.

use std::fs;

use anyhow::{Context, Result};

/// What a process has used of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// In user mode and in the kernel, in clock ticks of 10 ms.
    pub ticks: u64,
    /// The same by the scheduler's own account.
    pub nanoseconds: u64,
    /// What the programs that it has run have used, in clock ticks.
    pub programs: u64,
}

pub fn processor(pid: u32) -> Result<Processor> {
    let stat = read(pid, "stat")?;
    // The second field is the program's name in parentheses, and may hold spaces: count behind it.
    let (_, fields) = stat.rsplit_once(") ").context("a process without a name")?;
    let used = |skipped| {
        let times = fields.split(' ').skip(skipped).take(2).map(str::parse::<u64>);
        times.sum::<Result<u64, _>>().context("reading /proc/PID/stat")
    };
    let schedstat = read(pid, "schedstat")?;
    let on_cpu = schedstat.split(' ').next().context("an empty schedstat")?;
    let nanoseconds = on_cpu.parse().context("reading schedstat")?;
    Ok(Processor { ticks: used(11)?, nanoseconds, programs: used(13)? })
}

/// The field of that name in a file of `/proc/PID`, in KiB.
pub fn kib(pid: u32, file: &str, field: &str) -> Result<u64> {
    let text = read(pid, file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no {field} in {file}"))
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("reading {path}"))
}

/// In MB of a million bytes, with a tenth.
pub fn megabytes(kib: u64) -> String {
    let tenths = kib * 1024 / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
