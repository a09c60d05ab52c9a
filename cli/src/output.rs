//! Printing: columns and colours for people, JSON and YAML for programs.

use std::{borrow::Cow, fmt::Write as _};

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use serde::Serialize;

use crate::args::Format;

/// Something is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Something is broken.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something deserves a look.
pub(crate) const ODD: Style = AnsiColor::Yellow.on_default().bold();
/// A heading.
pub(crate) const HEAD: Style = Style::new().bold();
/// Of lesser weight.
pub(crate) const DIM: Style = Style::new().dimmed();

/// More objects of which the same is said are counted.
pub(crate) const ALIKE_SHOWN: usize = 5;

/// `text` in a style. The stream that prints it removes the style where it does not belong.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints `value` as JSON or YAML, or as what `table` makes of it.
pub(crate) fn print<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => json(value)?,
        Format::Yaml => serde_saphyr::to_string(value).context("cannot write YAML")?,
    };
    show(&text);
    Ok(())
}

/// `value` as JSON, for people too.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n";
    // JSON lets DEL and its like stand; a terminal does not.
    let is_wild = |one: char| one.is_control() && one != '\n';
    if !text.contains(is_wild) {
        return Ok(text);
    }
    Ok(text.chars().fold(String::new(), |mut all, one| {
        if is_wild(one) {
            write!(all, "\\u{:04x}", u32::from(one)).ok();
        } else {
            all.push(one);
        }
        all
    }))
}

/// Prints to standard output. A reader that has left (`| head`) is no error.
pub(crate) fn show(text: &str) {
    use std::io::Write as _;
    anstream::stdout().write_all(tame(text).as_bytes()).ok();
}

/// Prints to standard error.
pub(crate) fn tell(text: &str) {
    use std::io::Write as _;
    anstream::stderr().write_all(tame(text).as_bytes()).ok();
}

/// The text with control characters as escapes, but for line breaks, tabs and styles: it quotes objects that anybody may
/// have written, and a terminal would obey them.
fn tame(text: &str) -> Cow<'_, str> {
    let is_wild = |one: char| one.is_control() && !matches!(one, '\n' | '\t');
    if !text.contains(is_wild) {
        return text.into();
    }
    let mut tamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_wild) {
        let (before, wild) = rest.split_at(at);
        tamed.push_str(before);
        let (kept, after) = wild.split_at(style_length(wild));
        tamed.push_str(kept);
        let mut after = after.chars();
        if kept.is_empty() {
            tamed.extend(after.next().into_iter().flat_map(char::escape_default));
        }
        rest = after.as_str();
    }
    (tamed + rest).into()
}

/// Bytes of the style (`ESC [ 1 ; 31 m`) that `text` begins with; 0 if it does not.
fn style_length(text: &str) -> usize {
    let Some(numbers) = text.strip_prefix("\x1b[") else {
        return 0;
    };
    let last = numbers.trim_start_matches(|one: char| one.is_ascii_digit() || one == ';');
    if last.starts_with('m') {
        text.len() - last.len() + 1
    } else {
        0
    }
}

/// Rows in aligned columns, two spaces apart. The first row is the heading.
#[derive(Debug)]
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Starts with a heading.
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self {
            rows: vec![heading.iter().map(|title| styled(HEAD, title)).collect()],
        }
    }

    /// Adds a row: one line, whatever the cells quote.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells = cells.map(|cell| cell.replace('\n', "\\n"));
        self.rows.push(cells.into());
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..count)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| width(cell))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, target) in row.iter().zip(&widths) {
                write!(
                    line,
                    "{cell}{:padding$}  ",
                    "",
                    padding = target - width(cell)
                )?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Characters that show.
fn width(cell: &str) -> usize {
    anstream::adapter::strip_str(cell)
        .map(|piece| piece.chars().count())
        .sum()
}

/// `text` with every line moved right by `by` spaces.
pub(crate) fn indented(text: &str, by: usize) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        if !line.is_empty() {
            all.extend(std::iter::repeat_n(' ', by));
        }
        all.push_str(line);
        all.push('\n');
        all
    })
}

/// `1 route`, `2 routes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_style() {
        let mut columns = Columns::new(["NAME", "STATE"]);
        columns.row([styled(GOOD, "a"), "up".into()]);
        columns.row(["longer".into(), "do\nwn".into()]);
        let plain: String = anstream::adapter::strip_str(&columns.to_string()).collect();
        assert_eq!(plain, "NAME    STATE\na       up\nlonger  do\\nwn\n");
    }

    #[test]
    fn a_terminal_is_told_nothing_but_styles() {
        assert_eq!(tame("a\tb\n"), "a\tb\n");
        let bad = styled(BAD, "fault\u{9b}2J");
        assert_eq!(tame(&bad), styled(BAD, "fault\\u{9b}2J"));
        assert_eq!(
            tame("\x1b]0;title\x07\x1b[2J\r!"),
            "\\u{1b}]0;title\\u{7}\\u{1b}[2J\\r!"
        );
        assert_eq!(tame("\x1b[1;31"), "\\u{1b}[1;31");
    }

    #[test]
    fn json_stays_json_whatever_it_quotes() {
        let value = "a\u{7f}\u{9b}\n\u{1b}b".to_owned();
        let text = json(&value).unwrap();
        assert_eq!(text, "\"a\\u007f\\u009b\\n\\u001bb\"\n");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
    }

    #[test]
    fn indents_all_but_empty_lines() {
        assert_eq!(indented("a\n\nb", 2), "  a\n\n  b\n");
    }
}
