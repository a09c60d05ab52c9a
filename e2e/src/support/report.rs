//! Tables for people: the same Markdown on the screen and in a file.

use std::fmt::{self, Display};

/// A table with a title.
pub(crate) struct Table {
    title: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, header: &[&str]) -> Self {
        Self {
            title: title.into(),
            header: header.iter().map(|cell| (*cell).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with as many cells as the header has.
    pub(crate) fn row<T: Display>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| cell.to_string().replace('|', "\\|"))
                .collect(),
        );
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| {
            lines()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| width(column).unwrap_or(0))
            .collect();
        writeln!(f, "### {}\n", self.title)?;
        for (number, row) in lines().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// How a check came out. Counted, and told at the end as a test runner does.
#[derive(Default)]
pub(crate) struct Tally {
    passed: usize,
    failures: Vec<String>,
}

impl Tally {
    /// Counts a check; `what` is told if it failed.
    pub(crate) fn check(&mut self, good: bool, what: impl FnOnce() -> String) -> bool {
        if good {
            self.passed += 1;
        } else {
            self.failures.push(what());
        }
        good
    }

    /// Tells the failures and the count, and makes an error of them.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        for failure in &self.failures {
            println!("FAILED: {failure}");
        }
        let verdict = if self.failures.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        println!(
            "\ntest result: {verdict}. {} passed; {} failed",
            self.passed,
            self.failures.len()
        );
        anyhow::ensure!(
            self.failures.is_empty(),
            "{} checks failed",
            self.failures.len()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Table, Tally};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new("T", &["a", "long"]);
        table.row(["wide", "b|c"]);
        assert_eq!(
            table.to_string(),
            "### T\n\n| a    | long |\n|------|------|\n| wide | b\\|c |\n"
        );
    }

    #[test]
    fn one_failed_check_makes_an_error() {
        let mut tally = Tally::default();
        tally.check(true, String::new);
        tally.check(false, || "why".to_owned());
        assert!(tally.close().is_err());
    }
}
