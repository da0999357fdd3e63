//! Running a program to its end, and saying what it complained of when it fails.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program and gives what it printed.
///
/// # Errors
/// If it can't be started or fails; the error holds what it wrote to its standard error.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String> {
    finish(Command::new(program).args(arguments), "")
}

/// Like [`run`], with `input` on its standard input.
pub fn feed<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
    input: &str,
) -> Result<String> {
    finish(Command::new(program).args(arguments), input)
}

/// Whether a program succeeds, silently.
pub fn succeeds<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> bool {
    finish(Command::new(program).args(arguments), "").is_ok()
}

/// Runs a prepared command with `input` on its standard input, and gives what it printed.
pub fn finish(command: &mut Command, input: &str) -> Result<String> {
    let output = collect(command, input)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}", output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn collect(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input has its own way to say what is wrong.
        let _broken_pipe = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().with_context(|| format!("waiting for {command:?}"))
}
