//! Why a request is routed as it is: the listener chosen, and every candidate with its verdict.

use std::fmt;

use serde::Serialize;

use crate::{
    compile::{CompiledListener, CompiledPort, CompiledRoute, CompiledTable},
    hostname::{HostMap, HostPattern},
    key::{ListenerKey, RouteKey},
    lookup::RequestHead,
    matcher::Mismatch,
    rank::{Clause, MatchRank},
    route::RouteSource,
};

/// The answer of [`explain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The port of the Gateway's spec that was asked.
    pub port: u16,
    /// The host that was asked, in lower case.
    pub host: String,
    /// The listeners of the port: the chosen one first, then by key.
    pub listeners: Vec<ListenerCandidate>,
    /// Every match of every route of the chosen listener under every hostname: first the winner, then those that match
    /// too, in order of precedence, then the others, in the order in which they would have been asked.
    pub candidates: Vec<Candidate>,
}

/// A listener of the port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerCandidate {
    /// Its key.
    pub key: ListenerKey,
    /// Its hostname; `*` if it has none.
    pub hostname: String,
    /// What became of it.
    pub verdict: ListenerVerdict,
}

/// What became of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerVerdict {
    /// It has the most specific hostname that matches. Only its routes are asked.
    Chosen,
    /// Its hostname matches too, but another is more specific.
    LessSpecific,
    /// Its hostname does not match.
    HostDiffers,
}

/// One match of one route under one of its hostnames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The route.
    pub route: RouteKey,
    /// The object and rule it came from.
    pub source: RouteSource,
    /// Number of the match in the rule, from 0.
    pub match_index: usize,
    /// The route's hostname under which it was asked; `*` if it has none.
    pub hostname: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It answers the request.
    Won,
    /// It matches, but the winner goes first by this clause.
    Lost(Clause),
    /// The hostname does not match.
    HostDiffers,
    /// The path does not match.
    PathDiffers,
    /// The method is another.
    MethodDiffers,
    /// The request lacks this header.
    HeaderMissing(String),
    /// This header has another value.
    HeaderDiffers(String),
    /// The request lacks this query parameter.
    QueryMissing(String),
    /// This query parameter has another value.
    QueryDiffers(String),
}

/// Explains the routing of a request. It goes through every route of the listener: for people, not for the request path.
pub fn explain<P>(table: &CompiledTable<P>, port: u16, head: &RequestHead<'_>) -> Explanation {
    let compiled = table.port(port);
    let chosen = compiled.and_then(|port| port.listener_for(head.host));
    Explanation {
        port,
        host: head.host.to_owned(),
        listeners: compiled
            .map(|port| judge_listeners(port, head.host))
            .unwrap_or_default(),
        candidates: chosen
            .map(|listener| judge_routes(listener, head))
            .unwrap_or_default(),
    }
}

impl Explanation {
    /// The listener that the request belongs to.
    pub fn listener(&self) -> Option<&ListenerCandidate> {
        self.listeners
            .first()
            .filter(|listener| listener.verdict == ListenerVerdict::Chosen)
    }

    /// The candidate that answers.
    pub fn winner(&self) -> Option<&Candidate> {
        self.candidates
            .first()
            .filter(|candidate| candidate.verdict == Verdict::Won)
    }
}

fn judge_listeners<P>(port: &CompiledPort<P>, host: &str) -> Vec<ListenerCandidate> {
    let chosen = port.listener_for(host).map(|listener| listener.key());
    let judged = port
        .listeners
        .iter()
        .map(|(pattern, listener)| ListenerCandidate {
            key: listener.key().clone(),
            hostname: pattern.to_string(),
            verdict: if chosen == Some(listener.key()) {
                ListenerVerdict::Chosen
            } else if pattern.matches(host) {
                ListenerVerdict::LessSpecific
            } else {
                ListenerVerdict::HostDiffers
            },
        });
    let mut judged: Vec<_> = judged.collect();
    judged.sort_by(|a, b| {
        let place = |candidate: &ListenerCandidate| candidate.verdict != ListenerVerdict::Chosen;
        place(a).cmp(&place(b)).then_with(|| a.key.cmp(&b.key))
    });
    judged
}

/// A candidate while the winner is not known yet; `mismatch` is `None` if it matches.
struct Ranked<'a, P> {
    rank: MatchRank<'a>,
    mismatch: Option<Verdict>,
    pattern: HostPattern<'a>,
    route: &'a CompiledRoute<P>,
    index: usize,
}

