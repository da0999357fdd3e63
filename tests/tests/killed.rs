//! Killed at any moment of `apply` or `down`, natd leaves nothing that its next run doesn't put right, and whatever
//! leads to it meanwhile is carried. In the end all of it is as it was on a host that others live on, too.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::lab::killed::Moment;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::lab::topology::NAT_PUBLIC;
use natd_tests::{on_every_back_end, on_every_cloud};

const JOURNAL: &str = "var/lib/natd/journal.json";

/// Rules of somebody else's, beside those that `iptables` makes below.
const NFT: &str = "
table inet theirs {
    set blocked { type ipv4_addr; elements = { 192.0.2.66, 192.0.2.67 }; }
    chain forward { type filter hook forward priority 10; policy accept; ip saddr @blocked drop; }
    chain out { type nat hook postrouting priority 110; ip saddr 172.29.0.0/16 masquerade; }
}
";
const IPTABLES: &str = "
iptables -N THEIRS
iptables -A THEIRS -s 192.0.2.68 -j DROP
iptables -A INPUT -p tcp --dport 9999 -j DROP
iptables -A FORWARD -j THEIRS
iptables -A FORWARD -s 192.0.2.69 -j DROP
iptables -t nat -N THEIRS-NAT
iptables -t nat -A POSTROUTING -s 172.30.0.0/16 -o eth0 -j MASQUERADE
iptables -t nat -A POSTROUTING -j THEIRS-NAT
";
/// Those that natd writes, and others, at values that it wouldn't give them.
const SYSCTLS: [(&str, &str); 5] = [
    ("net.ipv4.conf.all.send_redirects", "1"),
    ("net.ipv4.conf.eth0.send_redirects", "0"),
    ("net.ipv4.conf.eth0.rp_filter", "1"),
    ("net.ipv4.conf.eth0.accept_redirects", "1"),
    ("net.ipv4.conf.lo.forwarding", "1"),
];

/// A lab on whose NAT instance and in whose route tables others live, before natd's first run.
struct Scene {
    lab: Lab,
    before: State,
    rules_before: String,
}

impl Scene {
    fn new(cloud: CloudKind, back_end: BackEnd) -> Result<Self> {
        let lab = Lab::of(cloud).back_end(back_end).build()?;
        let (nat, ids) = (lab.nat(), &lab.ids);
        nat.namespace.nft(NFT)?;
        let legacy = back_end == BackEnd::IptablesLegacy;
        let form = if legacy { "iptables-legacy" } else { "iptables-nft" };
        nat.sh(&IPTABLES.replace("iptables", form))?;
        nat.namespace.set_sysctls(&SYSCTLS)?;
        // One private table has its NAT instance already; both have routes to elsewhere.
        lab.point_route(ids.table("private-a"), DEFAULT, ids.interface("client-b/eth0"))?;
        lab.point_route(ids.table("private-a"), "198.18.0.0/15", &ids.elsewhere)?;
        lab.point_route(ids.table("private-b"), "172.31.0.0/16", ids.interface("client-a/eth0"))?;
        let (before, rules_before) = (State::of(&lab)?, rules(&lab)?);
        Ok(Self { lab, before, rules_before })
    }

    /// Kills `apply` and `down` at that moment, each followed by a run to its end. Gives whether one of them came to it.
    fn survives(&self, moment: &Moment) -> Result<bool> {
        let killed_up = self.lab.natd_killed(moment, &["apply"])?;
        self.carries_what_it_attracts()?;
        self.succeeds(&["apply"])?;
        for client in self.lab.clients() {
            ensure!(client.tcp() == Ok(NAT_PUBLIC), "{}: {:?}", client.name, client.tcp());
        }
        let killed_down = self.lab.natd_killed(moment, &["down"])?;
        self.carries_what_it_attracts()?;
        self.succeeds(&["down"])?;
        self.is_as_before()?;
        Ok(killed_up || killed_down)
    }

    /// How many of these moments there are, all of them survived.
    fn survives_all(&self, moment: impl Fn(u32) -> Moment) -> Result<u32> {
        let mut nth = 1;
        while self
            .survives(&moment(nth))
            .map_err(|error| error.context(format!("{:?}", moment(nth))))?
        {
            nth += 1;
        }
        Ok(nth - 1)
    }

    fn succeeds(&self, arguments: &[&str]) -> Result<()> {
        let run = self.lab.nat().natd(arguments)?;
        ensure!(run.code == Some(0), "natd {}: {run:#?}", arguments.join(" "));
        self.lab.sync()
    }

