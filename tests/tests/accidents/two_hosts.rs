//! Two NAT instances are to serve the same table: they don't fight over it, each raises its alarm once, and private hosts
//! are served by one of them all the time.

use anyhow::{Context, Result, ensure};
use natd_tests::expect::{HEALING, writes};
use natd_tests::lab::Lab;
use natd_tests::lab::daemon::Daemon;
use natd_tests::lab::natd::{Nat, Run};
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::lab::topology::{NAT_PUBLIC, public_of_client};
use natd_tests::wait::until;

/// A lab in which `client-b` could be a NAT instance, too: it has a public address, a way out, and a security group that
/// lets private hosts in.
fn lab() -> Result<(Lab, Nat)> {
    let lab = Lab::aws().public_client("client-b").build()?;
    let ids = &lab.ids;
    lab.point_route(ids.table("private-b"), DEFAULT, &ids.elsewhere)?;
    let group = [
        ("NetworkInterfaceId", ids.interface("client-b/eth0")),
        ("SecurityGroupId.1", ids.group("nat")),
    ];
    lab.api().call("ModifyNetworkInterfaceAttribute", &group)?;
    lab.sync()?;
    let other = lab.natd_on("client-b")?;
    let configuration = format!(
        "[service]\ninterval = \"1s\"\n[routes]\ntables = [{:?}]\n",
        ids.table("private-a")
    );
    for nat in [lab.nat(), &other] {
        nat.write("etc/natd/conf.d/10-test.toml", &configuration)?;
    }
    Ok((lab, other))
}

fn ticks(nat: &Nat) -> Option<u64> {
    let (_, metrics) = nat.health("/metrics").ok()?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("natd_full_ticks_total "))?;
    line.trim().parse().ok()
}

/// Waits for whole ticks of that natd's.
fn after_ticks(nat: &Nat, more: u64) {
    let now = ticks(nat).unwrap_or_default();
    until("further ticks", || ticks(nat).is_some_and(|then| then >= now + more));
}

fn said(daemon: &Daemon, words: &str) -> usize {
    daemon.lines().iter().filter(|line| line.contains(words)).count()
}

fn ends_well(run: &Run) -> Result<()> {
    ensure!(run.code == Some(0), "{run:#?}");
    Ok(())
}

const LEAVES_IT: &str = "natd has stopped taking it";
const WARNS: &str = "again and again, as another natd would";

#[test]
fn they_dont_fight_and_each_raises_one_alarm() -> Result<()> {
    let (lab, other) = lab()?;
    let before = State::of(&lab)?;
    let (client, table) = (lab.client("client-a"), lab.ids.table("private-a"));
    let (first, second) = (lab.nat().daemon::<&str>([])?, {
        until("the first one serves", || {
            lab.sync().is_ok() && lab.client("client-a").tcp() == Ok(NAT_PUBLIC)
        });
        other.daemon::<&str>([])?
    });
    second.wait_for(HEALING, |line| line.contains("INFO NAT works"))?;
    let both = [(lab.nat(), &first), (&other, &second)];

    until("one of them gives way", || both.iter().any(|(_, daemon)| said(daemon, LEAVES_IT) > 0));
    for (nat, _) in both {
        after_ticks(nat, 3);
    }
    // From now on nobody writes.
    lab.api_log_clear();
    let at_rest = [first.mark(), second.mark()];
    for (nat, _) in both {
        after_ticks(nat, 5);
    }
    ensure!(writes(&lab).is_empty(), "they still fight: {:?}", writes(&lab));
    ensure!([first.mark(), second.mark()] == at_rest, "they still talk of it");
    for (_, daemon) in both {
        ensure!(said(daemon, WARNS) == 1, "{:#?}", daemon.lines());
        ensure!(said(daemon, LEAVES_IT) <= 1, "{:#?}", daemon.lines());
        ensure!(said(daemon, "done: point route") <= 4, "{:#?}", daemon.lines());
    }
    let gave_way: Vec<_> = both.iter().map(|(_, daemon)| said(daemon, LEAVES_IT) > 0).collect();
    ensure!(gave_way.iter().filter(|gave| **gave).count() == 1, "{gave_way:?}");

    // The other one serves, and only that one is ready.
    let winner = usize::from(gave_way[0]);
    let (loser, public) = (1 - winner, [NAT_PUBLIC, public_of_client(1)]);
    ensure!(both[winner].0.health("/readyz")?.0 == 200);
    ensure!(both[loser].0.health("/readyz")?.0 == 503);
    lab.sync()?;
    ensure!(client.tcp() == Ok(public[winner]), "{:?}", client.tcp());

    // It goes, and gives the route to whom it had it from, who serves.
    let interfaces = [lab.ids.interface("nat/eth0"), lab.ids.interface("client-b/eth0")];
    both[winner].1.terminate()?;
    until("it has ended", || both[winner].0.health("/livez").is_err());
    ends_well(&both[winner].0.natd(["down"])?)?;
    let now = lab.route(table, DEFAULT)?;
    if winner == 1 {
        ensure!(now.as_deref() == Some(interfaces[loser]), "{now:?}");
        lab.sync()?;
        ensure!(client.tcp() == Ok(public[loser]), "{:?}", client.tcp());
        until("it is ready again", || {
            both[loser].0.health("/readyz").is_ok_and(|(code, _)| code == 200)
        });
    }
    both[loser].1.terminate()?;
    until("it has ended", || both[loser].0.health("/livez").is_err());
    ends_well(&both[loser].0.natd(["down"])?)?;
    let after = State::of(&lab)?;
    ensure!(after == before, "{}", after.differences(&before));
    Ok(())
}

/// Who is told to leave a foreign route takes none from another natd.
#[test]
fn who_is_not_to_take_over_leaves_the_table_to_the_other() -> Result<()> {
    let (lab, other) = lab()?;
    ends_well(&lab.nat().natd(["apply"])?)?;
    other.write("etc/natd/conf.d/20-test.toml", "[routes]\ntakeover = \"refuse\"\n")?;
    lab.api_log_clear();
    let run = other.natd(["apply"])?;
    ensure!(run.code == Some(3), "{run:#?}");
    ensure!(writes(&lab).is_empty(), "{:?}", writes(&lab));
    let target = lab.route(lab.ids.table("private-a"), DEFAULT)?.context("it is there")?;
    ensure!(target == lab.ids.interface("nat/eth0"), "{target}");
    lab.sync()?;
    ensure!(lab.client("client-a").tcp() == Ok(NAT_PUBLIC));
    Ok(())
}
