//! `/etc` and `/var` are full, or can't be written to any more: what works goes on working, natd says what to do and does
//! nothing by halves; and once there is room, its next tick does the rest.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use natd_tests::expect::{HEALING, after_a_quiet_tick, assert_served};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::host::PATIENCE;
use natd_tests::lab::owner::DEFAULT;

use super::scene::{beside, on_a_file_system_of_its_own, with_rc_local};

/// How a file system comes to take nothing more, and how that ends. Each is run in its folder.
struct Trouble {
    begins: &'static str,
    ends: &'static str,
    /// What the kernel says of it.
    cause: &'static str,
    /// What natd says is to be done about a file.
    advice: &'static str,
}

const FULL: Trouble = Trouble {
    begins: "head -c 1M /dev/zero >filler 2>/dev/null || true",
    ends: "rm filler",
    cause: "No space left on device",
    advice: "make room there",
};
const READ_ONLY: Trouble = Trouble {
    begins: "mount -o remount,ro .",
    ends: "mount -o remount,rw .",
    cause: "Read-only file system",
    advice: "let natd write there (remount it",
};

struct Scene {
    lab: Lab,
    daemon: Daemon,
    etc: PathBuf,
    var: PathBuf,
}

impl Scene {
    /// A daemon that serves, whose `/etc` and `/var` are file systems of their own.
    fn new() -> Result<Self> {
        let lab = Lab::aws().back_end(BackEnd::Nftables).build()?;
        with_rc_local(&lab)?;
        let (etc, var) = (lab.nat().root.join("etc"), lab.nat().root.join("var"));
        let tables =
            "[service]\ninterval = \"1s\"\n[routes]\ntables = { tag = \"natd=managed\" }\n";
        lab.nat().write("etc/natd/conf.d/10-test.toml", tables)?;
        for table in lab.ids.private_tables() {
            lab.tag(table, "natd", "managed")?;
        }
        let mounts = on_a_file_system_of_its_own(&[etc.clone(), var.clone()], "128k");
        let command = lab.nat().command_under(&["sh", "-ec", &mounts, "sh"], ["run"])?;
        let daemon = Daemon::start(command)?;
        daemon.wait_for(HEALING, |line| line.contains("INFO NAT works"))?;
        lab.sync()?;
        assert_served(&lab);
        after_a_quiet_tick(&lab, &daemon);
        Ok(Self { lab, daemon, etc, var })
    }

    fn inside(&self, folder: &Path, script: &str) -> Result<String> {
        beside(&self.daemon, &format!("cd {}; {script}", folder.display()))
    }

    /// All files of natd's and of others in `/etc`, as natd sees them.
    fn files(&self) -> Result<String> {
        let script = "find . -type f -not -name filler -not -path './natd/conf.d/*' | sort | xargs sha256sum";
        self.inside(&self.etc, script)
    }

    fn waits_for(&self, mark: usize, words: &str) -> Result<String> {
        self.daemon.wait_for_after(mark, HEALING, |line| line.contains(words))
    }
}

fn is_endured(trouble: &Trouble) -> Result<()> {
    let scene = Scene::new()?;
    let Scene { lab, daemon, etc, var } = &scene;
    let (applied, mut flow) = (scene.files()?, lab.client("client-a").udp_flow()?);
    let source = flow.exchange(PATIENCE)?;
    // What is to come is there to be read already.
    scene.inside(etc, "mkdir -p natd/later")?;
    scene.inside(
        etc,
        "printf '[nat]\\nsources = [\"vpc\", \"10.77.1.0/24\"]\\n' >natd/conf.d/20-source.toml",
    )?;

    // Another source: rules are known by their name, and the files of the boot stay whole.
    scene.inside(etc, trouble.begins)?;
    let mark = daemon.mark();
    daemon.hang_up()?;
    scene.waits_for(mark, "done: replace natd's nftables rules")?;
    let told = scene.waits_for(mark, "could not write /etc/natd/boot.nft")?;
    ensure!(told.contains(trouble.cause) && told.contains(trouble.advice), "{told}");
    ensure!(scene.files()? == applied, "a file was written by half:\n{}", scene.files()?);
    assert_served(lab);

    // What natd has done already it does again: nothing new has to be noted for that.
    scene.inside(var, trouble.begins)?;
    let mark = daemon.mark();
    lab.remove_route(lab.ids.table("private-b"), DEFAULT)?;
    scene.waits_for(mark, "done: point route")?;
    lab.sync()?;
    assert_served(lab);

    // Another table: what is only to be known from the journal is not done as long as it can't be noted.
    let mark = daemon.mark();
    let table = lab.new_table()?;
    lab.tag(&table, "natd", "managed")?;
    let told = scene.waits_for(mark, "could not write the journal")?;
    ensure!(
        told.contains("natd changes nothing that it can't note there")
            && told.contains(trouble.cause),
        "{told}"
    );
    ensure!(told.contains("make room, or make the folder writable"), "{told}");
    ensure!(lab.route(&table, DEFAULT)?.is_none(), "it was taken, and nothing remembers that");
    let (code, text) = lab.nat().health("/readyz")?;
    ensure!(code == 503 && text.starts_with("NAT works in part"), "{code} {text}");
    ensure!(flow.exchange(PATIENCE)? == source);

    let mark = daemon.mark();
    for folder in [etc, var] {
        scene.inside(folder, trouble.ends)?;
    }
    scene.waits_for(mark, "INFO NAT works")?;
    after_a_quiet_tick(lab, daemon);
    let target = lab.route(&table, DEFAULT)?;
    ensure!(target.as_deref() == Some(lab.ids.interface("nat/eth0")), "{target:?}");
    let boot = scene.inside(etc, "cat natd/boot.nft rc.local")?;
    ensure!(boot.contains("10.77.1.0/24") && boot.contains("natd: begin"), "{boot}");
    let left = scene.inside(etc, "find . -name '.*.new'; cd ../var; find . -name '.*.new'")?;
    ensure!(left.is_empty(), "left beside: {left}");
    let journal = scene.inside(var, "cat lib/natd/journal.json")?;
    ensure!(journal.contains(&table), "{journal}");
    ensure!(flow.exchange(PATIENCE)? == source);
    ensure!(lab.nat().health("/readyz")?.0 == 200);
    Ok(())
}

#[test]
fn a_full_etc_and_var_stop_nothing_that_works_and_the_rest_is_done_when_there_is_room() -> Result<()>
{
    is_endured(&FULL)
}

#[test]
fn a_read_only_etc_and_var_stop_nothing_that_works_and_the_rest_is_done_after() -> Result<()> {
    is_endured(&READ_ONLY)
}
