//! `natd down` gives back what natd took, to whom it was, and leaves alone what has become somebody else's since.

use anyhow::{Result, ensure};
use natd_tests::expect::{HEALING, natd, says, serving_daemon, writes};
use natd_tests::lab::Lab;
use natd_tests::lab::calls::Fault;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::lab::natd::{Run, run};
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::lab::topology::NAT_PUBLIC;
use natd_tests::on_every_cloud;

const JOURNAL: &str = "var/lib/natd/journal.json";

fn is_as(lab: &Lab, before: &State) -> Result<()> {
    let now = State::of(lab)?;
    ensure!(now == *before, "{}", now.differences(before));
    ensure!(lab.nat().read(JOURNAL).is_none(), "the journal is left");
    Ok(())
}

fn target(lab: &Lab, table: &str) -> Result<Option<String>> {
    lab.route(lab.ids.table(table), DEFAULT)
}

on_every_cloud!(
    a_second_time_there_is_nothing_to_give_back,
    what_others_have_changed_since_stays_theirs,
);

fn a_second_time_there_is_nothing_to_give_back(cloud: CloudKind) -> Result<()> {
    let lab = Lab::of(cloud).build()?;
    let before = State::of(&lab)?;
    says(&natd(&lab, 0, &["down"])?, &["Nothing to give back."])?;
    natd(&lab, 0, &["apply"])?;
    says(&natd(&lab, 0, &["down"])?, &["All that natd had changed is given back."])?;
    is_as(&lab, &before)?;
    lab.api_log_clear();
    says(&natd(&lab, 0, &["down"])?, &["Nothing to give back."])?;
    ensure!(writes(&lab).is_empty(), "{:?}", writes(&lab));
    is_as(&lab, &before)
}

/// A daemon that was killed leaves its socket and its lock, too.
#[test]
fn no_file_and_no_folder_of_natds_is_left() -> Result<()> {
    let lab = Lab::aws().build()?;
    let nat = lab.nat();
    for folder in ["run", "var/lib", "etc/sysctl.d", "etc/natd/conf.d"] {
        std::fs::create_dir_all(nat.root.join(folder))?;
    }
    nat.write("etc/rc.local", "#!/bin/sh -e\n# mine\nexit 0\n")?;
    let before = nat.files()?;
    natd(&lab, 0, &["down"])?;
    ensure!(nat.files()? == before, "after nothing: {:#?}", nat.files()?.keys());
    let mut daemon = serving_daemon(&lab, "")?;
    daemon.kill()?;
    daemon.wait(HEALING)?;
    let (socket, interval) = ("run/natd/control.sock", "etc/natd/conf.d/10-test.toml");
    ensure!(nat.files()?.contains_key(&nat.root.join(socket)), "the daemon has none");
    ensure!(nat.read("etc/rc.local").is_some_and(|file| file.contains("natd: begin")));
    natd(&lab, 0, &["down"])?;
    let mut after = nat.files()?;
    after.remove(&nat.root.join(interval));
    ensure!(after == before, "before: {:#?}\nafter: {:#?}", before.keys(), after.keys());
    Ok(())
}

#[test]
fn an_earlier_target_comes_back_unless_it_is_gone_or_was_propagated() -> Result<()> {
    let lab = Lab::aws().build()?;
    let (ids, api) = (&lab.ids, lab.api());
    let made = api.call("CreateNetworkInterface", &[("SubnetId", ids.subnet("public"))])?;
    let gone = made.find("networkInterfaceId").map(|id| id.text.clone()).unwrap_or_default();
    let theirs = ids.interface("client-b/eth0");
    lab.point_route(ids.table("private-a"), DEFAULT, theirs)?;
    lab.point_route(ids.table("private-b"), DEFAULT, &gone)?;
    natd(&lab, 0, &["apply"])?;
    api.call("DeleteNetworkInterface", &[("NetworkInterfaceId", &gone)])?;
    let run = natd(&lab, 0, &["down"])?;
    says(&run, &["its earlier target", &gone, "is gone, so the route is removed"])?;
    ensure!(target(&lab, "private-a")?.as_deref() == Some(theirs));
    ensure!(target(&lab, "private-b")?.is_none());

    // moto has no propagated routes: the journal has one.
    natd(&lab, 0, &["apply"])?;
    let journal = lab.nat().read(JOURNAL).unwrap_or_default();
    ensure!(journal.contains("\"static\""), "{journal}");
    lab.nat().write(JOURNAL, &journal.replace("\"static\"", "\"propagated\""))?;
    natd(&lab, 0, &["down"])?;
    ensure!(target(&lab, "private-a")?.is_none(), "it was made again as a static route");
    Ok(())
}

