//! The fuzz targets of `fuzz/` can't rot unseen: they are built by nightly and by hand only, but each is one call of a
//! function that `make test` runs over the target's inputs, and they depend on what natd depends on.

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::{collections::BTreeMap, fs, path::Path};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).expect(path)
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(ROOT).join(folder)).expect(folder);
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("a name")
    };
    entries.map(name).collect()
}

/// Packages of `fuzz/`, what their targets call, and where that is run by `make test`.
const PACKAGES: [(&str, &[(&str, &str)]); 3] = [
    ("host", &[("natd_core", "core/src/fuzzing/mod.rs"), ("natd_agent", "agent/src/fuzzing.rs")]),
    ("clouds", &[("natd_fuzz_clouds", "providers/src/fuzzing/mod.rs")]),
    ("aws", &[("natd_providers", "providers/src/fuzzing/mod.rs")]),
];

#[test]
fn every_fuzz_target_is_one_call_and_runs_over_its_inputs_in_make_test() {
    let mut found = 0;
    for (package, crates) in PACKAGES {
        let manifest = read(&format!("fuzz/{package}/Cargo.toml"));
        for file in names(&format!("fuzz/{package}/targets")) {
            let target = file.strip_suffix(".rs").expect("a target");
            let text = read(&format!("fuzz/{package}/targets/{file}"));
            let call = |of: &str| {
                format!(
                    "#![no_main]\n\nlibfuzzer_sys::fuzz_target!(|input: &[u8]| {of}::fuzzing::{target}(input));\n"
                )
            };
            let (_, tests) = crates.iter().find(|(of, _)| text == call(of)).expect(&text);
            let run = format!("replay(\"{target}\", super::{target});");
            assert!(read(tests).contains(&run), "{tests} doesn't run {target}");
            assert!(!names(&format!("fuzz/seeds/{target}")).is_empty(), "{target} has no seeds");
            assert!(
                manifest.contains(&format!("path = \"targets/{file}\"")),
                "{target} is not built"
            );
            assert!(
                read("docs/fuzzing.md").contains(&format!("`{target}`")),
                "{target} is not told"
            );
            found += 1;
        }
    }
    assert_eq!(found, names("fuzz/seeds").len(), "seeds without a target");
}

/// The dependencies of a package, by name.
fn dependencies(manifest: &str, section: &str) -> BTreeMap<String, String> {
    let (_, rest) = manifest.split_once(&format!("[{section}]\n")).expect(section);
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| {
            line.split_once(" = ").or_else(|| Some((line.strip_suffix(".workspace = true")?, "")))
        })
        .map(|(name, text)| (name.trim_end_matches(".workspace").to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn the_clouds_are_fuzzed_with_what_they_are_built_of() {
    let of_workspace = dependencies(&read("Cargo.toml"), "workspace.dependencies");
    let mut wanted = dependencies(&read("providers/Cargo.toml"), "dependencies");
    wanted.retain(|name, _| !name.starts_with("aws-") && !name.starts_with("natd-"));
    for (name, text) in &mut wanted {
        text.clone_from(of_workspace.get(name).expect(name));
    }
    let mut fuzzed = dependencies(&read("fuzz/clouds/Cargo.toml"), "dependencies");
    fuzzed.retain(|name, _| name != "libfuzzer-sys" && name != "natd-core");
    assert_eq!(fuzzed, wanted);
}
