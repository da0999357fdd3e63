//! The power fails while natd writes: of whatever file, whatever is left of it, natd tells and makes it anew, and
//! packets flow. What only the journal knew is told by name, and not made up.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use natd_tests::boot::machine::Machine;
use natd_tests::expect::{
    HEALING, after_a_quiet_tick, assert_served, natd, says, serving_daemon, writes,
};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;

use super::scene::{JOURNAL, with_rc_local};

/// An image of a host on which something loads rules at boot.
struct Case {
    back_end: BackEnd,
    persist: &'static str,
    /// What says so.
    image: &'static [(&'static str, &'static str)],
    /// In which natd has a part, of those that others have.
    shared: &'static [&'static str],
}

const SAVED: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -s 192.0.2.66/32 -j DROP\nCOMMIT\n";

const BY_RC_LOCAL: Case = Case {
    back_end: BackEnd::Nftables,
    persist: "rc-local",
    image: &[("etc/rc.local", "#!/bin/sh -e\n# mine\n")],
    shared: &["etc/rc.local"],
};

const BY_RC_LOCAL_WITH_IPTABLES: Case = Case { back_end: BackEnd::IptablesNft, ..BY_RC_LOCAL };

const BY_NFTABLES: Case = Case {
    back_end: BackEnd::Nftables,
    persist: "nftables",
    image: &[
        ("usr/lib/systemd/system/nftables.service", "ExecStart=nft -f /etc/nftables.conf\n"),
        ("etc/nftables.conf", "#!/usr/sbin/nft -f\nflush ruleset\n"),
    ],
    shared: &["etc/nftables.conf"],
};

const BY_NETFILTER_PERSISTENT: Case = Case {
    back_end: BackEnd::IptablesNft,
    persist: "netfilter-persistent",
    image: &[
        ("usr/lib/systemd/system/netfilter-persistent.service", ""),
        ("usr/share/netfilter-persistent/plugins.d/15-ip4tables", ""),
        ("etc/iptables/rules.v4", SAVED),
    ],
    shared: &["etc/iptables/rules.v4"],
};

const BY_IPTABLES_SERVICES: Case = Case {
    back_end: BackEnd::IptablesNft,
    persist: "iptables-services",
    image: &[
        ("usr/lib/systemd/system/iptables.service", "ExecStart=/x/iptables.init start\n"),
        ("etc/sysconfig/iptables", SAVED),
    ],
    shared: &["etc/sysconfig/iptables"],
};

/// What a power failure makes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Torn {
    Empty,
    Half,
    /// As long as it was to be, and only half of it was written.
    HalfZeros,
    Zeros,
}

impl Torn {
    const ALL: [Self; 4] = [Self::Half, Self::HalfZeros, Self::Zeros, Self::Empty];

    /// Cut somewhere within the part that is natd's, which is the end of the file.
    fn of(self, whole: &[u8], natds: usize) -> Vec<u8> {
        let mut torn = whole.to_vec();
        let mut half = natds + (whole.len() - natds) / 2;
        // Where a line ends, nothing tells a power failure from an editor.
        while whole.get(half.wrapping_sub(1)) == Some(&b'\n') {
            half += 1;
        }
        match self {
            Self::Empty => torn.clear(),
            Self::Half => torn.truncate(half),
            Self::HalfZeros => torn.iter_mut().skip(half).for_each(|byte| *byte = 0),
            Self::Zeros => torn.fill(0),
        }
        torn
    }
}

type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

struct Scene {
    lab: Lab,
    case: &'static Case,
    before: Files,
    applied: Files,
}

impl Scene {
    fn new(case: &'static Case) -> Result<Self> {
        let lab = Lab::aws().back_end(case.back_end).build()?;
        let nat = lab.nat();
        for (path, text) in case.image {
            nat.write(path, text)?;
        }
        let persist = format!("[nat]\npersist = {:?}\n", case.persist);
        nat.write("etc/natd/conf.d/20-persist.toml", &persist)?;
        for folder in ["run", "var/lib", "etc/sysctl.d"] {
            fs::create_dir_all(nat.root.join(folder))?;
        }
        let before = nat.files()?;
        natd(&lab, 0, &["apply"])?;
        let applied = nat.files()?;
        Ok(Self { lab, case, before, applied })
    }

