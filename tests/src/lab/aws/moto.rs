//! The process that keeps the cloud's state: moto, in the router's namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use form_urlencoded::parse;
use serde_json::Value;

use super::super::namespace::Namespace;
use super::super::topology::API;
use super::api::USER_AGENT;

const VENV: &str = "/var/cache/natd-venv";

/// Ends with its standard input, so that it doesn't outlive a test run that is killed.
/// The default images are left out: reading them is most of moto's start.
const LAUNCHER: &str = "
import os, sys, threading
def follow_parent():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=follow_parent, daemon=True).start()
from moto.server import main
main(sys.argv[1:])
";

/// A running moto. It is killed when dropped.
#[derive(Debug)]
pub struct Moto {
    process: Child,
    recording: PathBuf,
}

impl Moto {
    /// Starts it without waiting; its files go to `folder`.
    ///
    /// The Python is that of the environment `NATD_MOTO_VENV`, by default `/var/cache/natd-venv`.
    pub fn start(router: &Namespace, folder: &Path) -> Result<Self> {
        let venv = std::env::var("NATD_MOTO_VENV").unwrap_or_else(|_| VENV.to_owned());
        let python = format!("{venv}/bin/python");
        if !Path::new(&python).exists() {
            bail!(
                "no {python}: the lab needs a virtual environment with `moto[ec2,server]`; NATD_MOTO_VENV says where"
            );
        }
        let recording = folder.join("moto-requests");
        let log = File::create(folder.join("moto-log")).context("creating moto's log")?;
        let process = router
            .command(python)
            .args(["-c", LAUNCHER, "-H", &API.ip().to_string(), "-p", &API.port().to_string()])
            .env("MOTO_ENABLE_RECORDING", "1")
            .env("MOTO_RECORDER_FILEPATH", &recording)
            .env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting moto")?;
        Ok(Self { process, recording })
    }

    /// Waits until it listens.
    pub fn wait(&mut self, router: &Namespace) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(1);
        while router.connect(API, Duration::from_secs(1)).is_err() {
            if let Some(status) = self.process.try_wait()? {
                let log = self.recording.with_file_name("moto-log");
                bail!("moto ended with {status}: {}", fs::read_to_string(log).unwrap_or_default());
            }
            if Instant::now() > deadline {
                bail!("moto doesn't listen on {API}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The actions that moto itself recorded, in order, without those of the lab.
    pub fn recorded_actions(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.recording).context("reading moto's recording")?;
        let mut actions = Vec::new();
        for line in text.lines() {
            let entry: Value = serde_json::from_str(line).context("reading moto's recording")?;
            if entry["headers"]["User-Agent"].as_str() == Some(USER_AGENT) {
                continue;
            }
            let body = base64(entry["body"].as_str().unwrap_or_default());
            actions.extend(
                parse(&body)
                    .find(|(name, _)| name == "Action")
                    .map(|(_, action)| action.into_owned()),
            );
        }
        Ok(actions)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}

/// Decodes base64, which moto writes bodies in. Foreign characters, and the padding, are passed over.
fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in text.bytes().filter_map(base64_digit) {
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes
}

fn base64_digit(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_every_remainder() {
        assert_eq!(base64("QWN0aW9u"), b"Action");
        assert_eq!(base64("QWN0aW8="), b"Actio");
        assert_eq!(base64("QWN0aQ=="), b"Acti");
    }
}
