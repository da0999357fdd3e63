//! What is judged of it.

use std::collections::BTreeSet;

use natd_core::{
    desired::desired,
    error::{Error, Kind},
    plan::Plan,
    step::Step,
    verdict::{Outstanding, Proof, Verdict, judge},
};

use crate::machine::{config, facts, id};

#[test]
fn the_verdict_says_what_is_wrong_and_names_the_first_thing() {
    let desired = desired(&config(&["rtb-a", "rtb-b"]), &facts()).expect("possible");
    let served: BTreeSet<_> = desired.routes.keys().cloned().collect();
    let all = Plan { served: served.clone(), ..Plan::default() };
    let reached = Proof::Reached("198.51.100.10:80".to_owned()).into();
    let works = judge(&desired, &all, [], &reached);
    assert_eq!(works.verdict, Verdict::Works);
    assert!(works.headline.starts_with("NAT works: 2 routes lead here"), "{}", works.headline);
    assert_eq!(judge(&desired, &all, [], &Proof::Unproven.into()).verdict, Verdict::Unproven);

    let load = Step::LoadRules {
        rules: desired.rules.clone().expect("rules"),
        damage: vec!["rule 2 of 4 is missing".to_owned()],
        replaces: true,
    };
    let broken = judge(&desired, &all, [(&load).into()], &reached);
    assert_eq!(broken.verdict, Verdict::Broken);
    assert!(broken.headline.contains("rules: rule 2 of 4 is missing"), "{}", broken.headline);

    let first = served.first().expect("a route").clone();
    let take = Step::TakeRoute { key: first, target: id("eni-0"), from: None };
    let partly = judge(&desired, &all, [(&take).into()], &reached);
    assert_eq!(partly.verdict, Verdict::Partly);

    // Why is part of it; in whatever words, with whatever request id, it is the same.
    let tried = |id: &str, kind| {
        let why = Error::new(kind, "point it here", format!("no, {id}")).with_request_id(id);
        judge(&desired, &all, [Outstanding { step: &take, why: Some(&why) }], &reached)
    };
    let denied = tried("r-1", Kind::Denied);
    assert!(
        denied.headline.ends_with("could not point it here: no, r-1 [request r-1]"),
        "{denied:?}"
    );
    assert!(denied.says_the_same(&tried("r-2", Kind::Denied)) && denied.told.is_some());
    assert!(tried("r-1", Kind::Throttled).says_the_same(&tried("r-3", Kind::Unreachable)));
    assert!(!denied.says_the_same(&tried("r-1", Kind::Throttled)));
    assert!(!denied.says_the_same(&partly) && !denied.says_the_same(&works));
    let none = Plan::default();
    assert_eq!(judge(&desired, &none, [], &reached).verdict, Verdict::Broken);
}