    /// The files in which natd has a part, with where it begins.
    fn written(&self) -> Vec<(PathBuf, Vec<u8>, usize)> {
        let own = |path: &PathBuf| path.strip_prefix(&self.lab.nat().root).map(PathBuf::from);
        let files =
            self.applied.iter().filter_map(|(path, content)| Some((path, content.clone()?)));
        files
            .filter(|(path, content)| {
                self.before.get(*path) != Some(&Some(content.clone()))
                    && !own(path)
                        .is_ok_and(|path| path.starts_with("var") || path.starts_with("run/natd"))
            })
            .map(|(path, content)| {
                let is_shared = own(path).is_ok_and(|path| {
                    self.case.shared.iter().any(|shared| path == PathBuf::from(shared))
                });
                let text = String::from_utf8_lossy(&content);
                let marks = ["# natd: begin", "# natd made the section"];
                let natds = marks.iter().filter_map(|mark| text.rfind(mark)).max();
                let natds = if is_shared { natds.unwrap_or(0) } else { 0 };
                (path.clone(), content, natds)
            })
            .collect()
    }

    fn tear(&self, how: Torn) -> Result<()> {
        for (path, whole, natds) in self.written() {
            fs::write(&path, how.of(&whole, natds)).with_context(|| path.display().to_string())?;
            // A write that was under way.
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            fs::write(path.with_file_name(format!(".{name}.new")), &whole[..whole.len() / 3])?;
        }
        Ok(())
    }

    /// Of files that natd shares, those are lost that others had, when all is.
    fn is_whole(&self, how: Torn) -> Result<()> {
        let now = self.lab.nat().files()?;
        for (path, whole, _) in self.written() {
            let there = now.get(&path).and_then(Option::as_ref).context("it is gone")?;
            let text = String::from_utf8_lossy(there).into_owned();
            let is_shared = self.case.shared.iter().any(|shared| path.ends_with(shared));
            if is_shared && matches!(how, Torn::Empty | Torn::Zeros) {
                ensure!(
                    text.to_lowercase().contains("natd") && !text.contains('\0'),
                    "{}: {text:?}",
                    path.display()
                );
            } else {
                ensure!(*there == whole, "{} after {how:?}: {text}", path.display());
            }
        }
        Ok(())
    }
}

fn is_told_and_made_anew(case: &'static Case) -> Result<()> {
    let scene = Scene::new(case)?;
    let (lab, written) = (&scene.lab, scene.written());
    ensure!(written.len() >= 2, "natd wrote only {written:?}");
    let stream = lab.client("client-a").stream()?;
    stream.goes_on(10)?;
    let mark = stream.mark();
    for how in Torn::ALL {
        scene.tear(how)?;
        let run = natd(lab, 0, &["apply"])?;
        for (path, ..) in &written {
            let path = path.strip_prefix(&lab.nat().root)?.display().to_string();
            says(&run, &[&format!("/{path}")])?;
        }
        if how == Torn::Half {
            says(&run, &["(it was cut off)"])?;
        }
        scene.is_whole(how)?;
        let again = natd(lab, 0, &["apply"])?;
        ensure!(
            !again.stdout.contains('✓'),
            "after {how:?} the second run did something: {again:#?}"
        );
        stream.goes_on(5)?;
        // For the next.
        for (path, whole, _) in &written {
            fs::write(path, whole)?;
        }
    }
    // `down` takes out as well what is torn.
    scene.tear(Torn::HalfZeros)?;
    ensure!(stream.lost_since(mark)? == 0, "packets were lost");
    natd(lab, 0, &["down"])?;
    let after = lab.nat().files()?;
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    ensure!(after == scene.before, "{:#?}\nnot {:#?}", names(&after), names(&scene.before));
    Ok(())
}

#[test]
fn files_for_rc_local_are_told_and_made_anew() -> Result<()> {
    is_told_and_made_anew(&BY_RC_LOCAL)
}

#[test]
fn files_for_rc_local_with_iptables_are_told_and_made_anew() -> Result<()> {
    is_told_and_made_anew(&BY_RC_LOCAL_WITH_IPTABLES)
}

#[test]
fn files_for_the_nftables_service_are_told_and_made_anew() -> Result<()> {
    is_told_and_made_anew(&BY_NFTABLES)
}

#[test]
fn files_for_netfilter_persistent_are_told_and_made_anew() -> Result<()> {
    is_told_and_made_anew(&BY_NETFILTER_PERSISTENT)
}

