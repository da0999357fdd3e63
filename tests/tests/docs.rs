//! What the book says is there is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn pages() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    files(&root().join("docs"), &mut found)?;
    found.push(root().join("README.md"));
    found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| Ok((path.display().to_string(), fs::read_to_string(path)?)))
        .collect()
}

/// The tests that there are, as `file::function`; for one in a folder's `main.rs` or `mod.rs` the folder's name counts.
fn tests() -> Result<BTreeSet<String>> {
    let mut found = Vec::new();
    for folder in ["core/tests", "providers/tests", "agent/tests", "cli/tests", "tests/tests"] {
        if root().join(folder).is_dir() {
            files(&root().join(folder), &mut found)?;
        }
    }
    let mut tests = BTreeSet::new();
    for path in found.iter().filter(|path| path.extension().is_some_and(|it| it == "rs")) {
        let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = match stem(path).context("a file without a name")?.as_str() {
            "main" | "mod" => path.parent().and_then(stem).context("a file without a folder")?,
            name => name.to_owned(),
        };
        for line in fs::read_to_string(path)?.lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            if let Some(function) = line.strip_prefix("fn ").and_then(|line| line.split('(').next())
            {
                tests.insert(format!("{name}::{function}"));
            }
        }
    }
    Ok(tests)
}

#[test]
fn every_test_that_is_named_is_there() -> Result<()> {
    let there = tests()?;
    let text = fs::read_to_string(root().join("docs/failure-modes.md"))?;
    // The last column names them.
    let cells = text.lines().filter_map(|line| line.strip_suffix('|')?.rsplit('|').next());
    let names: Vec<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .inspect(|name| assert!(there.contains(*name), "there is no {name}"))
        .collect();
    ensure!(names.len() > 40, "only these are named: {names:?}");
    Ok(())
}

#[test]
fn every_page_that_is_linked_is_there() -> Result<()> {
    for (page, text) in pages()? {
        let folder = Path::new(&page).parent().context("a page without a folder")?.to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or(link);
            // Python and shell in between have brackets too.
            if file.is_empty() || file.contains("://") || file.contains(['"', ' ']) {
                continue;
            }
            ensure!(folder.join(file).exists(), "{page} links to {link}");
        }
    }
    Ok(())
}
