//! The JSON schema of the configuration says what natd says: of every example there is, and of what is written wrong.
//! Python's `jsonschema` reads it, so that it is not natd alone who understands it.

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use natd_tests::lab::natd::binary;
use serde_json::{Value, json};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Set to write the published schema instead of comparing it.
const RENEW: &str = "RENEW_CONFIG_SCHEMA";

/// What is wrong with each document by the schema; `null` where nothing is.
const CHECK: &str = "
import json, sys, tomllib
from jsonschema import Draft202012Validator
given = json.load(sys.stdin)
Draft202012Validator.check_schema(given['schema'])
validator = Draft202012Validator(given['schema'])
def errors(text):
    found = list(validator.iter_errors(tomllib.loads(text)))
    return [f'{error.json_path}: {error.message}' for error in found] or None
json.dump([errors(text) for text in given['documents']], sys.stdout)
";

fn natd(arguments: &[&str]) -> Output {
    Command::new(binary().expect("natd"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn printed(arguments: &[&str]) -> String {
    let output = natd(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What the schema says of each of these, in their order.
fn by_schema(documents: &[String]) -> Vec<Option<String>> {
    let environment =
        std::env::var("NATD_MOTO_VENV").unwrap_or_else(|_| "/var/cache/natd-venv".to_owned());
    let mut python = Command::new(format!("{environment}/bin/python"))
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Python of tests/setup");
    let schema: Value = serde_json::from_str(&printed(&["config", "schema"])).expect("JSON");
    let given = json!({"schema": schema, "documents": documents}).to_string();
    let mut input = python.stdin.take().expect("piped");
    input.write_all(given.as_bytes()).expect("written");
    drop(input);
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let said: Vec<Option<Value>> = serde_json::from_slice(&output.stdout).expect("JSON");
    said.into_iter().map(|errors| errors.map(|errors| errors.to_string())).collect()
}

/// What natd says of it.
fn by_natd(folder: &Path, number: usize, document: &str) -> Option<String> {
    let file = folder.join(format!("{number}.toml"));
    fs::write(&file, document).expect("written");
    let file = file.display().to_string();
    let mut arguments = vec!["config", "check", "--config", &file];
    if !document.contains("provider =") {
        arguments.extend(["--provider", "aws"]);
    }
    let output = natd(&arguments);
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Fails unless natd and the schema both take all of these, or both refuse all of them.
#[track_caller]
fn assert_of_one_mind(test: &str, taken: bool, documents: &[String]) {
    let folder: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).expect("a folder");
    for (number, (document, schema)) in documents.iter().zip(by_schema(documents)).enumerate() {
        let natd = by_natd(&folder, number, document);
        assert_eq!(natd.is_none(), taken, "natd on\n{document}\n{natd:?}");
        assert_eq!(schema.is_none(), taken, "the schema on\n{document}\n{schema:?}");
    }
}

#[test]
fn the_published_schema_is_the_one_that_natd_prints() {
    let published = Path::new(SOURCES).join("docs/natd.schema.json");
    let made = printed(&["config", "schema"]);
    if std::env::var_os(RENEW).is_some() {
        fs::write(&published, &made).expect("written");
    }
    assert!(
        fs::read_to_string(&published).unwrap_or_default() == made,
        "docs/natd.schema.json is not what natd config schema prints; renew it by running this test with {RENEW}=1"
    );
}

/// With everything switched on that stands in comments.
fn in_full(example: &str) -> String {
    let switched_on = |line: &str| {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let key = bare.split_once(" = ").is_some_and(|(key, _)| {
            key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
        });
        if key || bare.starts_with('[') { bare.to_owned() } else { line.to_owned() }
    };
    example.lines().map(switched_on).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_example_is_right() {
    let example = printed(&["config", "example"]);
    let full = in_full(&example);
    for section in ["[[nat.forward]]", "[conntrack]", "[huawei]", "[plugin.settings]", "[cloud]"] {
        assert!(full.lines().any(|line| line == section), "{section} in\n{full}");
    }
    let mut documents = vec![example, full];
    let mut pages = vec![Path::new(SOURCES).join("README.md")];
    for page in fs::read_dir(Path::new(SOURCES).join("docs")).expect("docs") {
        pages.push(page.expect("a page").path());
    }
    for page in pages.iter().filter(|page| page.extension().is_some_and(|form| form == "md")) {
        let text = fs::read_to_string(page).expect("a page");
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        // A cloud that an outsider adds isn't there.
        let known = blocks.filter(|block| !block.contains("provider = \"mycloud\""));
        documents.extend(known.map(str::to_owned));
    }
    assert!(documents.len() > 9, "the pages have examples");
    assert_of_one_mind("examples", true, &documents);
}

/// `KEY = VALUE` in a section, for each of the values.
fn each(section: &str, key: &str, values: &[&str]) -> Vec<String> {
    values.iter().map(|value| format!("{section}\n{key} = {value}\n")).collect()
}

fn forward(fields: &str) -> String {
    format!("[[nat.forward]]\n{fields}\n")
}

#[test]
fn what_natd_takes_the_schema_takes() {
    let mut documents = [
        each("", "provider", &["'none'\nnat.sources = ['10.0.0.0/8']", "'huawei'", "'openstack'"]),
        each(
            "[nat]",
            "sources",
            &["['vpc']", "['10.0.0.0/8', 'vpc']", "['0.0.0.0/0']", "['010.001.0.0/16']"],
        ),
        each(
            "[nat]\nmode = 'masquerade'",
            "sources",
            &["['fd00::/8']", "['::/0']", "['::ffff:10.0.0.0/104']", "['2001:db8::/032']"],
        ),
        each("[nat]", "addresses", &["[]", "['10.1.2.3', '255.0.19.200']"]),
        each("[nat]", "interface", &["'auto'", "'eth0.100'", "'br-1a2b'", "'...'", "'a[b]^`~'"]),
        each("[routes]", "destinations", &["['0.0.0.0/0']", "['198.51.100.0/24']"]),
        each(
            "[routes]",
            "tables",
            &[
                "[]",
                "['rtb-1', { tag = 'a=b=c' }, { subnets = ['s-1', 's-2'] }]",
                "{ tag = 'natd=' }",
                "{ subnets = [] }",
            ],
        ),
        each(
            "[verify]",
            "targets",
            &["['one.one.one.one:443']", "['[2606:4700::1111]:80', 'a:1', 'a:65535']"],
        ),
        each(
            "[service]",
            "interval",
            &[
                "'30s'",
                "'1h 30m'",
                "'1h30m5sec'",
                "' 2 days '",
                "'1.5h'",
                "'100ms'",
                "'1M'",
                "'3 wks'",
                "'07µs'",
            ],
        ),
        each("[service]", "listen", &["'127.0.0.1:9750'", "'[::1]:0'", "'0.0.0.0:65535'"]),
        each("[service]", "concurrency", &["1", "64"]),
        each("[conntrack]", "max", &["'auto'", "1", "4294967295"]),
        each("[conntrack.timeouts]", "tcp_established", &["'24h'", "'1s'"]),
        each("[plugin]", "settings", &["{ anything = [1, { at = 'all' }] }", "{}"]),
        each("[openstack]", "routes", &["'router'", "'host_routes'"]),
        each("[huawei]", "next_hop", &["'ecs'", "'eni'", "'vip'\nvirtual_address = '10.0.0.9'"]),
        vec![
            "[cloud]\nanything = 1\n[cloud.at]\nall = true\n".to_owned(),
            "[[routes]]\ntables = ['a']\n[[routes]]\ntables = ['b']\n".to_owned(),
            String::new(),
        ],
    ]
    .concat();
    for fields in [
        "protocol = 'tcp'\nport = 1\nto = '10.0.0.1'",
        "protocol = 'udp'\nport = '8000-8100'\nto = '10.0.0.1:65000'\nfrom = ['10.0.0.0/8']",
        "protocol = 'udp'\nport = '65535'\nto = '10.0.0.1:65535'",
    ] {
        documents.push(forward(fields));
    }
    assert_of_one_mind("taken", true, &documents);
}

#[test]
fn what_natd_refuses_for_its_form_the_schema_refuses() {
    let mut documents = [
        each("", "provider", &["'azure'", "''", "'AWS'", "1", "['aws']"]),
        each("", "providers", &["'aws'"]),
        each("[nat]", "source", &["['vpc']"]),
        each(
            "[nat]",
            "sources",
            &[
                "[]",
                "'vpc'",
                "['VPC']",
                "['10.0.0.0']",
                "['10.0.0.0/33']",
                "['10.0.0/8']",
                "['256.0.0.0/8']",
                "['fd00::/129']",
                "['10.0.0.0/8 ']",
                "[1]",
            ],
        ),
        each("[nat]", "mode", &["'masq'", "'SNAT'"]),
        each("[nat]", "addresses", &["['10.10.1']", "['010.1.2.3']", "['10.1.2.3/32']"]),
        each(
            "[nat]",
            "interface",
            &["''", "'.'", "'..'", "'a/b'", "'eth*'", "'sixteen-bytes-xx'", "'a b'"],
        ),
        each("[nat]", "random_fully", &["'yes'", "1"]),
        each("[routes]", "destinations", &["[]", "['0.0.0.0']", "['vpc']"]),
        each("[routes]", "takeover", &["'steal'"]),
        each(
            "[routes]",
            "tables",
            &[
                "'rtb-1'",
                "['']",
                "['a b']",
                "{ tags = 'a=b' }",
                "{ tag = 'ab' }",
                "{ tag = '=b' }",
                "{ tag = 'a=b', subnets = ['s'] }",
                "[{}]",
            ],
        ),
        each("[verify]", "targets", &["['nowhere']", "[':443']", "['a:0']", "['a:65536']"]),
        each(
            "[service]",
            "interval",
            &[
                "30",
                "'30'",
                "'0s'",
                "'0h 0m'",
                "''",
                "'s'",
                "'30 parsecs'",
                "'-1s'",
                "'1.s'",
                "'.5s'",
            ],
        ),
        each(
            "[service]",
            "listen",
            &["'9750'", "'localhost:9750'", "'127.0.0.1'", "'1.2.3.4:65536'"],
        ),
        each("[service]", "concurrency", &["0", "-1", "'8'"]),
        each("[conntrack]", "max", &["0", "'all'", "-1", "4294967296"]),
        each("[conntrack.timeouts]", "tcp_forever", &["'1s'"]),
        each("[conntrack.timeouts]", "udp", &["'0s'", "7"]),
        each("[plugin]", "timeout", &["'0s'"]),
        each("[plugin]", "command", &["'linux-router'"]),
        each("[openstack]", "routes", &["'routers'"]),
        each("[huawei]", "vpc_cidrs", &["['fd00::/8']", "['10.0.0.0']"]),
        each("[aws]", "instance", &["'i-1'"]),
        vec!["cloud = 1".to_owned(), "[[routes]]\ntable = ['a']\n".to_owned()],
    ]
    .concat();
    for fields in [
        "protocol = 'tcp'\nport = 80",
        "protocol = 'sctp'\nport = 80\nto = '10.0.0.1'",
        "protocol = 'tcp'\nport = 0\nto = '10.0.0.1'",
        "protocol = 'tcp'\nport = 65536\nto = '10.0.0.1'",
        "protocol = 'tcp'\nport = '80-'\nto = '10.0.0.1'",
        "protocol = 'tcp'\nport = 80\nto = 'web'",
        "protocol = 'tcp'\nport = 80\nto = '10.0.0.1:0'",
        "protocol = 'tcp'\nport = 80\nto = '10.0.0.1'\nform = []",
        "protocol = 'tcp'\nport = 80\nto = '10.0.0.1'\nfrom = ['fd00::/8']",
    ] {
        documents.push(forward(fields));
    }
    assert_of_one_mind("refused", false, &documents);
}
