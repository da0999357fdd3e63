//! The processes of Keystone and Neutron, in the router's namespace.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::namespace::Namespace;
use super::prepared::Environment;
use super::{KEYSTONE, NEUTRON};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Keystone,
    Neutron,
}

impl Service {
    fn address(self) -> SocketAddr {
        match self {
            Self::Keystone => KEYSTONE,
            Self::Neutron => NEUTRON,
        }
    }

    fn module(self) -> &'static str {
        match self {
            Self::Keystone => "keystone.wsgi.api:application",
            Self::Neutron => "neutron.wsgi.api:application",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Keystone => "keystone",
            Self::Neutron => "neutron",
        }
    }
}

/// A running server. It is killed when dropped; it also ends with whoever started it.
#[derive(Debug)]
pub struct ApiServer {
    service: Service,
    process: Child,
    output: PathBuf,
}

impl ApiServer {
    /// Starts it in `folder`, where its files are, without waiting.
    pub fn start(
        environment: &Environment,
        router: &Namespace,
        folder: &Path,
        service: Service,
    ) -> Result<Self> {
        let output = folder.join(format!("{}.out", service.name()));
        let log =
            File::options().create(true).append(true).open(&output).context("creating a log")?;
        let process = router
            .command(environment.program("uwsgi"))
            .args(["--http-socket", &service.address().to_string()])
            .args(["--module", service.module()])
            .arg("--virtualenv")
            .arg(environment.folder())
            .args(["--processes", "1", "--threads", "4", "--enable-threads", "--need-app"])
            .args(["--buffer-size", "65535", "--add-header", "Connection: close"])
            .args(["--honour-stdin", "--pythonpath", ".", "--import", "follow_parent"])
            .env("PYTHONWARNINGS", "ignore")
            .env("OS_KEYSTONE_CONFIG_FILES", "keystone.conf")
            .env("OS_NEUTRON_CONFIG_DIR", folder)
            .env("OS_NEUTRON_CONFIG_FILES", "neutron.conf;ml2.ini")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", service.name()))?;
        Ok(Self { service, process, output })
    }

    /// Waits until it listens, which it does once it has loaded everything.
    pub fn wait(&mut self, router: &Namespace) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(3);
        let address = self.service.address();
        while !listens(router, address) {
            let name = self.service.name();
            if let Some(status) = self.process.try_wait()? {
                let output = fs::read_to_string(&self.output).unwrap_or_default();
                bail!("{name} ended with {status}: {output}");
            }
            if Instant::now() > deadline {
                bail!("{name} doesn't listen on {address}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// uwsgi binds its socket before it has loaded the application, but listens only then.
fn listens(router: &Namespace, address: SocketAddr) -> bool {
    router.connect(address, Duration::from_secs(1)).is_ok()
}

impl ApiServer {
    /// Ends it now, so that another can listen in its place.
    pub fn end(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.end();
    }
}
