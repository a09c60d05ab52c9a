//! `portcullis explain`: which route would serve a request, and why no other one.

use std::{fmt::Write as _, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use http::{
    HeaderMap, header,
    uri::{Authority, Scheme},
};
use portcullis_dataplane::exchange::path;
use portcullis_routing::{
    Backend, Explanation, ListenerProtocol, RequestHead, Route, RouteAction, RouteKey,
    RoutingTable, compile, explain as judge, explain::Candidate,
};
use serde::Serialize;

use crate::{
    FINDINGS,
    args::ExplainArgs,
    merge::merge,
    output::{self, BAD, GOOD, HEAD, indented, styled, tell},
    source::Source,
    words,
};

/// More runners-up than this are for programs.
const RUNNERS_UP_SHOWN: usize = 20;

/// The answer, for people and programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    request: Asked,
    /// What the client gets, in one line.
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Winner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
    /// Words for each candidate of the explanation, in its order.
    #[serde(skip)]
    candidates: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    method: String,
    url: String,
    /// The port of the Gateway's spec.
    port: u16,
    host: String,
    /// In normal form, as it is matched and forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// The route that answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Winner {
    rule: String,
    matched: String,
    /// In the order in which they are applied.
    filters: Vec<String>,
    limits: Vec<String>,
    backends: Vec<Destination>,
}

/// One backend of the winner.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    share: String,
    filters: Vec<String>,
    endpoints: String,
}

