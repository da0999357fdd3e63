//! `make bench`: speed and memory, as ratios of what is measured side by side, and which targets are met.
//!
//! With `--write` it becomes `docs/benchmarks.md` and `docs/plots/*.svg`: for a run that somebody has watched, on a machine
//! with nothing else to do. With names of sections (`api-calls`, `flows`, the others in [`SECTIONS`]) it measures only
//! those.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is what a benchmark is for")]

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use natd_tests::bench::report::Section;
use natd_tests::bench::{
    api_calls, connections, data_path, flows, idle, loading, machine, many_sources, many_tables,
    wall_time,
};

const BOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
const PLOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plots");

const INTRODUCTION: &str = "# Benchmarks

What natd costs, measured beside what it is compared with, by `make bench`: this page, tables and plots, is what \
`target/release/bench --write` makes of one run (`make bench` builds and runs it without `--write`; \
`target/release/bench connections` measures one section). Ratios carry over to other machines, absolute numbers don't. Everything \
happens in network namespaces on one machine, with moto as the EC2 API: a call of the real one takes longer, for natd \
as for the script beside it.
";

type Measure = fn() -> Result<Section>;

const SECTIONS: [(&str, Measure); 9] = [
    ("api-calls", api_calls::measure),
    ("wall-time", wall_time::measure),
    ("idle", idle::measure),
    ("many-sources", many_sources::measure),
    ("loading", loading::measure),
    ("data-path", data_path::measure),
    ("connections", connections::measure),
    ("flows", flows::measure),
    ("many-tables", many_tables::measure),
];

fn main() -> ExitCode {
    match bench(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nThe benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &[String]) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "it builds networks out of namespaces, which takes root: sudo make bench"
    );
    let write = arguments.iter().any(|argument| argument == "--write");
    let names: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| *argument != "--write").collect();
    if let Some(name) = names.iter().find(|name| SECTIONS.iter().all(|(known, _)| known != *name)) {
        bail!("{name:?} is none of {}", SECTIONS.map(|(known, _)| known).join(", "));
    }
    ensure!(!write || names.is_empty(), "only a whole run is written");
    ensure!(!write || !cfg!(debug_assertions), "only a release build's run is written");

    let started = Instant::now();
    let command = ["bench"].into_iter().chain(arguments.iter().map(String::as_str));
    let mut page = INTRODUCTION.to_owned();
    let (mut met, mut plots) = (true, Vec::new());
    show(&mut page, &machine::describe(&command.collect::<Vec<_>>().join(" "))?);
    for (name, measure) in SECTIONS {
        if names.is_empty() || names.contains(&name) {
            eprintln!("measuring {name}, after {} s", started.elapsed().as_secs());
            // What the lab waits for in vain makes it panic.
            let measured =
                thread::spawn(measure).join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
            let section = measured.unwrap_or_else(|error| failed(name, &error));
            met &= section.is_met();
            show(&mut page, &section);
            plots.extend_from_slice(section.plots());
        }
    }
    println!("Took {} s. {}", started.elapsed().as_secs(), verdict(met));
    if write {
        fs::write(BOOK, page).with_context(|| format!("writing {BOOK}"))?;
        fs::create_dir_all(PLOTS).with_context(|| format!("making {PLOTS}"))?;
        for plot in plots {
            let path = format!("{PLOTS}/{}.svg", plot.name);
            fs::write(&path, plot.svg()?).with_context(|| format!("writing {path}"))?;
        }
    }
    Ok(())
}

/// In characters: as much of an error as a row takes.
const LONGEST_REASON: usize = 200;

/// What is left of a section that could not be measured. The others are worth having all the same.
fn failed(name: &str, error: &anyhow::Error) -> Section {
    eprintln!("{name} could not be measured: {error:#}");
    let why = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    let why: String = why.chars().take(LONGEST_REASON).collect();
    let mut section = Section::new(name, ["of", "is"]);
    section.target("the measurement", "comes to an end", why, false);
    section
}

fn verdict(met: bool) -> &'static str {
    if met { "All targets are met." } else { "Not all targets are met." }
}

/// Prints a section as soon as it is there, and adds it to the page.
fn show(page: &mut String, section: &Section) {
    println!("{section}");
    page.push('\n');
    page.push_str(&section.to_string());
}
