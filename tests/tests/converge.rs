//! `natd apply` makes a NAT gateway out of the instance, and a second one finds nothing to do.

use anyhow::Result;
use natd_tests::expect::{actions, assert_served, assert_unserved, natd, writes};
use natd_tests::lab::Lab;
use natd_tests::lab::back_end::BackEnd;
use natd_tests::lab::cloud::CloudKind;
use natd_tests::lab::owner::DEFAULT;
use natd_tests::lab::state::State;
use natd_tests::{on_every_back_end, on_every_cloud};

on_every_back_end!(
    clients_reach_the_internet_as_the_public_address,
    a_second_apply_changes_nothing,
    masquerading_serves_as_well,
);

on_every_cloud!(a_second_apply_writes_nothing_and_down_gives_everything_back);

fn a_second_apply_writes_nothing_and_down_gives_everything_back(cloud: CloudKind) -> Result<()> {
    let lab = Lab::of(cloud).build()?;
    let before = State::of(&lab)?;
    assert_unserved(&lab);
    natd(&lab, 2, &["plan", "--detailed-exitcode"])?;
    let planned = State::of(&lab)?;
    assert!(planned == before, "plan changed something:\n{}", planned.differences(&before));
    assert_eq!(writes(&lab), [""; 0]);

    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    assert_eq!(lab.untranslated()?, 0, "packets left with a private address");
    for table in lab.ids.private_tables() {
        assert_eq!(lab.route(table, DEFAULT)?.as_deref(), Some(lab.cloud().target()));
    }
    assert!(!writes(&lab).is_empty(), "natd's writes aren't seen");
    lab.api_log_clear();
    natd(&lab, 0, &["apply"])?;
    assert!(!actions(&lab).is_empty(), "natd's calls aren't seen");
    assert_eq!(writes(&lab), [""; 0]);
    let plan = natd(&lab, 0, &["plan", "--detailed-exitcode"])?;
    assert_eq!(plan.stdout.trim(), "Nothing to do: all is as it should be.");

    natd(&lab, 0, &["down"])?;
    let after = State::of(&lab)?;
    assert!(after == before, "down left something:\n{}", after.differences(&before));
    assert_unserved(&lab);
    Ok(())
}

fn clients_reach_the_internet_as_the_public_address(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().clients(3).back_end(back_end).build()?;
    assert_unserved(&lab);
    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    assert_eq!(lab.nat().tables()?, back_end.tables());
    assert_eq!(lab.nat().back_ends()?, [back_end].into());
    assert_eq!(lab.untranslated()?, 0, "packets left with a private address");
    Ok(())
}

fn a_second_apply_changes_nothing(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    let before = State::of(&lab)?;
    natd(&lab, 0, &["plan"])?;
    let plan = natd(&lab, 2, &["plan", "--detailed-exitcode"])?;
    assert!(plan.stdout.contains("7 changes. natd apply makes them."), "{plan:#?}");
    let planned = State::of(&lab)?;
    assert!(planned == before, "plan changed something:\n{}", planned.differences(&before));
    assert_eq!(writes(&lab), [""; 0]);

    natd(&lab, 0, &["apply"])?;
    assert_served(&lab);
    let (rules, recorded) = (lab.nat().individual_rules()?, lab.api_recording()?.len());
    lab.api_log_clear();
    natd(&lab, 0, &["apply"])?;
    assert_eq!(writes(&lab), [""; 0]);
    let asked = lab.api_recording()?.split_off(recorded);
    assert!(
        !asked.is_empty() && asked.iter().all(|action| action.starts_with("Describe")),
        "{asked:?}"
    );
    assert_eq!(lab.nat().individual_rules()?, rules);
    assert_served(&lab);

    let plan = natd(&lab, 0, &["plan", "--detailed-exitcode"])?;
    assert_eq!(plan.stdout.trim(), "Nothing to do: all is as it should be.");
    natd(&lab, 0, &["down"])?;
    let after = State::of(&lab)?;
    if back_end == BackEnd::Nftables {
        assert!(after == before, "down left something:\n{}", after.differences(&before));
    }
    assert!(lab.nat().back_ends()?.is_empty());
    Ok(())
}

fn masquerading_serves_as_well(back_end: BackEnd) -> Result<()> {
    let lab = Lab::aws().back_end(back_end).build()?;
    lab.nat().write("etc/natd/conf.d/10-mode.toml", "[nat]\nmode = \"masquerade\"\n")?;
    let run = natd(&lab, 0, &["apply"])?;
    assert!(run.stdout.contains("masquerade out by eth0"), "{run:#?}");
    assert_served(&lab);
    assert_eq!(lab.nat().back_ends()?, [back_end].into());
    assert!(lab.nat().individual_rules()?.to_lowercase().contains("masquerade"));
    assert!(!lab.nat().individual_rules()?.to_lowercase().contains("snat to"));
    natd(&lab, 0, &["apply"])?;
    Ok(())
}

/// Two tables and one interface: one look, and one write and one read-back a phase.
#[test]
fn apply_takes_at_most_eight_calls_and_looking_again_three() -> Result<()> {
    let lab = Lab::aws().build()?;
    natd(&lab, 0, &["apply"])?;
    assert!(actions(&lab).len() <= 8, "{:?}", actions(&lab));
    lab.api_log_clear();
    natd(&lab, 0, &["apply"])?;
    assert!(actions(&lab).len() <= 3, "{:?}", actions(&lab));
    Ok(())
}

#[test]
fn looking_at_twelve_tables_takes_three_calls() -> Result<()> {
    let lab = Lab::aws().build()?;
    let mut tables: Vec<String> =
        lab.ids.private_tables().iter().map(ToString::to_string).collect();
    for _ in 0..10 {
        tables.push(lab.new_table()?);
    }
    for table in &tables {
        lab.tag(table, "natd", "managed")?;
    }
    lab.nat().write(
        "etc/natd/conf.d/10-tables.toml",
        "[routes]\ntables = { tag = \"natd=managed\" }\n",
    )?;
    natd(&lab, 0, &["apply"])?;
    for table in &tables {
        assert_eq!(lab.route(table, DEFAULT)?.as_deref(), Some(lab.ids.interface("nat/eth0")));
    }
    lab.api_log_clear();
    natd(&lab, 0, &["apply"])?;
    assert!(actions(&lab).len() <= 3, "{:?}", actions(&lab));
    assert_served(&lab);
    Ok(())
}