/// Explains one request.
pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let configuration = Source::new(&args.config)?.load()?;
    let (table, conflicts) = merge(&configuration.translation.tables);
    let answer = answer(args, table)?;
    let found = answer.route.is_some();
    output::print(args.output.output, &answer, text)?;
    let findings = configuration.issues.len() + conflicts.len();
    if findings > 0 {
        tell(&format!(
            "\nThese manifests have {}: see `portcullis analyze`.\n",
            output::count(findings, "finding")
        ));
    }
    Ok(if found {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

fn answer(args: &ExplainArgs, table: RoutingTable) -> anyhow::Result<Answer> {
    let host = host(args)?;
    let port = args.map_port.spec(port(args)?);
    let mut asked = Asked {
        method: args.method.to_string(),
        url: args.url.to_string(),
        port,
        host,
        path: None,
    };
    let Ok(path) = path::normalize(args.url.path().as_bytes()) else {
        return Ok(unanswered(
            asked,
            "400: the path holds characters that are not accepted",
            None,
        ));
    };
    asked.path = Some(path.clone().into_owned());
    let (compiled, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
    for rejection in rejections {
        tell(&format!("{} {rejection}\n", styled(BAD, "not served:")));
    }
    let table = compiled.table();
    let Some(bound) = compiled.port(port) else {
        return Ok(unanswered(asked, &no_port(table, port), None));
    };
    if let Some(outcome) = other_scheme(args, port, bound.protocol()) {
        return Ok(unanswered(asked, &outcome, None));
    }
    let headers: HeaderMap = args.headers.iter().cloned().collect();
    let head = RequestHead {
        host: &asked.host,
        path: &path,
        query: args.url.query(),
        method: &args.method,
        headers: &headers,
    };
    let explanation = judge(&compiled, port, &head);
    Ok(judged(asked, explanation, table))
}

/// The host that the proxy is asked for: of the `Host` header, as with curl, or of the URL.
fn host(args: &ExplainArgs) -> anyhow::Result<String> {
    let url = args
        .url
        .host()
        .context("the URL has no host; write it in full, such as http://shop.example/cart")?;
    let header = args.headers.iter().find(|(name, _)| name == header::HOST);
    let host = match header {
        None => url.to_owned(),
        Some((_, value)) => Authority::try_from(value.as_bytes())
            .context("the Host header holds no host")?
            .host()
            .to_owned(),
    };
    Ok(host.strip_suffix('.').unwrap_or(&host).to_ascii_lowercase())
}

/// What comes of asking a port in the wrong scheme.
fn other_scheme(args: &ExplainArgs, port: u16, protocol: ListenerProtocol) -> Option<String> {
    let spoken = words::scheme(protocol);
    let asked = args.url.scheme_str()?;
    (asked != spoken)
        .then(|| format!("no answer: port {port} speaks {spoken}, and the URL asks for {asked}"))
}

fn port(args: &ExplainArgs) -> anyhow::Result<u16> {
    match (args.url.port_u16(), args.url.scheme()) {
        (Some(port), _) => Ok(port),
        (None, Some(scheme)) if *scheme == Scheme::HTTP => Ok(80),
        (None, Some(scheme)) if *scheme == Scheme::HTTPS => Ok(443),
        _ => bail!("start the URL with http:// or https://"),
    }
}

fn no_port(table: &RoutingTable, port: u16) -> String {
    let mut ports: Vec<u16> = table
        .listeners
        .values()
        .map(|listener| listener.port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    if ports.is_empty() {
        "no connection: no Gateway of these manifests is served".into()
    } else {
        format!(
            "no connection: nothing listens on port {port}, only on {}. If `run` maps ports, give the same --map-port",
            ports.join(", ")
        )
    }
}

fn unanswered(request: Asked, outcome: &str, explanation: Option<Explanation>) -> Answer {
    Answer {
        request,
        outcome: outcome.to_owned(),
        route: None,
        explanation,
        candidates: Vec::new(),
    }
}

fn judged(request: Asked, explanation: Explanation, table: &RoutingTable) -> Answer {
    if explanation.listener().is_none() {
        return unanswered(
            request,
            "404: no listener of this port serves this host",
            Some(explanation),
        );
    }
    let candidates = explanation
        .candidates
        .iter()
        .map(|candidate| in_words(candidate, table))
        .collect();
    let won = explanation
        .winner()
        .and_then(|won| Some((won, table.routes.get(&won.route)?)));
    Answer {
        request,
        outcome: won.map_or_else(
            || "404: no route matches this request".into(),
            |(_, route)| match &route.action {
                RouteAction::Forward(_) => format!("forwarded, {}", words::action(&route.action)),
                RouteAction::Redirect(_) | RouteAction::Respond { .. } => {
                    words::action(&route.action)
                }
            },
        ),
        route: won.map(|(won, route)| winner(won, route, table)),
        candidates,
        explanation: Some(explanation),
    }
}

fn winner(won: &Candidate, route: &Route, table: &RoutingTable) -> Winner {
    let backends = match &route.action {
        RouteAction::Forward(backends) => backends.as_slice(),
        RouteAction::Redirect(_) | RouteAction::Respond { .. } => &[],
    };
    Winner {
        rule: words::source(route),
        matched: matched(&won.route, won.match_index, &won.hostname, table),
        filters: route.filters.iter().map(words::filter).collect(),
        limits: words::policy(&route.policy),
        backends: backends
            .iter()
            .map(|backend| Destination {
                share: words::share(backend, backends),
                filters: backend.filters.iter().map(words::filter).collect(),
                endpoints: match &backend.backend {
                    Backend::Cluster(key) => {
                        words::endpoints(table.endpoints.get(key).map(AsRef::as_ref))
                    }
                    Backend::Invalid { .. } => String::new(),
                },
            })
            .collect(),
    }
}

fn matched(route: &RouteKey, index: usize, hostname: &str, table: &RoutingTable) -> String {
    let host = if hostname == "*" {
        "any host".to_owned()
    } else {
        format!("host {hostname}")
    };
    let one = table
        .routes
        .get(route)
        .and_then(|route| route.matches.get(index));
    format!("{host}, {}", one.map(words::matching).unwrap_or_default())
}

fn in_words(candidate: &Candidate, table: &RoutingTable) -> String {
    let rule = table
        .routes
        .get(&candidate.route)
        .map(|route| words::source(route))
        .unwrap_or_default();
    format!(
        "{rule}\n  asks for {}\n  {}",
        matched(
            &candidate.route,
            candidate.match_index,
            &candidate.hostname,
            table
        ),
        candidate.verdict
    )
}

fn text(answer: &Answer) -> String {
    let Asked {
        method,
        url,
        port,
        host,
        path,
    } = &answer.request;
    let mut text = format!("{}\n", styled(HEAD, format!("{method} {url}")));
    let path = path
        .as_ref()
        .map(|path| format!(", path {path}"))
        .unwrap_or_default();
    writeln!(text, "  port {port}, host {host}{path}\n").ok();
    let style = if answer.route.is_some() { GOOD } else { BAD };
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
    if let Some(winner) = &answer.route {
        text += &route(winner);
    }
    text + &others(answer)
}

fn route(winner: &Winner) -> String {
    let mut text = format!("{} {}\n", styled(HEAD, "Route     "), winner.rule);
    text += &indented(&format!("asks for {}", winner.matched), 11);
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
    for listener in listeners.filter(|listener| Some(*listener) != chosen) {
        writeln!(
            text,
            "  listener {} (hostname {}): {}",
            listener.key, listener.hostname, listener.verdict
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
