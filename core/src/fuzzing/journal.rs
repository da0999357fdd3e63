//! The journal: whatever its file holds, opening it succeeds, and what isn't understood is kept, whole.

use std::fs;

use super::shared::text;
use crate::{
    journal::{Journal, JournalFile},
    model::InstanceId,
};

/// The bytes of a journal's file.
///
/// # Panics
/// Where a promise is broken.
pub fn journal(input: &[u8]) {
    let root = std::env::temp_dir().join(format!("natd-fuzz-journal-{}", std::process::id()));
    fs::remove_dir_all(&root).ok();
    let path = root.join("var/lib/natd/journal.json");
    let Some(folder) = path.parent() else { return };
    assert!(fs::create_dir_all(folder).is_ok(), "{} can't be made", folder.display());
    assert!(write(&path, input), "{} can't be written", path.display());
    let here: Option<InstanceId> = "i-0123456789abcdef0".parse().ok();

    // Looked at, it is as it was.
    let peeked = JournalFile::peek(&root, here.as_ref());
    assert!(peeked.is_ok(), "{peeked:?}");
    assert_eq!(fs::read(&path).ok().as_deref(), Some(input));

    let opened = JournalFile::open(&root, here.as_ref());
    let Ok(opened) = opened else { panic_with(&format!("{opened:?}"), input) };
    let aside = folder.join("journal.json.aside.0");
    if fs::read(&path).is_ok() {
        assert!(!aside.exists(), "it is used and set aside");
        understood(&opened.journal, here.as_ref(), input);
    } else {
        assert_eq!(fs::read(&aside).ok().as_deref(), Some(input), "what was there is not kept");
        let mut fresh = Journal::default();
        fresh.instance.clone_from(&here);
        fresh.predecessor = Some(aside);
        assert_eq!(opened.journal, fresh, "something is used of what isn't understood");
    }
    fs::remove_dir_all(&root).ok();
}

/// It is about this machine, and says the same when it is written and read again.
fn understood(journal: &Journal, here: Option<&InstanceId>, input: &[u8]) {
    assert_eq!(journal.instance.as_ref(), here);
    let written = serde_json::to_vec_pretty(journal).unwrap_or_default();
    match serde_json::from_slice::<Journal>(&written) {
        Ok(again) => assert_eq!(&again, journal),
        Err(error) => panic_with(&format!("{}: {error}", text(&written)), input),
    }
}

fn write(path: &std::path::Path, content: &[u8]) -> bool {
    use std::io::Write as _;
    fs::File::create(path).and_then(|mut file| file.write_all(content)).is_ok()
}

fn panic_with(why: &str, input: &[u8]) -> ! {
    unreachable!("{why}\n{}", text(input))
}
