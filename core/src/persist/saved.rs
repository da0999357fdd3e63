//! Chains of natd's in a file that `iptables-restore` reads at boot, among those of others. Pure.
//!
//! A second `*nat` section would flush the first when it is loaded, so natd's chains go into the
//! sections that are there. Comments are dropped when somebody saves the rules anew, so natd knows its
//! own by the names of its chains; comments only tell what natd has made besides.

use std::collections::{BTreeMap, BTreeSet};

use super::part::Edit;
use crate::ruleset::IPTABLES_CHAIN_PREFIX;

/// There was no file.
const FILE_MADE: &str = "# natd made this file; natd down removes it\n";
/// There was no such section.
const SECTION_MADE: &str = "# natd made the section below; natd down removes it\n";
/// There was no such section, and what stood before had no line end.
const SECTION_MADE_AND_LINE_END: &str =
    "# natd made the section below, and the line end before; natd down removes them\n";

/// Lines of a file, each with its line end.
type Lines<'a> = Vec<&'a str>;

pub(super) fn put(file: Option<&str>, text: &str) -> String {
    let original = match file.map_or(Edit::Gone, take_out) {
        Edit::Content(original) => original,
        Edit::Gone => FILE_MADE.to_owned(),
    };
    let mut lines: Vec<String> = original.split_inclusive('\n').map(str::to_owned).collect();
    for (table, own) in sections(text) {
        let header = format!("*{table}");
        let mut there = (0..lines.len()).rev().filter(|&at| {
            lines.get(at).is_some_and(|line| line.trim_end() == header) && is_closed(&lines, at)
        });
        if let Some(start) = there.next() {
            let at = behind_declarations(&lines, start);
            lines.splice(at..at, own.into_iter().map(str::to_owned));
        } else {
            let unended = lines.last().is_some_and(|line| !line.ends_with('\n'));
            if unended {
                lines.push("\n".to_owned());
            }
            let note = if unended { SECTION_MADE_AND_LINE_END } else { SECTION_MADE };
            lines.extend([note.to_owned(), format!("{header}\n")]);
            lines.extend(own.into_iter().map(str::to_owned));
            lines.push("COMMIT\n".to_owned());
        }
    }
    lines.concat()
}

/// Whether the section that begins there has its end: a file that was cut off has one without.
fn is_closed(lines: &[String], start: usize) -> bool {
    let mut rest = lines.iter().skip(start + 1).map(|line| line.trim_end());
    rest.find(|line| *line == "COMMIT" || line.starts_with('*')) == Some("COMMIT")
}

/// Behind the last declaration of a chain: before all rules, as natd's jumps are in the kernel.
fn behind_declarations(lines: &[String], start: usize) -> usize {
    let mut at = start + 1;
    for (index, line) in lines.iter().enumerate().skip(start + 1) {
        let line = line.trim();
        if line == "COMMIT" || line.starts_with(['-', '[']) {
            break;
        }
        if line.starts_with(':') {
            at = index + 1;
        }
    }
    at
}

/// Whether natd's lines, or the section that they are in, were not written to their end.
pub(super) fn is_cut_off(file: &str) -> bool {
    unended(file).is_some() || natds_is_cut_off(file)
}

/// Whether the file ends within what natd has made.
pub(super) fn natds_is_cut_off(file: &str) -> bool {
    Taken::apart(file).cut_off
}

/// The section of others' that the file ends in, before its `COMMIT`: `iptables-restore` then loads
/// nothing of the file.
pub(super) fn unended(file: &str) -> Option<String> {
    let mut open = None;
    for line in Taken::apart(file).kept {
        match line.trim_end() {
            "COMMIT" => open = None,
            line if line.starts_with('*') => open = Some(line),
            _ => {}
        }
    }
    open.map(str::to_owned)
}

pub(super) fn take_out(file: &str) -> Edit {
    let Taken { kept, line_end_before, made, .. } = Taken::apart(file);
    let mut rest = kept.concat();
    // What somebody has put behind it needs the line end.
    if line_end_before == Some(kept.len()) && rest.ends_with('\n') {
        rest.pop();
    }
    if made && rest.is_empty() { Edit::Gone } else { Edit::Content(rest) }
}

