//! The promises of `plan` and `apply`, on worlds, wishes and accidents made at random.

#![expect(clippy::expect_used, reason = "a test says what it expects, and writes its own files")]

mod accidents;
mod world;

use std::collections::BTreeMap;

use natd_core::{
    advise::stranded,
    config::Takeover,
    desired::{Desired, RouteWish, Setting, Weight},
    host::{Loaded, SysctlKey},
    journal::{EarlierRoute, Journal},
    model::{NextHop, Route, RouteOrigin},
    persist::{Boot, HostPath, PersistKind, lay_out},
    plan::Plan,
    ruleset::{FirewallKind, RulesetDigest},
    step::Step,
};
use proptest::prelude::*;
use world::{
    State, World, all_done,
    random::{interface, keys, route, rules, wishes, worlds},
};

fn is_reached(desired: &Desired, state: &State) -> bool {
    let rules =
        desired.rules.as_ref().map(|rules| (rules.rendering.kind, rules.rendering.digest.clone()));
    let loaded: Vec<(FirewallKind, RulesetDigest)> = state
        .rules
        .iter()
        .filter_map(|(kind, Loaded { digest, .. })| Some((*kind, digest.clone()?)))
        .collect();
    loaded == rules.into_iter().collect::<Vec<_>>()
        && desired
            .sysctls
            .iter()
            .all(|(key, setting)| state.sysctls.get(key) == Some(&setting.value))
        && desired.persistence.files.iter().all(|(path, part)| {
            state.files.get(path).is_some_and(|(content, mode)| {
                part.form.own(content) == Some(part.form.normal(&part.text))
                    && part.form.in_place(content)
                    && (!part.is_executable() || mode & 0o111 != 0)
            })
        })
        && desired.persistence.services.iter().all(|service| state.services.contains(service))
        && state.passages.keys().eq(desired.passages.keys())
        && desired.passages.iter().all(|(who, passage)| {
            state.passages.get(who).is_some_and(|open| {
                open.digest.as_ref() == Some(&passage.digest()) && open.damage.is_empty()
            })
        })
        && desired.unchecked.iter().all(|id| state.checks.get(id) == Some(&false))
        && desired.routes.iter().all(|(key, wish)| {
            state
                .routes
                .get(key)
                .is_some_and(|route| route.next_hop == NextHop::Interface(wish.target.clone()))
        })
}

