//! The process that keeps the cloud's state: the stand-in, in the router's namespace.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use super::super::namespace::Namespace;
use super::super::topology::API;

const VENV: &str = "/var/cache/natd-venv";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/huawei");

/// The API, behind the endpoint that instances know.
pub const SERVICE: SocketAddr = SocketAddr::new(API.ip(), API.port() + 1);
/// The owner's side.
pub const OWNER: SocketAddr = API;

/// The Python that has Huawei's SDK: that of the environment `NATD_MOTO_VENV`, by default `/var/cache/natd-venv`.
pub fn python() -> Result<PathBuf> {
    let venv = std::env::var("NATD_MOTO_VENV").unwrap_or_else(|_| VENV.to_owned());
    let python = Path::new(&venv).join("bin/python");
    if !python.exists() {
        bail!("no {}: tests/setup/install.sh makes it", python.display());
    }
    Ok(python)
}

/// A running stand-in. It is killed when dropped.
#[derive(Debug)]
pub struct StandIn {
    process: Child,
    log: PathBuf,
}

impl StandIn {
    /// Starts it without waiting, with the state that is in `folder`, if any is.
    pub fn start(router: &Namespace, folder: &Path) -> Result<Self> {
        let log = folder.join("stand-in-log");
        let process = router
            .command(python()?)
            .args(["-B", "-m", "stand_in", "--state"])
            .arg(folder.join("stand-in-state.json"))
            .args(["--listen", &SERVICE.to_string(), "--admin", &OWNER.to_string()])
            .current_dir(FOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).context("creating the stand-in's log")?)
            .spawn()
            .context("starting the stand-in")?;
        Ok(Self { process, log })
    }

    /// Waits until it listens, which it says on its standard output.
    pub fn wait(&mut self) -> Result<()> {
        let Some(stdout) = self.process.stdout.take() else {
            return Ok(());
        };
        let lines = BufReader::new(stdout).lines().map_while(Result::ok).take(2).count();
        if lines < 2 {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            bail!("the stand-in ended, having said: {said}");
        }
        Ok(())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}
