//! A plugin's program from start to end: started again with backoff, never twice, never left behind.

use std::time::Duration;

use natd_core::{cloud::Provider, error::Kind};
use natd_providers::plugin::{Limits, Plugin};
use tokio::time::sleep;

use crate::program::{HASTY, HELLO, Program, is_there};

const INSTANCE: &str =
    r#"echo '{"jsonrpc":"2.0","id":2,"result":{"id":"vm-1","network":"n","network_cidrs":[]}}'"#;

/// Answers one question, and dies of the second.
fn mortal() -> Program {
    Program::shell(&format!("{HELLO}\nread -r line\n{INSTANCE}\nread -r line || exit 0\nexit 7"))
}

#[tokio::test]
async fn a_plugin_that_has_died_is_started_again() {
    let program = mortal();
    let plugin = program.connect().await.expect("it starts");
    for life in 1..=3 {
        // As a daemon does: again and again.
        while let Err(error) = plugin.instance().await {
            assert_eq!(error.kind(), Kind::Unreachable, "{error}");
            sleep(Duration::from_millis(5)).await;
        }
        let pids = program.pids();
        assert_eq!(pids.len(), life);
        let (last, earlier) = pids.split_last().expect("a life");
        assert!(is_there(*last) && earlier.iter().all(|pid| !is_there(*pid)), "one at a time");
        let error = plugin.instance().await.expect_err("it dies of that");
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(error.to_string().contains("exit status: 7"), "{error}");
    }
    drop(plugin);
    program.leaves_nothing().await;
}

#[tokio::test]
async fn while_it_is_down_calls_fail_at_once_and_say_why() {
    let program = mortal();
    let limits = Limits { first_backoff: Duration::from_hours(1), ..HASTY };
    let plugin = Plugin::connect_with(program.options.clone(), limits).await.expect("it starts");
    plugin.instance().await.expect("answered");
    plugin.instance().await.expect_err("it dies of that");
    for _ in 0..100 {
        let error = plugin.instance().await.expect_err("down");
        assert_eq!(error.kind(), Kind::Unreachable);
        let text = error.to_string();
        assert!(text.contains("is down: the plugin") && text.contains("exit status: 7"), "{text}");
        assert!(text.contains("it is started again in"), "{text}");
    }
    assert_eq!(program.pids().len(), 1);
}

#[tokio::test]
async fn each_wait_is_longer_than_the_one_before() {
    // Good once, and then never again.
    let program = Program::shell(
        r#"date +%s%N >> "$DIR/starts"
        [ -e "$DIR/was" ] && exit 1
        touch "$DIR/was"
        read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"protocol":1,"name":"test"}}'
        read -r line"#,
    );
    let limits = Limits { first_backoff: Duration::from_millis(100), ..HASTY };
    let plugin = Plugin::connect_with(program.options.clone(), limits).await.expect("it starts");
    let starts = || program.file("starts").lines().count();
    let begun = tokio::time::Instant::now();
    while starts() < 5 {
        assert!(begun.elapsed() < Duration::from_mins(1), "it is not started again");
        plugin.instance().await.expect_err("it doesn't live");
        sleep(Duration::from_millis(5)).await;
    }
    let times: Vec<u64> =
        program.file("starts").lines().map(|time| time.parse().expect("a time")).collect();
    // 100 ms doubled each time, and something by chance on top: never less than that.
    for (life, pair) in times.windows(2).enumerate() {
        let least = 100_000_000 << life;
        assert!(pair[1] - pair[0] >= least, "life {life}: {} ns", pair[1] - pair[0]);
    }
}

#[tokio::test]
async fn however_many_ask_there_is_one_program() {
    let program = Program::shell(
        r#"[ -e "$DIR/lock" ] && touch "$DIR/twice"
        touch "$DIR/lock"
        read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"protocol":1,"name":"test"}}'
        read -r line; rm "$DIR/lock"; exit 1"#,
    );
    let limits = Limits { first_backoff: Duration::ZERO, ..HASTY };
    let plugin = Plugin::connect_with(program.options.clone(), limits).await.expect("it starts");
    for _ in 0..5 {
        let asking: Vec<_> = (0..10).map(|_| plugin.instance()).collect();
        for answer in futures_util::future::join_all(asking).await {
            answer.expect_err("it dies of every question");
        }
    }
    assert!(program.pids().len() > 3);
    assert!(!program.path("twice").exists(), "two at once");
}