fn what_others_have_changed_since_stays_theirs(cloud: CloudKind) -> Result<()> {
    let lab = Lab::of(cloud).build()?;
    let (nat, ids) = (lab.nat(), &lab.ids);
    nat.namespace.set_sysctls(&[("net.ipv4.conf.eth0.rp_filter", "1")])?;
    natd(&lab, 0, &["apply"])?;
    lab.point_route(ids.table("private-a"), DEFAULT, &ids.elsewhere)?;
    lab.remove_route(ids.table("private-b"), DEFAULT)?;
    if lab.has_check()? {
        for (_, interface) in ids.interfaces.iter().filter(|(name, _)| name.starts_with("nat/")) {
            lab.set_check(interface, true)?;
        }
    }
    nat.namespace.set_sysctls(&[("net.ipv4.conf.eth0.rp_filter", "0")])?;
    nat.sh("nft delete table inet natd")?;
    lab.api_log_clear();
    let run = natd(&lab, 0, &["down"])?;
    says(
        &run,
        &[
            &format!("somebody has pointed it at {}", lab.cloud().told(&ids.elsewhere)),
            "somebody has removed it",
            "net.ipv4.conf.eth0.rp_filter: left alone, somebody has set it to 0",
            if lab.has_check()? { "it is on already" } else { "" },
            "natd's nftables rules: left alone, they are gone already",
        ],
    )?;
    ensure!(writes(&lab).is_empty(), "{:?}", writes(&lab));
    ensure!(target(&lab, "private-a")?.as_ref() == Some(&ids.elsewhere));
    ensure!(target(&lab, "private-b")?.is_none());
    ensure!(nat.namespace.sysctl("net.ipv4.conf.eth0.rp_filter")? == "0");
    ensure!(nat.read(JOURNAL).is_none(), "the journal is left");
    Ok(())
}

/// Where a route can't be given back, everything that carries its packets stays.
#[test]
fn a_denied_route_keeps_its_data_path() -> Result<()> {
    let lab = Lab::aws().build()?;
    let before = State::of(&lab)?;
    natd(&lab, 0, &["apply"])?;
    let applied = State::of(&lab)?;
    lab.fail("DeleteRoute", Fault::denied(), usize::MAX);
    let run = natd(&lab, 1, &["down"])?;
    says(
        &run,
        &["ec2:DeleteRoute", "not tried: remove natd's nftables rules", "Not all is given back."],
    )?;
    let now = State::of(&lab)?;
    ensure!(now == applied, "{}", now.differences(&applied));

    lab.heal();
    lab.fail("DeleteRoute", Fault::denied(), 1);
    natd(&lab, 4, &["down"])?;
    let left: Vec<_> = [("private-a", "client-a"), ("private-b", "client-b")]
        .into_iter()
        .filter(|(table, _)| target(&lab, table).is_ok_and(|target| target.is_some()))
        .collect();
    let [(_, client)] = left[..] else { anyhow::bail!("not one route is left, but {left:?}") };
    ensure!(lab.client(client).tcp() == Ok(NAT_PUBLIC), "{:?}", lab.client(client).tcp());

    lab.heal();
    natd(&lab, 0, &["down"])?;
    is_as(&lab, &before)
}