fn judge_routes<P>(listener: &CompiledListener<P>, head: &RequestHead<'_>) -> Vec<Candidate> {
    let hosts = listener.hosts.all().flat_map(HostMap::iter);
    let hosts =
        hosts.flat_map(|(pattern, host)| host.routes.iter().map(move |route| (pattern, route)));
    let mut ranked: Vec<Ranked<'_, P>> = hosts
        .flat_map(|(pattern, route)| {
            (0..route.candidates()).filter_map(move |index| {
                let rank = route.rank(pattern.rank(), index)?;
                let mismatch = mismatch(pattern, route, index, head);
                Some(Ranked {
                    rank,
                    mismatch,
                    pattern,
                    route,
                    index,
                })
            })
        })
        .collect();
    ranked.sort_by(|a, b| {
        let by_match = a.mismatch.is_some().cmp(&b.mismatch.is_some());
        // The hostname itself decides between wildcards of one length, which no host matches both.
        by_match
            .then_with(|| b.rank.cmp(&a.rank))
            .then_with(|| a.pattern.cmp(&b.pattern))
    });
    let winner = ranked.first().map(|first| first.rank);
    ranked
        .iter()
        .map(|candidate| candidate.judge(winner.as_ref()))
        .collect()
}

fn mismatch<P>(
    pattern: HostPattern<'_>,
    route: &CompiledRoute<P>,
    index: usize,
    head: &RequestHead<'_>,
) -> Option<Verdict> {
    if !pattern.matches(head.host) {
        return Some(Verdict::HostDiffers);
    }
    let verdict = route.matcher(index)?.check(head).err()?;
    Some(match verdict {
        Mismatch::Path => Verdict::PathDiffers,
        Mismatch::Method => Verdict::MethodDiffers,
        Mismatch::HeaderMissing(name) => Verdict::HeaderMissing(name.to_owned()),
        Mismatch::HeaderDiffers(name) => Verdict::HeaderDiffers(name.to_owned()),
        Mismatch::QueryMissing(name) => Verdict::QueryMissing(name.to_owned()),
        Mismatch::QueryDiffers(name) => Verdict::QueryDiffers(name.to_owned()),
    })
}

impl<P> Ranked<'_, P> {
    fn judge(&self, winner: Option<&MatchRank<'_>>) -> Candidate {
        let clause = winner.and_then(|winner| winner.deciding_clause(&self.rank));
        let verdict = self
            .mismatch
            .clone()
            .unwrap_or_else(|| clause.map_or(Verdict::Won, Verdict::Lost));
        Candidate {
            route: self.route.key().clone(),
            source: self.route.route().source.clone(),
            match_index: self.index,
            hostname: self.pattern.to_string(),
            verdict,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listener() {
            None => writeln!(
                f,
                "no listener of port {} serves host {:?}",
                self.port, self.host
            )?,
            Some(listener) => writeln!(f, "listener {listener}")?,
        }
        for listener in self
            .listeners
            .iter()
            .filter(|listener| listener.verdict != ListenerVerdict::Chosen)
        {
            writeln!(f, "  not {listener}")?;
        }
        if self.listener().is_some() && self.winner().is_none() {
            writeln!(f, "no route matches")?;
        }
        self.candidates
            .iter()
            .try_for_each(|candidate| writeln!(f, "{candidate}"))
    }
}

impl fmt::Display for ListenerCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (hostname {}): {}",
            self.key, self.hostname, self.verdict
        )
    }
}

impl fmt::Display for ListenerVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chosen => "chosen, its hostname is the most specific that matches",
            Self::LessSpecific => "its hostname matches, but the chosen one is more specific",
            Self::HostDiffers => "its hostname does not match",
        })
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteSource {
            kind,
            namespace,
            name,
            rule,
            rule_name,
        } = &self.source;
        write!(f, "{kind} {namespace}/{name} rule {rule}")?;
        if let Some(rule_name) = rule_name {
            write!(f, " ({rule_name})")?;
        }
        write!(
            f,
            " match {} (hostname {}): {}",
            self.match_index, self.hostname, self.verdict
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Won => f.write_str("won"),
            Self::Lost(clause) => {
                write!(f, "matches, but the winner goes first: {}", clause.reason())
            }
            Self::HostDiffers => f.write_str("the hostname does not match"),
            Self::PathDiffers => f.write_str("the path does not match"),
            Self::MethodDiffers => f.write_str("the method is another"),
            Self::HeaderMissing(name) => write!(f, "header {name} is missing"),
            Self::HeaderDiffers(name) => write!(f, "header {name} has another value"),
            Self::QueryMissing(name) => write!(f, "query parameter {name} is missing"),
            Self::QueryDiffers(name) => write!(f, "query parameter {name} has another value"),
        }
    }
}
