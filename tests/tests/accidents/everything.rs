//! One accident after the other, from a seed, in the cloud, on the host and on its disk, while packets flow: in the end
//! private hosts are served, others have what they had, and `natd down` leaves the machine as it was.
//!
//! `NATD_SEED=N` has the test go by that seed; one that fails prints its own.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{HEALING, after_a_quiet_tick, assert_served, natd};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::wait::until;

use super::scene::with_rc_local;

const ROUNDS: u32 = 40;

/// Somebody else's: what they are is told by their handles, which rules that are made anew don't get again, and by what
/// they have counted.
const THEIRS: &str = "
table inet theirs {
    set blocked { type ipv4_addr; elements = { 192.0.2.66, 192.0.2.67 }; }
    chain forward { type filter hook forward priority 10; policy accept; ip saddr @blocked drop; ip daddr 198.51.100.10 counter; }
    chain out { type nat hook postrouting priority 110; ip saddr 172.29.0.0/16 masquerade; }
}
";

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap_or_default()]
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Accident {
    RulesEmptied,
    RulesRemoved,
    CallsFail,
    NatdKilled,
    NatdHeldStill,
    RouteRemoved,
    RouteTaken,
    ForwardingOff,
    CheckOn,
    FileTorn,
    FileRemoved,
    JournalUnwritable,
    NftKilled,
    LinkDownAndUp,
    RuleOfOthersAdded,
    Calm,
}

const ACCIDENTS: [Accident; 16] = [
    Accident::RulesEmptied,
    Accident::RulesRemoved,
    Accident::CallsFail,
    Accident::NatdKilled,
    Accident::NatdHeldStill,
    Accident::RouteRemoved,
    Accident::RouteTaken,
    Accident::ForwardingOff,
    Accident::CheckOn,
    Accident::FileTorn,
    Accident::FileRemoved,
    Accident::JournalUnwritable,
    Accident::NftKilled,
    Accident::LinkDownAndUp,
    Accident::RuleOfOthersAdded,
    Accident::Calm,
];

const ACTIONS: [&str; 6] = [
    "DescribeNetworkInterfaces",
    "DescribeRouteTables",
    "CreateRoute",
    "ReplaceRoute",
    "ModifyNetworkInterfaceAttribute",
    "*",
];

const TABLES: [&str; 2] = ["private-a", "private-b"];

const WRITTEN: [&str; 4] = [
    "etc/natd/boot.nft",
    "etc/sysctl.d/90-natd.conf",
    "run/sysctl.d/90-natd-forwarding.conf",
    "etc/rc.local",
];

type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

struct Scene {
    lab: Lab,
    /// Before natd's first run.
    before: (State, Files, (String, u64)),
    dice: Dice,
    daemon: Daemon,
    /// Daemons that were killed, for what they had said.
    said: Vec<String>,
    orders: PathBuf,
    /// How often each table was pointed elsewhere: a third time would be the end of it, and answers that come
    /// late make two of one.
    taken: BTreeMap<String, u32>,
    happened: Vec<Accident>,
}

fn start(lab: &Lab) -> Result<Daemon> {
    lab.nat().daemon::<&str>([])
}