/// Attracting comes after carrying; giving up what carries comes after giving back what attracts.
fn is_in_order(plan: &Plan) -> bool {
    let position = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted);
    let last = |wanted: fn(&Step) -> bool| plan.steps.iter().rposition(wanted);
    let before = |earlier: Option<usize>, later: Option<usize>| match (earlier, later) {
        (Some(earlier), Some(later)) => earlier < later,
        _ => true,
    };
    let take = || position(|step| matches!(step, Step::TakeRoute { .. }));
    let load = || last(|step| matches!(step, Step::LoadRules { .. }));
    let forward = || position(|step| matches!(step, Step::SetSysctl { .. }));
    let unload = || position(|step| matches!(step, Step::UnloadRules { .. }));
    let persist = || position(|step| matches!(step, Step::Persist { .. }));
    let unpersist = || last(|step| matches!(step, Step::Unpersist { .. }));
    let open = |step: &Step| matches!(step, Step::OpenPassage { .. });
    let close = |step: &Step| matches!(step, Step::ClosePassage { .. });
    before(load(), position(open))
        && before(last(open), take())
        && before(last(|step| matches!(step, Step::ReturnRoute { .. })), position(close))
        && before(last(close), unload())
        && before(load(), persist())
        && before(last(|step| matches!(step, Step::Persist { .. })), take())
        && before(unpersist(), unload())
        && before(load(), forward())
        && before(load(), take())
        && before(last(|step| matches!(step, Step::SetSysctl { .. })), take())
        && before(last(|step| matches!(step, Step::SwitchCheckOff { .. })), take())
        && before(last(|step| matches!(step, Step::ReturnRoute { .. })), unload())
        && before(last(|step| matches!(step, Step::RestoreSysctl { .. })), unload())
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tick_reaches_what_is_desired_and_the_next_one_has_nothing_to_do(before in worlds(), wish in wishes()) {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(before);
        let (plan, attempts) = run(world.tick(&wish, folder.path()));
        prop_assert!(is_in_order(&plan), "{:?}", plan.steps);
        prop_assert!(all_done(&attempts), "{attempts:?}");
        prop_assert!(is_reached(&wish, &world.state()));
        let (plan, _) = run(world.tick(&wish, folder.path()));
        prop_assert!(plan.is_empty(), "{:?}", plan.steps);
    }

    #[test]
    fn the_way_down_gives_everything_back(before in worlds(), first in wishes(), second in wishes()) {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(before.clone());
        run(world.tick(&first, folder.path()));
        run(world.tick(&second, folder.path()));
        let (plan, attempts) = run(world.tick(&Desired::default(), folder.path()));
        prop_assert!(is_in_order(&plan), "{:?}", plan.steps);
        prop_assert!(all_done(&attempts), "{attempts:?}");
        prop_assert_eq!(world.state(), before);
    }

    #[test]
    fn a_death_at_any_moment_is_made_good_by_the_next_tick(
        before in worlds(),
        wish in wishes(),
        up in 0..20_usize,
        down in 0..20_usize,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(before.clone());
        world.dies_after(up);
        run(world.tick(&wish, folder.path()));
        world.revive();
        run(world.tick(&wish, folder.path()));
        prop_assert!(is_reached(&wish, &world.state()));
        world.dies_after(down);
        run(world.tick(&Desired::default(), folder.path()));
        world.revive();
        run(world.tick(&Desired::default(), folder.path()));
        prop_assert_eq!(world.state(), before);
    }

    #[test]
    fn nothing_that_was_not_asked_for_is_touched(before in worlds(), wish in wishes()) {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(before.clone());
        run(world.tick(&wish, folder.path()));
        let after = world.state();
        for (key, route) in &before.routes {
            if !wish.routes.contains_key(key) {
                prop_assert_eq!(after.routes.get(key), Some(route));
            }
        }
        for (key, value) in &before.sysctls {
            if !wish.sysctls.contains_key(key) {
                prop_assert_eq!(after.sysctls.get(key), Some(value));
            }
        }
        for (id, check) in &before.checks {
            if !wish.unchecked.contains(id) {
                prop_assert_eq!(after.checks.get(id), Some(check));
            }
        }
    }

    #[test]
    fn what_somebody_has_changed_since_is_theirs(before in worlds(), wish in wishes()) {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::new(before.clone());
        run(world.tick(&wish, folder.path()));
        let theirs = NextHop::Interface(interface("eni-newcomer"));
        world.edit(|state| {
            for key in wish.routes.keys() {
                state.routes.insert(key.clone(), route(key, theirs.clone()));
            }
            for key in wish.sysctls.keys() {
                state.sysctls.insert(key.clone(), "7".to_owned());
            }
        });
        run(world.tick(&Desired::default(), folder.path()));
        let after = world.state();
        for key in wish.routes.keys() {
            prop_assert_eq!(&after.routes[key].next_hop, &theirs);
        }
        for key in wish.sysctls.keys() {
            prop_assert_eq!(after.sysctls[key].as_str(), "7");
        }
    }
}

#[test]
fn a_foreign_route_is_refused_where_takeover_says_so_and_nothing_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = keys().remove(0);
    let theirs = route(&key, NextHop::Interface(interface("eni-theirs")));
    let before = State { routes: BTreeMap::from([(key.clone(), theirs)]), ..State::default() };
    let world = World::new(before.clone());
    let wish = Desired {
        rules: Some(rules(FirewallKind::Nftables, false, false)),
        wants_routes: true,
        routes: BTreeMap::from([(
            key,
            RouteWish { target: interface("eni-0"), takeover: Takeover::Refuse },
        )]),
        ..Desired::default()
    };
    let (plan, attempts) = run(world.tick(&wish, folder.path()));
    assert_eq!(plan.refusals.len(), 1);
    assert!(attempts.is_empty());
    assert_eq!(world.state(), before);
}

#[test]
fn a_propagated_route_is_not_made_again_as_a_static_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = keys().remove(0);
    let gateway = NextHop::Other { kind: "vpn-gateway".to_owned(), id: "vgw-1".to_owned() };
    let propagated = Route { origin: RouteOrigin::Propagated, ..route(&key, gateway) };
    let world = World::new(State {
        routes: BTreeMap::from([(key.clone(), propagated)]),
        ..State::default()
    });
    let wish = Desired {
        wants_routes: true,
        routes: BTreeMap::from([(
            key.clone(),
            RouteWish { target: interface("eni-0"), takeover: Takeover::Replace },
        )]),
        ..Desired::default()
    };
    run(world.tick(&wish, folder.path()));
    run(world.tick(&Desired::default(), folder.path()));
    assert_eq!(world.state().routes.get(&key), None);
    assert!(
        world.changes().iter().any(|change| change.starts_with("remove")),
        "{:?}",
        world.changes()
    );
}

