//! Tables, on the terminal and between the markers of `docs/performance.md`.

use std::fmt::Write as _;
use std::fs;

use crate::measure::Bystanders;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");

/// One table, in Markdown.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                widths.iter().try_for_each(|width| write!(f, "|{}", "-".repeat(width + 2)))?;
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// The tables of one command.
pub struct Section {
    name: &'static str,
    text: String,
    bystanders: Bystanders,
}

impl Section {
    pub fn begin(name: &'static str) -> Self {
        Self { name, text: String::new(), bystanders: Bystanders::watch() }
    }

    pub fn add(&mut self, part: &impl std::fmt::Display) {
        let _ = writeln!(self.text, "{part}");
    }

    /// Prints the section, and writes it into the page on demand.
    pub fn publish(mut self, write: bool) {
        let cores = self.bystanders.cores();
        let _ = writeln!(self.text, "{}; others kept {cores:.1} cores busy.", machine());
        println!("{}", self.text);
        if write {
            let page = fs::read_to_string(PAGE).unwrap();
            fs::write(PAGE, self.replaced_in(&page)).unwrap();
        }
    }

    fn replaced_in(&self, page: &str) -> String {
        let (begin, end) = (format!("<!-- {} -->\n", self.name), format!("<!-- /{} -->", self.name));
        let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("the page lacks {begin}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("the page lacks {end}"));
        format!("{before}{begin}\n{}\n{end}{after}", self.text.trim_end())
    }
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("Measured on {cores} cores of {}", model.trim_start_matches(['\t', ' ', ':']))
}

/// Three significant digits.
pub fn figure(value: f64) -> String {
    match value {
        value if !value.is_finite() => "–".to_owned(),
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// An upper limit, and whether the value meets it.
pub fn at_most(value: f64, target: f64) -> String {
    format!("≤ {target}: {}", verdict(value <= target))
}

/// A lower limit, and whether the value meets it.
pub fn at_least(value: f64, target: f64) -> String {
    format!("≥ {target}: {}", verdict(value >= target))
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**not met**" }
}
