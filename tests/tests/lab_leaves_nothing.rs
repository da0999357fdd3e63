//! A lab leaves nothing behind: not when it ends, not when its test panics, and not for long when its test is killed.

#![allow(clippy::expect_used, reason = "a test says what it expects")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use natd_tests::lab::Lab;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::on_every_cloud;

/// The namespaces of the lab that `router` belongs to.
fn namespaces_of(router: &str) -> Vec<String> {
    let lab = router.strip_suffix("router").expect("a router's name");
    let all = fs::read_dir("/run/netns").expect("the namespaces' folder");
    let names = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(lab)).collect()
}

on_every_cloud!(nothing_is_left_of_a_lab);

fn nothing_is_left_of_a_lab(cloud: CloudKind) -> anyhow::Result<()> {
    let lab = Lab::of(cloud).clients(1).build()?;
    let router = lab.network().router.name().to_owned();
    let folder = lab.nat().root.parent().expect("the lab's folder").to_owned();
    assert!(namespaces_of(&router).len() >= 6 && folder.exists());
    drop(lab);
    assert_eq!(namespaces_of(&router), Vec::<String>::new());
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn nothing_is_left_of_a_test_that_panics() {
    let panicking = std::thread::spawn(|| {
        let lab = Lab::aws().clients(1).build().expect("a lab");
        let router = lab.network().router.name().to_owned();
        assert_eq!(namespaces_of(&router).len(), 6);
        std::panic::panic_any(router);
    });
    let router = panicking.join().expect_err("a panic").downcast::<String>().expect("a name");
    assert_eq!(namespaces_of(&router), Vec::<String>::new());
}

/// Set for the second process of the test below, which is the one to be killed.
const VICTIM: &str = "NATD_LAB_VICTIM";

#[test]
fn the_next_lab_clears_away_what_a_killed_test_left() {
    if std::env::var_os(VICTIM).is_some() {
        return be_killed_with_a_lab();
    }
    let me = std::env::current_exe().expect("this program");
    let mut victim = Command::new(me)
        .args(["--exact", "the_next_lab_clears_away_what_a_killed_test_left", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("another process");
    let output = BufReader::new(victim.stdout.take().expect("its output"));
    let said = output.lines().map_while(Result::ok).find_map(|line| {
        let (_, router) = line.split_once("router is ")?;
        Some(router.to_owned())
    });
    let router = said.expect("the name of its router");
    assert_eq!(namespaces_of(&router).len(), 6);
    victim.kill().expect("a signal");
    victim.wait().expect("its end");
    let _lab = Lab::aws().clients(0).build().expect("a lab");
    assert_eq!(namespaces_of(&router), Vec::<String>::new());
}

/// Builds a lab, tells its name and stays until it is killed.
fn be_killed_with_a_lab() {
    let lab = Lab::aws().clients(1).build().expect("a lab");
    println!("router is {}", lab.network().router.name());
    std::thread::sleep(Duration::from_mins(2));
}
