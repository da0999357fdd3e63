//! Connections, bytes and packets through natd's rules, beside one bare rule and beside none.
//!
//! - [`variant`]: what is loaded into the gateway.
//! - [`load`]: what is sent through it; [`pair`]: who sends it.

pub(super) mod load;
mod pair;
mod variant;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::chain::Chain;
use super::report::Section;
use super::sample::Sample;
use load::Load;
pub(super) use variant::BARE;
use variant::Variant;

/// Chains are laid anew so many times: where the kernel happens to put a chain in memory makes one faster than the other
/// by some percent.
const GENERATIONS: usize = 10;

/// All loads on all variants, so many times a generation.
const ROUNDS: usize = 4;

/// One load on one variant, in one round.
const TURN: Duration = Duration::from_millis(100);

/// How far apart two measurements of the same may be.
const TRUST: f64 = 0.02;

type Samples = BTreeMap<(Load, Variant), Sample>;

/// Every load on every variant, by turns.
pub fn measure() -> Result<Section> {
    let mut samples = Samples::new();
    for generation in 0..GENERATIONS {
        let chain = |variant: Variant| Ok((variant, variant.chain()?));
        let mut chains: Vec<_> = Variant::ALL.into_iter().map(chain).collect::<Result<_>>()?;
        let first = generation % chains.len();
        chains.rotate_left(first);
        go_round(&chains)?;
        for _ in 0..ROUNDS {
            for (key, rate) in go_round(&chains)? {
                samples.entry(key).or_default().add(rate);
            }
            // What follows on something that disturbs it is another variant in each round.
            chains.rotate_left(1);
        }
    }
    Ok(report(&samples))
}

fn go_round(chains: &[(Variant, Chain)]) -> Result<Vec<((Load, Variant), f64)>> {
    let mut rates = Vec::new();
    for (variant, chain) in chains {
        for load in Load::ALL {
            rates.push(((load, *variant), load.run(chain, TURN)?));
        }
    }
    Ok(rates)
}

fn report(samples: &Samples) -> Section {
    let columns = ["load", "through", "median", "least", "most", "of the bare rule"];
    let mut section = Section::new("The data path", columns);
    section.note(format!(
        "Client, gateway and server are network namespaces with a link between them, a chain for each variant. The loads \
         go through the chains by turns of {} ms, {} rounds, in another order each time; the chains are laid anew after \
         {ROUNDS} rounds, and the kernel forgets the connections of a turn before the next. The last column is the median \
         of the ratios within a round. Rates are per second of the processor time of clients and servers, in which the \
         kernel does the gateway's work too, and of its threads for soft interrupts, and are summed over the processors: on a machine with nothing else to do \
         they are what goes through in a second. From run to run the ratios move by about 0.02: one run does not settle \
         whether a rule that close to its target meets it.",
        TURN.as_millis(),
        GENERATIONS * ROUNDS,
    ));
    let loads = Load::ALL.map(|load| format!("- *{}*: {}", load.name(), load.explanation()));
    let variants =
        Variant::ALL.map(|variant| format!("- *{}*: {}", variant.name(), variant.explanation()));
    section.note(loads.join("\n"));
    section.note(variants.join("\n"));
    let empty = Sample::default();
    for load in Load::ALL {
        let of = |variant| samples.get(&(load, variant)).unwrap_or(&empty);
        for variant in Variant::ALL {
            let (sample, ratio) = (of(variant), of(variant).ratio_to(of(Variant::Bare)));
            let [median, least, most] =
                [sample.median(), sample.least(), sample.most()].map(|rate| load.in_words(rate));
            let ratio_in_words = format!("{ratio:.3}");
            section.row([load.name(), variant.name(), &median, &least, &most, &ratio_in_words]);
            let what = format!("{}, {}", load.name(), variant.name());
            match (variant, load.target()) {
                (Variant::Natd(_), Some(part)) => {
                    let wanted = format!("at least {part} of the bare rule");
                    section.target(&what, &wanted, ratio_in_words, ratio >= part);
                }
                (Variant::BareAgain, Some(_)) => {
                    let wanted = format!("1 ± {TRUST}, or the run is not to be trusted");
                    section.target(&what, &wanted, ratio_in_words, (ratio - 1.0).abs() <= TRUST);
                }
                _ => {}
            }
        }
    }
    section
}
