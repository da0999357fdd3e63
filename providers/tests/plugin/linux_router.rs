//! The tests of the plugin `linux-router`, which are in Python as it is.

use std::process::{Command, Stdio};

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/plugins/tests");

#[test]
fn the_tests_of_linux_router_pass() {
    let tests = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover", "--verbose", "--start-directory", TESTS])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let output = tests.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    assert!(text.contains("test_") && !text.contains("Ran 0 tests"), "{text}");
}
