//! Splits a text into YAML documents, so that a broken one does not take the others with it.

use serde_json::Value;
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

/// One document of a text. It may hold a Secret, so it cannot be printed.
pub(super) struct Document<'a> {
    /// From 1.
    pub(super) number: usize,
    /// Line of its first content, from 1.
    pub(super) line: usize,
    /// Lines of the text before `text` begins.
    skipped: usize,
    text: &'a str,
}

/// Splits at `---`, which YAML reserves at the start of a line wherever it stands (YAML 1.2.2, 9.1.2). Documents of
/// nothing but comments are left out, and not counted.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut skipped) = (0, 0);
    let mut position = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        {
            add(&mut documents, &text[start..position], skipped);
            // Content may follow on the line of the marker.
            (start, skipped) = (position + 3, number);
        }
        position += line.len();
    }
    add(&mut documents, &text[start..], skipped);
    documents
}

fn add<'a>(documents: &mut Vec<Document<'a>>, text: &'a str, skipped: usize) {
    let has_content = |line: &str| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
    };
    if let Some(first) = text.lines().position(has_content) {
        documents.push(Document {
            number: documents.len() + 1,
            line: skipped + first + 1,
            skipped,
            text,
        });
    }
}

impl Document<'_> {
    /// The line of this number, which is counted in the whole text.
    pub(super) fn line_at(&self, number: usize) -> &str {
        let index = number.saturating_sub(self.skipped + 1);
        self.text.lines().nth(index).unwrap_or_default()
    }

    /// Parses it; `None` if it is null. An error says line and message.
    pub(super) fn parse(&self) -> Result<Option<Value>, (usize, String)> {
        serde_saphyr::from_str::<Option<Value>>(self.text).map_err(|error| {
            let line = error
                .location()
                .and_then(|location| usize::try_from(location.line()).ok());
            // Without the place, which is that in the document.
            let message = UserMessageFormatter.format_message(error.without_snippet());
            (
                line.map_or(self.line, |line| self.skipped + line),
                message.into_owned(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::split;

    #[test]
    fn documents_are_counted_with_their_lines() {
        let text = "# only a comment\n---\na: 1\n--- # second\n\nb: |\n  ---\n  text\n---\n---\n{\"c\": 3}\n";
        let documents = split(text);
        let found: Vec<_> = documents
            .iter()
            .map(|d| (d.number, d.line, d.parse().unwrap().unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                (1, 3, json!({"a": 1})),
                (2, 6, json!({"b": "---\ntext\n"})),
                (3, 11, json!({"c": 3}))
            ]
        );
    }

    #[test]
    fn a_syntax_error_names_its_line_and_spares_the_others() {
        let documents = split("a: 1\n---\nb: 2\nc: [\n---\nd: 4\n");
        assert!(documents[0].parse().is_ok());
        let (line, message) = documents[1].parse().unwrap_err();
        assert!((3..=5).contains(&line), "line {line}");
        assert!(!message.contains("line"), "another line in {message:?}");
        assert!(documents[2].parse().is_ok());
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        assert!(split("a: 1\na: 2\n")[0].parse().is_err());
    }
}