/// An image of a machine carries its journal to others, and power failures tear files.
#[test]
fn a_journal_that_is_not_ours_or_not_whole_is_kept_aside() -> Result<()> {
    let lab = Lab::aws().build()?;
    let (nat, before) = (lab.nat(), State::of(&lab)?);
    natd(&lab, 0, &["apply"])?;
    let (journal, applied) = (nat.read(JOURNAL).unwrap_or_default(), State::of(&lab)?);
    let (half, _) = journal.split_at(journal.len() / 2);
    let cases = [
        (
            journal.replace(lab.ids.instance("nat"), "i-0000000000000000f"),
            "it is about another machine",
        ),
        (journal.replace("\"version\": 1", "\"version\": 2"), "its version 2 is not 1"),
        (half.to_owned(), "EOF"),
        (String::new(), "EOF"),
        ("\u{0}\u{0}\u{0}".to_owned(), "expected value"),
    ];
    for (number, (text, why)) in cases.iter().enumerate() {
        ensure!(*text != journal, "{why}: the journal has another form");
        nat.write(JOURNAL, text)?;
        says(&natd(&lab, 0, &["status"])?, &["the journal is not usable", why])?;
        let run = natd(&lab, 0, &["apply"])?;
        let aside = format!("{JOURNAL}.aside.{number}");
        says(&run, &["was moved aside", &aside, why])?;
        ensure!(nat.read(&aside).as_ref() == Some(text), "{aside} is not what was there");
        let now = State::of(&lab)?;
        ensure!(now == applied, "{why}: {}", now.differences(&applied));
    }
    // natd knows its own rules without a journal, and nothing else.
    nat.write(JOURNAL, half)?;
    says(&natd(&lab, 0, &["down"])?, &["was moved aside", "remove natd's nftables rules"])?;
    ensure!(writes(&lab).iter().all(|action| action != "DeleteRoute"), "{:?}", writes(&lab));
    // What was mangled was true: with it all is given back.
    nat.write(JOURNAL, &journal)?;
    natd(&lab, 0, &["down"])?;
    is_as(&lab, &before)
}

/// No byte more fits.
const FULL: &str = "head -c 1M /dev/zero >filler 2>/dev/null";
const READ_ONLY: &str = "mount -o remount,ro .";

/// Runs natd with its journal on a file system that has come to this.
fn natd_on(lab: &Lab, spoiled: &str, arguments: &[&str]) -> Result<Run> {
    let folder = lab.nat().root.join("var/lib/natd");
    std::fs::create_dir_all(&folder)?;
    let folder = folder.display();
    // `ip netns exec` has given this process mounts of its own.
    let script = format!(
        "cp -a {folder} {folder}.kept; mount -t tmpfs -o size=64k natd {folder}; cd {folder}\n\
         cp -a {folder}.kept/. .; rm -r {folder}.kept; {spoiled}\n\
         exec \"$@\""
    );
    run(lab.nat().command_under(&["sh", "-c", &script, "sh"], arguments)?)
}

#[test]
fn without_room_for_the_journal_nothing_is_changed_that_only_it_remembers() -> Result<()> {
    let lab = Lab::aws().build()?;
    let before = State::of(&lab)?;
    for (spoiled, why) in [(FULL, "No space left on device"), (READ_ONLY, "Read-only file system")]
    {
        let run = natd_on(&lab, spoiled, &["apply"])?;
        ensure!(run.code == Some(1), "{run:#?}");
        says(
            &run,
            &["could not write the journal", why, "make room, or make the folder writable"],
        )?;
        ensure!(writes(&lab).is_empty(), "{:?}", writes(&lab));
        // natd's own rules are known by their name, and have been loaded.
        lab.nat().sh("nft delete table inet natd")?;
        is_as(&lab, &before)?;
    }
    Ok(())
}

#[test]
fn a_full_disk_keeps_nothing_from_being_given_back() -> Result<()> {
    let lab = Lab::aws().build()?;
    let before = State::of(&lab)?;
    natd(&lab, 0, &["apply"])?;
    let run = natd_on(&lab, FULL, &["down"])?;
    ensure!(run.code == Some(0), "{run:#?}");
    let now = State::of(&lab)?;
    ensure!(now == before, "{}", now.differences(&before));
    // Of that disk this one knows nothing, and has the journal as it was.
    natd(&lab, 0, &["down"])?;
    is_as(&lab, &before)
}
