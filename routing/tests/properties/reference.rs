//! The lookup as the specification words it: take everything that matches, sort it by precedence. Written without any
//! code of the library but the types and `MatchRank`.

use std::borrow::Cow;

use portcullis_routing::{
    Clause, Listener, ListenerKey, MatchRank, PathMatch, Rejection, ResourceKind, Route, RouteKey,
    RouteMatch, RoutingTable, ValueMatch,
};
use regex::bytes::Regex;

use crate::arbitrary::Request;

static EVERY: RouteMatch = RouteMatch {
    path: PathMatch::Prefix(String::new()),
    method: None,
    headers: Vec::new(),
    query: Vec::new(),
};

/// Listener, route and match that answer.
pub(crate) type Answer = Option<(RouteKey, usize)>;

/// The listener of a port for a host, among those not rejected.
pub(crate) fn listener<'a>(
    table: &'a RoutingTable,
    rejections: &[Rejection],
    port: u16,
    host: &str,
) -> Option<&'a ListenerKey> {
    let served = table
        .listeners
        .iter()
        .filter(|(key, _)| !is_rejected(rejections, ResourceKind::Listener, key.as_str()));
    let fits = |listener: &Listener| {
        listener.port == port
            && listener
                .hostname
                .as_deref()
                .is_none_or(|hostname| host_matches(hostname, host))
    };
    let specific = |listener: &Listener| {
        let hostname = listener.hostname.as_deref().unwrap_or("");
        (
            !hostname.is_empty() && !hostname.starts_with('*'),
            hostname.len(),
        )
    };
    served
        .filter(|(_, l)| fits(l))
        .max_by_key(|(_, l)| specific(l))
        .map(|(key, _)| key)
}

/// The answer of a port to a request.
pub(crate) fn lookup(
    table: &RoutingTable,
    rejections: &[Rejection],
    port: u16,
    request: &Request,
) -> Answer {
    let listener = listener(table, rejections, port, request.host)?;
    let served = table.routes.iter().filter(|(key, route)| {
        route.listeners.contains(listener)
            && !is_rejected(rejections, ResourceKind::Route, key.as_str())
    });
    let mut matching: Vec<(MatchRank<'_>, &RouteKey, usize)> = Vec::new();
    for (key, route) in served {
        for hostname in hostnames(route)
            .into_iter()
            .filter(|h| h.is_none_or(|h| host_matches(h, request.host)))
        {
            // One that takes connections asks for nothing but a name.
            let matches = match route.matches.as_slice() {
                [] => std::slice::from_ref(&EVERY),
                matches => matches,
            };
            for (index, route_match) in matches.iter().enumerate() {
                if route.matches.is_empty() || holds(route_match, request) {
                    matching.push((
                        MatchRank::new(hostname, key, route, index, route_match),
                        key,
                        index,
                    ));
                }
            }
        }
    }
    matching.sort_by(|a, b| b.0.cmp(&a.0));
    assert!(
        matching.windows(2).all(|pair| match pair {
            [a, b] =>
                a.0.deciding_clause(&b.0)
                    .is_some_and(|clause| Clause::ALL.contains(&clause)),
            _ => false,
        }),
        "precedence is total"
    );
    matching
        .first()
        .map(|(_, key, index)| ((*key).clone(), *index))
}

fn is_rejected(rejections: &[Rejection], kind: ResourceKind, key: &str) -> bool {
    rejections
        .iter()
        .any(|rejection| rejection.kind == kind && rejection.key == key)
}

fn hostnames(route: &Route) -> Vec<Option<&str>> {
    if route.hostnames.is_empty() {
        return vec![None];
    }
    route
        .hostnames
        .iter()
        .map(|hostname| Some(hostname.as_str()))
        .collect()
}

fn host_matches(hostname: &str, host: &str) -> bool {
    match hostname.split_once('*') {
        Some((_, suffix)) => host.len() > suffix.len() && host.ends_with(suffix),
        None => hostname == host,
    }
}

fn holds(route_match: &RouteMatch, request: &Request) -> bool {
    let path = match &route_match.path {
        PathMatch::Exact(exact) => request.path == exact,
        PathMatch::Prefix(prefix) => {
            format!("{}/", request.path).starts_with(&format!("{}/", prefix.trim_end_matches('/')))
                && request.path.starts_with('/')
        }
        PathMatch::Regex(pattern) => whole(pattern, request.path.as_bytes()),
    };
    path && route_match
        .method
        .as_deref()
        .is_none_or(|method| method == request.method.as_str())
        && route_match.headers.iter().all(|header| {
            let lines: Vec<&[u8]> = request
                .headers
                .get_all(&header.name)
                .iter()
                .map(http::HeaderValue::as_bytes)
                .collect();
            !lines.is_empty() && value(&header.value, &lines.join(&b", "[..]))
        })
        && route_match.query.iter().all(|parameter| {
            let pairs = request.query.as_deref().unwrap_or("").split('&');
            let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            let found = pairs.find(|(name, _)| decoded(name).as_ref() == parameter.name.as_bytes());
            found.is_some_and(|(_, text)| value(&parameter.value, &decoded(text)))
        })
}

fn value(wanted: &ValueMatch, found: &[u8]) -> bool {
    match wanted {
        ValueMatch::Exact(exact) => exact.as_bytes() == found,
        ValueMatch::Regex(pattern) => whole(pattern, found),
    }
}

fn whole(pattern: &str, found: &[u8]) -> bool {
    Regex::new(&format!(r"\A(?:{pattern})\z"))
        .unwrap()
        .is_match(found)
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_encoding::percent_decode_str(&spaced).collect())
}
