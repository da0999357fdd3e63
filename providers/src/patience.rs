//! How patient a provider is with its cloud.

use std::time::Duration;

/// How long and how often to try. Throttling, network failures and errors of the server are
/// retried with exponential backoff and jitter, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Attempts of one API call, the first included.
    pub attempts: u32,
    /// The most that is waited before the second attempt; doubles with each further one.
    pub initial_backoff: Duration,
    /// For a TCP connection to the API.
    pub connect: Duration,
    /// For one attempt.
    pub attempt: Duration,
    /// For one API call with all its attempts.
    pub call: Duration,
    /// For everything that is asked of the metadata service at once.
    pub metadata: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            initial_backoff: Duration::from_millis(300),
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(5),
            call: Duration::from_secs(30),
            metadata: Duration::from_secs(4),
        }
    }
}
