//! What natd tells the service manager: that it is ready, how it is, that its loop still turns
//! (`sd_notify(3)`). Without a service manager that asks, nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager, as far as it listens.
#[derive(Debug, Default)]
pub struct Manager {
    is_ready: bool,
    status: String,
    watchdog: Option<Duration>,
}

impl Manager {
    /// Whoever started this process, if `NOTIFY_SOCKET` and `WATCHDOG_USEC` say that it listens.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), ..Self::default() }
    }

    /// How often it has to be told that the loop turns: twice as often as it asks for.
    #[must_use]
    pub fn turn(&self) -> Option<Duration> {
        self.watchdog.map(|asked| asked / 2)
    }

    /// The loop turns.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// How natd is, in a line; and that it is ready, if it wasn't: whoever waits for natd has waited
    /// for a first attempt, and not for a cloud that may be down for long.
    pub fn ready(&mut self, status: &str) {
        self.alive();
        if self.is_ready && self.status == status {
            return;
        }
        status.clone_into(&mut self.status);
        if self.is_ready {
            tell(&[NotifyState::Status(status)]);
        } else {
            self.is_ready = true;
            tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
    }

    /// The configuration is being read anew; [`Manager::ready`] ends that.
    pub fn reloading(&mut self) {
        self.is_ready = false;
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// natd ends.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // A manager that is gone needs no word; its watchdog is its own.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
