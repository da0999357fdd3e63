//! What natd is told to serve, it serves: pools, forwarded ports, tens of thousands of sources; and a change of what it
//! is told touches nothing that stays.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{
    HEALING, after_a_quiet_tick, assert_served, changes, natd, serving_daemon,
};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::host::PATIENCE;
use natd_tests::lab::namespace::Namespace;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::topology::NAT_PUBLIC;
use natd_tests::on_every_back_end;

on_every_back_end!(
    each_client_keeps_to_one_address_of_the_pool,
    ports_are_forwarded_from_outside_and_by_hairpin,
    a_change_touches_nothing_that_stays,
    no_packet_is_lost_while_the_rules_change,
);

const TEST: &str = "etc/natd/conf.d/20-what.toml";

/// Has the daemon read that further configuration, and waits until it has put it into force.
fn reconfigure(lab: &Lab, daemon: &Daemon, configuration: &str) -> Result<()> {
    lab.nat().write(TEST, configuration)?;
    let mark = daemon.mark();
    daemon.hang_up()?;
    daemon.wait_for_after(mark, HEALING, |line| line.contains("replace natd's"))?;
    after_a_quiet_tick(lab, daemon);
    Ok(())
}

fn each_client_keeps_to_one_address_of_the_pool(back_end: BackEnd) -> Result<()> {
    let second = Ipv4Addr::new(10, 10, 1, 11);
    let lab = Lab::aws().clients(6).secondary_address(second).back_end(back_end).build()?;
    let pool = "[nat]\naddresses = [\"10.10.1.10\", \"10.10.1.11\"]\n";
    lab.nat().write(TEST, pool)?;
    let refused = lab.nat().natd(["apply"])?;
    ensure!(refused.code == Some(64), "{refused:#?}");
    ensure!(refused.stderr.contains("translate to 10.10.1.11: eth0 doesn't have"), "{refused:#?}");

    lab.nat().namespace.ip(&format!("addr add {second}/24 dev eth0"))?;
    let applied = natd(&lab, 0, &["apply"])?;
    ensure!(applied.stdout.contains("(10.10.1.11) has no public address"), "{applied:#?}");
    let given = || -> Result<Vec<String>> {
        // Over the one without a public address nothing comes back; that it was chosen shows all the same.
        for client in lab.clients() {
            let _lost = client.udp();
        }
        let flows = lab.nat().sh("conntrack -L -p udp 2>/dev/null")?;
        lab.clients()
            .map(|client| {
                let source = format!("src={} ", client.address);
                let flow = flows.lines().find(|flow| flow.contains(&source)).context("no flow")?;
                let reply = flow.rsplit("dst=").next().and_then(|rest| rest.split(' ').next());
                Ok(reply.context("no reply direction")?.to_owned())
            })
            .collect()
    };
    let first = given()?;
    let all: BTreeSet<&String> = first.iter().collect();
    ensure!(all.len() == 2, "both addresses are used: {first:?}");
    lab.nat().exec(["conntrack", "-F"])?;
    ensure!(given()? == first, "the same clients have the same addresses");

    // With a public address of its own for each, the internet sees whichever stands for the client's.
    let public = Ipv4Addr::new(203, 0, 113, 11);
    lab.further_public_address(public, "nat/eth0", second)?;
    for (client, given) in lab.clients().zip(&first) {
        let expected = if *given == second.to_string() { public } else { NAT_PUBLIC };
        let reach = client.reach();
        ensure!(reach.is_all(expected), "{} by {given}: {reach:#?}", client.name);
    }
    Ok(())
}

/// The address of whoever connects to that port, as the private host behind it sees it.
fn seen(listener: &TcpListener, from: &Namespace, to: SocketAddr) -> Option<IpAddr> {
    let connection = from.connect(to, PATIENCE).ok()?;
    let peer = listener.accept().ok()?.1.ip();
    drop(connection);
    Some(peer)
}

