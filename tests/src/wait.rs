//! Waits for what must come, and gives up when it doesn't.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything that is waited for takes, on a busy machine too. No test measures time.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `holds`.
///
/// # Panics
/// If it doesn't within [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
