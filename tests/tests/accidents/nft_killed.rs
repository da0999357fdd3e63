//! `nft` is killed in the middle of its work: what was in force stays in force, or what was to be is, and the next run
//! makes it good. No packet is lost.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{HEALING, after_a_quiet_tick, assert_served, natd, serving_daemon};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;

/// A lab in which `nft -f` can be killed before a system call of its own.
struct Scene {
    lab: Lab,
    orders: PathBuf,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::aws().back_end(BackEnd::Nftables).build()?;
        let nat = lab.nat();
        let (orders, place) = (nat.root.join("kill-nft"), nat.root.join("bin/nft"));
        let script = format!(
            "#!/bin/sh
             if [ \"$1\" = -f ] && order=$(cat {orders} 2>/dev/null); then
                 exec strace -qq -o /dev/null -e trace=${{order%%:*}} -e inject=${{order%%:*}}:signal=KILL:when=${{order#*:}} /usr/sbin/nft \"$@\"
             fi
             exec /usr/sbin/nft \"$@\"\n",
            orders = orders.display()
        );
        fs::write(&place, script)?;
        fs::set_permissions(&place, Permissions::from_mode(0o755))?;
        Ok(Self { lab, orders })
    }

    fn kill_before(&self, call: &str, nth: u32) -> Result<()> {
        Ok(fs::write(&self.orders, format!("{call}:{nth}"))?)
    }

    fn kill_no_more(&self) -> Result<()> {
        Ok(fs::remove_file(&self.orders)?)
    }

    /// One source more, which nobody has.
    fn configure(&self, number: u32) -> Result<()> {
        let text = format!("[nat]\nsources = [\"vpc\", \"10.77.{number}.0/24\"]\n");
        self.lab.nat().write("etc/natd/conf.d/20-source.toml", &text)
    }

    fn rules(&self) -> Result<String> {
        self.lab.nat().exec(["nft", "-s", "list", "table", "inet", "natd"])
    }
}

#[test]
fn before_any_of_its_calls_the_old_rules_or_the_new_ones_are_in_force() -> Result<()> {
    let scene = Scene::new()?;
    let lab = &scene.lab;
    scene.configure(0)?;
    natd(lab, 0, &["apply"])?;
    let mut rules = scene.rules()?;
    let stream = lab.client("client-a").stream()?;
    stream.goes_on(10)?;
    let mark = stream.mark();
    let mut number = 0;
    let (mut old, mut new) = (0, 0);
    // What it hears of the kernel, what it sends to it, and its end, when all is done.
    for call in ["recvmsg", "sendmsg", "exit_group"] {
        for nth in 1.. {
            number += 1;
            scene.configure(number)?;
            scene.kill_before(call, nth)?;
            let run = lab.nat().natd(["apply"])?;
            scene.kill_no_more()?;
            if run.code == Some(0) {
                rules = scene.rules()?;
                break;
            }
            let said = format!("{}{}", run.stdout, run.stderr);
            ensure!(said.contains("nft failed (signal: 9 (SIGKILL))"), "{call} {nth}: {run:#?}");
            let now = scene.rules()?;
            let wanted = format!("10.77.{number}.0/24");
            if now == rules {
                old += 1;
            } else {
                ensure!(now.contains(&wanted), "neither the old rules nor the new: {now}");
                new += 1;
            }
            assert_served(lab);
            natd(lab, 0, &["apply"])?;
            rules = scene.rules()?;
            ensure!(rules.contains(&wanted), "not made good: {rules}");
            // Rules that are loaded by half would be told of.
            let again = natd(lab, 0, &["apply"])?;
            ensure!(!again.stdout.contains('✓'), "{again:#?}");
        }
    }
    ensure!(old > 0 && new > 0, "killed before the change {old} times, after it {new} times");
    stream.goes_on(5)?;
    ensure!(stream.lost_since(mark)? == 0, "packets were lost");
    Ok(())
}

#[test]
fn the_daemon_tells_of_it_and_makes_it_good_at_its_next_tick() -> Result<()> {
    let scene = Scene::new()?;
    let lab = &scene.lab;
    let daemon = serving_daemon(lab, "")?;
    after_a_quiet_tick(lab, &daemon);
    let stream = lab.client("client-b").stream()?;
    stream.goes_on(10)?;
    let (mark, sent) = (daemon.mark(), stream.mark());
    scene.configure(1)?;
    scene.kill_before("sendmsg", 1)?;
    daemon.hang_up()?;
    let told = daemon.wait_for_after(mark, HEALING, |line| line.contains("SIGKILL"))?;
    ensure!(told.contains("could not load the nftables table inet natd"), "{told}");
    let (code, text) = lab.nat().health("/readyz")?;
    ensure!(code == 503 || text.contains("NAT works"), "{code} {text}");
    stream.goes_on(10)?;
    scene.kill_no_more()?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("done: replace natd's nftables"))?;
    after_a_quiet_tick(lab, &daemon);
    ensure!(scene.rules()?.contains("10.77.1.0/24"), "{}", scene.rules()?);
    ensure!(stream.lost_since(sent)? == 0, "packets were lost");
    let told = |words: &str| daemon.lines().iter().skip(mark).any(|line| line.contains(words));
    ensure!(told("INFO NAT works"), "{:#?}", daemon.lines());
    lab.client("client-a").tcp().ok().context("nobody is served")?;
    Ok(())
}
