//! The configuration's layers, and what it says of mistakes.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says what it expects, and writes its own files"
)]

use std::fs;

use natd_core::config::{Config, ConfigError, Layers, Mode, NetworkSpec, ProviderName, TableSpec};
use tempfile::TempDir;

/// A root folder with these files under `/etc/natd`.
fn root(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        let path = root.path().join("etc/natd").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, content).expect("written");
    }
    root
}

fn layers(root: &TempDir) -> Layers {
    Layers {
        root: root.path().to_owned(),
        file: None,
        provider: None,
        clouds: vec!["aws", "huawei", "openstack", "plugin"],
    }
}

fn load(files: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let root = root(files);
    layers(&root).load()
}

/// The one reason, without the folder of the test.
fn reason(files: &[(&str, &str)]) -> String {
    let root = root(files);
    let error = layers(&root).load().expect_err("a mistake");
    assert_eq!(error.reasons.len(), 1, "{error}");
    error.to_string().replace(&root.path().display().to_string(), "")
}

#[test]
fn later_layers_win_tables_merge_and_lists_are_replaced() {
    let config = load(&[
        ("natd.toml", "provider = \"aws\"\n[nat]\nsources = [\"10.1.0.0/16\", \"10.2.0.0/16\"]\nmode = \"masquerade\"\n"),
        ("conf.d/10-a.toml", "[nat]\nsources = [\"10.3.0.0/16\"]\n"),
        ("conf.d/20-b.yaml", "verify:\n  targets: [\"198.51.100.10:80\"]\n"),
        ("conf.d/README", "not a configuration"),
        ("conf.d/.20-b.yaml.swp", "nor this"),
    ])
    .expect("usable");
    assert_eq!(config.provider.as_ref().map(ProviderName::as_str), Some("aws"));
    assert_eq!(config.nat.mode, Mode::Masquerade);
    assert_eq!(config.nat.sources, [NetworkSpec::Net("10.3.0.0/16".parse().expect("a net"))]);
    assert_eq!(config.verify.targets, ["198.51.100.10:80"]);
}

#[test]
fn the_flag_wins_over_the_file_and_a_host_alone_has_no_vpc_and_no_tables() {
    let root = root(&[("natd.toml", "provider = \"aws\"\n[routes]\ntables = [\"rtb-1\"]\n")]);
    let layers = Layers { provider: Some("none".to_owned()), ..layers(&root) };
    let error = layers.load().expect_err("a host alone has no VPC");
    assert!(error.to_string().contains("routes.tables"), "{error}");
    assert!(
        error.to_string().contains("nat.sources") && error.to_string().contains("write CIDRs"),
        "{error}"
    );
}

#[test]
fn routes_are_one_group_or_several_and_tables_are_named_in_three_ways() {
    let one = load(&[(
        "natd.toml",
        "provider = \"aws\"\n[routes]\ntables = { tag = \"natd=managed\" }\n",
    )])
    .expect("usable");
    let tag = TableSpec::Tag { tag: "natd=managed".parse().expect("a tag") };
    assert_eq!(one.routes.0.len(), 1);
    assert_eq!(one.routes.0[0].tables.0.as_slice(), std::slice::from_ref(&tag));

    let several = load(&[(
        "natd.toml",
        "provider = \"aws\"\n[[routes]]\ntables = [\"rtb-1\", { tag = \"natd=managed\" }]\n[[routes]]\ntables = [{ subnets = [\"subnet-1\"] }]\ndestinations = [\"198.51.100.0/24\"]\n",
    )])
    .expect("usable");
    assert_eq!(several.routes.0.len(), 2);
    assert_eq!(several.routes.0[0].tables.0, [TableSpec::Id("rtb-1".parse().expect("an id")), tag]);
    assert_eq!(
        several.routes.0[1].tables.0,
        [TableSpec::Subnets { subnets: vec!["subnet-1".parse().expect("an id")] }]
    );
}

