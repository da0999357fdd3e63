//! firewalld: natd's traffic passes by a policy of its own.
//!
//! A policy that is there can be changed at any time, in firewalld's files and in what it does now. A new one
//! it reads when it reloads, and there is no other way in; a reload drops all that is set until then only.
//! natd reloads it if nothing is lost by that, and else says what would be. A reload also removes all rules of
//! iptables, whosever they are (firewalld 1.3.3).

mod bus;
mod unsaved;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use natd_core::{
    error::{Error, Kind, Result},
    host::{Loaded, NeighbouringFirewall},
    neighbours::{
        Neighbour, Passage,
        firewalld::{MOST, POLICY, Policy, Unsaved, Zones},
    },
};
use serde_json::Value;

use self::{
    bus::{Bus, Target},
    unsaved::unsaved,
};
use crate::{firewall::nftables::kernel, process::Program};

const DEADLINE: Duration = Duration::from_secs(10);

const OPENING: &str = "have firewalld let natd's traffic through";
const CLOSING: &str = "remove natd's policy from firewalld";
const LOOKING: &str = "look at firewalld's policies";

/// Where it has its files, and among them natd's policy, and how that begins.
const FOLDER: &str = "etc/firewalld";
const FILE: &str = "etc/firewalld/policies/natd.xml";
const MARKED: &str = "<description>natd:";

/// Its table of nftables, and the chain of iptables that it makes in any case.
const TABLE: &str = "firewalld";
const CHAIN: &str = "-N FORWARD_direct";

/// firewalld, by D-Bus.
#[derive(Debug, Clone)]
pub struct Firewalld {
    root: PathBuf,
    bus: Bus,
    iptables: Program,
    saves: [Program; 2],
    offline: Program,
}

