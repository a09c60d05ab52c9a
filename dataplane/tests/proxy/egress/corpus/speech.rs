//! From the text of a case to bytes on a connection, and from what comes back to words.
//!
//! In a text `{port}` is the port of the servers, `{dns}` the host of the case, `{hello WORDS}` a greeting, `{x HEX}` any bytes, and
//! `{close}` the end of a last request. A text that begins with `slowly ` is sent byte by byte.

use std::{net::SocketAddr, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Form, greeting::greeting};

/// How long the end of an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of what a client says.
#[derive(Default)]
pub(super) struct Answer {
    /// The status of each answer, or of what comes instead: `open` is a tunnel, `echo` its greeting that came back, `alert-N` an alert of
    /// TLS, `closed` the end without a word, `reset` that of a stream, `strange` anything else.
    pub(super) words: Vec<String>,
    /// The reason in the last answer; `none` without.
    pub(super) reason: String,
    /// Requests and tunnels that the allowed server saw.
    pub(super) arrived: usize,
    /// Connections to servers that nobody should get to.
    pub(super) strayed: usize,
}

/// What a text becomes.
pub(super) struct Speech {
    pub(super) bytes: Vec<u8>,
    /// The greeting in it, if there is one.
    pub(super) greeting: Vec<u8>,
    slowly: bool,
}

impl Speech {
    /// What is sent for `text` in this form.
    pub(super) fn of(form: Form, text: &str, port: u16, host: &str) -> Self {
        let (text, slowly) = match text.strip_prefix("slowly ") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let text = text
            .replace("{port}", &port.to_string())
            .replace("{dns}", host);
        let text = text.replace("{close}", "Connection: close\n\n");
        let whole = match form {
            Form::Absolute => {
                let behind = text
                    .split_once("://")
                    .map_or(text.as_str(), |(_, behind)| behind);
                let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
                crlf(&format!(
                    "GET {text} HTTP/1.1\nHost: {authority}\nConnection: close\n\n"
                ))
            }
            Form::Host => crlf(&format!(
                "GET / HTTP/1.1\nHost: {text}\nConnection: close\n\n"
            )),
            Form::Connect => {
                let (authority, words) = text.split_once(' ').unwrap_or((&text, ""));
                let host = authority
                    .rsplit_once(':')
                    .map_or(authority, |(host, _)| host);
                let usual = format!("plain {}", host.trim_end_matches('.'));
                let words = if words.is_empty() { &usual } else { words };
                let first = if words.starts_with('{') {
                    words.to_owned()
                } else {
                    format!("{{hello {words}}}")
                };
                crlf(&format!(
                    "CONNECT {authority} HTTP/1.1\nHost: {authority}\n\n{first}"
                ))
            }
            Form::Sni if text.starts_with('{') => text,
            Form::Sni => format!("{{hello {text}}}"),
            Form::Lines | Form::Tls => crlf(&text),
            Form::Raw | Form::Http2 => text,
        };
        let mut speech = Self {
            bytes: Vec::new(),
            greeting: Vec::new(),
            slowly,
        };
        speech.expand(&whole);
        speech
    }

    /// Puts in what stands in braces.
    fn expand(&mut self, mut text: &str) {
        while let Some((before, rest)) = text.split_once('{') {
            self.bytes.extend_from_slice(before.as_bytes());
            let (inside, behind) = rest.split_once('}').unwrap();
            text = behind;
            match inside.split_once(' ').unwrap() {
                ("hello", words) => {
                    self.greeting = greeting(words);
                    self.bytes.extend_from_slice(&self.greeting);
                }
                ("x", digits) => {
                    let byte = |pair: &str| u8::from_str_radix(pair, 16).unwrap();
                    self.bytes.extend(digits.split(' ').map(byte));
                }
                other => panic!("nothing is called {other:?}"),
            }
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Says it, and hears what comes back until the end.
    pub(super) async fn say(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Answer {
        let said = async {
            // Who is refused early may not get to say all.
            if self.slowly {
                for byte in &self.bytes {
                    _ = stream.write_all(&[*byte]).await;
                    _ = stream.flush().await;
                    tokio::task::yield_now().await;
                }
            } else {
                _ = stream.write_all(&self.bytes).await;
            }
            _ = stream.flush().await;
            let mut heard = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut heard).await {
                if !self.greeting.is_empty() && heard.ends_with(&self.greeting) {
                    _ = stream.shutdown().await;
                }
            }
            heard
        };
        match tokio::time::timeout(PATIENCE, said).await {
            Ok(heard) => self.understand(&heard),
            Err(_) => Answer {
                words: vec!["timeout".to_owned()],
                ..Answer::default()
            },
        }
    }

    /// What was heard, in words.
    fn understand(&self, mut bytes: &[u8]) -> Answer {
        let mut answer = Answer {
            reason: "none".to_owned(),
            ..Answer::default()
        };
        while !bytes.is_empty() {
            if let Some(word) = behind_a_tunnel(bytes, &self.greeting) {
                answer.words.push(word);
                return answer;
            }
            let Some((head, body)) = head(bytes) else {
                answer.words.push("strange".to_owned());
                return answer;
            };
            let (body, rest) = body.split_at(head.length.unwrap_or_default().min(body.len()));
            answer
                .words
                .push(word(head.status, head.length.map(|_| body)));
            answer.reason = head.reason;
            bytes = rest;
        }
        if answer.words.last().is_none_or(|last| last == "open") {
            answer.words.push("closed".to_owned());
        }
        answer
    }
}

/// The word for an answer. The allowed server says that it is; a tunnel has no body.
pub(super) fn word(status: u16, body: Option<&[u8]>) -> String {
    match (status, body) {
        (200, Some(b"allowed")) => "200".to_owned(),
        (200, None) => "open".to_owned(),
        (200, Some(_)) => "200-of-another".to_owned(),
        (status, _) => status.to_string(),
    }
}

/// The word for what is no HTTP: an alert, or a greeting that came back.
pub(super) fn behind_a_tunnel(heard: &[u8], greeting: &[u8]) -> Option<String> {
    match *heard {
        [21, 3, 3, 0, 2, 2, alert] => Some(format!("alert-{alert}")),
        _ => (!greeting.is_empty() && *heard == *greeting).then(|| "echo".to_owned()),
    }
}

struct Head {
    status: u16,
    length: Option<usize>,
    reason: String,
}

/// The head of an answer, and what is behind it.
fn head(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = str::from_utf8(&bytes[..end]).ok()?;
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    };
    let head = Head {
        status: text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?,
        length: field("content-length").and_then(|length| length.parse().ok()),
        reason: field("x-portcullis-reason").unwrap_or("none").to_owned(),
    };
    Some((head, &bytes[end..]))
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// Where each form is spoken: the listener's port in the table.
pub(super) fn listener(form: Form) -> u16 {
    match form {
        Form::Sni => 443,
        Form::Tls => 8443,
        _ => 80,
    }
}

/// A host of the case `name`: its own, or its twin's.
pub(super) fn host(name: &str, is_twin: bool) -> String {
    let twin = if is_twin { "-twin" } else { "" };
    format!("{name}{twin}.dns.example")
}

/// Where both servers listen, apart from the address.
pub(super) fn at(address: std::net::IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