#[test]
fn what_is_shown_can_be_read_again() {
    let config = load(&[(
        "natd.toml",
        "provider = \"aws\"\n[conntrack]\nmax = 100000\n[conntrack.timeouts]\ntcp_established = \"24h\"\n[[routes]]\ntables = [\"rtb-1\", { tag = \"a=b\" }]\n",
    )])
    .expect("usable");
    let shown = toml::to_string(&config).expect("shown");
    assert_eq!(load(&[("natd.toml", &shown)]).expect("usable"), config, "{shown}");
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_the_nearest_known_one() {
    assert_eq!(
        reason(&[("natd.toml", "provider = \"aws\"\n[nat]\nsouces = [\"vpc\"]\n")]),
        "/etc/natd/natd.toml: nat.souces: unknown key \"souces\"; did you mean \"sources\"?"
    );
    let in_a_group = reason(&[
        ("natd.toml", "provider = \"aws\"\n"),
        ("conf.d/10.toml", "[[routes]]\ntable = [\"rtb-1\"]\n"),
    ]);
    assert!(in_a_group.starts_with("/etc/natd/conf.d/10.toml: routes"), "{in_a_group}");
    assert!(
        in_a_group.ends_with("unknown key \"table\"; did you mean \"tables\"?"),
        "{in_a_group}"
    );
    let in_a_selector =
        reason(&[("natd.toml", "provider = \"aws\"\n[routes]\ntables = { tags = \"a=b\" }\n")]);
    assert!(
        in_a_selector.ends_with("unknown key \"tags\"; did you mean \"tag\"?"),
        "{in_a_selector}"
    );
}

#[test]
fn a_bad_network_says_which_and_where() {
    let not_one = reason(&[(
        "natd.toml",
        "provider = \"aws\"\n[nat]\nsources = [\"vpc\", \"10.0.0.0/33\"]\n",
    )]);
    assert!(not_one.contains("nat.sources.1") && not_one.contains("\"10.0.0.0/33\""), "{not_one}");
    let host_bits =
        reason(&[("natd.toml", "provider = \"aws\"\n[nat]\nexclude = [\"10.1.2.3/16\"]\n")]);
    assert!(host_bits.contains("the network is \"10.1.0.0/16\""), "{host_bits}");
}

#[test]
fn all_values_that_do_not_go_together_are_told_at_once() {
    let error = load(&[(
        "natd.toml",
        "provider = \"aws\"\n[nat]\nsources = []\nmode = \"masquerade\"\naddresses = [\"10.0.0.1\"]\n[verify]\ntargets = [\"nowhere\"]\n",
    )])
    .expect_err("mistakes");
    assert_eq!(error.reasons.len(), 3, "{error}");
    for key in ["nat.sources", "nat.addresses", "verify.targets"] {
        assert!(error.reasons.iter().any(|reason| reason.contains(key)), "{key}: {error}");
    }
}

#[test]
fn a_provider_is_needed_and_has_to_be_a_known_one() {
    let missing = reason(&[]);
    assert!(missing.starts_with("provider: is not set"), "{missing}");
    let unknown = reason(&[("natd.toml", "provider = \"azure\"\n")]);
    assert!(unknown.contains("natd.toml: provider: unknown value \"azure\""), "{unknown}");
    assert!(unknown.contains("aws, huawei, openstack, plugin, none"), "{unknown}");
}

#[test]
fn two_main_files_and_files_that_can_not_be_read_are_refused() {
    let two = reason(&[("natd.toml", "provider = \"aws\"\n"), ("natd.yaml", "provider: aws\n")]);
    assert!(two.ends_with("both exist; keep one of them"), "{two}");
    let broken = reason(&[("natd.toml", "provider = \n")]);
    assert!(broken.starts_with("/etc/natd/natd.toml"), "{broken}");
    let root = root(&[]);
    let layers = Layers { file: Some("/nonexistent/natd.toml".into()), ..layers(&root) };
    let error = layers.load().expect_err("not there");
    assert!(error.to_string().starts_with("/nonexistent/natd.toml: can't be read"), "{error}");
}

#[test]
fn the_example_shows_the_defaults() {
    let example = include_str!("../../deploy/natd.toml");
    let config = load(&[("natd.toml", example)]).expect("usable");
    let mut defaults = load(&[("natd.toml", "provider = \"aws\"\n")]).expect("usable");
    defaults.routes.0[0].tables = config.routes.0[0].tables.clone();
    assert_eq!(config, defaults);
}

/// The reasons for refusing that `[nat]` section.
fn refusals(nat: &str) -> String {
    let main = format!("provider = \"aws\"\n[nat]\n{nat}\n");
    let error = load(&[("natd.toml", &main)]).expect_err("refused");
    error.reasons.join("\n")
}

#[test]
fn forwarded_ports_are_read_and_shown_alike() {
    let main = "provider = \"aws\"
[[nat.forward]]
protocol = \"tcp\"
port = 8443
to = \"10.10.2.101:443\"
[[nat.forward]]
protocol = \"udp\"
port = \"8000-8100\"
to = \"10.10.2.102\"
from = [\"198.51.100.0/24\"]
";
    let config = load(&[("natd.toml", main)]).expect("usable");
    let ports: Vec<String> =
        config.nat.forward.iter().map(|forward| forward.port.to_string()).collect();
    assert_eq!(ports, ["8443", "8000-8100"]);
    assert_eq!(config.nat.forward[0].to.port, Some(443));
    let shown = toml::to_string(&config).expect("shown");
    assert_eq!(load(&[("natd.toml", &shown)]).expect("usable"), config, "{shown}");
}

#[test]
fn forwards_that_can_not_be_are_refused_with_what_is_wrong() {
    let forward = |fields: &str| format!("[[nat.forward]]\nprotocol = \"tcp\"\n{fields}\n");
    let https = forward("port = 8443\nto = \"10.10.2.101:443\"");
    for (nat, words) in [
        (https.clone() + &https, "nat.forward.1.port: tcp 8443 is forwarded already, as 8443"),
        (
            forward("port = \"8000-8100\"\nto = \"10.10.2.1\"")
                + &forward("port = \"8100-8200\"\nto = \"10.10.2.2\""),
            "tcp 8100-8200 is forwarded already, as 8000-8100",
        ),
        (forward("port = 9750\nto = \"10.10.2.1\""), "where natd itself listens"),
        (forward("port = \"20-30\"\nto = \"10.10.2.1\""), "20-30 has 22, sshd's port"),
        (forward("port = \"8100-8000\"\nto = \"10.10.2.1\""), "reversed; write \"8000-8100\""),
        (forward("port = 0\nto = \"10.10.2.1\""), "port 0 can't be forwarded"),
        (forward("port = 80\nto = \"web\""), "\"web\" is neither an IPv4 address"),
        (forward("port = \"80-90\"\nto = \"10.10.2.1:65530\""), "not as many ports"),
        (forward("port = 80\nto = \"10.10.2.1\"\nfrom = [\"fd00::/8\"]"), "IPv4 only"),
        (forward("port = 80\nto = \"10.10.2.1\"\nform = []"), "did you mean \"from\""),
    ] {
        let said = refusals(&nat);
        assert!(said.contains(words), "{nat}: {said}");
    }
    // The same port of the other protocol is another port.
    let other = https.clone() + &https.replace("tcp", "udp");
    load(&[("natd.toml", &format!("provider = \"aws\"\n{other}"))]).expect("usable");
}

#[test]
fn what_would_translate_nothing_is_refused() {
    for exclude in ["[\"0.0.0.0/0\"]", "[\"vpc\", \"0.0.0.0/1\", \"128.0.0.0/1\"]"] {
        let said = refusals(&format!("exclude = {exclude}"));
        assert!(said.contains("nat.exclude: covers every IPv4 destination"), "{said}");
    }
    let said = refusals("sources = [\"vpc\", \"fd00::/8\"]");
    assert!(said.contains("nat.sources: has IPv6 blocks"), "{said}");
    let masqueraded = "provider = \"aws\"\n[nat]\nmode = \"masquerade\"\nsources = [\"fd00::/8\"]\n[routes]\ndestinations = [\"::/0\"]\n";
    load(&[("natd.toml", masqueraded)]).expect("usable");
}

#[test]
fn a_secret_is_not_told_where_its_line_or_its_form_is_wrong() {
    let line =
        reason(&[("natd.toml", "provider = \"huawei\"\n[huawei]\nsecret_key = \"hunter2\n")]);
    assert!(line.starts_with("/etc/natd/natd.toml: TOML parse error at line 3"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");

    let digits =
        reason(&[("natd.toml", "provider = \"huawei\"\n[huawei]\nsecret_key = 1234567\n")]);
    assert_eq!(digits, "/etc/natd/natd.toml: huawei.secret_key: is not a string");

    let other = reason(&[("natd.yaml", "provider = \"huawei\" and secret_key = \"hunter2\"\n")]);
    assert_eq!(other, "/etc/natd/natd.yaml: invalid type: string …, expected a map");
}