/// A file, taken apart.
struct Taken<'a> {
    /// What isn't natd's.
    kept: Lines<'a>,
    /// Where in that natd has added a line end.
    line_end_before: Option<usize>,
    /// natd has made the file.
    made: bool,
    /// The file ends within what natd has made.
    cut_off: bool,
}

impl<'a> Taken<'a> {
    fn apart(file: &'a str) -> Self {
        let mut taken = Self {
            kept: Vec::new(),
            line_end_before: None,
            made: file.contains(FILE_MADE) || is_piece(file, FILE_MADE),
            cut_off: false,
        };
        let mut lines = file.split_inclusive('\n');
        // What follows natd's lines, and is the beginning of a note, is one, however little there is of it.
        let mut behind_own = false;
        while let Some(line) = lines.next() {
            let is_piece = |note| is_piece(line, note) || (behind_own && note.starts_with(line));
            let is_piece_of_any =
                [FILE_MADE, SECTION_MADE, SECTION_MADE_AND_LINE_END].into_iter().any(is_piece);
            if line == SECTION_MADE_AND_LINE_END
                || (is_piece(SECTION_MADE_AND_LINE_END) && !is_piece(SECTION_MADE))
            {
                taken.line_end_before = Some(taken.kept.len());
            }
            behind_own = true;
            if line == SECTION_MADE || line == SECTION_MADE_AND_LINE_END {
                let rest: Lines = lines.clone().collect();
                let own = length_of_own_section(&rest);
                let torn = length_of_torn_section(&rest).filter(|_| own.is_none());
                taken.cut_off |= torn.is_some();
                for _ in 0..own.or(torn).unwrap_or_default() {
                    lines.next();
                }
            } else if line == FILE_MADE || is_own(line) {
                // Left out.
            } else if is_piece_of_any {
                taken.cut_off = true;
            } else {
                behind_own = false;
                taken.kept.push(line);
            }
        }
        taken
    }
}

/// Whether a line is the last of its file and only the beginning of that note.
fn is_piece(line: &str, note: &str) -> bool {
    const TELLING: &str = "# natd ";
    line.len() > TELLING.len() && line.len() < note.len() && note.starts_with(line)
}

/// How many lines there are, if they are the beginning of a section in which all is natd's, and the file
/// ends before its `COMMIT`.
fn length_of_torn_section(lines: &[&str]) -> Option<usize> {
    let whole = match lines.split_last() {
        // It may be the beginning of anything.
        Some((last, whole)) if !last.ends_with('\n') => whole,
        _ => lines,
    };
    let is_torn = match whole.split_first() {
        Some((header, rest)) => header.starts_with('*') && rest.iter().all(|line| is_own(line)),
        None => true,
    };
    is_torn.then_some(lines.len())
}

/// How many lines the section at the head of these has, if all in it is natd's.
fn length_of_own_section(lines: &[&str]) -> Option<usize> {
    let (first, rest) = lines.split_first()?;
    let own = rest.iter().take_while(|line| is_own(line)).count();
    let closed = rest.get(own).is_some_and(|line| line.trim_end() == "COMMIT");
    (first.starts_with('*') && closed).then_some(own + 2)
}

/// natd's lines, sorted by table and chain: how they are arranged among the others, and what the
/// kernel has counted, is nothing that somebody has edited.
pub(super) fn own(file: &str) -> Option<String> {
    let mut chains: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for (table, lines) in sections(file) {
        for line in lines {
            // Some versions of iptables-save put comments in quotes.
            let line = without_counts(line).replace('"', "");
            let chain = line.trim_start_matches(':').trim_start_matches("-A ").split(' ').next();
            chains.entry((table, chain.unwrap_or_default().to_owned())).or_default().push(line);
        }
    }
    if chains.is_empty() {
        return None;
    }
    let tables: BTreeSet<&str> = chains.keys().map(|(table, _)| *table).collect();
    let text = tables.into_iter().flat_map(|table| {
        let lines = chains
            .iter()
            .filter(move |((of, _), _)| *of == table)
            .flat_map(|(_, lines)| lines.iter().map(|line| format!("{line}\n")));
        std::iter::once(format!("*{table}\n")).chain(lines)
    });
    Some(text.collect())
}

