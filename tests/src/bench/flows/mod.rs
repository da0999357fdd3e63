//! A quarter of a million flows to one destination, through one to four addresses.
//!
//! - [`clients`]: whose flows they are; [`server`]: who answers.
//! - [`memory`]: what the kernel takes for them.

mod clients;
mod memory;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::chain::{Chain, OUTSIDE};
use super::plot::{Axis, Corner, Line, Plot, grouped};
use super::report::Section;
use crate::lab::natd::first_in;
use clients::{Clients, address, port};
use memory::Slab;
use server::Server;

/// How many are to be carried.
const FLOWS: u32 = 250_000;

/// Through a pool that can't carry all of them, so many are opened for each address: more than it has ports.
const TOO_MANY: u32 = 70_000;

/// Clients with the same number of flows each. It has to be a multiple of each number of addresses.
const CLIENTS: u32 = 120;

/// From so many they are chosen such that each address gets as many of them.
const CANDIDATES: u32 = 1_000;

/// The pools' addresses: the gateway's own and three more.
const POOL: [Ipv4Addr; 4] = [
    OUTSIDE,
    Ipv4Addr::new(198, 18, 0, 11),
    Ipv4Addr::new(198, 18, 0, 12),
    Ipv4Addr::new(198, 18, 0, 13),
];

/// Flows that are opened at once.
const BURST: u32 = 250;

/// A packet without an answer is sent again, as clients do: where almost every port is taken, the kernel doesn't find
/// a free one each time.
const TRIES: usize = 3;

/// Flows between two points of the plot.
const STEP: u32 = 5_000;

/// What one address is to carry.
const OF_ONE: usize = 64_000;

/// What became of the flows.
struct Outcome {
    addresses: usize,
    opened: u32,
    /// Answered flows by flows that were opened so far.
    progress: Vec<(u32, usize)>,
    /// Flows that the server has answered.
    answered: usize,
    /// Ports by address, as the server saw them.
    seen: BTreeMap<Ipv4Addr, BTreeSet<u16>>,
    /// Entries of the gateway's table at the end.
    tracked: usize,
    took: Duration,
    memory: Slab,
}

pub fn measure() -> Result<Section> {
    let most: u32 = read("/proc/sys/net/netfilter/nf_conntrack_max")?;
    ensure!(
        most > FLOWS + CANDIDATES,
        "the kernel tracks {most} connections at most: sysctl -w net.netfilter.nf_conntrack_max={}",
        FLOWS.next_power_of_two()
    );
    let outcomes: Vec<Outcome> = (1..=POOL.len()).map(through).collect::<Result<_>>()?;
    Ok(report(&outcomes))
}

fn through(addresses: usize) -> Result<Outcome> {
    let chain = Chain::lay()?;
    let pool = POOL.get(..addresses).context("so many addresses there are not")?;
    let further = pool.iter().skip(1).map(|address| format!("addr add {address}/24 dev outside\n"));
    chain.gateway.ip(&further.collect::<String>())?;
    chain.configure(&configuration(pool))?;
    let usual = first_in(&chain.root)?;
    chain.natd(&usual, "apply")?;
    let _server = Server::start(&chain)?;
    let clients = Clients::settle(&chain)?;
    let chosen = balanced(&clients, pool)?;
    chain.forget_connections()?;
    let before = Slab::settled()?;
    let flows = FLOWS.min(TOO_MANY * u32::try_from(addresses)?);
    let mut outcome = open(&clients, &chosen, flows)?;
    outcome.addresses = addresses;
    outcome.memory = Slab::now()?.since(before);
    outcome.tracked = chain.gateway.sysctl("net.netfilter.nf_conntrack_count")?.parse()?;
    Ok(outcome)
}

