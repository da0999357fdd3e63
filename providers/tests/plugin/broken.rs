//! Deliberately broken plugins: each is caught, with an error that says what is wrong with it.

use std::time::Duration;

use natd_core::{
    cloud::{Provider, TableSelector},
    config,
    error::{Error, Kind},
};
use natd_providers::plugin::Plugin;

use crate::program::{HASTY, HELLO, Program};

/// Says hello, waits for the next request (id 2), and does that.
fn then(act: &str) -> Program {
    Program::shell(&format!("{HELLO}\nread -r line\n{act}"))
}

async fn refused(program: &Program) -> Error {
    let error = program.connect().await.err().expect("it must not be taken for a plugin");
    program.leaves_nothing().await;
    error
}

/// What becomes of a call, and that nothing is left of a plugin that is given up.
async fn fails(program: &Program) -> Error {
    let plugin = program.connect().await.expect("it starts");
    let error = plugin.instance().await.expect_err("broken");
    drop(plugin);
    program.leaves_nothing().await;
    error
}

#[track_caller]
fn assert_says(error: &Error, kind: Kind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is missing in: {error}");
    }
    assert!(error.to_string().chars().count() < 1500, "the error is too long: {error}");
}

#[tokio::test]
async fn a_plugin_of_another_version_is_refused() {
    let hello = HELLO.replace("\"protocol\":1", "\"protocol\":2");
    let error = refused(&Program::shell(&format!("{hello}\nread -r line"))).await;
    assert_says(&error, Kind::Unsupported, &["speaks version 2", "version 1", "go together"]);
}

#[tokio::test]
async fn a_plugin_without_a_version_is_refused() {
    let hello = HELLO.replace("\"protocol\":1,", "");
    let error = refused(&Program::shell(&format!("{hello}\nread -r line"))).await;
    assert_says(&error, Kind::Invalid, &["initialize", "missing field `protocol`", "\"test\""]);
}

#[tokio::test]
async fn settings_that_the_plugin_refuses_are_told_in_its_own_words() {
    let hello = r#"read -r line
        echo '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no colour","data":{"kind":"invalid","advice":"set plugin.settings.colour"}}}'
        read -r line"#;
    let error = refused(&Program::shell(hello)).await;
    assert_eq!(
        error.to_string(),
        "could not start the plugin: no colour; set plugin.settings.colour"
    );
    assert_eq!(error.kind(), Kind::Invalid);
}

