//! `natd apply` beside the shell script that it replaces, in the same lab and from the same state.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::machine::AWS_CLI;
use super::report::Section;
use super::sample::Sample;
use crate::lab::Lab;
use crate::lab::natd::{Run, forget_environment, look_first_in, run};
use crate::lab::owner::DEFAULT;
use crate::lab::topology::ENDPOINT;

const RUNS: usize = 7;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/baseline.sh");

/// Both in turns, each from a machine that is no gateway.
pub fn measure() -> Result<Section> {
    let lab = Lab::aws().build()?;
    let (mut natd, mut script) = (Sample::default(), Sample::default());
    for _ in 0..RUNS {
        script.add(timed(&lab, "the script", &run(baseline(&lab)?)?)?);
        undo_baseline(&lab)?;
        natd.add(timed(&lab, "natd apply", &lab.nat().natd(["apply"])?)?);
        let down = lab.nat().natd(["down"])?;
        ensure!(down.code == Some(0), "natd down failed: {}", down.stderr);
        lab.sync()?;
    }
    let ratio = script.ratio_to(&natd);
    let mut section = Section::new("Wall time", ["of", "median", "fastest", "slowest"]);
    section.note(format!(
        "Both make the same machine a gateway for two route tables that have no default route yet, {RUNS} times in \
         turns: forwarding, translation of the VPC's two blocks, the source/destination check, two routes. Both begin \
         with the metadata service; after each run a client's request reaches the internet, then everything is undone. \
         The script (`tests/bench/baseline.sh`) is the usual one around `sysctl`, `iptables` and the AWS CLI. natd \
         also deletes stale connections, reaches a target before it takes the routes, and reads back what it wrote; \
         the script does none of that."
    ));
    for (what, sample) in [("`natd apply`", &natd), ("the script", &script)] {
        let seconds = [sample.median(), sample.least(), sample.most()];
        let [median, least, most] = seconds.map(|seconds| format!("{seconds:.3} s"));
        section.row([what.to_owned(), median, least, most]);
    }
    let measured = format!("{ratio:.1} times");
    section.target("natd is faster than the script", "at least 10 times", measured, ratio >= 10.0);
    Ok(section)
}

/// How many seconds a run took that made the gateway.
fn timed(lab: &Lab, what: &str, run: &Run) -> Result<f64> {
    ensure!(run.code == Some(0), "{what} failed: {}", run.stderr);
    lab.sync()?;
    lab.client("client-a").tcp().with_context(|| format!("{what} made no gateway"))?;
    Ok(run.took.as_secs_f64())
}

fn baseline(lab: &Lab) -> Result<Command> {
    ensure!(
        Path::new(AWS_CLI).is_dir(),
        "no {AWS_CLI}: tests/setup/install.sh installs the AWS CLI"
    );
    let mut command = lab.nat().namespace.command(BASELINE);
    forget_environment(&mut command);
    look_first_in(&mut command, Path::new(AWS_CLI))?;
    command
        .args(lab.ids.private_tables())
        .env("AWS_ENDPOINT_URL_EC2", format!("http://{ENDPOINT}"))
        .env("HOME", &lab.nat().root)
        .stdin(Stdio::null());
    Ok(command)
}

/// Back to a machine that is no gateway, as the lab made it.
fn undo_baseline(lab: &Lab) -> Result<()> {
    for table in lab.ids.private_tables() {
        lab.remove_route(table, DEFAULT)?;
    }
    lab.set_check(lab.ids.interface("nat/eth0"), true)?;
    lab.nat().flush_all_rules()?;
    lab.nat().namespace.set_sysctls(&[
        ("net.ipv4.ip_forward", "0"),
        ("net.ipv4.conf.all.send_redirects", "1"),
        ("net.ipv4.conf.eth0.send_redirects", "1"),
    ])
}
