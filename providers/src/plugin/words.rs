//! What a plugin says on its standard error: line by line into natd's log, in bounded amounts.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, BufReader},
    time::Instant,
};

use super::{
    envelope::shown,
    lines::{self, Line},
};

/// The longest line that is read whole, in bytes; the rest of a longer one is passed over.
const LONGEST: usize = 4096;

/// How many lines are logged in one [`WINDOW`]; further ones are counted.
const LINES: u32 = 200;

const WINDOW: Duration = Duration::from_secs(10);

/// The last line that a plugin said.
#[derive(Clone, Default)]
pub(super) struct LastWords(Arc<Mutex<Option<String>>>);

impl LastWords {
    fn note(&self, line: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.to_owned());
    }

    /// What it was, if it said anything.
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Logs until the pipe ends.
pub(super) async fn log(plugin: String, pipe: impl AsyncRead + Unpin, last: LastWords) {
    let mut pipe = BufReader::new(pipe);
    let mut window = Window { since: Instant::now(), lines: 0 };
    loop {
        let line = match lines::next(&mut pipe, LONGEST).await {
            Ok(Line::Whole(line)) => line,
            Ok(Line::Begun(line)) => {
                if lines::skip(&mut pipe).await.is_err() {
                    break;
                }
                line
            }
            Ok(Line::End) | Err(_) => break,
        };
        let line = shown(&line);
        if line.is_empty() {
            continue;
        }
        last.note(&line);
        if window.admits(&plugin) {
            tracing::info!(plugin, "{line}");
        }
    }
    window.close(&plugin);
}

/// Keeps a plugin that talks without end from filling the log.
struct Window {
    since: Instant,
    lines: u32,
}

impl Window {
    fn admits(&mut self, plugin: &str) -> bool {
        if self.since.elapsed() >= WINDOW {
            self.close(plugin);
            *self = Self { since: Instant::now(), lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= LINES
    }

    fn close(&self, plugin: &str) {
        let dropped = self.lines.saturating_sub(LINES);
        if dropped > 0 {
            tracing::warn!(plugin, dropped, "it says too much: lines were not logged");
        }
    }
}
