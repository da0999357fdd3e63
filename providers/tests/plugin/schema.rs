//! The published schema is the one that the code makes.

use std::fs;

const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plugin-protocol.schema.json");

/// Set to write the file instead of comparing it.
const RENEW: &str = "RENEW_PLUGIN_SCHEMA";

#[test]
#[expect(clippy::disallowed_methods, reason = "a file of the sources")]
fn the_published_schema_is_what_natd_speaks() {
    let made = format!("{:#}\n", natd_providers::plugin::schema());
    if std::env::var_os(RENEW).is_some() {
        fs::write(PUBLISHED, &made).expect("written");
    }
    let published = fs::read_to_string(PUBLISHED).unwrap_or_default();
    assert!(
        published == made,
        "docs/plugin-protocol.schema.json is not what the code makes; renew it by running this test with {RENEW}=1"
    );
}