#[tokio::test]
async fn garbage_is_shown() {
    for (act, words) in [
        ("echo hello; read -r line", ["no JSON", "hello"]),
        ("echo; read -r line", ["no JSON", ""]),
        ("printf '\\377\\376x\\n'; read -r line", ["not UTF-8", "x"]),
        ("printf '\\033[2J\\n'; read -r line", ["no JSON", "\\u{1b}[2J"]),
        ("echo '[1]'; read -r line", ["no JSON object", "[1]"]),
        (r#"echo '{"id":2,"result":{}}'; read -r line"#, ["jsonrpc", "\"result\""]),
        (r#"echo '{"jsonrpc":"2.0","id":2}'; read -r line"#, ["result and error", "2.0"]),
        (
            r#"echo '{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"m","data":{"kind":"odd"}}}'; read -r line"#,
            ["doesn't fit the protocol", "odd"],
        ),
        (
            r#"echo '{"jsonrpc":"2.0","method":"log","params":{}}'; read -r line"#,
            ["notification", "log"],
        ),
    ] {
        assert_says(&fails(&then(act)).await, Kind::Invalid, &words);
    }
}

#[tokio::test]
async fn an_answer_to_another_request_is_caught() {
    for id in ["1", "3", "\"2\"", "-2", "null", "18446744073709551616"] {
        let act = format!(r#"echo '{{"jsonrpc":"2.0","id":{id},"result":{{}}}}'; read -r line"#);
        assert_says(&fails(&then(&act)).await, Kind::Invalid, &["an answer", id]);
    }
}

#[tokio::test]
async fn an_answer_of_another_shape_is_shown_and_the_plugin_lives_on() {
    let good = r#"{"id":"vm-1","network":"n","network_cidrs":["10.0.0.0/8"]}"#;
    for (answer, words) in [
        ("[]", ["no object", "[]"]),
        ("true", ["no object", "true"]),
        ("null", ["missing field `id`", "null"]),
        (r#"{"id":"vm-1"}"#, ["missing field `network`", "vm-1"]),
        (r#"{"id":7,"network":"n","network_cidrs":[]}"#, ["invalid type", "7"]),
        (r#"{"id":"a b","network":"n","network_cidrs":[]}"#, ["id is", "a b"]),
        (r#"{"id":"vm-1","network":"n","network_cidrs":["ten"]}"#, ["network_cidrs is", "ten"]),
    ] {
        let program = then(&format!(
            r#"echo '{{"jsonrpc":"2.0","id":2,"result":{answer}}}'
            read -r line; echo '{{"jsonrpc":"2.0","id":3,"result":{good}}}'; read -r line"#
        ));
        let plugin = program.connect().await.expect("it starts");
        let error = plugin.instance().await.expect_err("another shape");
        assert_says(&error, Kind::Invalid, &["answered to instance", words[0], words[1]]);
        assert_eq!(plugin.instance().await.expect("the next answer").id.as_str(), "vm-1");
        assert_eq!(program.pids().len(), 1);
    }
}

#[tokio::test]
async fn a_table_that_makes_no_sense_is_named() {
    for (tables, words) in [
        (r#"[{"id":"rt-1","routes":[]},{"id":"rt-1","routes":[]}]"#, "lists the table rt-1 twice"),
        (
            r#"[{"id":"rt-1","routes":[{"destination":"all","next_hop":{"type":"local"}}]}]"#,
            "table rt-1: destination is \"all\"",
        ),
        (
            r#"[{"id":"rt-1","routes":[{"destination":"::/0","next_hop":{"type":"interface"}}]}]"#,
            "table rt-1: next_hop.id is \"\"",
        ),
        (
            r#"[{"id":"rt-1","routes":[{"destination":"::/0","next_hop":{"type":"local"},"state":"tired"}]}]"#,
            "unknown variant `tired`",
        ),
    ] {
        let program = then(&format!(
            r#"echo '{{"jsonrpc":"2.0","id":2,"result":{{"found":{tables}}}}}'; read -r line"#
        ));
        let plugin = program.connect().await.expect("it starts");
        let selector =
            TableSelector { ids: ["rt-1".parse().expect("id")].into(), ..TableSelector::default() };
        let error = plugin.route_tables(&selector).await.err().expect("nonsense");
        assert_says(&error, Kind::Invalid, &["route_tables", words]);
    }
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed() {
    let program = then("echo thinking >&2; sleep 1000 & wait").patient_for(Duration::from_secs(1));
    let error = fails(&program).await;
    assert_says(
        &error,
        Kind::Unreachable,
        &["instance within 1 s", "killed", "thinking", "plugin.timeout"],
    );
}

#[tokio::test]
async fn a_plugin_that_hangs_at_its_start_is_killed() {
    let program = Program::shell("sleep 1000").patient_for(Duration::from_secs(1));
    let error = refused(&program).await;
    assert_says(&error, Kind::Unreachable, &["initialize within 1 s", "killed"]);
}

#[tokio::test]
async fn a_plugin_that_does_not_read_is_killed() {
    let mut program = Program::shell("exec sleep 1000").patient_for(Duration::from_secs(1));
    let long = serde_json::Value::String("x".repeat(1 << 20));
    program.options.settings = [("more than a pipe holds".to_owned(), long)].into_iter().collect();
    assert_says(&refused(&program).await, Kind::Unreachable, &["initialize", "killed"]);
}

#[tokio::test]
async fn a_plugin_that_ignores_every_signal_is_killed() {
    let stubborn = then("trap '' TERM INT HUP; while :; do sleep 0.1; done");
    let error = fails(&stubborn.patient_for(Duration::from_secs(1))).await;
    assert_says(&error, Kind::Unreachable, &["killed"]);
}

#[tokio::test]
async fn a_plugin_that_dies_is_told_with_its_last_words() {
    let error = refused(&Program::shell("echo no key >&2; exit 3")).await;
    assert_says(&error, Kind::Unreachable, &["ended (exit status: 3)", "last said: no key"]);
    let error = fails(&then("echo it hurts >&2; kill -SEGV $$")).await;
    assert_says(&error, Kind::Unreachable, &["ended (signal: 11", "last said: it hurts"]);
    let error = fails(&then("printf '{\"jsonrpc\":'; exit 0")).await;
    assert_says(&error, Kind::Invalid, &["no JSON", "{\"jsonrpc\":"]);
    let error = fails(&then("exec >&-; sleep 1000")).await;
    assert_says(&error, Kind::Unreachable, &["closed its standard output"]);
}

#[tokio::test]
async fn a_flood_of_complaints_drowns_no_answer() {
    let program = then(
        r#"head -c 20000000 /dev/zero | tr '\0' x >&2
        yes complaint | head -n 200000 >&2
        echo '{"jsonrpc":"2.0","id":2,"result":{"id":"vm-1","network":"n","network_cidrs":[]}}'
        read -r line"#,
    );
    let plugin = program.connect().await.expect("it starts");
    assert_eq!(plugin.instance().await.expect("answered").id.as_str(), "vm-1");
}

#[tokio::test]
async fn an_endless_line_is_cut_off() {
    let error = fails(&then("tr '\\0' x < /dev/zero")).await;
    assert_says(&error, Kind::Invalid, &["more than 1048576 bytes", "xxx", "…"]);
}

#[tokio::test]
async fn an_answer_too_many_is_caught() {
    let answer =
        r#"{"jsonrpc":"2.0","id":2,"result":{"id":"vm-1","network":"n","network_cidrs":[]}}"#;
    let program = then(&format!("echo '{answer}'; sleep 0.2; echo '{answer}'; read -r line"));
    let plugin = program.connect().await.expect("it starts");
    assert_eq!(plugin.instance().await.expect("answered once").id.as_str(), "vm-1");
    program.leaves_nothing().await;
    let error = plugin.instance().await.expect_err("the second answer");
    assert_says(&error, Kind::Unreachable, &["nobody waits for", "vm-1", "started again"]);
}

#[tokio::test]
async fn a_slow_start_is_waited_for() {
    let program = Program::shell(&format!("sleep 1; {HELLO}\nread -r line"));
    program.connect().await.expect("in its own time");
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    #[expect(clippy::disallowed_methods, reason = "a program of a test")]
    let write = |name: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(path(name), "#!/nowhere/python9\n").expect("written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path(name), mode).expect("set");
    };
    write("plain", 0o644);
    write("orphan", 0o755);
    for (name, kind, words) in [
        ("absent", Kind::NotFound, "there is no program"),
        ("plain", Kind::Denied, "is not executable"),
        ("orphan", Kind::NotFound, "the interpreter"),
    ] {
        let options = config::Plugin { command: vec![path(name)], ..config::Plugin::default() };
        let error = Plugin::connect_with(options, HASTY).await.err().expect("nothing to run");
        assert_says(&error, kind, &["start the plugin", words, &path(name), "plugin.command"]);
    }
}
