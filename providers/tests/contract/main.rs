//! The contract is sharp: a provider in memory keeps it, and with each defect that a provider can
//! have, the promise that is meant to catch it does.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests say what they expect, and panic where it isn't so"
)]

mod model;

use std::time::Duration;

use model::{Defect, Model};
use natd_core::cloud::TableSelector;
use natd_providers::contract::{self, Finding, Outcome, Promise, Scratch};

async fn findings(model: &Model) -> Vec<Finding> {
    let selected = TableSelector {
        ids: ["rtb-private-00000001".parse().expect("an id")].into(),
        ..TableSelector::default()
    };
    let scratch = Scratch {
        table: "rtb-private-00000001".parse().expect("an id"),
        target: "eni-00000000a".parse().expect("an id"),
        others: ["eni-00000000b".parse().expect("an id")].into(),
        destinations: ["192.0.2.0/25", "192.0.2.128/25"].map(|net| net.parse().expect("a net")),
        patience: Duration::ZERO,
    };
    let mut findings = contract::read(model, &selected).await;
    findings.extend(contract::write(model, &scratch).await);
    findings
}

#[tokio::test]
async fn a_provider_without_defects_keeps_every_promise() {
    let model = Model::new(None);
    let before = model.state();
    let findings = findings(&model).await;
    for finding in &findings {
        assert_eq!(finding.outcome, Outcome::Kept, "{finding:?}");
    }
    for promise in Promise::READ.into_iter().chain(Promise::WRITE) {
        assert!(findings.iter().any(|finding| finding.promise == promise), "{promise:?}");
    }
    assert_eq!(model.state(), before, "nothing of the trial stays");
}

#[tokio::test]
async fn each_defect_is_caught_by_the_promise_that_is_meant_to() {
    for (defect, promise) in Defect::ALL {
        let findings = findings(&Model::new(Some(defect))).await;
        let caught: Vec<Promise> = findings
            .iter()
            .filter(|finding| !finding.is_fine())
            .map(|finding| finding.promise)
            .collect();
        assert!(caught.contains(&promise), "{defect:?} was caught by {caught:?}: {findings:#?}");
    }
}

#[tokio::test]
async fn what_a_trial_left_that_was_cut_short_is_cleared_away() {
    let model = Model::new(None);
    let before = model.state();
    model.leave_scratch_route("192.0.2.0/25", "eni-00000000a");
    let findings = findings(&model).await;
    assert!(findings.iter().all(|finding| finding.outcome == Outcome::Kept), "{findings:#?}");
    assert_eq!(model.state(), before);
}

#[tokio::test]
async fn somebody_elses_route_at_the_scratch_destination_stops_the_trial() {
    let model = Model::new(None);
    model.leave_scratch_route("192.0.2.0/25", "eni-somebody1");
    let before = model.state();
    let findings = findings(&model).await;
    let last = findings.last().expect("a finding");
    assert!(matches!(&last.outcome, Outcome::NotTried(why) if why.contains("already")), "{last:?}");
    assert_eq!(model.state(), before);
}
