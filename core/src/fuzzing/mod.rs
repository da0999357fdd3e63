//! What natd promises of whatever it reads, as functions of arbitrary bytes: they panic where a promise is broken.
//!
//! These are the bodies of the fuzz targets in `fuzz/host`; the tests here run them over the inputs that are
//! committed there. `docs/fuzzing.md` tells more. Nothing of this is in a natd that is built to be used.

#[path = "../../../fuzz/shared.rs"]
mod shared;

mod configuration;
mod files;
mod journal;
mod ruleset;

pub use configuration::configuration;
pub use files::files;
pub use journal::journal;
pub use ruleset::ruleset;

#[cfg(test)]
mod tests {
    use super::shared::replay;

    #[test]
    fn configuration() {
        replay("configuration", super::configuration);
    }

    #[test]
    fn files() {
        replay("files", super::files);
    }

    #[test]
    fn journal() {
        replay("journal", super::journal);
    }

    #[test]
    fn ruleset() {
        replay("ruleset", super::ruleset);
    }
}
