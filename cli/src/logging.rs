//! The log: on standard error, as text or as JSON, one line an event.

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing_subscriber::{EnvFilter, fmt, fmt::time::uptime};

use crate::args::{Common, Format};

/// Starts logging. The libraries' own logs are heard only from `debug` on.
pub fn start(common: &Common, default: Level) {
    let level = common.log_level.unwrap_or(default);
    let filter = if level >= Level::DEBUG {
        EnvFilter::new(format!("{level},hyper=info,h2=info,rustls=info"))
    } else {
        EnvFilter::new(format!(
            "error,natd={level},natd_core={level},natd_agent={level},natd_providers={level}"
        ))
    };
    let log = fmt().with_env_filter(filter).with_writer(stderr);
    match common.log_format {
        Format::Json => log.json().flatten_event(true).init(),
        Format::Text => {
            let colour = stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            // journald and syslog stamp lines themselves; on a terminal nobody needs the date.
            log.with_ansi(colour).with_target(false).with_timer(uptime()).init();
        }
    }
}
