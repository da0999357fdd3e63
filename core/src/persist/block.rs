//! A block of lines between two marks, in a file of somebody else's. Pure.
//!
//! Whatever else natd has to do to the file for the block's sake is told by the first mark, so that it
//! can be undone by whoever finds the block, journal or not; and how many lines it has, so that one that
//! was not written to its end is told from one whose last mark somebody has removed.

use super::part::{Edit, Place};

/// The beginning of the first mark. Notes follow, each in parentheses.
const BEGIN: &str = "# natd: begin; natd keeps these lines, natd down removes them";
/// The last mark.
const END: &str = "# natd: end";
/// There was no file.
const MADE: &str = " (and this file)";
/// The first line is natd's: without it the script could not be run.
const SHEBANG_ADDED: &str = " (and the first line)";
/// What stood before the block had no line end.
const LINE_END_ADDED: &str = " (and the line end before)";

const SHEBANG: &str = "#!/bin/sh\n";

/// What natd did to the file besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Notes {
    made: bool,
    shebang: bool,
    line_end: bool,
}

/// How many lines stand between the marks, as the first one says; blocks of old don't say it.
fn told_lines(mark: &str) -> Option<usize> {
    let (_, rest) = mark.rsplit_once(" (lines: ")?;
    rest.trim_end().strip_suffix(')')?.parse().ok()
}

impl Notes {
    fn of(mark: &str) -> Self {
        Self {
            made: mark.contains(MADE),
            shebang: mark.contains(SHEBANG_ADDED),
            line_end: mark.contains(LINE_END_ADDED),
        }
    }

    fn begin(self, lines: usize) -> String {
        let note = |is: bool, text: &'static str| if is { text } else { "" };
        [
            BEGIN,
            note(self.made, MADE),
            note(self.shebang, SHEBANG_ADDED),
            note(self.line_end, LINE_END_ADDED),
            &format!(" (lines: {lines})\n"),
        ]
        .concat()
    }
}

/// A file, taken apart.
#[derive(Debug, Default)]
struct Taken<'a> {
    /// Before the first block, with line ends.
    before: Vec<&'a str>,
    after: Vec<&'a str>,
    /// Between the marks of all blocks, and marks without their counterparts.
    own: String,
    notes: Notes,
    found: bool,
    /// The file ends within the block.
    cut_off: bool,
}

impl<'a> Taken<'a> {
    fn apart(file: &'a str) -> Self {
        let mut taken = Self::default();
        let mut lines = file.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            if line.starts_with(BEGIN) {
                let rest: Vec<&str> = lines.clone().take_while(|line| !is_end(line)).collect();
                let closed = lines.clone().any(is_end);
                if !taken.found {
                    taken.notes = Notes::of(line);
                }
                // The last line may be the beginning of the last mark.
                let whole = rest.iter().filter(|line| !END.starts_with(**line)).count();
                let is_short = told_lines(line).is_some_and(|told| whole <= told);
                if !closed && (is_short || !line.ends_with('\n')) {
                    taken.own.push_str(line);
                    taken.own.extend(rest.iter().copied());
                    taken.is_cut_off(line);
                    lines.by_ref().for_each(drop);
                } else if closed && !rest.iter().any(|line| line.starts_with(BEGIN)) {
                    taken.own.extend(rest.iter().copied());
                    lines.by_ref().find(|line| is_end(line));
                } else {
                    // A mark alone: somebody has removed the other one.
                    taken.own.push_str(line);
                }
                taken.found = true;
            } else if is_piece(line, BEGIN) {
                taken.own.push_str(line);
                taken.is_cut_off(line);
                taken.found = true;
            } else if is_end(line) {
                taken.own.push_str(line);
                taken.found = true;
            } else if taken.found {
                taken.after.push(line);
            } else {
                taken.before.push(line);
            }
        }
        taken
    }

    /// Notes that the file ends within the block of that first mark. Where the mark's notes are lost, too,
    /// a file in which there is nothing of anybody's was natd's making.
    fn is_cut_off(&mut self, mark: &str) {
        self.cut_off = true;
        if !mark.ends_with('\n') {
            let before = self.before.concat();
            self.notes.shebang |= before == SHEBANG;
            self.notes.made |= before.is_empty() || before == SHEBANG;
        }
    }

    /// The file as it was before natd.
    fn original(&self) -> Edit {
        let mut before = self.before.concat();
        let after = self.after.concat();
        if self.notes.line_end && after.is_empty() && before.ends_with('\n') {
            before.pop();
        }
        let rest = before + &after;
        let rest = match rest.strip_prefix(SHEBANG) {
            Some(rest) if self.notes.shebang => rest.to_owned(),
            _ => rest,
        };
        if self.notes.made && rest.is_empty() { Edit::Gone } else { Edit::Content(rest) }
    }
}