/// natd's lines in each section, in the order of the sections.
fn sections(file: &str) -> Vec<(&str, Lines<'_>)> {
    let mut found: Vec<(&str, Lines)> = Vec::new();
    let mut table = "";
    for line in file.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim_end();
        } else if is_own(line) {
            match found.iter_mut().find(|(name, _)| *name == table) {
                Some((_, lines)) => lines.push(line),
                None => found.push((table, vec![line])),
            }
        }
    }
    found
}

/// A chain of natd's, a rule in it, or a jump to it; targets of natd's jumps stand last.
fn is_own(line: &str) -> bool {
    let line = line.trim_end();
    if let Some(name) = line.strip_prefix(':') {
        return name.starts_with(IPTABLES_CHAIN_PREFIX);
    }
    let rule = behind_counts(line);
    let Some(rule) = rule.strip_prefix("-A ") else { return false };
    let mut words = rule.rsplit(' ');
    let (target, option) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    rule.starts_with(IPTABLES_CHAIN_PREFIX)
        || (matches!(option, "-j" | "-g") && is_own_name(target))
}

fn is_own_name(word: &str) -> bool {
    word.starts_with(IPTABLES_CHAIN_PREFIX)
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// `iptables-save -c` puts `[packets:bytes]` in front of rules.
fn behind_counts(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
        Some((_, rule)) => rule,
        None => line,
    }
}

