//! natd as a machine's gateway beside other firewalls: how it is configured, and whether it serves.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::machine::Machine;
use crate::lab::natd::binary;
use crate::lab::run::run;

/// The address that clients' packets have outside.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 10);

/// How long it may take until what somebody has changed is mended.
const HEALING: Duration = Duration::from_secs(30);

/// Both families, a forwarded port, and a tick every second.
pub fn configuration(firewall: &str, neighbours: &str) -> String {
    format!(
        "provider = \"none\"
[nat]
sources = [\"10.10.2.0/24\", \"fd00:10:2::/64\"]
mode = \"masquerade\"
firewall = \"{firewall}\"
persist = \"none\"
neighbours = \"{neighbours}\"
[[nat.forward]]
protocol = \"tcp\"
port = 8443
to = \"10.10.2.101:443\"
[routes]
interface = \"eth1\"
[verify]
targets = [\"198.51.100.10:80\"]
interval = \"1s\"
[service]
interval = \"1s\"
"
    )
}

impl Machine {
    /// Runs `make install` or `make uninstall` into the machine, which is off.
    pub fn make(&self, target: &str) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
        let root = root.display().to_string();
        let layer = format!("DESTDIR={}", self.layer().display());
        let binary = format!("BINARY={}", binary()?.display());
        run("make", ["-C", &root, target, &layer, "PREFIX=/usr", &binary]).map(drop)
    }

    /// Has natd on it as a service, with that configuration.
    pub fn install_natd(&self, configuration: &str) -> Result<()> {
        self.write("etc/natd/natd.toml", configuration)?;
        self.make("install")
    }

    /// Datagrams of a flow that begins now come through, translated.
    pub fn serves(&self) -> Result<()> {
        let stream = self.wires().stream()?;
        stream.goes_on(10)?;
        ensure!(stream.sources() == [ADDRESS], "seen outside: {:?}", stream.sources());
        Ok(())
    }

    /// All of [`configuration`]: packets get out and answers back, by IPv4 and IPv6, and a forwarded port leads in.
    pub fn serves_all(&self) -> Result<()> {
        self.wires().stream()?.goes_on(5)?;
        self.wires().stream_ipv6()?.goes_on(5)?;
        ensure!(self.wires().reaches_inside(8443)?, "the forwarded port leads nowhere");
        Ok(())
    }

    /// What `natd verify`, which ends with that code, says of the canary's way through the firewalls.
    pub fn firewalls(&self, code: i32) -> Result<String> {
        let run = self.natd_ends(code, &["verify"])?;
        let line = run.stdout.lines().find(|line| line.contains("canary: firewalls"));
        Ok(line.with_context(|| format!("{run:#?}"))?.to_owned())
    }

    /// Waits until natd has had time to see and mend what there is, so that `natd verify` says that the neighbour lets
    /// its traffic through; and tells of its errors if that takes too long.
    pub fn comes_to_verify(&self, neighbour: &str) -> Result<()> {
        let begun = Instant::now();
        let passes = format!("{neighbour} lets natd's traffic through");
        loop {
            let run = self.natd(&["verify"])?;
            if run.code == Some(0) && run.stdout.contains(&passes) {
                return Ok(());
            }
            ensure!(begun.elapsed() < HEALING, "it is not mended: {run:#?}");
        }
    }
}