fn configuration(pool: &[Ipv4Addr]) -> String {
    let pool: Vec<String> = pool.iter().map(ToString::to_string).collect();
    format!(
        "provider = \"none\"\n\n\
         [nat]\nsources = [\"10.10.0.0/16\"]\nexclude = [\"10.0.0.0/8\"]\ninterface = \"outside\"\n\
         firewall = \"nftables\"\npersist = \"none\"\naddresses = {pool:?}\n\n\
         [conntrack.timeouts]\nudp = \"10m\"\nudp_stream = \"10m\"\n\n\
         [routes]\ninterface = \"inside\"\n"
    )
}

/// Clients of which each address of the pool gets as many.
fn balanced(clients: &Clients, pool: &[Ipv4Addr]) -> Result<Vec<u32>> {
    let each = usize::try_from(CLIENTS)? / pool.len();
    let mut by_address: BTreeMap<Ipv4Addr, Vec<u32>> = BTreeMap::new();
    for candidate in 0..CANDIDATES {
        clients.send(candidate, SocketAddrV4::new(address(candidate), port(0)?))?;
        // Neighbours are being found: the first answers may take a moment.
        let answer = (0..100).find_map(|_| clients.answer().transpose()).context("no answer")??;
        let of_address = by_address.entry(*answer.seen.ip()).or_default();
        if of_address.len() < each {
            of_address.push(answer.flow);
        }
        if by_address.len() == pool.len() && by_address.values().all(|some| some.len() == each) {
            return Ok(by_address.into_values().flatten().collect());
        }
    }
    anyhow::bail!("of {CANDIDATES} clients, {each} for each address were not found")
}

/// Flows that are being opened, and what has come of them so far.
struct Opening<'a> {
    clients: &'a Clients,
    chosen: &'a [u32],
    is_answered: Vec<bool>,
    answered: usize,
    seen: BTreeMap<Ipv4Addr, BTreeSet<u16>>,
}