#[test]
fn files_for_iptables_services_are_told_and_made_anew() -> Result<()> {
    is_told_and_made_anew(&BY_IPTABLES_SERVICES)
}

/// natd can't know what they had there, and doesn't make it look whole.
#[test]
fn where_the_rules_of_others_are_cut_off_natd_says_so_and_leaves_them() -> Result<()> {
    let scene = Scene::new(&BY_NETFILTER_PERSISTENT)?;
    let (lab, rules) = (&scene.lab, "etc/iptables/rules.v4");
    let whole = lab.nat().read(rules).context("it is there")?;
    let (torn, _) = whole.split_once("192.0.2.66").context("theirs are in it")?;
    lab.nat().write(rules, torn)?;
    let told = ["/etc/iptables/rules.v4 ends within *filter", "bring the file back from a backup"];
    says(&natd(lab, 0, &["apply"])?, &told)?;
    says(&natd(lab, 0, &["status"])?, &told)?;
    assert_served(lab);
    let now = lab.nat().read(rules).unwrap_or_default();
    ensure!(!now.contains("192.0.2.66") && now.contains("NATD-"), "{now}");
    // They save all rules as they are in the kernel: natd's among them.
    lab.nat().write(rules, &whole)?;
    let again = natd(lab, 0, &["apply"])?;
    ensure!(!again.stdout.contains('✓') && !again.stdout.contains("ends within"), "{again:#?}");
    Ok(())
}

#[test]
fn the_daemon_makes_files_anew_at_its_next_tick() -> Result<()> {
    let lab = Lab::aws().back_end(BackEnd::Nftables).build()?;
    with_rc_local(&lab)?;
    let daemon = serving_daemon(&lab, "")?;
    let sysctls = "etc/sysctl.d/90-natd.conf";
    let whole = lab.nat().read(sysctls).context("it is there")?;
    let mut flow = lab.client("client-a").udp_flow()?;
    for how in Torn::ALL {
        after_a_quiet_tick(&lab, &daemon);
        let mark = daemon.mark();
        fs::write(lab.nat().root.join(sysctls), how.of(whole.as_bytes(), 0))?;
        let told = "/etc/sysctl.d/90-natd.conf (it was cut off)";
        daemon.wait_for_after(mark, HEALING, |line| line.contains(told))?;
        ensure!(lab.nat().read(sysctls).as_ref() == Some(&whole), "{how:?}");
        flow.exchange(HEALING)?;
    }
    Ok(())
}

