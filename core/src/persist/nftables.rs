//! The line by which `nftables.service` loads natd's rules with those of the host.

/// A pattern that only this file matches, since an include of one that is missing would fail the
/// whole script, the host's own rules included; one of a pattern that nothing matches doesn't
/// (nft(8), "Include files").
pub(super) fn include(script: &str) -> String {
    let mut pattern = script.to_owned();
    if let Some(last) = pattern.pop() {
        pattern.extend(['[', last, ']']);
    }
    format!("include \"{pattern}\"\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_include_is_a_pattern() {
        assert_eq!(super::include("/etc/a.nft"), "include \"/etc/a.nf[t]\"\n");
    }
}
