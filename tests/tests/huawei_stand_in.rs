//! The stand-in for Huawei Cloud, tested in its own language: the official SDK's client is served, and nobody else is
//! whose signature the official SDK wouldn't make.

use std::process::Command;

use anyhow::{Result, ensure};
use natd_tests::lab::huawei::stand_in::python;

#[test]
fn it_is_as_the_official_sdk_expects_and_as_strict_as_the_cloud() -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/huawei");
    let run = Command::new(python()?)
        .args(["-B", "-m", "unittest", "discover", "--verbose"])
        .current_dir(folder)
        .output()?;
    let said = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success() && said.ends_with("OK\n"), "{said}");
    for file in ["test_official_client", "test_signature", "test_limits"] {
        ensure!(said.contains(file), "{file} was not run:\n{said}");
    }
    Ok(())
}