impl Scene {
    fn new(seed: u64) -> Result<Self> {
        let lab = Lab::aws().back_end(BackEnd::Nftables).build()?;
        let nat = lab.nat();
        let (orders, place) = (nat.root.join("kill-nft"), nat.root.join("bin/nft"));
        let script = format!(
            "#!/bin/sh
             if [ \"$1\" = -f ] && [ -e {orders} ]; then
                 exec strace -qq -o /dev/null -e trace=sendmsg -e inject=sendmsg:signal=KILL:when=1 /usr/sbin/nft \"$@\"
             fi
             exec /usr/sbin/nft \"$@\"\n",
            orders = orders.display()
        );
        fs::write(&place, script)?;
        fs::set_permissions(&place, Permissions::from_mode(0o755))?;
        with_rc_local(&lab)?;
        for folder in ["run", "var/lib", "etc/sysctl.d"] {
            fs::create_dir_all(nat.root.join(folder))?;
        }
        nat.write(
            "etc/natd/conf.d/10-test.toml",
            "[service]\ninterval = \"1s\"\n[verify]\ninterval = \"1s\"\n",
        )?;
        nat.namespace.nft(THEIRS)?;
        nat.sh("iptables-nft -A FORWARD -s 192.0.2.69 -j DROP; iptables-nft -t nat -A POSTROUTING -s 172.30.0.0/16 -j MASQUERADE")?;
        nat.namespace.set_sysctls(&[("net.ipv4.conf.eth0.rp_filter", "1")])?;
        lab.point_route(lab.ids.table("private-a"), DEFAULT, &lab.ids.elsewhere)?;
        let before = (State::of(&lab)?, nat.files()?, theirs(&lab)?);
        let daemon = start(&lab)?;
        daemon.wait_for(HEALING, |line| line.contains("INFO NAT works"))?;
        lab.sync()?;
        Ok(Self {
            before,
            dice: Dice(seed),
            daemon,
            said: Vec::new(),
            orders,
            taken: BTreeMap::new(),
            happened: Vec::new(),
            lab,
        })
    }

    fn obstacle(&self) -> PathBuf {
        self.lab.nat().root.join("var/lib/natd/.journal.json.new")
    }

    fn happens(&mut self) -> Result<()> {
        let accident = *self.dice.pick(&ACCIDENTS);
        self.happened.push(accident);
        let lab = &self.lab;
        let nat = lab.nat();
        let table = *self.dice.pick(&TABLES);
        let table = lab.ids.table(table).to_owned();
        match accident {
            // It may be gone just now.
            Accident::RulesEmptied => drop(nat.exec(["nft", "flush", "table", "inet", "natd"])),
            Accident::RulesRemoved => drop(nat.exec(["nft", "delete", "table", "inet", "natd"])),
            Accident::CallsFail => {
                let faults = [
                    Fault::throttled(),
                    Fault::denied(),
                    Fault::unauthorised(),
                    Fault::DropBefore,
                    Fault::DropAfter,
                    Fault::Delay(Duration::from_millis(300)),
                    Fault::Twice,
                    Fault::Outdated,
                ];
                let (action, fault) = (*self.dice.pick(&ACTIONS), self.dice.pick(&faults).clone());
                let times = 1 + self.dice.below(4);
                lab.fail(action, fault, usize::try_from(times)?);
            }
            Accident::NatdKilled => {
                self.daemon.kill()?;
                self.daemon.wait(HEALING)?;
                self.said.extend(self.daemon.lines());
                self.daemon = start(lab)?;
            }
            Accident::NatdHeldStill => {
                self.daemon.freeze()?;
                drop(nat.exec(["nft", "flush", "table", "inet", "natd"]));
                sleep(Duration::from_millis(300));
                self.daemon.thaw()?;
            }
            Accident::RouteRemoved if lab.route(&table, DEFAULT)?.is_some() => {
                lab.remove_route(&table, DEFAULT)?;
            }
            Accident::RouteTaken if self.taken.get(&table).is_none_or(|times| *times < 1) => {
                *self.taken.entry(table.clone()).or_default() += 1;
                lab.point_route(&table, DEFAULT, lab.ids.interface("client-b/eth0"))?;
            }
            Accident::ForwardingOff => {
                nat.namespace.set_sysctls(&[("net.ipv4.conf.eth0.forwarding", "0")])?;
            }
            Accident::CheckOn => lab.set_check(lab.ids.interface("nat/eth0"), true)?,
            Accident::FileTorn => self.tear()?,
            Accident::FileRemoved => {
                let file = nat.root.join(*self.dice.pick(&WRITTEN[..3]));
                let _not_there_yet = fs::remove_file(file);
            }
            Accident::JournalUnwritable => fs::create_dir_all(self.obstacle())?,
            Accident::NftKilled => fs::write(&self.orders, "")?,
            Accident::LinkDownAndUp => nat.namespace.ip(
                "link set eth0 down\nlink set eth0 up\nroute replace default via 10.10.1.1 dev eth0",
            )?,
            Accident::RuleOfOthersAdded => {
                let rule = "add rule inet theirs forward ip saddr 192.0.2.70 drop comment \"added\"\n";
                nat.namespace.nft(rule)?;
            }
            Accident::Calm | Accident::RouteRemoved | Accident::RouteTaken => {
                let _gone_already = fs::remove_dir(self.obstacle());
                let _gone_already = fs::remove_file(&self.orders);
                after_a_quiet_tick_or_not(lab);
            }
        }
        sleep(Duration::from_millis(self.dice.below(700)));
        Ok(())
    }

    /// Not where a line ends: an editor could have done that.
    fn tear(&mut self) -> Result<()> {
        let file = self.lab.nat().root.join(*self.dice.pick(&WRITTEN[..3]));
        let Ok(mut content) = fs::read(&file) else { return Ok(()) };
        let cut = usize::try_from(self.dice.below(content.len().max(1) as u64))?;
        if self.dice.below(2) == 0 {
            content.iter_mut().skip(cut).for_each(|byte| *byte = 0);
        } else {
            content.truncate(cut);
            while content.last() == Some(&b'\n') {
                content.pop();
            }
        }
        Ok(fs::write(file, content)?)
    }

    /// There are no more accidents.
    fn calms_down(&mut self) -> Result<()> {
        self.lab.heal();
        let _gone_already = fs::remove_dir(self.obstacle());
        let _gone_already = fs::remove_file(&self.orders);
        ensure!(self.daemon.is_running(), "natd has ended: {:#?}", self.daemon.lines());
        let lab = &self.lab;
        until("natd is ready", || lab.nat().health("/readyz").is_ok_and(|(code, _)| code == 200));
        after_a_quiet_tick(lab, &self.daemon);
        lab.sync()?;
        self.said.extend(self.daemon.lines());
        ensure!(!self.said.iter().any(|line| line.contains("panicked")), "{:#?}", self.said);
        Ok(())
    }
}

/// Some of the time there are two accidents in a tick, and some of the time there are ticks between them.
fn after_a_quiet_tick_or_not(lab: &Lab) {
    let _starting = lab.nat().health("/livez");
    sleep(Duration::from_millis(1500));
}

/// What others have, with handles, and how often their rule has counted.
fn theirs(lab: &Lab) -> Result<(String, u64)> {
    let listed = lab.nat().exec(["nft", "-s", "-a", "list", "table", "inet", "theirs"])?;
    let listed: Vec<&str> = listed.lines().filter(|line| !line.contains("\"added\"")).collect();
    let iptables = lab.nat().exec(["nft", "-s", "-a", "list", "table", "ip", "filter"])?;
    let counted = lab.nat().exec(["nft", "list", "table", "inet", "theirs"])?;
    let count = counted
        .lines()
        .find_map(|line| line.split_once("counter packets ")?.1.split(' ').next()?.parse().ok())
        .context("their rule counts")?;
    Ok((listed.join("\n") + &iptables, count))
}

fn endures(seed: u64) -> Result<()> {
    eprintln!("NATD_SEED={seed}");
    let mut scene = Scene::new(seed)?;
    let before = scene.before.clone();
    assert_served(&scene.lab);
    let counted = theirs(&scene.lab)?.1;
    ensure!(counted > before.2.1, "their rule doesn't count");
    for _ in 0..ROUNDS {
        scene.happens().with_context(|| format!("{:?}", scene.happened))?;
    }
    scene.calms_down()?;
    let lab = &scene.lab;
    assert_served(lab);
    let now = theirs(lab)?;
    ensure!(now.0 == before.2.0, "theirs were:\n{}\nand are:\n{}", before.2.0, now.0);
    ensure!(now.1 > counted, "their rule has counted {counted}, and {} now", now.1);

    scene.daemon.terminate()?;
    ensure!(scene.daemon.wait(HEALING)?.code() == Some(0));
    natd(lab, 0, &["down"])?;
    let now = theirs(lab)?;
    ensure!(now.0 == before.2.0 && now.1 >= counted, "{}", now.0);
    let added = lab.nat().exec(["nft", "-a", "list", "chain", "inet", "theirs", "forward"])?;
    for line in added.lines().filter(|line| line.contains("\"added\"")) {
        let handle = line.rsplit(' ').next().context("a handle")?;
        lab.nat().exec(["nft", "delete", "rule", "inet", "theirs", "forward", "handle", handle])?;
    }
    let after = State::of(lab)?;
    ensure!(after == before.0, "{}", after.differences(&before.0));
    let files = lab.nat().files()?;
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    ensure!(files == before.1, "{:#?}, not {:#?}", names(&files), names(&before.1));
    Ok(())
}

#[test]
fn whatever_happens_in_whatever_order_natd_comes_out_of_it_and_down_leaves_all_as_it_was()
-> Result<()> {
    let seeds = match std::env::var("NATD_SEED") {
        Ok(seed) => vec![seed.parse().context("NATD_SEED is a number")?],
        Err(_) => vec![1, 2],
    };
    for seed in seeds {
        endures(seed).with_context(|| format!("NATD_SEED={seed}"))?;
    }
    Ok(())
}