/// Whether a line is the last of its file and only the beginning of that mark.
fn is_piece(line: &str, mark: &str) -> bool {
    const TELLING: &str = "# natd: ";
    line.len() > TELLING.len() && line.len() < mark.len() && mark.starts_with(line)
}

fn is_end(line: &str) -> bool {
    line.trim_end() == END
}

pub(super) fn own(file: &str) -> Option<String> {
    let taken = Taken::apart(file);
    taken.found.then_some(taken.own)
}

pub(super) fn is_cut_off(file: &str) -> bool {
    Taken::apart(file).cut_off
}

pub(super) fn take_out(file: &str) -> Edit {
    let taken = Taken::apart(file);
    if taken.found { taken.original() } else { Edit::Content(file.to_owned()) }
}

pub(super) fn in_place(file: &str, place: Place) -> bool {
    let taken = Taken::apart(file);
    match place {
        Place::End => true,
        Place::BeforeExit => file.starts_with("#!") && final_exit(&taken.before).is_none(),
    }
}

pub(super) fn put(file: Option<&str>, text: &str, place: Place) -> String {
    if let Some(file) = file
        && in_place(file, place)
    {
        let taken = Taken::apart(file);
        if taken.found {
            // Where somebody has moved it to.
            let block = block(taken.notes, text);
            return [taken.before.concat(), block, taken.after.concat()].concat();
        }
    }
    let original = file.map_or(Edit::Gone, take_out);
    insert(&original, text, place)
}

fn block(notes: Notes, text: &str) -> String {
    [&notes.begin(text.lines().count()), text, END, "\n"].concat()
}

fn insert(original: &Edit, text: &str, place: Place) -> String {
    let (file, made) = match original {
        Edit::Content(file) => (file.as_str(), false),
        Edit::Gone => ("", true),
    };
    let shebang = place == Place::BeforeExit && !file.starts_with("#!");
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let at = match place {
        Place::BeforeExit => final_exit(&lines).unwrap_or(lines.len()),
        Place::End => lines.len(),
    };
    let (before, after) = lines.split_at_checked(at).unwrap_or((&lines, &[]));
    let before = before.concat();
    let line_end = !before.is_empty() && !before.ends_with('\n');
    let notes = Notes { made, shebang, line_end };
    let first = if shebang { SHEBANG } else { "" };
    let line_end = if line_end { "\n" } else { "" };
    [first, &before, line_end, &block(notes, text), &after.concat()].concat()
}

/// The last line of a script that does something, if that is to exit; of several in a row the first.
fn final_exit(lines: &[&str]) -> Option<usize> {
    let last = last_exit(lines)?;
    Some(lines.get(..last).and_then(final_exit).unwrap_or(last))
}

