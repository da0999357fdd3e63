//! New connections and bytes through natd's rules, beside one bare rule and beside none.
//!
//! - [`chain`]: client, gateway and server, with nothing else on the way.
//! - [`variant`]: what is loaded into the gateway.
//! - [`load`]: connections and bytes, counted.

mod chain;
mod load;
mod variant;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::report::Section;
use super::sample::Sample;
use crate::lab::back_end::BackEnd;
use chain::Chain;
use load::Load;
use variant::Variant;

const ROUNDS: usize = 30;

/// One load on one variant, in one round.
const TURN: Duration = Duration::from_millis(150);

const BACK_ENDS: [BackEnd; 3] = [BackEnd::Nftables, BackEnd::IptablesNft, BackEnd::IptablesLegacy];

/// Every load on every variant, by turns.
pub fn measure() -> Result<Section> {
    let mut variants = vec![Variant::Routing, Variant::Bare, Variant::BareAgain];
    variants.extend(BACK_ENDS.map(Variant::Natd));
    let mut chains: Vec<(Variant, Chain)> =
        variants.iter().map(|variant| Ok((*variant, variant.chain()?))).collect::<Result<_>>()?;

    let mut samples: BTreeMap<(Load, Variant), Sample> = BTreeMap::new();
    for round in 0..=ROUNDS {
        for (variant, chain) in &chains {
            for load in Load::ALL {
                let value = load.run(chain, TURN)?;
                // The first round is to warm up.
                if round > 0 {
                    samples.entry((load, *variant)).or_default().add(value);
                }
            }
        }
        // Whatever follows on something that disturbs it is another variant in each round.
        chains.rotate_left(1);
    }
    Ok(report(&variants, &samples))
}

fn report(variants: &[Variant], samples: &BTreeMap<(Load, Variant), Sample>) -> Section {
    let mut section = Section::new(
        "The data path",
        ["load", "through", "median", "least", "most", "of the bare rule"],
    );
    section.note(format!(
        "Client, gateway and server are network namespaces with a link between them, a chain for each variant. The \
         load goes through each in turn, {ROUNDS} rounds of {:.1} s each, the order moved on by one from round to \
         round; the connections of a turn are forgotten by the kernel before the next. The last column is the median \
         of the ratios within a round. Client and server take most of the processor's time, so the ratios say what a \
         user of the gateway feels, not what a rule costs by itself.",
        TURN.as_secs_f64()
    ));
    for load in Load::ALL {
        section.note(format!("*{}*: {}", load.name(), load.explanation()));
    }
    for variant in variants {
        section.note(format!("*{}*: {}", variant.name(), variant.explanation()));
    }
    let empty = Sample::default();
    for load in Load::ALL {
        let of = |variant| samples.get(&(load, variant)).unwrap_or(&empty);
        for variant in variants {
            let sample = of(*variant);
            let ratio = sample.ratio_to(of(Variant::Bare));
            let [median, least, most] =
                [sample.median(), sample.least(), sample.most()].map(|value| load.in_words(value));
            section.row([
                load.name().to_owned(),
                variant.name(),
                median,
                least,
                most,
                format!("{ratio:.3}"),
            ]);
        }
        for natd in BACK_ENDS.map(Variant::Natd) {
            let ratio = of(natd).ratio_to(of(Variant::Bare));
            let what = format!("{}, {}", load.name(), natd.name());
            section.target(
                &what,
                "at least 0.97 of the bare rule",
                format!("{ratio:.3}"),
                ratio >= 0.97,
            );
        }
    }
    section
}
