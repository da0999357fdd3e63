//! A daemon with nothing to do: what it holds, and what it uses between two ticks.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::{kib, megabytes, processor};
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
