//! How long it takes until sources are in the kernel, and what a running flow loses when they change.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use super::chain::Chain;
use super::holder::{Holder, restore, rule};
use super::plot::{Axis, Corner, Line, Plot, grouped};
use super::programs::Ran;
use super::report::Section;
use super::sample::Sample;
use super::sources::{MANY, SIZES, blocks, other_blocks};
use super::steady::{Counted, while_it_runs};

/// Of each way and number.
const RUNS: usize = 3;

/// Of the script's single commands, at each number of rules.
const SINGLE: usize = 10;

/// Changes of all sources but one under a running flow.
const CHANGES: usize = 4;

const APPLY: &str = "natd apply";
const LOAD: &str = "of it, loading";
const RESTORED: &str = "iptables-restore";
const ONE_BY_ONE: &str = "iptables -A, one by one";

/// Seconds by what took them and by number of sources.
type Samples = BTreeMap<(Holder, &'static str, usize), Sample>;

pub fn measure() -> Result<Section> {
    let mut samples = Samples::new();
    let mut transactions = BTreeMap::new();
    for sources in SIZES {
        for holder in Holder::ALL.into_iter().filter(|holder| holder.is_natds()) {
            let loads = by_natd(holder, sources, &mut samples)?;
            transactions.insert((holder, sources), loads);
        }
    }
    by_script(&mut samples)?;
    let changes = [Holder::Nftables, Holder::Ipset, Holder::Chains]
        .map(|holder| Ok((holder, change(holder).with_context(|| holder.name())?)));
    Ok(report(&samples, &transactions, &changes.into_iter().collect::<Result<_>>()?))
}

/// Gives how often a program loaded something.
fn by_natd(holder: Holder, sources: usize, samples: &mut Samples) -> Result<usize> {
    let chain = Chain::lay()?;
    let programs = holder.programs(&chain)?;
    chain.configure(&holder.configuration(&blocks(sources)))?;
    let mut times = 0;
    for _ in 0..RUNS {
        programs.forget();
        let apply = chain.natd(&programs.path(), "apply")?;
        let loads: Vec<Ran> = programs.ran()?.into_iter().filter(is_load).collect();
        times = loads.len();
        let loading: f64 = loads.iter().map(|ran| ran.seconds).sum();
        for (what, seconds) in [(APPLY, apply.took.as_secs_f64()), (LOAD, loading)] {
            samples.entry((holder, what, sources)).or_default().add(seconds);
        }
        chain.natd(&programs.path(), "down")?;
    }
    Ok(times)
}

/// Whether a program's run puts many things into the kernel at once.
fn is_load(ran: &Ran) -> bool {
    ["nft -f ", "ipset restore", "iptables-restore"]
        .iter()
        .any(|start| ran.command.starts_with(start))
}

/// One rule for each CIDR: all at once, and one by one.
///
/// One by one is not done to the end for 60,000, which takes the better part of an hour: a few more commands are timed
/// at each number of rules, and what lies between is taken to be on a straight line.
fn by_script(samples: &mut Samples) -> Result<()> {
    let mut total = 0.0;
    let mut before: Option<(f64, f64)> = None;
    for sources in SIZES {
        for run in 0..RUNS {
            let chain = Chain::lay()?;
            let started = std::time::Instant::now();
            restore(&chain, sources)?;
            let seconds = started.elapsed().as_secs_f64();
            samples.entry((Holder::OneRuleEach, RESTORED, sources)).or_default().add(seconds);
            if run > 0 {
                continue;
            }
            let each = one_more(&chain)?;
            let count = f64::from(u32::try_from(sources)?);
            total += match before {
                None => each * count,
                Some((fewer, less)) => f64::midpoint(less, each) * (count - fewer),
            };
            before = Some((count, each));
            samples.entry((Holder::OneRuleEach, ONE_BY_ONE, sources)).or_default().add(total);
        }
    }
    Ok(())
}

/// Seconds that one further rule takes.
fn one_more(chain: &Chain) -> Result<f64> {
    let further = rule(Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 28));
    let script = format!(
        "for ((i = 0; i < {SINGLE}; i++)); do iptables -t nat -A POSTROUTING {further}; done"
    );
    let started = std::time::Instant::now();
    chain.gateway.exec(["bash", "-ec", &script])?;
    Ok(started.elapsed().as_secs_f64() / f64::from(u32::try_from(SINGLE)?))
}

/// What a flow loses while all sources but its own change, again and again; and what one loses when nothing changes.
fn change(holder: Holder) -> Result<(Counted, Counted)> {
    let chain = Chain::lay()?;
    let programs = holder.programs(&chain)?;
    let path = programs.path();
    let both = [other_blocks(MANY), blocks(MANY)].map(|blocks| holder.configuration(&blocks));
    chain.configure(&both[1])?;
    chain.natd(&path, "apply")?;
    let (changed, ()) = while_it_runs(&chain, || {
        for configuration in both.iter().cycle().take(CHANGES) {
            chain.configure(configuration)?;
            chain.natd(&path, "apply")?;
        }
        Ok(())
    })?;
    let (quiet, ()) = while_it_runs(&chain, || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        Ok(())
    })?;
    Ok((changed, quiet))
}

