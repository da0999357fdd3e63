//! What a benchmark found, and its one rendering: Markdown, for the terminal and for the book alike.

use std::fmt::{self, Display};

use super::plot::Plot;

/// Characters of a cell, at most.
const LONGEST: usize = 300;

/// One subject: what was measured and how, a table, its plots, and the targets that it is held to.
#[derive(Clone, Debug, Default)]
pub struct Section {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    plots: Vec<Plot>,
    targets: Vec<Target>,
}

#[derive(Clone, Debug)]
struct Target {
    what: String,
    wanted: String,
    measured: String,
    met: bool,
}

impl Section {
    pub fn new<S: ToString>(title: &str, columns: impl IntoIterator<Item = S>) -> Self {
        let columns = columns.into_iter().map(|column| column.to_string()).collect();
        Self { title: title.to_owned(), columns, ..Self::default() }
    }

    pub fn row<S: ToString>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }

    /// A paragraph above the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A plot below the table.
    pub fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    pub fn plots(&self) -> &[Plot] {
        &self.plots
    }

    /// What was to be reached, and what was.
    pub fn target(&mut self, what: &str, wanted: &str, measured: impl Display, met: bool) {
        let measured = measured.to_string();
        let (what, wanted) = (what.to_owned(), wanted.to_owned());
        // An error may have several lines, and bars in them.
        let measured: Vec<&str> = measured.split_whitespace().collect();
        let measured: String = measured.join(" ").replace('|', "/").chars().take(LONGEST).collect();
        self.targets.push(Target { what, wanted, measured, met });
    }

    /// Whether there are targets and all of them are met.
    pub fn is_met(&self) -> bool {
        self.targets.iter().all(|target| target.met)
    }
}

impl Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n", self.title)?;
        for note in &self.notes {
            writeln!(f, "{note}\n")?;
        }
        write_table(f, &self.columns, &self.rows)?;
        for plot in &self.plots {
            writeln!(f, "\n{plot}")?;
        }
        if self.targets.is_empty() {
            return Ok(());
        }
        let columns = ["target", "wanted", "measured", "met"].map(str::to_owned);
        let rows: Vec<_> = self
            .targets
            .iter()
            .map(|target| {
                let met = if target.met { "yes" } else { "**no**" };
                [&target.what, &target.wanted, &target.measured, met]
                    .map(ToString::to_string)
                    .to_vec()
            })
            .collect();
        writeln!(f)?;
        write_table(f, &columns, &rows)
    }
}

/// Columns are padded, so that the table can be read on a terminal too.
fn write_table(
    f: &mut fmt::Formatter<'_>,
    columns: &[String],
    rows: &[Vec<String>],
) -> fmt::Result {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(columns.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(3)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    for row in [columns, &rule].into_iter().chain(rows.iter().map(Vec::as_slice)) {
        for (cell, width) in row.iter().zip(&widths) {
            write!(f, "| {cell:<width$} ")?;
        }
        writeln!(f, "|")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Section;

    #[test]
    fn a_section_is_markdown() {
        let mut section = Section::new("Speed", ["of", "metres"]);
        section.row(["a snail", "1"]);
        section.note("Over a second.");
        section.target("the snail", "at least 2", 1, false);
        assert!(!section.is_met());
        assert_eq!(
            section.to_string(),
            "## Speed

Over a second.

| of      | metres |
| ------- | ------ |
| a snail | 1      |

| target    | wanted     | measured | met    |
| --------- | ---------- | -------- | ------ |
| the snail | at least 2 | 1        | **no** |
"
        );
    }
}
