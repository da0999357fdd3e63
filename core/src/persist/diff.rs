//! What somebody has changed in natd's part of a file, for people.

/// How many lines of each side are shown.
const MOST: usize = 20;

/// The lines that differ between what is there (`-`) and what is wanted (`+`): from the first that
/// differs to the last.
#[must_use]
pub fn diff(there: &str, wanted: &str) -> Vec<String> {
    let there: Vec<&str> = there.lines().collect();
    let wanted: Vec<&str> = wanted.lines().collect();
    let head = there.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
    let behind = |lines: &[&str]| lines.len().saturating_sub(head);
    let tail = there
        .iter()
        .rev()
        .zip(wanted.iter().rev())
        .take(behind(&there).min(behind(&wanted)))
        .take_while(|(a, b)| a == b)
        .count();
    let side = |sign: char, lines: &[&str]| {
        let differing = behind(lines).saturating_sub(tail);
        let mut shown: Vec<String> = lines
            .iter()
            .skip(head)
            .take(differing.min(MOST))
            .map(|line| format!("{sign}{line}"))
            .collect();
        if differing > MOST {
            shown.push(format!("{sign}… and {} more", differing - MOST));
        }
        shown
    };
    [side('-', &there), side('+', &wanted)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        assert_eq!(diff("a\nb\nc\n", "a\nB\nc\n"), ["-b", "+B"]);
        assert_eq!(diff("a\nb\nc\n", "a\nc\n"), ["-b"]);
        assert_eq!(diff("a\na\n", "a\n"), ["-a"]);
        assert_eq!(diff("", "a\n"), ["+a"]);
        assert!(diff("a\n", "a\n").is_empty());
    }

    #[test]
    fn a_long_difference_is_cut() {
        let many = (0..50).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
        let shown = diff(&many, "");
        assert_eq!((shown.len(), shown.last().map(String::as_str)), (21, Some("-… and 30 more")));
    }
}
