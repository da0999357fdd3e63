//! What the kernel has taken for its objects, by its own account of slabs.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::process::megabytes;

const PAUSE: Duration = Duration::from_secs(2);
const MOST_PAUSES: usize = 15;

/// Of so few bytes of entries it can't be that a table of flows is still being cleared away.
const EMPTY: u64 = 2_000_000;

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slab {
    /// For entries of the connection tracking tables, of all namespaces.
    pub entries: u64,
    /// For all that can't be reclaimed, whatever it is.
    pub all: u64,
}

impl Slab {
    pub fn now() -> Result<Self> {
        let slabs = fs::read_to_string("/proc/slabinfo").context("reading /proc/slabinfo")?;
        let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        Ok(Self {
            entries: entries(&slabs).context("no nf_conntrack in /proc/slabinfo")?,
            all: all(&memory).context("no SUnreclaim in /proc/meminfo")?,
        })
    }

    /// Once the kernel has given back what earlier flows took, which it does when it comes to it.
    pub fn settled() -> Result<Self> {
        let mut seen = Self::now()?;
        for _ in 0..MOST_PAUSES {
            thread::sleep(PAUSE);
            let now = Self::now()?;
            if now.entries == seen.entries && now.entries < EMPTY {
                return Ok(now);
            }
            seen = now;
        }
        Ok(seen)
    }

    pub fn since(self, before: Self) -> Self {
        let entries = self.entries.saturating_sub(before.entries);
        Self { entries, all: self.all.saturating_sub(before.all) }
    }
}

/// Number of objects times their size: `nf_conntrack 112 176 256 …` (slabinfo(5)).
fn entries(slabs: &str) -> Option<u64> {
    let line = slabs.lines().find(|line| line.starts_with("nf_conntrack "))?;
    let mut numbers = line.split_whitespace().skip(2).map(str::parse::<u64>);
    let (objects, size) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(objects * size)
}

fn all(memory: &str) -> Option<u64> {
    let line = memory.lines().find_map(|line| line.strip_prefix("SUnreclaim:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

pub fn in_words(bytes: u64) -> String {
    megabytes(bytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::{all, entries};

    #[test]
    fn the_kernels_tables_are_read() {
        let slabs = "slabinfo - version: 2.1\nnf_conntrack_expect 0 0 240\nnf_conntrack         112    176    256   16    1 :\n";
        assert_eq!(entries(slabs), Some(176 * 256));
        assert_eq!(all("Slab: 3 kB\nSUnreclaim:        1200 kB\n"), Some(1200 * 1024));
    }
}
