//! The answer of `portcullis explain` in words, for people.

use std::fmt::Write as _;

use portcullis_routing::Explanation;

use super::{Answer, Asked, Winner};
use crate::{
    output::{self, BAD, GOOD, HEAD, indented, styled},
    report::{self, Issue},
};

/// Of the listeners that were not chosen, those whose hostnames are most like the host.
const LISTENERS_SHOWN: usize = 5;

/// More findings about listeners, or about routes, are for programs.
const ISSUES_SHOWN: usize = 5;

/// More runners-up than this are for programs.
const RUNNERS_UP_SHOWN: usize = 20;

/// The answer for people.
pub(super) fn text(answer: &Answer) -> String {
    let Asked {
        method,
        url,
        port,
        host,
        sni,
        path,
    } = &answer.request;
    let mut text = format!("{}\n", styled(HEAD, format!("{method} {url}")));
    let path = path
        .as_ref()
        .map(|path| format!(", path {path}"))
        .unwrap_or_default();
    let sni = sni
        .as_ref()
        .filter(|sni| *sni != host)
        .map(|sni| format!(", TLS name {sni}"))
        .unwrap_or_default();
    writeln!(text, "  port {port}, host {host}{sni}{path}\n").ok();
    let style = if answer.is_error { BAD } else { GOOD };
    writeln!(
        text,
        "{} {}",
        styled(HEAD, "Answer    "),
        styled(style, &answer.outcome)
    )
    .ok();
    if let Some(listener) = answer.explanation.as_ref().and_then(Explanation::listener) {
        let hostname = if listener.hostname == "*" {
            "any host"
        } else {
            &listener.hostname
        };
        writeln!(
            text,
            "{} {}, for {hostname}",
            styled(HEAD, "Listener  "),
            listener.key
        )
        .ok();
    }
    if let Some(certificate) = &answer.certificate {
        writeln!(
            text,
            "{} {}",
            styled(HEAD, "TLS       "),
            certificate.text()
        )
        .ok();
    }
    if let Some(asked) = &answer.client_certificate {
        writeln!(text, "{} {asked}", styled(HEAD, "TLS       ")).ok();
    }
    if let Some(winner) = &answer.route {
        text += &route(winner);
    }
    text += &others(answer);
    let gateway = format!("Gateway and listeners of port {port}");
    text += &section(&gateway, &answer.listeners);
    if let Some(winner) = &answer.route {
        text += &section("What is wrong with the route that answers", &winner.issues);
    }
    text += &section("Routes that are refused", &answer.routes);
    if let Some(origin) = &answer.cluster {
        writeln!(text, "\n{}", origin.text()).ok();
    }
    text
}

/// What is wrong with something that the answer depends on.
fn section(heading: &str, issues: &[Issue]) -> String {
    if issues.is_empty() {
        return String::new();
    }
    let shown = issues.iter().take(ISSUES_SHOWN);
    let mut text = format!("\n{}\n{}", styled(HEAD, heading), report::text(shown));
    if let Some(more) = issues.len().checked_sub(ISSUES_SHOWN).filter(|it| *it > 0) {
        writeln!(text, "... and {more} more (-o json shows all)").ok();
    }
    text
}

fn route(winner: &Winner) -> String {
    let mut text = format!("{} {}\n", styled(HEAD, "Route     "), winner.rule);
    text += &indented(&format!("asks for {}", winner.matched), 11);
    if let Some(location) = &winner.location {
        writeln!(text, "{} {location}", styled(HEAD, "Location  ")).ok();
    }
    for (heading, lines) in [
        ("Filters   ", &winner.filters),
        ("Limits    ", &winner.limits),
    ] {
        for (number, line) in lines.iter().enumerate() {
            let heading = if number == 0 {
                styled(HEAD, heading)
            } else {
                " ".repeat(heading.len())
            };
            writeln!(text, "{heading} {}. {line}", number + 1).ok();
        }
    }
    for (number, backend) in winner.backends.iter().enumerate() {
        let heading = if number == 0 {
            styled(HEAD, "Backends  ")
        } else {
            " ".repeat(10)
        };
        writeln!(text, "{heading} {}", backend.share).ok();
        text += &indented(&backend.endpoints, 13);
        if let Some(tls) = &backend.tls {
            text += &indented(tls, 13);
        }
        for filter in &backend.filters {
            text += &indented(filter, 13);
        }
    }
    text
}

/// Why nobody else answers.
fn others(answer: &Answer) -> String {
    let mut text = String::new();
    let listeners = answer
        .explanation
        .iter()
        .flat_map(|explanation| &explanation.listeners);
    let chosen = answer.explanation.as_ref().and_then(Explanation::listener);
    let mut listeners: Vec<_> = listeners
        .filter(|listener| Some(*listener) != chosen)
        .collect();
    let host = &answer.request.host;
    listeners.sort_by_key(|listener| strsim::damerau_levenshtein(&listener.hostname, host));
    for listener in listeners.iter().take(LISTENERS_SHOWN) {
        writeln!(
            text,
            "  listener {} (hostname {}): {}",
            listener.key, listener.hostname, listener.verdict
        )
        .ok();
    }
    if let Some(more) = listeners
        .len()
        .checked_sub(LISTENERS_SHOWN)
        .filter(|more| *more > 0)
    {
        writeln!(
            text,
            "  ... and {} (-o json shows all)",
            output::count(more, "more listener")
        )
        .ok();
    }
    let runners_up = answer
        .candidates
        .iter()
        .skip(usize::from(answer.route.is_some()));
    let count = runners_up.len();
    for candidate in runners_up.take(RUNNERS_UP_SHOWN) {
        text += &indented(candidate, 2);
    }
    if count > RUNNERS_UP_SHOWN {
        writeln!(
            text,
            "  ... and {} more (-o json shows all)",
            count - RUNNERS_UP_SHOWN
        )
        .ok();
    }
    if text.is_empty() {
        text
    } else {
        format!("\n{}\n{text}", styled(HEAD, "Not chosen"))
    }
}
