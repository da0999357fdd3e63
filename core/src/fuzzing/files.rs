//! Files of others with natd's part in them: whatever they hold, natd's part is put in, found, changed and taken
//! out, and every other byte stays.

use std::sync::LazyLock;

use super::shared::{head, pieces};
use crate::{
    canary::legacy,
    persist::{Edit, Form, Place, diff},
    ruleset::{FirewallKind, Ruleset, Translation},
};

/// A form, and the two texts that natd's part may say.
type Case = (Form, &'static str, &'static str);

/// natd's rules as `iptables-restore` reads them, of now and of an earlier configuration.
static RULES: LazyLock<[String; 2]> = LazyLock::new(|| {
    ["10.0.0.0/8", "10.0.0.0/9"].map(|sources| {
        let ruleset = Ruleset {
            egress: name("eth0"),
            ingress: [name("eth0"), name("eth1")].into(),
            sources: sources.parse().into_iter().collect(),
            exclude: "192.168.0.0/16".parse().into_iter().collect(),
            translation: Translation::Masquerade,
            random_fully: true,
            forwards: Vec::new(),
            front: [].into(),
            clamp_mss: true,
            shut: [].into(),
        };
        ruleset.render(FirewallKind::Iptables).text
    })
});

fn name(name: &str) -> crate::model::InterfaceName {
    match name.parse() {
        Ok(name) => name,
        Err(error) => unreachable!("{error}"),
    }
}

/// How the file is arranged (`chains`, `script` or `end` on the first line), then the file.
///
/// # Panics
/// Where a promise is broken.
pub fn files(input: &[u8]) {
    for piece in pieces(input) {
        let (form, file) = head(piece);
        // As natd reads files: each byte is a character.
        let file: String = file.iter().copied().map(char::from).collect();
        let [now, earlier] = &*RULES;
        let (form, now, earlier): Case = match form {
            b"script" => (Form::Block(Place::BeforeExit), "load now\n", "load\nearlier\n"),
            b"end" => (Form::Block(Place::End), "include \"/etc/natd/boot.nft\"\n", ""),
            _ => (Form::Chains, now, earlier),
        };
        edited(form, Some(&file), now, earlier);
        edited(form, None, now, earlier);
        assert_eq!(legacy::suspects(&file, &file, 1), [""; 0]);
    }
}

fn edited(form: Form, file: Option<&str>, now: &str, earlier: &str) {
    let before = file.map_or(Edit::Gone, |file| form.take_out(file));
    let once = form.put(file, now);
    assert_eq!(form.own(&once).as_deref(), Some(&*form.normal(now)), "not found in {once:?}");
    assert!(form.in_place(&once), "out of its place in {once:?}");
    assert_eq!(form.put(Some(&once), now), once, "put in twice");
    assert_eq!(form.take_out(&once), before, "what is left is not what was there: {once:?}");

    let changed = form.put(Some(&form.put(file, earlier)), now);
    assert_eq!(form.own(&changed), form.own(&once), "changed");
    assert_eq!(form.take_out(&changed), before, "what is left after a change: {changed:?}");

    if let Edit::Content(before) = &before {
        assert_eq!(form.own(before), None, "natd's part is still in it");
        assert_eq!(form.take_out(before), Edit::Content(before.clone()));
        is_what_was_there(form, file.unwrap_or_default(), before);
    }
    assert!(diff(&once, &once).is_empty());
}

/// Nothing is left that wasn't there, in another order or at all; and where there was nothing of natd's, all is left.
fn is_what_was_there(form: Form, file: &str, left: &str) {
    let mut there = file.chars();
    assert!(left.chars().all(|c| there.any(|other| other == c)), "{left:?} is not in {file:?}");
    // Of a file of zeros nothing was written when the power failed.
    let is_lost = file.chars().all(|c| c == '\0');
    if form.own(file).is_none() && !file.contains("natd") && !is_lost {
        assert_eq!(left, file, "there was nothing of natd's");
    }
}
