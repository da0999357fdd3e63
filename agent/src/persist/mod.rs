//! What happens at boot: the files that bring NAT back, and the services that read them.
//!
//! | file | holds |
//! |---|---|
//! | `inventory` | what a host has that loads rules at boot |
//! | `files` | natd's part of a file: read, written, taken out |
//! | `rooted` | paths below a root folder, whose symbolic links never lead out of it |
//! | `services` | what is started at boot |

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use natd_core::{
    error::Result,
    host::AtBoot,
    persist::{Boot, FileSeen, Form, HostPath, Part, ServiceName},
};

mod files;
mod inventory;
mod rooted;
mod services;

use rooted::Root;

/// How long the service manager may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The host whose files are below one folder.
#[derive(Debug, Clone)]
pub struct HostAtBoot {
    root: Root,
}

impl HostAtBoot {
    /// `/` is this machine itself. Of an image, at any other folder, only files are changed: its
    /// services are its owner's to enable.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: Root::new(root) }
    }
}

#[async_trait]
impl AtBoot for HostAtBoot {
    fn facts(&self) -> Boot {
        inventory::take(&self.root)
    }

    fn look(&self, path: &HostPath, form: Form) -> Result<FileSeen> {
        files::look(&self.root, path, form)
    }

    fn write(&self, path: &HostPath, part: &Part) -> Result<()> {
        files::write(&self.root, path, part)
    }

    fn remove(
        &self,
        path: &HostPath,
        form: Form,
        mode: Option<u32>,
        folders: &[HostPath],
    ) -> Result<()> {
        files::remove(&self.root, path, form, mode, folders)
    }

    fn is_enabled(&self, service: &ServiceName) -> bool {
        services::is_enabled(&self.root, service)
    }

    async fn enable(&self, service: &ServiceName, enabled: bool) -> Result<()> {
        services::enable(&self.root, service, enabled, DEADLINE).await
    }
}