#[tokio::test]
async fn a_plugin_is_let_go_gently() {
    let program = Program::shell(&format!(
        "{HELLO}\nread -r line || echo 'end of input' > \"$DIR/farewell\""
    ));
    drop(program.connect().await.expect("it starts"));
    assert_eq!(program.awaits("farewell").await, "end of input\n");
    program.leaves_nothing().await;
}

#[tokio::test]
async fn a_plugin_that_does_not_go_is_told_and_one_that_does_not_listen_is_killed() {
    let program = Program::shell(&format!(
        "trap 'echo term > \"$DIR/farewell\"; exit 0' TERM\n{HELLO}\nwhile :; do sleep 0.05; done"
    ));
    drop(program.connect().await.expect("it starts"));
    assert_eq!(program.awaits("farewell").await, "term\n");
    program.leaves_nothing().await;

    let program = Program::shell(&format!("trap '' TERM\n{HELLO}\nwhile :; do sleep 0.05; done"));
    drop(program.connect().await.expect("it starts"));
    program.leaves_nothing().await;
}

/// Starts a child that nobody will end but natd.
const CHILD: &str = "sleep 1000 > /dev/null 2>&1 < /dev/null & echo $! >> \"$DIR/children\"";

/// What the plugin has started goes with it, whichever way it ends.
#[tokio::test]
async fn nothing_that_the_plugin_started_is_left() {
    for end in ["exit 1", "exec sleep 1000", "echo nonsense; read -r line", "exec >&-; sleep 1000"]
    {
        let program = Program::shell(&format!("{CHILD}\n{HELLO}\nread -r line\n{end}"))
            .patient_for(Duration::from_secs(1));
        let plugin = program.connect().await.expect("it starts");
        assert!(program.children_are_alive());
        plugin.instance().await.expect_err("no answer");
        drop(plugin);
        program.leaves_nothing().await;
    }
    let program = Program::shell(&format!("{CHILD}\n{HELLO}\nread -r line"));
    drop(program.connect().await.expect("it starts"));
    program.leaves_nothing().await;
}

/// As natd ends: the runtime is gone before anything was waited for.
#[test]
fn a_plugin_ends_with_natd() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    };
    for (body, farewell) in [
        ("read -r line || echo 'end of input' > \"$DIR/farewell\"", "end of input\n"),
        ("trap '' TERM\nwhile :; do sleep 0.05; done", ""),
    ] {
        let program = Program::shell(&format!("{CHILD}\n{HELLO}\n{body}"));
        let natd = runtime();
        let plugin = natd.block_on(program.connect()).expect("it starts");
        assert!(program.children_are_alive());
        drop(plugin);
        drop(natd);
        assert!(!is_there(program.pids()[0]), "it is still there, or nobody has waited for it");
        assert_eq!(program.file("farewell"), farewell);
        runtime().block_on(program.leaves_nothing());
    }
}

/// A caller that loses patience loses only its answer.
#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_disturbs_no_other() {
    let program = Program::shell(&format!(
        r#"{HELLO}
        n=1
        while read -r line; do
            n=$((n + 1))
            sleep 0.2
            echo '{{"jsonrpc":"2.0","id":'$n',"result":{{"id":"vm-'$n'","network":"n","network_cidrs":[]}}}}'
        done"#
    ));
    let plugin = program.connect().await.expect("it starts");
    tokio::time::timeout(Duration::from_millis(50), plugin.instance()).await.expect_err("slow");
    assert_eq!(plugin.instance().await.expect("answered").id.as_str(), "vm-3");
    assert_eq!(program.pids().len(), 1);
}

const SECRET: &str = "NATD_OPENSTACK__PASSWORD";

/// In a process of its own, since its environment is another.
#[test]
fn the_environment_is_natds_own_less_its_configuration() {
    let test = std::env::current_exe().expect("this program");
    let with_secrets = std::process::Command::new(test)
        .args(["--exact", "lives::the_environment_of_a_plugin", "--ignored", "--nocapture"])
        .env(SECRET, "hush")
        .env("COLOUR", "blue")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = with_secrets.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "needs the environment that the test above gives it"]
async fn the_environment_of_a_plugin() {
    assert!(std::env::var_os(SECRET).is_some());
    let program = Program::shell(&format!("env > \"$DIR/env\"\n{HELLO}\nread -r line"));
    let _plugin = program.connect().await.expect("it starts");
    let environment = program.awaits("env").await;
    assert!(environment.contains("COLOUR=blue"), "{environment}");
    assert!(!environment.contains("NATD_"), "{environment}");
}