fn report(
    samples: &Samples,
    transactions: &BTreeMap<(Holder, usize), usize>,
    changes: &BTreeMap<Holder, (Counted, Counted)>,
) -> Section {
    let columns = ["through", "sources", "median", "least", "most", "of it, loading", "loads"];
    let mut section = Section::new("Loading sources", columns);
    section.note(format!(
        "A gateway without rules becomes one for so many sources, {RUNS} times: the whole of `natd apply` (it also looks, \
         writes its journal, deletes stale connections and reads back what it loaded), and in it the programs that load \
         something into the kernel (`nft -f`, `ipset restore`, `iptables-restore`) and how often they run. With nftables \
         it is one run, and one transaction. Beside it one rule per CIDR, as shell scripts have it: all of them by one \
         `iptables-restore`, and one by one by `iptables -A`. The last isn't run to its end: {SINGLE} more commands are \
         timed at each number of rules, and added up on straight lines in between."
    ));
    section.note(format!(
        "Then all of {} sources but the client's are exchanged for others, {CHANGES} times, by `natd apply`, while a flow of \
         20,000 datagrams a second goes through the gateway: each is counted where it is sent and where it arrives.",
        grouped(&MANY.to_string())
    ));
    let empty = Sample::default();
    let of = |holder, what, sources| samples.get(&(holder, what, sources)).unwrap_or(&empty);
    let seconds =
        |value: f64| if value < 100.0 { format!("{value:.3} s") } else { format!("{value:.0} s") };
    for (holder, what) in WAYS {
        for sources in SIZES {
            let sample = of(holder, what, sources);
            let name = if holder.is_natds() {
                holder.name().to_owned()
            } else {
                format!("{}: {what}", holder.name())
            };
            let [median, least, most] =
                [sample.median(), sample.least(), sample.most()].map(seconds);
            let (loading, loads) = match transactions.get(&(holder, sources)) {
                Some(loads) => (seconds(of(holder, LOAD, sources).median()), loads.to_string()),
                None => ("–".to_owned(), "–".to_owned()),
            };
            section.row([name, grouped(&sources.to_string()), median, least, most, loading, loads]);
        }
    }
    let apply = of(Holder::Nftables, APPLY, MANY).median();
    section.target(
        "nftables, 60,000 sources, all of `natd apply`",
        "under 1 s",
        format!("{apply:.3} s"),
        apply < 1.0,
    );
    let load = of(Holder::Nftables, LOAD, MANY).median();
    section.target(
        "nftables, 60,000 sources, the load",
        "under 1 s",
        format!("{load:.3} s"),
        load < 1.0,
    );
    let loads = transactions.get(&(Holder::Nftables, MANY)).copied().unwrap_or_default();
    section.target("nftables, 60,000 sources", "one transaction", loads, loads == 1);
    for (holder, (changed, quiet)) in changes {
        let lost = changed.sent.saturating_sub(changed.received);
        section.target(
            &format!("{}: a flow while sources change", holder.name()),
            "no packet lost, one flow",
            format!(
                "{lost} of {} lost, {} flow; {} of {} when nothing changes",
                grouped(&changed.sent.to_string()),
                changed.sources.len(),
                quiet.sent.saturating_sub(quiet.received),
                grouped(&quiet.sent.to_string()),
            ),
            lost == 0 && changed.sources.len() == 1,
        );
    }
    section.plot(plot(samples));
    section
}

const WAYS: [(Holder, &str); 5] = [
    (Holder::Nftables, APPLY),
    (Holder::Ipset, APPLY),
    (Holder::Chains, APPLY),
    (Holder::OneRuleEach, RESTORED),
    (Holder::OneRuleEach, ONE_BY_ONE),
];

fn plot(samples: &Samples) -> Plot {
    let line = |(holder, what): (Holder, &'static str)| Line {
        of: if holder.is_natds() {
            holder.name().to_owned()
        } else {
            format!("{}: {what}", holder.name())
        },
        points: SIZES
            .iter()
            .filter_map(|sources| {
                let seconds = samples.get(&(holder, what, *sources))?.median();
                Some((f64::from(u32::try_from(*sources).ok()?), seconds))
            })
            .collect(),
    };
    Plot {
        name: "loading",
        title: "Time until sources are loaded".to_owned(),
        x: Axis::logarithmic("sources (CIDRs)"),
        y: Axis::logarithmic("seconds"),
        legend: Corner::UpperLeft,
        lines: WAYS.map(line).into(),
    }
}
