//! Another machine is made of this one's image, journal and all: what is in it was never done there, and nothing of it is
//! given back there.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{assert_served, natd, says, writes};
use natd_tests::lab::Lab;
use natd_tests::lab::natd::{Nat, run};
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::run::finish;

use super::scene::{JOURNAL, with_rc_local};

const SYSCTLS: [&str; 3] = [
    "net.ipv4.conf.eth0.forwarding",
    "net.ipv4.conf.eth0.rp_filter",
    "net.ipv4.conf.all.send_redirects",
];

/// `client-b`, with all files of the NAT instance's.
fn clone(lab: &Lab) -> Result<Nat> {
    let clone = lab.natd_on("client-b")?;
    let (from, to) = (lab.nat().root.display(), clone.root.display());
    let copy = format!("rm -r {to}; cp -a {from} {to}");
    finish(Command::new("sh").args(["-ec", &copy]), "")?;
    Ok(clone)
}

fn sysctls(nat: &Nat) -> Result<Vec<String>> {
    SYSCTLS.iter().map(|key| nat.namespace.sysctl(key)).collect()
}

/// The route tables lead to the NAT instance, which still serves whom it served.
fn still_serves(lab: &Lab) -> Result<()> {
    for table in lab.ids.private_tables() {
        let target = lab.route(table, DEFAULT)?;
        ensure!(target.as_deref() == Some(lab.ids.interface("nat/eth0")), "{table}: {target:?}");
    }
    ensure!(writes(lab).is_empty(), "{:?}", writes(lab));
    lab.sync()?;
    assert_served(lab);
    Ok(())
}

#[test]
fn a_clone_gives_back_no_route_and_writes_no_kernel_parameter_of_its_origin() -> Result<()> {
    let lab = Lab::aws().build()?;
    with_rc_local(&lab)?;
    lab.nat().namespace.set_sysctls(&[("net.ipv4.conf.eth0.rp_filter", "1")])?;
    natd(&lab, 0, &["apply"])?;
    let journal = lab.nat().read(JOURNAL).context("there is one")?;
    let clone = clone(&lab)?;
    // As the boot leaves them there, by the files in the image; and one that isn't what natd made of it.
    clone.namespace.set_sysctls(&[
        ("net.ipv4.conf.eth0.forwarding", "1"),
        ("net.ipv4.conf.eth0.rp_filter", "2"),
    ])?;
    let before = sysctls(&clone)?;
    lab.api_log_clear();

    let status = clone.natd(["status"])?;
    says(&status, &["it is about another machine", "the next change moves it aside"])?;
    ensure!(clone.read(JOURNAL).as_ref() == Some(&journal), "a look has moved it");
    let down = clone.natd(["down"])?;
    ensure!(down.code == Some(0), "{down:#?}");
    says(
        &down,
        &[
            "it is about another machine",
            "was moved aside",
            "natd can't tell what was there before it",
            "net.ipv4.conf.eth0.forwarding = 1",
            "net.ipv4.conf.eth0.rp_filter = 2",
        ],
    )?;
    ensure!(sysctls(&clone)? == before, "{:?}, not {before:?}", sysctls(&clone)?);
    let aside = clone.read(&format!("{JOURNAL}.aside.0"));
    ensure!(aside == Some(journal), "it isn't kept as it was");
    // What the image brought of natd's own is gone from the clone, and stays where it belongs.
    let rc_local = clone.read("etc/rc.local").context("somebody's")?;
    ensure!(rc_local == "#!/bin/sh -e\n# mine\n", "{rc_local}");
    ensure!(lab.nat().read("etc/rc.local").is_some_and(|file| file.contains("natd: begin")));
    still_serves(&lab)?;
    // The origin knows all that it ever knew.
    natd(&lab, 0, &["down"])?;
    ensure!(lab.nat().namespace.sysctl("net.ipv4.conf.eth0.rp_filter")? == "1");
    Ok(())
}

const ORIGIN: &str = "0123456789abcdef0123456789abcdef\n";
const CLONE: &str = "fedcba9876543210fedcba9876543210\n";

/// Where no cloud tells who a machine is, `/etc/machine-id` does.
#[test]
fn without_a_cloud_the_machines_own_id_tells_them_apart() -> Result<()> {
    let lab = Lab::aws().build()?;
    let nat = lab.nat();
    natd(&lab, 0, &["apply"])?;
    natd(&lab, 0, &["down"])?;
    nat.configure(
        "provider = \"none\"\n[nat]\nsources = [\"10.10.0.0/16\"]\n[verify]\ntargets = [\"198.51.100.10:80\"]\n",
    )?;
    nat.write("etc/machine-id", ORIGIN)?;
    nat.namespace.set_sysctls(&[("net.ipv4.conf.eth0.rp_filter", "1")])?;
    natd(&lab, 0, &["apply"])?;
    let journal = nat.read(JOURNAL).context("there is one")?;
    ensure!(journal.contains(ORIGIN.trim()), "{journal}");

    let clone = clone(&lab)?;
    clone.write("etc/machine-id", CLONE)?;
    clone.namespace.set_sysctls(&[("net.ipv4.conf.eth0.rp_filter", "2")])?;
    let down = clone.natd(["down"])?;
    ensure!(down.code == Some(0), "{down:#?}");
    says(&down, &["it is about another machine", "was moved aside"])?;
    ensure!(clone.namespace.sysctl("net.ipv4.conf.eth0.rp_filter")? == "2");
    ensure!(clone.read(&format!("{JOURNAL}.aside.0")) == Some(journal.clone()));

    // An image whose id is still to be made is nobody else.
    nat.write("etc/machine-id", "uninitialized\n")?;
    says(&natd(&lab, 0, &["status"])?, &["NAT works"])?;
    ensure!(nat.read(JOURNAL) == Some(journal), "it was moved");
    nat.write("etc/machine-id", ORIGIN)?;
    let down = run(nat.command(["down"])?)?;
    ensure!(down.code == Some(0) && !down.stderr.contains("aside"), "{down:#?}");
    ensure!(nat.namespace.sysctl("net.ipv4.conf.eth0.rp_filter")? == "1");
    Ok(())
}
