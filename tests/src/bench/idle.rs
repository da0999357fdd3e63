//! A daemon with nothing to do: what it holds, and what it uses between two ticks.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::report::Section;
use crate::lab::Lab;
use crate::lab::natd::binary;
use crate::wait::PATIENCE;

/// How long nothing happens.
const SILENCE: Duration = Duration::from_secs(20);

/// After the first tick come the echoes of its own changes; then no more for an hour.
const SETTLING: Duration = Duration::from_secs(8);

const CONFIGURATION: &str = "[service]\ninterval = \"1h\"\n\n[verify]\ninterval = \"1h\"\n";

/// 25 MB in KiB, which is what the kernel counts in.
const MOST_KIB: u64 = 25_000_000 / 1024;

/// Serves a lab, and watches the process.
pub fn measure() -> Result<Section> {
    let lab = Lab::aws().build()?;
    lab.nat().write("etc/natd/conf.d/10-bench.toml", CONFIGURATION)?;
    let daemon = lab.nat().daemon::<&str>([])?;
    daemon.wait_for(PATIENCE, |line| line.contains("INFO NAT "))?;
    thread::sleep(SETTLING);
    let said = daemon.mark();
    let pid = daemon.pid();
    let before = processor(pid)?;
    thread::sleep(SILENCE);
    let after = processor(pid)?;
    if daemon.mark() != said {
        bail!("the daemon was not idle, it said:\n{}", daemon.lines().join("\n"));
    }
    let (resident, most) = (kib(pid, "status", "VmRSS")?, kib(pid, "status", "VmHWM")?);
    let proportional = kib(pid, "smaps_rollup", "Pss")?;
    let size = fs::metadata(binary()?).context("the size of natd")?.len();
    let ticks = after.ticks - before.ticks;
    let microseconds = (after.nanoseconds - before.nanoseconds) / 1000;
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count();

    let mut section = Section::new("The idle daemon", ["of `natd run`", "is"]);
    section.note(format!(
        "The daemon serves two route tables and has converged; the next tick is an hour away. Resident (`VmRSS`) \
         counts pages that are shared with other programs in full, proportional (`Pss`) by its share. Processor time \
         is taken over {} s, in the kernel's clock ticks and by its scheduler's own account.",
        SILENCE.as_secs()
    ));
    section.row(["resident memory".to_owned(), format!("{resident} KiB")]);
    section.row(["resident memory, the most so far".to_owned(), format!("{most} KiB")]);
    section.row(["proportional memory".to_owned(), format!("{proportional} KiB")]);
    section.row(["threads".to_owned(), threads.to_string()]);
    section.row(["processor time, clock ticks".to_owned(), ticks.to_string()]);
    section.row(["processor time, scheduler".to_owned(), format!("{microseconds} µs")]);
    section.row(["size of the binary".to_owned(), format!("{} KiB", size / 1024)]);
    section.target("resident memory", "at most 25 MB", megabytes(resident), resident <= MOST_KIB);
    section.target(
        "processor time between ticks",
        "none measurable",
        format!("{ticks} ticks"),
        ticks == 0,
    );
    section.target("binary", "at most 25 MB", megabytes(size / 1024), size / 1024 <= MOST_KIB);
    Ok(section)
}

/// What a process has used of the processor.
struct Processor {
    /// In user mode and in the kernel.
    ticks: u64,
    nanoseconds: u64,
}

fn processor(pid: u32) -> Result<Processor> {
    let stat = read(pid, "stat")?;
    // The second field is the program's name in parentheses, and may hold spaces: count behind it.
    let (_, fields) = stat.rsplit_once(") ").context("a process without a name")?;
    let used = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks = used.sum::<Result<u64, _>>().context("reading /proc/PID/stat")?;
    let schedstat = read(pid, "schedstat")?;
    let on_cpu = schedstat.split(' ').next().context("an empty schedstat")?;
    Ok(Processor { ticks, nanoseconds: on_cpu.parse().context("reading schedstat")? })
}

/// The field of that name in a file of `/proc/PID`, in KiB.
fn kib(pid: u32, file: &str, field: &str) -> Result<u64> {
    let text = read(pid, file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no {field} in {file}"))
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("reading {path}"))
}

fn megabytes(kib: u64) -> String {
    let tenths = kib * 1024 / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
