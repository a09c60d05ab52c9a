//! What curl has got.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

/// The last answer of a curl run: with `--location` or a 100, those before are left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// Reads what `curl --dump-header -` prints.
    pub(super) fn parse(mut text: &str) -> Result<Self> {
        loop {
            let (head, rest) = text
                .split_once("\r\n\r\n")
                .with_context(|| format!("curl printed no head: {text}"))?;
            if rest.starts_with("HTTP/") {
                text = rest;
                continue;
            }
            let mut lines = head.lines();
            let status = lines
                .next()
                .and_then(|line| line.split(' ').nth(1)?.parse().ok())
                .with_context(|| format!("no status line: {head}"))?;
            let headers = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            return Ok(Self {
                status,
                headers,
                body: rest.to_owned(),
            });
        }
    }

    /// The first header of this name, given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The echo backend's account of the request: `path`, `host`, `method`, `headers`, `pod`, `service`.
    pub(crate) fn echo(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Whether it is a 200 by the echo backend `service`.
    pub(crate) fn is_from(&self, service: &str) -> bool {
        self.status == 200 && self.echo()["service"] == service
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line: the backend writes a line for every field.
        let body: Vec<&str> = self.body.split_whitespace().collect();
        write!(f, "{} {:?} {}", self.status, self.headers, body.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::Answer;

    #[test]
    fn the_last_answer_counts() {
        let text =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/2 200 \r\nX-A: b\r\n\r\n{\"service\":\"v1\"}\n";
        let answer = Answer::parse(text).unwrap();
        assert_eq!((answer.status, answer.header("x-a")), (200, Some("b")));
        assert!(answer.is_from("v1") && !answer.is_from("v2"));
        assert!(Answer::parse("nothing").is_err());
    }
}