fn without_counts(line: &str) -> String {
    let line = line.trim_end();
    match line.strip_prefix(':').and_then(|line| line.rsplit_once(" [")) {
        Some((declaration, _)) => format!(":{declaration}"),
        None => behind_counts(line).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "*filter
:NATD-INV-x - [0:0]
-A FORWARD -m conntrack --ctstate INVALID -m comment --comment natd:d:1/3 -j NATD-INV-x
-A NATD-INV-x -s 10.0.0.0/8 -m comment --comment natd:d:2/3 -j DROP
COMMIT
*nat
:NATD-POST-x - [0:0]
-A POSTROUTING -o eth0 -m comment --comment natd:d:3/3 -j NATD-POST-x
COMMIT
";
    const FOREIGN: &str = "# Generated by iptables-save v1.8.9
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:MINE - [0:0]
-A INPUT -m comment --comment \"not -j NATD-INV-x\" -j MINE
-A FORWARD -j MINE
COMMIT
# Completed
";

    #[test]
    fn chains_go_into_the_section_that_is_there_and_before_its_rules() {
        let file = put(Some(FOREIGN), TEXT);
        let expected = FOREIGN.replace(
            ":MINE - [0:0]\n",
            ":MINE - [0:0]
:NATD-INV-x - [0:0]
-A FORWARD -m conntrack --ctstate INVALID -m comment --comment natd:d:1/3 -j NATD-INV-x
-A NATD-INV-x -s 10.0.0.0/8 -m comment --comment natd:d:2/3 -j DROP\n",
        ) + SECTION_MADE
            + "*nat
:NATD-POST-x - [0:0]
-A POSTROUTING -o eth0 -m comment --comment natd:d:3/3 -j NATD-POST-x
COMMIT
";
        assert_eq!(file, expected);
        assert_eq!(file.matches("*filter").count(), 1);
    }

    #[test]
    fn saved_anew_they_are_the_same_chains() {
        // Counts, other chains, another order, no comments of the file's own.
        let saved = "*nat
:PREROUTING ACCEPT [3:180]
:NATD-POST-x - [7:420]
[1:60] -A POSTROUTING -o eth0 -m comment --comment \"natd:d:3/3\" -j NATD-POST-x
COMMIT
*filter
:NATD-INV-x - [9:9]
-A NATD-INV-x -s 10.0.0.0/8 -m comment --comment natd:d:2/3 -j DROP
-A FORWARD -m conntrack --ctstate INVALID -m comment --comment natd:d:1/3 -j NATD-INV-x
COMMIT
";
        assert_eq!(own(saved), own(TEXT));
        let edited = saved.replace("10.0.0.0/8", "10.0.0.0/9");
        assert_ne!(own(&edited), own(TEXT));
        assert_eq!(
            take_out(saved),
            Edit::Content("*nat\n:PREROUTING ACCEPT [3:180]\nCOMMIT\n*filter\nCOMMIT\n".to_owned())
        );
    }

    #[test]
    fn what_somebody_has_added_to_a_section_of_natds_stays() {
        let file = put(None, TEXT);
        assert_eq!(take_out(&file), Edit::Gone);
        let file = file.replace("*nat\n", "*nat\n:PREROUTING ACCEPT [0:0]\n");
        let rest = "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n";
        assert_eq!(take_out(&file), Edit::Content(rest.to_owned()));
    }

    #[test]
    fn a_section_that_is_cut_off_is_natds_to_its_end_and_is_made_anew() {
        for original in [None, Some(FOREIGN), Some("# mine")] {
            let whole = put(original, TEXT);
            let begin = whole.find("# natd made").expect("a note");
            for length in begin + "# natd m".len()..whole.len() - 1 {
                let torn = whole.get(..length).expect("it is ASCII");
                if !["COMMIT", "COMMIT\n"].iter().any(|end| torn.ends_with(end))
                    && !torn.ends_with("removes it\n")
                {
                    assert!(is_cut_off(torn), "{torn:?}");
                }
                assert_eq!(unended(torn), None, "{torn:?}");
                let mended = put(Some(torn), TEXT);
                assert_eq!(own(&mended), own(TEXT), "{torn:?}");
                // Where the first note is torn, only it knew of a line end that was added.
                if original != Some("# mine") || torn.get(begin..).is_some_and(|t| t.contains('\n'))
                {
                    assert_eq!(mended, whole, "{torn:?}");
                }
            }
            assert!(!is_cut_off(&whole) && !is_cut_off(original.unwrap_or_default()));
        }
    }

    #[test]
    fn where_the_rules_of_others_end_too_early_is_told() {
        let whole = put(Some(FOREIGN), TEXT);
        let (torn, _) = whole.split_once("-A FORWARD -j MINE").expect("a rule");
        assert_eq!(unended(torn).as_deref(), Some("*filter"));
        assert!(is_cut_off(torn));
        // natd doesn't complete them.
        assert_eq!(unended(&put(Some(torn), TEXT)).as_deref(), Some("*filter"));
        assert_eq!(unended(FOREIGN), None);
    }

    #[test]
    fn a_section_without_an_end_is_not_taken_for_the_next_one() {
        for torn in [
            "*filter\n:INPUT DROP [0:0]\n*mangle\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n",
            "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n*nat\n:OUTPUT ACC",
        ] {
            let file = put(Some(torn), TEXT);
            assert_eq!(own(&file), own(TEXT), "{file}");
            assert_eq!(put(Some(&file), TEXT), file);
            assert_eq!(take_out(&file), Edit::Content(torn.to_owned()));
        }
    }

    fn files() -> impl Strategy<Value = String> {
        let section = prop_oneof![
            Just(FOREIGN.to_owned()),
            Just(
                "*nat\n:POSTROUTING ACCEPT [1:2]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"
                    .to_owned()
            ),
            Just("*nat\nCOMMIT\n".to_owned()),
            Just("*mangle\nCOMMIT\n# mine\n".to_owned()),
            "(#[ -~]{0,8}\n){0,2}",
        ];
        (proptest::collection::vec(section, 0..4), any::<bool>()).prop_map(|(sections, ends)| {
            let text = sections.concat();
            match text.strip_suffix('\n') {
                Some(text) if !ends => text.to_owned(),
                _ => text,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_put_in_comes_out_and_leaves_the_file_as_it_was(file in proptest::option::of(files()), older in any::<bool>()) {
            let once = put(file.as_deref(), TEXT);
            prop_assert_eq!(own(&once), own(TEXT));
            prop_assert_eq!(put(Some(&once), TEXT), once.clone());
            if older {
                let earlier = TEXT.replace("-x", "-w").replace("10.0.0.0/8", "10.0.0.0/16");
                let upgraded = put(Some(&put(file.as_deref(), &earlier)), TEXT);
                prop_assert_eq!(&upgraded, &once);
            }
            prop_assert_eq!(take_out(&once), file.map_or(Edit::Gone, Edit::Content));
        }
    }
}