fn ports_are_forwarded_from_outside_and_by_hairpin(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    for group in ["nat", "clients"] {
        lab.owner(
            "AuthorizeSecurityGroupIngress",
            &[
                ("GroupId", lab.ids.group(group)),
                ("IpPermissions.1.IpProtocol", "-1"),
                ("IpPermissions.1.IpRanges.1.CidrIp", DEFAULT),
            ],
        )?;
    }
    let (inside, outside) = (lab.client("client-a"), &lab.network().internet);
    let listener = inside.namespace.run(|| TcpListener::bind((inside.address, 443)))??;
    let forward = "[[nat.forward]]\nprotocol = \"tcp\"\nport = 8443\nto = \"10.10.2.101:443\"\n";
    let daemon = serving_daemon(&lab, "")?;
    let public = (NAT_PUBLIC, 8443).into();
    ensure!(outside.connect(public, PATIENCE).is_err(), "nothing is forwarded yet");
    reconfigure(&lab, &daemon, forward)?;
    let from_outside = seen(&listener, outside, public).context("from outside")?;
    ensure!(from_outside == natd_tests::lab::topology::INTERNET_HOST, "{from_outside}");
    let other = lab.client("client-b");
    let hairpin = seen(&listener, &other.namespace, public).context("by hairpin")?;
    ensure!(hairpin == Ipv4Addr::new(10, 10, 1, 10), "answers come back this way: {hairpin}");
    let itself = seen(&listener, &inside.namespace, public).context("from the host itself")?;
    ensure!(itself == hairpin, "{itself}");
    assert_served(&lab);

    // Not from there any more; and a program of this host at that port is not cut off.
    reconfigure(&lab, &daemon, &format!("{forward}from = [\"10.20.0.0/16\"]\n"))?;
    ensure!(outside.connect(public, PATIENCE).is_err(), "it may not come in");
    ensure!(seen(&listener, &other.namespace, public).is_some(), "it may");
    let own = lab.nat().namespace.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8443)))??;
    let plan = lab.nat().natd(["plan"])?;
    let why = "a program of this host listens on port 8443";
    ensure!(plan.stdout.contains(why), "{plan:#?}");
    drop((own, daemon));
    Ok(())
}

/// What the flows that a test has seen carry from then on, and one that is made anew does not. (By its id it isn't
/// known: the kernel makes that of the entry's place in memory and of its tuple, and the next entry often gets the
/// place of the last.)
const SEEN: &str = "0x6e617464";

/// The UDP flows from an address.
#[derive(Debug, PartialEq, Eq)]
struct Flows {
    seen: usize,
    anew: usize,
}

impl Flows {
    /// Marks all that there are as seen.
    fn see(lab: &Lab, source: Ipv4Addr) -> Result<()> {
        lab.nat().sh(&format!("conntrack -U -p udp -s {source} --mark {SEEN}"))?;
        Ok(())
    }

    fn of(lab: &Lab, source: Ipv4Addr) -> Result<Self> {
        let count = |mark: &str| -> Result<usize> {
            let list = format!("conntrack -L -p udp -s {source} --mark {mark} 2>/dev/null");
            Ok(lab.nat().sh(&list)?.lines().count())
        };
        Ok(Self { seen: count(SEEN)?, anew: count("0")? })
    }
}

fn a_change_touches_nothing_that_stays(back_end: BackEnd) -> Result<()> {
    let second = Ipv4Addr::new(10, 10, 1, 11);
    let lab = Lab::aws().secondary_address(second).back_end(back_end).build()?;
    lab.nat().namespace.ip(&format!("addr add {second}/24 dev eth0"))?;
    // By each of them natd's own canary gets out.
    lab.further_public_address(Ipv4Addr::new(203, 0, 113, 11), "nat/eth0", second)?;
    // Flows that say nothing for a while are not to end by themselves.
    lab.nat().namespace.set_sysctls(&[("net.netfilter.nf_conntrack_udp_timeout", "600")])?;
    let narrow = "[nat]\nsources = [\"10.10.0.0/16\"]\n";
    let daemon = serving_daemon(&lab, "")?;
    let (stays, goes) = (lab.client("client-a"), lab.client("client-b"));
    let (stream, mut tcp, mut ended) = (stays.stream()?, stays.tcp_flow()?, goes.udp_flow()?);
    let tcp_before = tcp.exchange(PATIENCE)?;
    ended.exchange(PATIENCE)?;
    stream.goes_on(5)?;
    // The host's own, which natd has no part in.
    lab.nat().udp()?;
    Flows::see(&lab, stays.address)?;
    Flows::see(&lab, lab.nat().address)?;
    let of = |source| Flows::of(&lab, source);
    let kept = Flows { seen: 1, anew: 0 };
    ensure!(of(goes.address)? == Flows { seen: 0, anew: 1 });

    for change in [
        narrow.to_owned(),
        format!("{narrow}exclude = [\"vpc\", \"192.0.2.128/25\"]\nclamp_mss = true\n"),
        format!("{narrow}addresses = [\"{second}\", \"10.10.1.10\"]\n"),
        format!("{narrow}[[nat.forward]]\nprotocol = \"tcp\"\nport = 8443\nto = \"10.10.2.101\"\n"),
        format!("{narrow}mode = \"masquerade\"\n"),
    ] {
        reconfigure(&lab, &daemon, &change)?;
        stream.goes_on(5)?;
        let [client, own, gone] = [stays.address, lab.nat().address, goes.address].map(of);
        ensure!(client? == kept, "{change}: the flow was made anew");
        ensure!(own? == kept, "{change}: the host's own flow is gone");
        ensure!(gone? == Flows { seen: 0, anew: 0 }, "{change}: it is still served");
    }
    ensure!(tcp.exchange(PATIENCE)? == tcp_before, "the connection is the same");
    ensure!(ended.exchange(PATIENCE).is_err(), "it is not served any more");
    ensure!(stream.remarks().len() == 1, "it was translated anew: {:?}", stream.remarks());
    ensure!(lab.untranslated()? == 0);

    // Translated to an address that isn't given any more, it ends.
    reconfigure(&lab, &daemon, &format!("{narrow}addresses = [\"{second}\"]\n"))?;
    ensure!(
        of(stays.address)? == Flows { seen: 0, anew: 1 },
        "it goes on by the address that it had"
    );
    ensure!(of(lab.nat().address)? == kept, "the host's own flow is gone");
    Ok(())
}