#[test]
fn routes_that_lead_here_without_an_entry_in_the_journal_are_told_of_on_the_way_down() {
    let keys = keys();
    let (ours, foreign, returned) = (keys[0].clone(), keys[1].clone(), keys[2].clone());
    let state = State {
        checks: BTreeMap::from([(interface("eni-0"), false)]),
        routes: BTreeMap::from([
            (ours.clone(), route(&ours, NextHop::Interface(interface("eni-0")))),
            (foreign.clone(), route(&foreign, NextHop::Interface(interface("eni-theirs")))),
            (returned.clone(), route(&returned, NextHop::Interface(interface("eni-0")))),
        ]),
        ..State::default()
    };
    let mut journal = Journal::default();
    journal.routes.insert(returned, EarlierRoute::default());
    let warnings = stranded(&World::new(state).observed(), &journal);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].message.starts_with(&ours.to_string()), "{warnings:?}");
}

#[test]
fn what_somebody_has_edited_between_the_marks_is_left_until_the_operator_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(State::default());
    let rules = rules(FirewallKind::Nftables, false, false);
    let boot = Boot::default();
    let persistence = lay_out(PersistKind::RcLocal, String::new(), &rules, &BTreeMap::new(), &boot);
    let wish = Desired { rules: Some(rules), persistence, ..Desired::default() };
    run(world.tick(&wish, folder.path()));
    let path = HostPath::new("/etc/rc.local");
    world.edit(|state| {
        let file = state.files.get_mut(&path).expect("written");
        file.0 = file.0.replace("nft -f", "nft -c -f");
    });
    let edited = world.state();
    for wish in [&wish, &Desired::default()] {
        let (mut plan, _) = world.plan(wish, folder.path());
        assert_eq!(plan.edited.len(), 1, "{plan:?}");
        assert_eq!(plan.edited[0].path, path);
        assert!(
            plan.edited[0]
                .diff
                .iter()
                .any(|line| line.starts_with('-') && line.contains("nft -c -f"))
        );
        let touches = |plan: &Plan| {
            plan.steps.iter().any(|step| matches!(step, Step::Persist { path: p, .. } | Step::Unpersist { path: p, .. } if *p == path))
        };
        assert!(touches(&plan));
        plan.spare_edited();
        assert!(!touches(&plan));
        assert_eq!(plan.warnings.last().map(|warning| warning.code), Some("edited"));
    }
    assert_eq!(world.state(), edited);
    // With the operator's word the steps are there, and do it.
    run(world.tick(&wish, folder.path()));
    assert!(is_reached(&wish, &world.state()));
    run(world.tick(&Desired::default(), folder.path()));
    assert_eq!(world.state(), State::default());
}

#[test]
fn a_file_of_somebody_elses_under_a_name_of_natds_is_not_taken_for_natds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = HostPath::new("/etc/sysctl.d/90-natd.conf");
    let theirs = State {
        files: BTreeMap::from([(path.clone(), ("vm.swappiness = 1\n".to_owned(), 0o644))]),
        ..State::default()
    };
    let world = World::new(theirs.clone());
    let rules = rules(FirewallKind::Nftables, false, false);
    let boot = Boot::default();
    let persistence = lay_out(PersistKind::RcLocal, String::new(), &rules, &BTreeMap::new(), &boot);
    let wish = Desired { rules: Some(rules), persistence, ..Desired::default() };
    let (plan, _) = world.plan(&wish, folder.path());
    assert_eq!(plan.edited.iter().map(|edited| &edited.path).collect::<Vec<_>>(), [&path]);
    let (plan, _) = world.plan(&Desired::default(), folder.path());
    assert!(plan.steps.is_empty() && plan.edited.is_empty(), "{plan:?}");
}

#[test]
fn parameters_of_a_module_that_is_not_loaded_are_set_and_given_back_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(State::default());
    let key = SysctlKey::global("net/netfilter/nf_conntrack_max");
    let setting = Setting { value: "262144".to_owned(), weight: Weight::Optional };
    let wish = Desired { sysctls: [(key.clone(), setting)].into(), ..Desired::default() };
    let (_, attempts) = run(world.tick(&wish, folder.path()));
    assert!(all_done(&attempts), "{attempts:?}");
    assert_eq!(world.state().sysctls[&key], "262144");
    run(world.tick(&Desired::default(), folder.path()));
    assert_eq!(world.state().sysctls[&key], "65536");
}
