//! The iptables back end, over iptables-nft and iptables-legacy alike.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use natd_agent::firewall::Iptables;
use natd_core::{
    error::Kind,
    host::{Depth, Firewall as _},
};

use crate::{
    DEADLINE, LOCK, assert_damage, assert_intact, in_namespace, other_rendering, rendering, run,
    script,
};

/// Each variant by its own name, whichever `iptables` is on this machine.
const VARIANTS: [&str; 2] = ["iptables-nft", "iptables-legacy"];

async fn foreign_iptables(variant: &str) {
    run(&format!(
        "{variant} -P FORWARD DROP; {variant} -N DOCKER; {variant} -A FORWARD -i docker0 -j DOCKER
        {variant} -A DOCKER -m comment --comment 'natd: \"not\" mine' -j ACCEPT
        {variant} -t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE"
    ))
    .await;
}

/// All rules of both variants, handles of iptables-nft included, without times and counters.
async fn everything() -> String {
    run("nft -a list ruleset; iptables-nft-save | sed '/^#/d'; iptables-legacy-save | sed '/^#/d'")
        .await
        .lines()
        .map(|line| line.split(" [").next().unwrap_or_default().to_owned() + "\n")
        .collect()
}

#[test]
fn loads_replaces_and_reads_back_in_the_tables_of_its_variant() {
    for variant in VARIANTS {
        in_namespace(move || async move {
            let firewall = Iptables::new(variant, LOCK, DEADLINE);
            assert_eq!(firewall.loaded(Depth::Elements).await.expect("readable"), None);
            for rendering in [rendering(firewall.kind()), other_rendering(firewall.kind())] {
                firewall.load(&rendering).await.expect("loads");
                assert_intact(&firewall, &rendering).await;
                let text = run(&format!("{variant}-save | grep NATD | tr -d '\"'")).await;
                let mut there: Vec<&str> = text.lines().collect();
                let mut shown: Vec<&str> =
                    rendering.text.lines().filter(|line| line.contains("NATD")).collect();
                there.sort_unstable();
                shown.sort_unstable();
                assert_eq!(there, shown, "the kernel has what is shown");
            }
            let (nft, legacy) =
                (run("nft list tables").await, run("cat /proc/net/ip_tables_names").await);
            if variant == "iptables-nft" {
                assert!(nft.contains("table ip nat") && legacy.is_empty(), "{nft}{legacy}");
            } else {
                assert!(nft.is_empty() && legacy.contains("nat"), "{nft}{legacy}");
            }
        });
    }
}

#[test]
fn makes_no_table_where_nothing_is_its_own() {
    for variant in VARIANTS {
        in_namespace(move || async move {
            let firewall = Iptables::new(variant, LOCK, DEADLINE);
            assert_eq!(firewall.loaded(Depth::Elements).await.expect("readable"), None);
            firewall.unload().await.expect("nothing to do");
            assert_eq!(run("nft list ruleset; cat /proc/net/ip_tables_names").await, "");
        });
    }
}

#[test]
fn tells_each_tampering() {
    for variant in VARIANTS {
        in_namespace(move || async move {
            let firewall = Iptables::new(variant, LOCK, DEADLINE);
            let post = "post=$(SAVE | sed -n 's/^:\\(NATD-POST-[^ ]*\\).*/\\1/p')\n";
            let jump = "jump=$(SAVE | sed -n 's/^-A POSTROUTING \\(.*NATD-POST.*\\)/\\1/p' | tr -d '\"')\n";
            for (tampering, damage) in [
                ("IPT -t nat -F POSTROUTING", Some("rule 13 of 20 is missing")),
                ("POST IPT -t nat -F $post", Some("rule 14 of 20 is missing")),
                ("POST IPT -t nat -D $post 2", Some("rule 15 of 20 is missing")),
                ("POST IPT -t nat -I $post -j RETURN", Some("foreign rules in NATD-POST")),
                (
                    "POST IPT -t nat -A POSTROUTING -j $post",
                    Some("foreign rules in POSTROUTING: 1"),
                ),
                ("JUMP IPT -t nat -A POSTROUTING $jump", Some("rule 13 of 20 is there 2 times")),
                (
                    "JUMP IPT -t nat -F POSTROUTING; IPT -t nat -N ELSE; IPT -t nat -A ELSE $jump",
                    Some("foreign rules in ELSE: 1"),
                ),
                ("IPT -t nat -N NATD-POST-0", Some("chain NATD-POST-0 is left over")),
                ("IPT -F", Some("rule 3 of 20 is missing")),
                ("IPT -t nat -F; IPT -t nat -X; IPT -F; IPT -X", None),
            ] {
                let tampering = tampering.replace("POST IPT", &format!("{post}IPT"));
                let tampering =
                    tampering.replace("JUMP ", jump).replace("SAVE", &format!("{variant}-save"));
                assert_damage(&firewall, &tampering.replace("IPT", variant), damage).await;
            }
            // Where the jump stands is the neighbours' affair, too.
            firewall.load(&rendering(firewall.kind())).await.expect("loads");
            run(&format!("{variant} -I FORWARD -j ACCEPT")).await;
            assert_intact(&firewall, &rendering(firewall.kind())).await;
        });
    }
}

