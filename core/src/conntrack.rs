//! How large the kernel's table of connections should be: pure.
//!
//! Documentation/networking/nf_conntrack-sysctl.rst: each connection is in the hash table twice, once
//! a direction, and the kernel's own choice is as many connections as buckets.

/// A connection with its translation takes 300 to 500 bytes (the slab `nf_conntrack`, its extensions, two
/// places in the hash table): this many bytes of memory for each one let the full table take an eighth.
const MEMORY_PER_CONNECTION: u64 = 4096;

/// What a kernel takes for itself on a machine with 1 GB.
const LEAST: u32 = 65_536;

/// As many as 64 addresses carry to one destination; more is for an operator to decide.
const MOST: u32 = 4_194_304;

/// How large the table should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSize {
    /// The most connections (`nf_conntrack_max`).
    pub connections: u32,
    /// Buckets of the hash table (`nf_conntrack_buckets`).
    pub buckets: u32,
}

/// For a machine with that many bytes of memory.
#[must_use]
pub fn size_for(memory: u64) -> TableSize {
    let connections = u32::try_from(memory / MEMORY_PER_CONNECTION).unwrap_or(MOST);
    let power = if connections < LEAST { LEAST } else { 1 << connections.min(MOST).ilog2() };
    TableSize { connections: power, buckets: power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_the_memory_and_a_power_of_two() {
        for (mebibytes, connections) in [
            (0, 65_536),
            (512, 131_072),
            (1000, 131_072),
            (1024, 262_144),
            (4096, 1_048_576),
            (16 * 1024, 4_194_304),
            (1024 * 1024, 4_194_304),
        ] {
            let size = size_for(mebibytes * 1024 * 1024);
            assert_eq!((size.connections, size.buckets), (connections, connections), "{mebibytes}");
        }
    }
}