/// And the next boot is translated from the first packet on, by what was made anew.
#[test]
fn what_is_made_anew_brings_nat_back_at_the_next_boot() -> Result<()> {
    let mut machine = Machine::new()?;
    machine.write(
        "etc/natd/natd.toml",
        "provider = \"none\"
[nat]
sources = [\"10.10.2.0/24\"]
exclude = [\"10.10.0.0/16\"]
firewall = \"nftables\"
persist = \"rc-local\"
[routes]
interface = \"eth1\"
[verify]
targets = [\"198.51.100.10:80\"]
",
    )?;
    machine.write_script("etc/rc.local", "#!/bin/sh -e\ntouch /run/mine\n")?;
    machine.boot()?;
    let before = machine.files()?;
    machine.natd_ends(0, &["apply"])?;
    machine.cut_power()?;
    let mut torn = 0;
    for path in ["etc/natd/boot.nft", "etc/rc.local", "etc/sysctl.d/90-natd.conf"] {
        let path = machine.layer().join(path);
        let whole = fs::read(&path)?;
        let natds = String::from_utf8_lossy(&whole).find("# natd: begin").unwrap_or(0);
        fs::write(&path, Torn::Half.of(&whole, natds))?;
        torn += 1;
    }
    ensure!(torn == 3);
    machine.boot()?;
    let run = machine.natd_ends(0, &["apply"])?;
    for path in ["/etc/natd/boot.nft", "/etc/rc.local", "/etc/sysctl.d/90-natd.conf"] {
        ensure!(run.stdout.contains(&format!("{path} (it was cut off)")), "{path}: {run:#?}");
    }
    machine.cut_power()?;
    let stream = machine.wires().stream()?;
    machine.boot()?;
    ensure!(!machine.natd_has_run()?, "natd has run");
    stream.goes_on(20)?;
    let sources = stream.sources();
    ensure!(sources == [Ipv4Addr::new(10, 10, 1, 10)], "seen outside: {sources:?}");
    machine.natd_ends(0, &["down"])?;
    let after = machine.files()?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    Ok(())
}

#[test]
fn what_only_the_journal_knew_is_told_by_name_and_left() -> Result<()> {
    for how in Torn::ALL {
        let lab = Lab::aws().build()?;
        let (nat, ids) = (lab.nat(), &lab.ids);
        lab.point_route(ids.table("private-a"), DEFAULT, ids.interface("client-b/eth0"))?;
        let before = State::of(&lab)?;
        natd(&lab, 0, &["apply"])?;
        let journal = nat.read(JOURNAL).context("there is one")?;
        fs::write(nat.root.join(JOURNAL), how.of(journal.as_bytes(), 0))?;
        fs::write(nat.root.join("var/lib/natd/.journal.json.new"), "{\"version\"")?;
        says(&natd(&lab, 0, &["apply"])?, &["journal.json.aside.0", "was moved aside"])?;
        assert_served(&lab);
        lab.api_log_clear();
        // Another run, and another, and it is still known that something is not known.
        natd(&lab, 0, &["apply"])?;
        let sysctl = "net.ipv4.conf.eth0.forwarding = 1";
        let check = format!("the source/destination check of {} (off)", ids.interface("nat/eth0"));
        let run = natd(&lab, 0, &["down"])?;
        says(
            &run,
            &[
                "natd can't tell what was there before it",
                sysctl,
                &check,
                "journal.json.aside.0",
                &format!("route 0.0.0.0/0 in {} leads here", ids.table("private-a")),
                &format!("route 0.0.0.0/0 in {} leads here", ids.table("private-b")),
            ],
        )?;
        ensure!(writes(&lab).is_empty(), "it was made up: {:?}", writes(&lab));
        ensure!(nat.namespace.sysctl("net.ipv4.conf.eth0.forwarding")? == "1");
        ensure!(nat.back_ends()?.is_empty(), "rules are left");
        let aside = fs::read(nat.root.join(format!("{JOURNAL}.aside.0")))?;
        ensure!(aside == how.of(journal.as_bytes(), 0), "{how:?}: it is not kept as it was");
        ensure!(nat.read(JOURNAL).is_none(), "a journal is left");
        // What the operator has of it is still good.
        natd(&lab, 0, &["apply"])?;
        nat.write(JOURNAL, &journal)?;
        natd(&lab, 0, &["down"])?;
        let now = State::of(&lab)?;
        ensure!(now == before, "{how:?}: {}", now.differences(&before));
    }
    Ok(())
}

/// As when its folder was on a disk that is gone.
#[test]
fn a_journal_that_is_gone_is_missed() -> Result<()> {
    let lab = Lab::aws().build()?;
    natd(&lab, 0, &["apply"])?;
    fs::remove_dir_all(lab.nat().root.join("var/lib/natd"))?;
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let words =
        ["there is no journal that knows it", "net.ipv4.conf.eth0.forwarding = 1", "leads here"];
    says(&natd(&lab, 0, &["down"])?, &words)
}

/// A link in a place of natd's is followed, and never leads out of the image.
#[test]
fn a_file_that_is_a_link_is_made_anew_where_it_leads() -> Result<()> {
    let lab = Lab::aws().back_end(BackEnd::Nftables).build()?;
    let etc = lab.nat().root.join("etc");
    fs::create_dir_all(etc.join("rc.d"))?;
    fs::write(etc.join("rc.d/rc.local"), "#!/bin/sh\n# mine\n")?;
    symlink("rc.d/rc.local", etc.join("rc.local"))?;
    natd(&lab, 0, &["apply"])?;
    let whole = fs::read(etc.join("rc.d/rc.local"))?;
    let natds = String::from_utf8_lossy(&whole).find("# natd: begin").context("a block")?;
    fs::write(etc.join("rc.d/rc.local"), Torn::Half.of(&whole, natds))?;
    says(&natd(&lab, 0, &["apply"])?, &["/etc/rc.local (it was cut off)"])?;
    ensure!(fs::read(etc.join("rc.d/rc.local"))? == whole);
    ensure!(etc.join("rc.local").is_symlink(), "the link was replaced");
    Ok(())
}