/// By an address without a public one answers get lost; so this is a test of its own.
fn no_packet_is_lost_while_the_rules_change(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let daemon = serving_daemon(&lab, "")?;
    let stream = lab.client("client-a").stream()?;
    stream.goes_on(5)?;
    let begun = stream.mark();
    for change in [
        "sources = [\"10.10.0.0/16\"]",
        "exclude = []\nclamp_mss = true",
        "mode = \"masquerade\"",
        "random_fully = false",
    ] {
        reconfigure(&lab, &daemon, &format!("[nat]\n{change}\n"))?;
        stream.goes_on(5)?;
    }
    let lost = stream.lost_since(begun)?;
    ensure!(lost == 0, "{lost} datagrams are lost");
    Ok(())
}

#[test]
fn sixty_thousand_sources_are_loaded_once_and_not_read_back_in_each_tick() -> Result<()> {
    let lab = Lab::aws().back_end(BackEnd::Nftables).build()?;
    let mut sources = String::from("[nat]\nsources = [\"vpc\"");
    for number in 0..60_000_u32 {
        // Of which none merge; the clients' own blocks are in between.
        write!(sources, ", \"{}/32\"", Ipv4Addr::from(0x0900_0000 + number * 250))?;
    }
    sources.push_str("]\n");
    lab.nat().write(TEST, &sources)?;
    let interval = "[service]\ninterval = \"1s\"\n";
    lab.nat().write("etc/natd/conf.d/10-test.toml", interval)?;

    let folder = lab.nat().root.join("programs");
    fs::create_dir_all(&folder)?;
    let log = folder.join("log");
    let script =
        format!("#!/bin/sh\necho \"$*\" >> {}\nexec /usr/sbin/nft \"$@\"\n", log.display());
    fs::write(folder.join("nft"), script)?;
    fs::set_permissions(folder.join("nft"), fs::Permissions::from_mode(0o755))?;
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
    let daemon = Daemon::start(lab.nat().command_under(&["env", &path], ["run"])?)?;
    daemon.wait_for(HEALING, |line| line.contains("INFO NAT "))?;
    lab.sync()?;
    assert_served(&lab);
    after_a_quiet_tick(&lab, &daemon);
    let (mark, before) = (daemon.mark(), fs::read_to_string(&log)?.lines().count());
    after_a_quiet_tick(&lab, &daemon);
    let told = changes(&daemon, mark);
    ensure!(told.is_empty(), "{told:#?}");
    let calls = fs::read_to_string(&log)?;
    let whole = |call: &str| call.contains("list table inet");
    ensure!(calls.lines().any(whole), "what was loaded is read back once: {calls}");
    // `nft` reads all elements of all sets whatever it is to list, so it isn't asked at all.
    let steady: Vec<&str> = calls.lines().skip(before).collect();
    ensure!(steady.is_empty(), "{steady:#?}");

    // But somebody's hand on the set is seen, and put right.
    let mark = daemon.mark();
    lab.nat().exec(["nft", "delete", "element", "inet", "natd", "sources", "{ 9.0.0.0 }"])?;
    let line = daemon.wait_for_after(mark, HEALING, |line| line.contains("replace natd's"))?;
    ensure!(line.contains("set sources has other elements"), "{line}");
    after_a_quiet_tick(&lab, &daemon);
    let plan = lab.nat().natd(["plan"])?;
    ensure!(plan.code == Some(0) && plan.stdout.contains("Nothing to do"), "{plan:#?}");
    lab.nat().write("etc/natd/conf.d/30-mode.toml", "[nat]\nmode = \"masquerade\"\n")?;
    let plan = lab.nat().natd(["plan"])?;
    ensure!(plan.stdout.lines().count() < 60 && plan.stdout.len() < 10_000, "{}", plan.stdout);
    ensure!(plan.stdout.contains("masquerade from 60002 blocks"), "{}", plan.stdout);
    Ok(())
}
