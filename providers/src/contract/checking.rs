//! The promise of the source/destination check: off and on, and everything else as before.

use std::time::Duration;

use backon::{ConstantBuilder, Retryable as _};
use natd_core::{
    cloud::{InterfaceFacts, Provider, SourceDestCheck},
    error::Result,
    model::InterfaceId,
};

use super::{
    promise::{Breach, ensure},
    reading::{interface, on_or_off},
};

const PAUSE: Duration = Duration::from_millis(200);

/// Switches the check off and on again, each twice. An interface whose check is off already is in
/// use: it is left as it is.
pub(super) async fn both_ways(
    provider: &dyn Provider,
    id: &InterfaceId,
    patience: Duration,
) -> Result<(), Breach> {
    let before = interface(provider, id).await?.facts().clone();
    match &before.source_dest_check {
        SourceDestCheck::On { .. } => {}
        SourceDestCheck::Off => {
            let why = format!("the check of {id} is off: it is in use, or has none");
            return Err(Breach::NotTried(why));
        }
        SourceDestCheck::Locked(why) => return Err(Breach::NotTried(why.to_string())),
    }
    let tried = off_and_on(provider, &before, patience).await;
    // Whatever went wrong: it is not left open.
    let on = interface(provider, id).await?;
    if !on.facts().source_dest_check.is_on() {
        on.set_source_dest_check(true, before.source_dest_check.overwrites()).await?;
    }
    tried
}

async fn off_and_on(
    provider: &dyn Provider,
    before: &InterfaceFacts,
    patience: Duration,
) -> Result<(), Breach> {
    let id = &before.id;
    for enabled in [false, false, true, true] {
        let earlier = before.source_dest_check.overwrites().filter(|_| enabled);
        interface(provider, id).await?.set_source_dest_check(enabled, earlier).await?;
        shows(provider, id, enabled, patience).await?;
    }
    let after = interface(provider, id).await?.facts().clone();
    ensure(after == *before, || format!("{id} was {before:?} and is {after:?}"))
}

/// Waits until list and single look both say so.
async fn shows(
    provider: &dyn Provider,
    id: &InterfaceId,
    enabled: bool,
    patience: Duration,
) -> Result<(), Breach> {
    let look = || async {
        let interface = interface(provider, id).await?;
        let (listed, alone) =
            (interface.facts().source_dest_check.is_on(), interface.source_dest_check().await?);
        ensure(listed == enabled && alone == enabled, || {
            format!(
                "switched {}, the check of {id} is {} in the list and {} when asked alone",
                on_or_off(enabled),
                on_or_off(listed),
                on_or_off(alone)
            )
        })
    };
    let times = patience.as_millis() / PAUSE.as_millis();
    look.retry(
        ConstantBuilder::default()
            .with_delay(PAUSE)
            .with_max_times(usize::try_from(times).unwrap_or(usize::MAX)),
    )
    .when(|breach| matches!(breach, Breach::Broken(_)))
    .await
}
