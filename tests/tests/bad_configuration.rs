//! A configuration that can't be used says where it is wrong, what is wrong and what would be right, on one screen, and
//! ends with 64. It takes no root, no cloud and no network to be told so.

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use natd_tests::lab::natd::binary;

const MAIN: &str = "etc/natd/natd.toml";

/// A folder in natd's `--root`.
fn root(test: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _not_there = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("etc/natd/conf.d")).expect("a folder");
    root
}

fn natd(root: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(binary().expect("natd"))
        .arg("--root")
        .arg(root)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("it runs")
}

/// Ends with 64, and with all of these words on a screen of standard error.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for words in words {
        assert!(said.contains(words), "nothing of {words:?} in:\n{said}");
    }
    assert!(said.lines().count() <= 12, "more than a screen:\n{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// Each of these as `natd.toml`.
fn assert_all_refused(test: &str, cases: &[(&str, &[&str])]) {
    let root = root(test);
    for (toml, words) in cases {
        let toml = format!("provider = \"aws\"\n{toml}\n");
        fs::write(root.join(MAIN), &toml).expect("written");
        let output = natd(&root, &[], &["config", "check"]);
        assert_refused(&output, words);
        assert_refused(&output, &[MAIN]);
    }
}

#[test]
fn an_unknown_key_comes_with_the_nearest_known_one() {
    assert_all_refused(
        "unknown-key",
        &[
            ("[nta]", &["unknown key \"nta\"; did you mean \"nat\"?"]),
            (
                "xyzzyplugh = 1",
                &["unknown key \"xyzzyplugh\"; known are provider, nat, routes, verify"],
            ),
            (
                "[nat]\nsource = [\"vpc\"]",
                &["nat.source: unknown key \"source\"; did you mean \"sources\"?"],
            ),
            ("[routes]\ntable = [\"rtb-1\"]", &["routes.table: ", "did you mean \"tables\"?"]),
            (
                "[[routes]]\ntables = [\"rtb-1\"]\n[[routes]]\ndestination = [\"0.0.0.0/0\"]",
                &["routes.1.destination: ", "did you mean \"destinations\"?"],
            ),
            (
                "[routes]\ntables = { tags = \"a=b\" }",
                &["routes.tables.tags: ", "did you mean \"tag\"?"],
            ),
            (
                "[routes]\ntables = [\"rtb-1\", { subnet = [\"subnet-1\"] }]",
                &["routes.tables.1.subnet: ", "did you mean \"subnets\"?"],
            ),
        ],
    );
}

#[test]
fn every_layer_is_named() {
    let root = root("layers");
    let part = root.join("etc/natd/conf.d/10-site.toml");
    fs::write(root.join(MAIN), "provider = \"aws\"\n").expect("written");
    fs::write(&part, "[verify]\ntarget = [\"198.51.100.10:80\"]\n").expect("written");
    let check = ["config", "check"];
    assert_refused(
        &natd(&root, &[], &check),
        &["conf.d/10-site.toml: verify.target: ", "did you mean \"targets\"?"],
    );
    fs::write(&part, "[nat]\nsources = []\n").expect("written");
    assert_refused(&natd(&root, &[], &check), &["conf.d/10-site.toml: nat.sources: is empty"]);
    fs::remove_file(&part).expect("removed");
    let environment = [("NATD_NAT__SORCES", "[vpc]")];
    assert_refused(
        &natd(&root, &environment, &check),
        &["environment (NATD_*): nat.sorces: ", "did you mean \"sources\"?"],
    );
    let flag = natd(&root, &[], &["--provider", "azure", "config", "check"]);
    assert_refused(
        &flag,
        &["command line: provider: unknown value \"azure\"; known are aws, huawei"],
    );
}

#[test]
fn a_bad_value_is_repeated_with_its_key_and_its_right_form() {
    assert_all_refused(
        "bad-value",
        &[
            (
                "[nat]\nsources = [\"vpc\", \"10.0.0.0/33\"]",
                &[
                    "nat.sources.1: \"10.0.0.0/33\" is neither \"vpc\" nor a CIDR such as \"10.10.0.0/16\"",
                ],
            ),
            (
                "[nat]\nexclude = [\"10.10.2.1/24\"]",
                &[
                    "nat.exclude.0: \"10.10.2.1/24\" has bits set behind its prefix; the network is \"10.10.2.0/24\"",
                ],
            ),
            (
                "[nat]\nsources = []",
                &[
                    "nat.sources: is empty: nobody's packets would be translated; write [\"vpc\"] or CIDRs",
                ],
            ),
            ("[nat]\nsources = \"vpc\"", &["nat.sources: \"vpc\" is not an array, [...]"]),
            (
                "[nat]\naddresses = [\"10.10.1\"]",
                &["nat.addresses: \"10.10.1\" is not an IPv4 address"],
            ),
            (
                "[nat]\nmode = \"masq\"",
                &["nat.mode: unknown value \"masq\"; known are snat, masquerade"],
            ),
            (
                "[routes]\ndestinations = [\"0.0.0.0\"]",
                &["routes.destinations: \"0.0.0.0\" is not a CIDR"],
            ),
            (
                "[routes]\ndestinations = [\"10.1.2.3/8\"]",
                &[
                    "routes.destinations: 10.1.2.3/8 has bits set behind its prefix; the network is 10.0.0.0/8",
                ],
            ),
            (
                "[aws]\nvpc_cidrs = [\"10.1.2.3/99\"]",
                &["aws.vpc_cidrs: \"10.1.2.3/99\" is not a CIDR"],
            ),
            (
                "[verify]\ntargets = [\"example.com\"]",
                &["verify.targets: \"example.com\" is not HOST:PORT"],
            ),
            (
                "[service]\ninterval = 30",
                &["service.interval: ", "is not a duration such as \"30s\""],
            ),
        ],
    );
}

#[test]
fn ports_that_can_not_be_forwarded_and_exclusions_of_everything_are_refused() {
    let forward = |port: &str| {
        format!("[[nat.forward]]\nprotocol = \"tcp\"\nport = {port}\nto = \"10.10.2.1\"")
    };
    let (once, reversed, ssh, own) =
        (forward("8443"), forward("\"8100-8000\""), forward("22"), forward("9750"));
    let twice = format!("{once}\n{}", forward("\"8440-8450\""));
    assert_all_refused(
        "forwards",
        &[
            (&twice, &["nat.forward.1.port: tcp 8440-8450 is forwarded already, as 8443"]),
            (&reversed, &["nat.forward.0.port: ", "reversed; write \"8000-8100\""]),
            (&ssh, &["nat.forward.0.port: 22 has 22, sshd's port"]),
            (&own, &["nat.forward.0.port: 9750 has 9750, where natd itself listens"]),
            (
                "[nat]\nexclude = [\"vpc\", \"0.0.0.0/1\", \"128.0.0.0/1\"]",
                &["nat.exclude: covers every IPv4 destination: nothing would be translated"],
            ),
        ],
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    assert_all_refused(
        "all-at-once",
        &[(
            "[nat]\nsources = []\nmode = \"masquerade\"\naddresses = [\"10.0.0.1\"]\n[verify]\ntargets = [\"x\"]",
            &["nat.sources: is empty", "nat.addresses: goes with", "verify.targets: \"x\""],
        )],
    );
}

#[test]
fn a_file_that_can_not_be_read_says_why() {
    let root = root("unreadable");
    let check = |file: &Path| {
        natd(&root, &[], &["--config", file.to_str().expect("UTF-8"), "config", "check"])
    };
    assert_refused(
        &check(&root.join("nowhere.toml")),
        &["nowhere.toml: can't be read: No such file or directory"],
    );
    assert_refused(&check(&root.join("etc/natd")), &["etc/natd: can't be read: Is a directory"]);
    for (name, text, words) in [
        (
            "broken.toml",
            "provider = \"aws\"\n\n[nat\nsources = [\"vpc\"]\n",
            // Not the line itself, which may hold a secret.
            ["broken.toml: TOML parse error at line 3, column 5\n", "invalid table header"],
        ),
        ("broken.json", "{ \"provider\": \"aws\",\n", ["broken.json: ", "line 2"]),
        (
            "natd.ini",
            "provider=aws\n",
            ["the format \"ini\" is unknown", "natd reads .toml, .yaml and .json"],
        ),
    ] {
        let file = root.join(name);
        fs::write(&file, text).expect("written");
        assert_refused(&check(&file), &words);
    }
}

#[test]
fn a_provider_is_needed_and_a_later_one_is_not_pretended() {
    let root = root("provider");
    assert_refused(
        &natd(&root, &[], &["config", "check"]),
        &["provider: is not set", "provider = \"aws\"", "no configuration file was found in"],
    );
    fs::write(root.join(MAIN), "provider = \"azure\"\n").expect("written");
    assert_refused(
        &natd(&root, &[], &["config", "check"]),
        &[MAIN, "provider: unknown value \"azure\"; known are aws"],
    );
}

#[test]
fn wrong_usage_says_what_is_meant() {
    let root = root("usage");
    for (arguments, words) in [
        (&["aply"][..], &["unrecognized subcommand 'aply'", "'apply'"][..]),
        (&["--confg", "x", "apply"], &["unexpected argument '--confg'", "'--config'"]),
        (&["--output", "yaml", "plan"], &["invalid value 'yaml'", "text, json"]),
        (&["--config"], &["a value is required for '--config <FILE>'"]),
        (&["plan", "now"], &["unexpected argument 'now'"]),
    ] {
        assert_refused(&natd(&root, &[], arguments), words);
    }
}
