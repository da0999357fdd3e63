//! New connections with one source, and with 60,000.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use super::chain::{CLIENT, Chain, OUTSIDE};
use super::data_path::BARE;
use super::data_path::load::Load;
use super::holder::Holder;
use super::plot::{Axis, Corner, Line, Plot, grouped};
use super::report::Section;
use super::sample::Sample;
use super::sources::{MANY, SIZES, blocks};

/// As for the data path: where the kernel happens to put a chain in memory makes a difference.
const GENERATIONS: usize = 6;

/// Turns of each, so many a generation.
const ROUNDS: usize = 7;

const TURN: Duration = Duration::from_millis(100);

/// How far apart two measurements of the same may be.
const TRUST: f64 = 0.02;

/// What is in a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Routing,
    Bare,
    BareAgain,
    Sources(Holder, usize),
}

impl Way {
    fn all() -> Vec<Self> {
        let holders = Holder::ALL.into_iter();
        let sources =
            holders.flat_map(|holder| SIZES.map(|sources| Self::Sources(holder, sources)));
        [Self::Routing, Self::Bare, Self::BareAgain].into_iter().chain(sources).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Routing => "plain routing",
            Self::Bare => "the bare rule",
            Self::BareAgain => "the bare rule again",
            Self::Sources(holder, _) => holder.name(),
        }
    }

    fn sources(self) -> String {
        match self {
            Self::Sources(_, sources) => grouped(&sources.to_string()),
            _ => "–".to_owned(),
        }
    }

    fn chain(self) -> Result<Chain> {
        let chain = Chain::lay()?;
        match self {
            Self::Routing => {}
            Self::Bare | Self::BareAgain => chain.gateway.nft(BARE)?,
            Self::Sources(holder, sources) => holder.hold(&chain, &blocks(sources))?,
        }
        let expected = if self == Self::Routing { CLIENT } else { OUTSIDE };
        chain.prove(expected).with_context(|| format!("{}, {}", self.name(), self.sources()))?;
        Ok(chain)
    }
}

type Samples = BTreeMap<Way, Sample>;

/// All of them by turns.
pub fn measure() -> Result<Section> {
    let mut samples = Samples::new();
    for generation in 0..GENERATIONS {
        let lay = |way: Way| Ok((way, way.chain()?));
        let mut chains: Vec<(Way, Chain)> =
            Way::all().into_iter().map(lay).collect::<Result<_>>()?;
        let first = generation * 5 % chains.len();
        chains.rotate_left(first);
        // The first round warms up.
        for round in 0..=ROUNDS {
            for (way, chain) in &chains {
                let rate = Load::Connections.run(chain, TURN)?;
                if round > 0 {
                    samples.entry(*way).or_default().add(rate);
                }
            }
            chains.rotate_left(1);
        }
    }
    Ok(report(&samples))
}

fn report(samples: &Samples) -> Section {
    let columns =
        ["through", "sources", "median", "least", "most", "of the bare rule", "of 1 source"];
    let mut section = Section::new("New connections and the number of sources", columns);
    section.note(format!(
        "As in the data path above, with its *new connections*, *bare rule* and *plain routing*: {} rounds of turns of {} \
         ms, chains laid anew after {ROUNDS}. The sources are every second /28 of 10.0.0.0/8, so none merge, and the \
         client's is in their middle (of 60,000 it is the 20,532nd).",
        GENERATIONS * ROUNDS,
        TURN.as_millis(),
    ));
    let explanations =
        Holder::ALL.map(|holder| format!("- *{}*: {}", holder.name(), holder.explanation()));
    section.note(explanations.join("\n"));

    let empty = Sample::default();
    let of = |way| samples.get(&way).unwrap_or(&empty);
    let bare = of(Way::Bare);
    for way in Way::all() {
        let sample = of(way);
        let [median, least, most] = [sample.median(), sample.least(), sample.most()]
            .map(|rate| Load::Connections.in_words(rate));
        let ratio = format!("{:.3}", sample.ratio_to(bare));
        let to_one = match way {
            Way::Sources(holder, _) => {
                format!("{:.3}", sample.ratio_to(of(Way::Sources(holder, SIZES[0]))))
            }
            _ => "–".to_owned(),
        };
        section.row([way.name().to_owned(), way.sources(), median, least, most, ratio, to_one]);
    }
    let again = of(Way::BareAgain).ratio_to(bare);
    section.target(
        "the bare rule again",
        &format!("1 ± {TRUST}, or the run is not to be trusted"),
        format!("{again:.3}"),
        (again - 1.0).abs() <= TRUST,
    );
    let many = of(Way::Sources(Holder::Nftables, MANY));
    let (to_one, to_bare) =
        (many.ratio_to(of(Way::Sources(Holder::Nftables, SIZES[0]))), many.ratio_to(bare));
    section.target(
        "nftables, 60,000 sources",
        "at least 0.95 of 1 source",
        format!("{to_one:.3}"),
        to_one >= 0.95,
    );
    section.target(
        "nftables, 60,000 sources",
        "at least 0.97 of the bare rule",
        format!("{to_bare:.3}"),
        to_bare >= 0.97,
    );
    section.plot(plot(samples));
    section
}

fn plot(samples: &Samples) -> Plot {
    let line = |of: &str, way: &dyn Fn(usize) -> Way| Line {
        of: of.to_owned(),
        points: SIZES
            .iter()
            .filter_map(|sources| Some((*sources, samples.get(&way(*sources))?.median())))
            .filter_map(|(sources, rate)| Some((f64::from(u32::try_from(sources).ok()?), rate)))
            .collect(),
    };
    let mut lines = vec![
        line(Way::Routing.name(), &|_| Way::Routing),
        line("one bare masquerade rule", &|_| Way::Bare),
    ];
    lines.extend(
        Holder::ALL
            .map(|holder| line(holder.name(), &move |sources| Way::Sources(holder, sources))),
    );
    Plot {
        name: "connections",
        title: "New connections and the number of sources".to_owned(),
        x: Axis::logarithmic("sources (CIDRs)"),
        y: Axis::linear("new connections a second"),
        legend: Corner::LowerLeft,
        lines,
    }
}