impl Opening<'_> {
    /// Each client has every so manieth flow.
    fn from(&self, flow: u32) -> Result<SocketAddrV4> {
        let count = u32::try_from(self.chosen.len())?;
        let client = self.chosen.get(usize::try_from(flow % count)?).context("a client")?;
        Ok(SocketAddrV4::new(address(*client), port(flow / count)?))
    }

    fn is_missing(&self, flow: u32) -> bool {
        usize::try_from(flow).ok().and_then(|flow| self.is_answered.get(flow)) == Some(&false)
    }

    /// Opens some flows at once.
    fn burst(&mut self, mut missing: Vec<u32>) -> Result<()> {
        for _ in 0..TRIES {
            let before = missing.len();
            for flow in &missing {
                self.clients.send(*flow, self.from(*flow)?)?;
            }
            let mut left = missing.len();
            while left > 0 {
                let Some(answer) = self.clients.answer()? else { break };
                self.seen.entry(*answer.seen.ip()).or_default().insert(answer.seen.port());
                if let Some(is) = self.is_answered.get_mut(usize::try_from(answer.flow)?) {
                    left = left.saturating_sub(usize::from(!*is));
                    self.answered += usize::from(!*is);
                    *is = true;
                }
            }
            missing.retain(|flow| self.is_missing(*flow));
            // No port is free any more, or no packet is missing.
            if missing.len() == before || missing.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

fn open(clients: &Clients, chosen: &[u32], flows: u32) -> Result<Outcome> {
    let mut opening = Opening {
        clients,
        chosen,
        is_answered: vec![false; usize::try_from(flows)?],
        answered: 0,
        seen: BTreeMap::new(),
    };
    let mut progress = vec![(0, 0)];
    let started = Instant::now();
    for first in (0..flows).step_by(usize::try_from(BURST)?) {
        let opened = flows.min(first + BURST);
        opening.burst((first..opened).collect())?;
        if opened.is_multiple_of(STEP) {
            progress.push((opened, opening.answered));
        }
    }
    // Of some, the answer may have been late, or a port not been found; they are as many as are told in the end.
    loop {
        let before = opening.answered;
        let missing: Vec<u32> = (0..flows).filter(|flow| opening.is_missing(*flow)).collect();
        for some in missing.chunks(usize::try_from(BURST)?) {
            opening.burst(some.to_vec())?;
        }
        if opening.answered == before {
            break;
        }
    }
    let took = started.elapsed();
    progress.pop();
    progress.push((flows, opening.answered));
    Ok(Outcome {
        addresses: 0,
        opened: flows,
        progress,
        answered: opening.answered,
        seen: opening.seen,
        tracked: 0,
        took,
        memory: Slab::default(),
    })
}

fn read<T: std::str::FromStr>(path: &str) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    text.trim().parse().ok().with_context(|| format!("{path} holds {text:?}"))
}

fn report(outcomes: &[Outcome]) -> Section {
    let columns = [
        "addresses",
        "opened",
        "answered",
        "in conntrack",
        "by address",
        "took",
        "of the slab nf_conntrack",
        "of all slabs",
        "a flow",
    ];
    let mut section = Section::new("Flows to one destination", columns);
    section.note(format!(
        "{CLIENTS} clients of natd's open UDP flows to one port of one server, through a pool of one to four addresses \
         (`nat.addresses`, nftables): {} for each address, more than it has ports, and {} at most. The clients are chosen such that natd gives each address as many of them; their \
         packets come from raw sockets, {BURST} flows at a time, and an unanswered one is sent again. \
         *Answered* are flows to which the server's answer came back to the client, *in conntrack* is the gateway's own \
         count, *by address* the ports that the server saw of each address (there are 64,512 from 1024 on). Memory is \
         what the kernel's slabs have grown by: those of the entries alone, and all that it can't reclaim, which \
         has the entries' extensions in it.",
        grouped(&TOO_MANY.to_string()),
        grouped(&FLOWS.to_string()),
    ));
    for outcome in outcomes {
        let counts = outcome.seen.values().map(|ports| grouped(&ports.len().to_string()));
        let a_flow = outcome.memory.all / u64::try_from(outcome.tracked.max(1)).unwrap_or(1);
        section.row([
            outcome.addresses.to_string(),
            grouped(&outcome.opened.to_string()),
            grouped(&outcome.answered.to_string()),
            grouped(&outcome.tracked.to_string()),
            counts.collect::<Vec<_>>().join(" + "),
            format!("{:.1} s", outcome.took.as_secs_f64()),
            memory::in_words(outcome.memory.entries),
            memory::in_words(outcome.memory.all),
            format!("{a_flow} bytes"),
        ]);
    }
    if let Some(one) = outcomes.first() {
        let measured = format!("{} answered", grouped(&one.answered.to_string()));
        section.target("one address", "at least 64,000 flows", measured, one.answered >= OF_ONE);
    }
    if let Some(four) = outcomes.last() {
        let (answered, tracked) =
            (grouped(&four.answered.to_string()), grouped(&four.tracked.to_string()));
        let all = usize::try_from(FLOWS).unwrap_or(usize::MAX);
        let seen: usize = four.seen.values().map(BTreeSet::len).sum();
        section.target(
            "four addresses",
            "250,000 flows",
            format!("{answered} answered, {tracked} in conntrack"),
            four.answered == all && four.tracked >= all && seen >= all,
        );
    }
    section.plot(plot(outcomes));
    section
}

fn plot(outcomes: &[Outcome]) -> Plot {
    let line = |outcome: &Outcome| Line {
        of: match outcome.addresses {
            1 => "1 address".to_owned(),
            several => format!("{several} addresses"),
        },
        points: outcome
            .progress
            .iter()
            .filter_map(|(opened, answered)| {
                Some((f64::from(*opened), f64::from(u32::try_from(*answered).ok()?)))
            })
            .collect(),
    };
    Plot {
        name: "flows",
        title: "Flows to one destination, by the size of the pool".to_owned(),
        x: Axis::linear("flows that clients have opened"),
        y: Axis::linear("flows that were answered"),
        legend: Corner::UpperLeft,
        lines: outcomes.iter().rev().map(line).collect(),
    }
}