    fn carries_what_it_attracts(&self) -> Result<()> {
        for (client, target) in self.settled()? {
            if target.as_deref() == Some(self.lab.cloud().target()) {
                let seen = self.lab.client(client).tcp();
                ensure!(
                    seen == Ok(NAT_PUBLIC),
                    "a route leads {client} to natd, and it gets {seen:?}"
                );
            }
        }
        Ok(())
    }

    /// Where each client's default route leads, once the network knows. Writes of different tables are
    /// made side by side: one that was under way when natd was killed may still come in.
    fn settled(&self) -> Result<Vec<(&'static str, Option<String>)>> {
        let ids = &self.lab.ids;
        let targets = || -> Result<Vec<_>> {
            [("private-a", "client-a"), ("private-b", "client-b")]
                .into_iter()
                .map(|(table, client)| Ok((client, self.lab.route(ids.table(table), DEFAULT)?)))
                .collect()
        };
        loop {
            let before = targets()?;
            self.lab.sync()?;
            if targets()? == before {
                return Ok(before);
            }
        }
    }

    fn is_as_before(&self) -> Result<()> {
        let now = State::of(&self.lab)?;
        ensure!(now == self.before, "{}", now.differences(&self.before));
        ensure!(
            rules(&self.lab)? == self.rules_before,
            "rules were made anew:\n{}",
            rules(&self.lab)?
        );
        ensure!(self.lab.nat().read(JOURNAL).is_none(), "the journal is left");
        Ok(())
    }
}

/// All rules in nftables with their handles, which a rule that is made anew doesn't get again.
fn rules(lab: &Lab) -> Result<String> {
    lab.nat().exec(["nft", "-s", "-a", "list", "ruleset"])
}

on_every_back_end!(before_every_program_that_it_runs);

fn before_every_program_that_it_runs(back_end: BackEnd) -> Result<()> {
    let moments =
        Scene::new(CloudKind::Aws, back_end)?.survives_all(|nth| Moment::Program { nth })?;
    // It looks, changes and looks again, at the least.
    // nftables' rules are read from the kernel: natd runs `nft` to load, and to see what sets hold.
    let least = if back_end == BackEnd::Nftables { 2 } else { 5 };
    ensure!(moments >= least, "only {moments}");
    Ok(())
}

#[test]
fn before_every_write_to_the_kernel_or_the_journal() -> Result<()> {
    let scene = Scene::new(CloudKind::Aws, BackEnd::Nftables)?;
    let journal = scene.lab.nat().root.join(JOURNAL);
    let mut about: Vec<PathBuf> = SYSCTLS
        .iter()
        .map(|(key, _)| PathBuf::from("/proc/sys").join(key.replace('.', "/")))
        .collect();
    about.extend([
        PathBuf::from("/proc/sys/net/ipv4/conf/eth0/forwarding"),
        journal.with_file_name(".journal.json.new"),
        journal,
    ]);
    for (name, at_least) in
        [("write", 6), ("?rename,?renameat,renameat2", 3), ("?unlink,unlinkat", 1)]
    {
        let moments = scene.survives_all(|nth| Moment::Call { name, about: about.clone(), nth })?;
        ensure!(moments >= at_least, "only {moments} of {name}");
    }
    Ok(())
}

on_every_cloud!(before_it_hears_of_any_change_in_the_cloud);

fn before_it_hears_of_any_change_in_the_cloud(cloud: CloudKind) -> Result<()> {
    let scene = Scene::new(cloud, BackEnd::Nftables)?;
    for &(action, times) in scene.lab.cloud().writes() {
        let moments = scene.survives_all(|nth| Moment::Answer { action, nth: nth as usize })?;
        // A call that meets another's change is made again: there may be more of them, and never fewer.
        ensure!(moments >= times, "{moments} of {action}");
    }
    Ok(())
}

/// The route of `private-a` had another target, the one of `private-b` was not there before.
#[test]
fn a_route_that_somebody_changed_meanwhile_stays_theirs() -> Result<()> {
    let scene = Scene::new(CloudKind::Aws, BackEnd::Nftables)?;
    let (lab, ids) = (&scene.lab, &scene.lab.ids);
    let last_check = Moment::Answer { action: "ModifyNetworkInterfaceAttribute", nth: 1 };
    scene.succeeds(&["apply"])?;
    let theirs =
        [("private-a", ids.elsewhere.as_str()), ("private-b", ids.interface("client-a/eth0"))];
    for (table, target) in theirs {
        lab.point_route(ids.table(table), DEFAULT, target)?;
    }
    ensure!(lab.natd_killed(&last_check, &["down"])?);
    scene.succeeds(&["down"])?;
    for (table, target) in theirs {
        let now = lab.route(ids.table(table), DEFAULT)?;
        ensure!(now.as_deref() == Some(target), "{table} leads to {now:?}");
    }
    ensure!(rules(lab)? == scene.rules_before);
    Ok(())
}