impl Firewalld {
    /// firewalld with its files below that folder, which is `/` on a host.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            bus: Bus::new(),
            iptables: Program::new("iptables", "iptables", DEADLINE),
            saves: ["iptables-save", "ip6tables-save"]
                .map(|name| Program::new(name, "iptables", DEADLINE)),
            offline: Program::new("firewall-offline-cmd", "firewalld", DEADLINE),
        }
    }

    /// Whether natd's policy is in firewalld's files.
    fn has_file(&self) -> bool {
        fs::read_to_string(self.root.join(FILE)).is_ok_and(|text| text.contains(MARKED))
    }

    /// Whether it runs, and here: one that answers may be at work in another network namespace.
    async fn is_at_work(&self, doing: &str) -> Result<bool> {
        if !self.root.join(FOLDER).is_dir() {
            return Ok(false);
        }
        let answers = match self.bus.is_there(doing).await {
            Err(error) if error.kind() == Kind::NotFound => false,
            answers => answers?,
        };
        Ok(answers && self.is_in_kernel(doing).await?)
    }

    async fn is_in_kernel(&self, doing: &str) -> Result<bool> {
        let chains = match kernel::chains(doing, DEADLINE).await {
            Err(error) if error.kind() == Kind::NotFound => Vec::new(),
            chains => chains?,
        };
        if chains.iter().any(|(_, table, _)| table == TABLE) {
            return Ok(true);
        }
        match self.iptables.run(doing, &["-S"], None).await.and_then(|listed| listed.success(doing))
        {
            Ok(listed) => Ok(listed.lines().any(|line| line == CHAIN)),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The zones that interfaces of natd's were put into.
    async fn zones(&self, passage: &Passage, doing: &str) -> Result<Zones> {
        let mut zones = Zones::new();
        for interface in passage.entrances.iter().chain([&passage.egress]) {
            let args = ["s", &interface.to_string()];
            let zone = self
                .bus
                .call(doing, &Target::runtime(".zone"), "getZoneOfInterface", &args)
                .await?;
            if let Some(zone) = zone.as_str().filter(|zone| !zone.is_empty()) {
                zones.insert(interface.clone(), zone.to_owned());
            }
        }
        Ok(zones)
    }

    /// Whether it lets through anyway what goes from one interface of a zone to another of the same.
    async fn grants(&self, passage: &Passage, zones: &Zones, doing: &str) -> Result<bool> {
        let Some(zone) = zones.get(&passage.egress) else { return Ok(false) };
        if passage.entrances.iter().any(|by| zones.get(by) != Some(zone)) {
            return Ok(false);
        }
        let of = Target::runtime(".zone");
        let settings = self.bus.call(doing, &of, "getZoneSettings2", &["s", zone]).await?;
        let forward = settings.get("forward").and_then(|forward| forward.get("data"));
        Ok(forward.and_then(Value::as_bool) == Some(true))
    }

    async fn policies(&self, doing: &str) -> Result<Policies> {
        Ok(Policies {
            saved: self.bus.permanent_policy(doing).await?,
            now: self.bus.runtime_policy(doing).await?,
        })
    }

    /// Reloads firewalld, if nothing but natd's policy changes by it.
    async fn reload(&self, doing: &str) -> Result<Unsaved> {
        let mut unsaved = unsaved(&self.bus, doing).await?;
        for program in &self.saves {
            let saved = program.run(doing, &[], None).await.and_then(|saved| saved.success(doing));
            let saved = match saved {
                Err(error) if error.kind() == Kind::NotFound => continue,
                saved => saved?,
            };
            if saved.lines().any(|line| line.starts_with("-A ")) {
                unsaved.0.insert("rules of iptables, which a reload removes".to_owned());
            }
        }
        if unsaved.0.is_empty() {
            self.bus.reload(doing).await?;
        }
        Ok(unsaved)
    }
}

/// natd's policy, in firewalld's files and in what it does now.
struct Policies {
    saved: Option<Policy>,
    now: Option<Policy>,
}

impl Policies {
    /// Whether natd has neither.
    fn are_gone(&self) -> bool {
        self.saved.is_none() && self.now.as_ref().is_none_or(Policy::is_idle)
    }

    /// One of that name which natd hasn't made.
    fn foreign(&self) -> bool {
        [&self.saved, &self.now].into_iter().flatten().any(|policy| policy.digest().is_none())
    }
}

#[async_trait]
impl NeighbouringFirewall for Firewalld {
    fn who(&self) -> Neighbour {
        Neighbour::Firewalld
    }

    async fn is_running(&self) -> Result<bool> {
        Ok(self.has_file() || self.is_at_work(LOOKING).await?)
    }

    async fn passage(&self, wanted: Option<&Passage>) -> Result<Option<Loaded>> {
        let as_it_is = |digest| Loaded { digest, damage: Vec::new() };
        if !self.is_at_work(LOOKING).await? {
            // Nothing is in the way, and its files are left alone.
            let digest = wanted.map(Passage::digest);
            return Ok(self.has_file().then(|| as_it_is(digest)));
        }
        let policies = self.policies(LOOKING).await?;
        let Some(passage) = wanted else {
            let is_there = !policies.are_gone() && !policies.foreign();
            let digest = policies.saved.and_then(|policy| policy.digest());
            return Ok(is_there.then(|| as_it_is(digest)));
        };
        let zones = self.zones(passage, LOOKING).await?;
        if policies.are_gone() {
            let is_granted = self.grants(passage, &zones, LOOKING).await?;
            return Ok(is_granted.then(|| as_it_is(Some(passage.digest()))));
        }
        if policies.foreign() {
            return Ok(None);
        }
        let wanted = Policy::of(passage, &zones);
        let (saved, now) = (policies.saved, policies.now);
        let digest = [&saved, &now].into_iter().flatten().find_map(Policy::digest);
        if digest != wanted.digest() {
            return Ok(Some(as_it_is(digest)));
        }
        let damage = match (saved, now) {
            (None, _) => vec![format!("policy {POLICY} is gone after a reload of firewalld")],
            (Some(_), None) => vec![format!("firewalld has not read policy {POLICY} yet")],
            (Some(saved), Some(now)) => {
                let mut damage = now.damage(&wanted);
                let saved = saved.damage(&wanted).into_iter();
                damage.extend(saved.map(|what| format!("after a reload of firewalld, {what}")));
                damage
            }
        };
        Ok(Some(Loaded { digest, damage }))
    }

    async fn open(&self, passage: &Passage) -> Result<()> {
        if !self.is_at_work(OPENING).await? {
            return Ok(());
        }
        if passage.sources.len() > MOST {
            return Err(too_many(passage));
        }
        let policies = self.policies(OPENING).await?;
        let zones = self.zones(passage, OPENING).await?;
        if policies.foreign() {
            return Err(foreign());
        }
        if policies.are_gone() && self.grants(passage, &zones, OPENING).await? {
            return Ok(());
        }
        let wanted = Policy::of(passage, &zones);
        match policies.saved {
            None => self.bus.add_permanent(OPENING, &wanted).await?,
            // What it was made for is in its description.
            Some(saved) if saved != wanted => self.bus.update_permanent(OPENING, &wanted).await?,
            Some(_) => {}
        }
        match policies.now {
            Some(now) if now.damage(&wanted).is_empty() => Ok(()),
            Some(_) => self.bus.set_runtime(OPENING, &wanted).await,
            None => {
                let unsaved = self.reload(OPENING).await?;
                if unsaved.0.is_empty() { Ok(()) } else { Err(would_be_lost(&unsaved)) }
            }
        }
    }

    async fn close(&self) -> Result<()> {
        if !self.is_at_work(CLOSING).await? {
            if self.has_file() {
                let name = format!("--delete-policy={POLICY}");
                self.offline.run(CLOSING, &[&name], None).await?.success(CLOSING)?;
            }
            return Ok(());
        }
        let policies = self.policies(CLOSING).await?;
        if policies.foreign() {
            return Ok(());
        }
        if policies.saved.is_some() {
            self.bus.remove_permanent(CLOSING).await?;
        }
        let Some(now) = policies.now.filter(|now| !now.is_idle()) else { return Ok(()) };
        if !self.reload(CLOSING).await?.0.is_empty() {
            // Until firewalld is reloaded, a policy that is for no packets stays behind.
            let idle = Policy {
                ingress: [].into(),
                egress: [].into(),
                rules: [].into(),
                description: now.description,
            };
            self.bus.set_runtime(CLOSING, &idle).await?;
        }
        Ok(())
    }
}

fn foreign() -> Error {
    Error::new(
        Kind::Conflict,
        OPENING,
        format!("there is a policy {POLICY} that natd has not made"),
    )
    .with_advice("give that one another name, or have it let natd's traffic through")
}

fn would_be_lost(unsaved: &Unsaved) -> Error {
    Error::new(
        Kind::Conflict,
        OPENING,
        format!(
            "firewalld reads a new policy when it reloads, and what there is now would not be the same then: {unsaved}"
        ),
    )
    .with_advice(
        "keep what is set now (firewall-cmd --runtime-to-permanent), or leave it; then type: firewall-cmd --reload",
    )
}

fn too_many(passage: &Passage) -> Error {
    Error::new(
        Kind::Unsupported,
        OPENING,
        format!("it takes {} rich rules; natd makes up to {MOST}", passage.sources.len()),
    )
    .with_advice("name fewer, larger blocks in nat.sources, or make a policy of your own")
}