#[test]
fn unloads_its_own_and_nothing_else() {
    for variant in VARIANTS {
        in_namespace(move || async move {
            let firewall = Iptables::new(variant, LOCK, DEADLINE);
            foreign_iptables(variant).await;
            let before = everything().await;
            firewall.load(&rendering(firewall.kind())).await.expect("loads");
            firewall.load(&other_rendering(firewall.kind())).await.expect("loads");
            firewall.unload().await.expect("unloads");
            firewall.unload().await.expect("nothing to do");
            assert_eq!(firewall.loaded(Depth::Elements).await.expect("readable"), None);
            assert_eq!(everything().await, before);
        });
    }
}

/// The variant's programs in a folder, where those that change something run `before` first.
async fn wrapped(folder: &Path, variant: &str, before: &str) -> &'static str {
    let (family, form) = variant.split_once('-').expect("a variant");
    assert_eq!(family, "iptables");
    for family in ["iptables", "ip6tables"] {
        let change = format!("{before}\nexec {family}-{form}");
        script(&folder.join(family), &format!("{change} \"$@\"")).await;
        script(&folder.join(format!("{family}-restore")), &format!("{change}-restore \"$@\""))
            .await;
        let save = format!("exec {family}-{form}-save \"$@\"");
        script(&folder.join(format!("{family}-save")), &save).await;
    }
    folder.join("iptables").display().to_string().leak()
}

#[test]
fn converges_after_an_end_halfway() {
    for variant in VARIANTS {
        in_namespace(move || async move {
            let firewall = Iptables::new(variant, LOCK, DEADLINE);
            let (old, new) = (rendering(firewall.kind()), other_rendering(firewall.kind()));
            for commands in 0.. {
                firewall.load(&old).await.expect("loads");
                let folder = tempfile::tempdir().expect("a folder");
                let left = folder.path().join("left");
                tokio::fs::write(&left, "x".repeat(commands)).await.expect("written");
                let text = format!(
                    "test -s {left} || exit 1; truncate -s -1 {left}",
                    left = left.display()
                );
                let ending =
                    Iptables::new(wrapped(folder.path(), variant, &text).await, LOCK, DEADLINE);
                let ended = ending.load(&new).await;
                firewall.load(&new).await.expect("loads over anything");
                assert_intact(&firewall, &new).await;
                if ended.is_ok() {
                    assert!(commands > 5, "it takes more than {commands} commands");
                    return;
                }
            }
        });
    }
}

#[test]
fn gives_up_by_its_deadline_while_another_holds_the_lock() {
    in_namespace(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = folder.path().join("lock");
        let text = format!("export XTABLES_LOCKFILE={}", lock.display());
        let program = wrapped(folder.path(), "iptables-legacy", &text).await;
        let firewall = Iptables::new(program, &lock, Duration::from_millis(2900));
        firewall.load(&rendering(firewall.kind())).await.expect("the lock is free");
        let before = everything().await;

        let mut holder = tokio::process::Command::new("flock")
            .args([lock.as_os_str(), "sleep".as_ref(), "5".as_ref()])
            .kill_on_drop(true)
            .spawn()
            .expect("flock");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        let error =
            firewall.load(&other_rendering(firewall.kind())).await.expect_err("the lock is held");
        assert!(begun.elapsed() < Duration::from_millis(2900), "{:?}", begun.elapsed());
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(error.to_string().contains("holds the xtables lock"), "{error}");
        firewall.loaded(Depth::Elements).await.expect("reading needs no lock");

        holder.wait().await.expect("it ends");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(everything().await, before, "nothing goes on behind our back");
        firewall.load(&other_rendering(firewall.kind())).await.expect("the lock is free");
    });
}

#[test]
fn leaves_no_child_behind_that_hangs() {
    in_namespace(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let text = format!("echo $$ > {}; exec sleep 60", pid.display());
        let program = wrapped(folder.path(), "iptables-nft", &text).await;
        let firewall = Iptables::new(program, LOCK, Duration::from_millis(500));
        let begun = Instant::now();
        let error = firewall.load(&rendering(firewall.kind())).await.expect_err("it hangs");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(error.kind(), Kind::Unreachable);
        let pid = tokio::fs::read_to_string(pid).await.expect("it ran");
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "it is still there");
    });
}