fn last_exit(lines: &[&str]) -> Option<usize> {
    let last = lines.iter().rposition(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    })?;
    let line = lines.get(last)?.trim();
    (line == "exit" || line.starts_with("exit ") || line.starts_with("exit\t")).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEBIAN: &str = "#!/bin/sh -e\n#\n# rc.local\n\n/usr/local/bin/mine\n\nexit 0\n";

    #[test]
    fn a_block_stands_before_the_final_exit() {
        let file = put(Some(DEBIAN), "load\n", Place::BeforeExit);
        let expected = format!("/usr/local/bin/mine\n\n{BEGIN} (lines: 1)\nload\n{END}\nexit 0\n");
        assert!(file.ends_with(&expected), "{file}");
        assert!(in_place(&file, Place::BeforeExit));
    }

    #[test]
    fn a_missing_script_is_made_and_goes_again() {
        let file = put(None, "load\n", Place::BeforeExit);
        assert!(file.starts_with("#!/bin/sh\n# natd: begin"), "{file}");
        assert_eq!(take_out(&file), Edit::Gone);
        // Somebody has put something beside it: that stays.
        assert_eq!(take_out(&format!("{file}mine\n")), Edit::Content("mine\n".to_owned()));
    }

    #[test]
    fn a_block_behind_an_exit_has_no_effect_and_is_moved() {
        let file = put(Some("#!/bin/sh\n"), "load\n", Place::BeforeExit);
        let file = file.replacen("#!/bin/sh\n", "#!/bin/sh\nmine\nexit 0\n", 1);
        assert!(!in_place(&file, Place::BeforeExit));
        let file = put(Some(&file), "load\n", Place::BeforeExit);
        assert!(in_place(&file, Place::BeforeExit) && file.ends_with("exit 0\n"), "{file}");
    }

    #[test]
    fn a_mark_without_the_other_is_natds_part_and_nothing_else_is() {
        for mark in [BEGIN, END] {
            let file = format!("one\n{mark}\ntwo\n");
            assert_eq!(own(&file), Some(format!("{mark}\n")));
            assert_eq!(take_out(&file), Edit::Content("one\ntwo\n".to_owned()));
        }
        let twice = put(Some(&put(Some(DEBIAN), "a\n", Place::End)), "a\n", Place::End);
        let twice = format!("{twice}{}", block(Notes::default(), "a\n"));
        assert_eq!(own(&twice).as_deref(), Some("a\na\n"));
        assert_eq!(take_out(&twice), Edit::Content(DEBIAN.to_owned()));
    }

    #[test]
    fn a_block_that_is_cut_off_is_natds_to_its_end_wherever_that_is() {
        let text = "(\n    load || exit\n    forward\n)\n";
        for (original, place) in [
            (None, Place::BeforeExit),
            (Some("#!/bin/sh\nmine\n"), Place::BeforeExit),
            (Some("flush ruleset\n"), Place::End),
            (Some("mine, without a line end"), Place::End),
        ] {
            let whole = put(original, text, place);
            let (begin, end) = (whole.find(BEGIN).expect("a mark"), whole.len() - END.len() - 1);
            for length in begin + "# natd: b".len()..end + END.len() {
                let torn = whole.get(..length).expect("it is ASCII");
                assert!(is_cut_off(torn), "{torn:?}");
                assert_ne!(own(torn).as_deref(), Some(text), "{torn:?}");
                // Where the first mark is torn, only it knew of a line end that was added.
                let is_marked = torn.get(begin..).is_some_and(|mark| mark.contains('\n'));
                let mended = put(Some(torn), text, place);
                let taken = match take_out(&mended) {
                    Edit::Content(taken) => Some(taken),
                    Edit::Gone => None,
                };
                let same = |taken: &str| {
                    Some(taken) == original || (!is_marked && original == Some(taken.trim_end()))
                };
                assert!(taken.as_deref().map_or(original.is_none(), same), "{torn:?}: {taken:?}");
                assert_eq!(own(&mended).as_deref(), Some(text));
            }
            assert!(!is_cut_off(&whole) && !is_cut_off(original.unwrap_or_default()));
        }
        // Somebody has removed the last mark, and goes on below.
        let whole = put(Some("one\n"), "a\n", Place::End);
        let edited = whole.replace(END, "two");
        assert!(!is_cut_off(&edited), "{edited}");
        assert!(matches!(take_out(&edited), Edit::Content(rest) if rest == "one\na\ntwo\n"));
    }

    /// Any file but one with a mark in it; often something like a script.
    fn files() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just("exit 0".to_owned()),
            Just("#!/bin/sh".to_owned()),
            Just("# exit 0".to_owned()),
            Just(String::new()),
            "[ -~\u{80}-\u{ff}]{0,12}",
        ];
        (proptest::collection::vec(line, 0..8), any::<bool>()).prop_map(|(lines, ends)| {
            let text = lines.join("\n");
            if ends && !text.is_empty() { text + "\n" } else { text }
        })
    }

    fn places() -> impl Strategy<Value = Place> {
        prop_oneof![Just(Place::BeforeExit), Just(Place::End)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_put_in_comes_out_and_leaves_the_file_as_it_was(
            file in proptest::option::of(files()),
            text in "([a-z]{0,9}\n){0,3}",
            older in "([a-z]{0,9}\n){0,3}",
            place in places(),
        ) {
            let once = put(file.as_deref(), &text, place);
            prop_assert_eq!(own(&once), Some(text.clone()));
            prop_assert!(in_place(&once, place), "{}", once);
            prop_assert_eq!(put(Some(&once), &text, place), once.clone());
            let upgraded = put(Some(&put(file.as_deref(), &older, place)), &text, place);
            prop_assert_eq!(&upgraded, &once);
            let original = file.map_or(Edit::Gone, Edit::Content);
            prop_assert_eq!(take_out(&once), original);
        }

        #[test]
        fn what_somebody_writes_around_it_stays_byte_for_byte(
            before in files(), after in files(), text in "([a-z]{0,9}\n){0,3}", older in "([a-z]{0,9}\n){0,3}",
        ) {
            let before = if before.is_empty() || before.ends_with('\n') { before } else { before + "\n" };
            let around = |text: &str| format!("{before}{}{after}", block(Notes::default(), text));
            let file = around(&older);
            prop_assert_eq!(put(Some(&file), &text, Place::End), around(&text));
            prop_assert_eq!(take_out(&file), Edit::Content(format!("{before}{after}")));
        }
    }
}
