//! What all fuzz targets share: how the bytes of an input become the pieces that a target takes, and how
//! the committed inputs are run without a fuzzer.

/// The line between two pieces of an input.
const CUT: &[u8] = b"\n====\n";

/// The pieces of an input: what stands between lines of `====`. There is always one, if an empty one.
pub(crate) fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(CUT.len()).position(|bytes| bytes == CUT) {
        let (piece, behind) = rest.split_at(at);
        pieces.push(piece);
        rest = behind.get(CUT.len()..).unwrap_or_default();
    }
    pieces.push(rest);
    pieces
}

/// The first line of a piece, without its end, and what follows.
pub(crate) fn head(piece: &[u8]) -> (&[u8], &[u8]) {
    let end = piece.iter().position(|byte| *byte == b'\n').unwrap_or(piece.len());
    let (line, rest) = piece.split_at(end);
    (line, rest.get(1..).unwrap_or_default())
}

/// A piece as text; what is no UTF-8 is replaced.
pub(crate) fn text(piece: &[u8]) -> String {
    String::from_utf8_lossy(piece).into_owned()
}

/// Runs a target over every committed input: the seeds, what the fuzzer has made of them, and what it has
/// found in the past.
#[cfg(test)]
#[expect(clippy::print_stderr, reason = "which input it was is shown where it fails")]
pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) {
    let mut inputs = 0;
    for folder in ["seeds", "corpus", "found"] {
        let folder = format!("{}/../fuzz/{folder}/{target}", env!("CARGO_MANIFEST_DIR"));
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            // The last one named is the culprit.
            eprintln!("{}", path.display());
            run(&std::fs::read(&path).expect("an input"));
            inputs += 1;
        }
    }
    assert!(inputs > 0, "there is no input for {target}");
}

#[cfg(test)]
#[test]
fn an_input_is_cut_at_lines_of_equals_signs() {
    assert_eq!(pieces(b"a\n====\n\n====\nb\n"), [&b"a"[..], b"", b"b\n"]);
    assert_eq!(pieces(b""), [b""]);
    assert_eq!(head(b"first\nrest\nmore"), (&b"first"[..], &b"rest\nmore"[..]));
    assert_eq!(head(b"alone"), (&b"alone"[..], &b""[..]));
}
