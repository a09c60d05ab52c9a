//! The precedence of the Gateway API, declared once: which of several matches wins a request.

use std::cmp::{Ordering, Reverse};

use serde::Serialize;

use crate::{
    hostname::{HostPattern, HostRank},
    key::RouteKey,
    matches::{PathMatch, RouteMatch},
    route::{Route, RouteOrder},
};

/// Stands for the match that a route of connections has none of: among these hostname and age decide.
pub(crate) static CONNECTION: RouteMatch = RouteMatch {
    path: PathMatch::Prefix(String::new()),
    method: None,
    headers: Vec::new(),
    query: Vec::new(),
};

/// The rank of one match of one route under one of its hostnames, among matches that all hold: the greatest wins.
#[derive(Clone, Copy, Debug)]
pub struct MatchRank<'a> {
    hostname: HostRank,
    path: &'a PathMatch,
    method: bool,
    headers: usize,
    query: usize,
    order: &'a RouteOrder,
    index: usize,
    key: &'a RouteKey,
}

/// A rule of precedence, in words that continue "another match won because ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Clause {
    /// An exact hostname beats a wildcard, a longer wildcard a shorter one, any hostname none.
    Hostname,
    /// Exact beats regular expression beats prefix. The API leaves the place of regular expressions open; were they
    /// below prefixes, a plain `/` would make every one of them unreachable.
    PathKind,
    /// The longer path (for a regular expression: the longer expression) beats the shorter.
    PathLength,
    /// A match that names a method beats one that does not.
    Method,
    /// More headers beat fewer.
    HeaderCount,
    /// More query parameters beat fewer.
    QueryCount,
    /// The older object beats the younger.
    Oldest,
    /// The first in alphabetical order of `namespace/name`.
    Name,
    /// The earlier rule of an object.
    Rule,
    /// The earlier match of a rule.
    MatchIndex,
    /// The route's key: only kinds of routes that share a name come as far as this.
    Key,
}

impl Clause {
    /// Every clause, the weightiest first. This list is the precedence.
    pub const ALL: [Self; 11] = [
        Self::Hostname,
        Self::PathKind,
        Self::PathLength,
        Self::Method,
        Self::HeaderCount,
        Self::QueryCount,
        Self::Oldest,
        Self::Name,
        Self::Rule,
        Self::MatchIndex,
        Self::Key,
    ];

    /// Why the winner won, for people.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Hostname => "its hostname is more specific",
            Self::PathKind => {
                "its kind of path match goes first (exact, then regular expression, then prefix)"
            }
            Self::PathLength => "its path is longer",
            Self::Method => "it names a method",
            Self::HeaderCount => "it names more headers",
            Self::QueryCount => "it names more query parameters",
            Self::Oldest => "its object is older",
            Self::Name => "its namespace/name comes first in the alphabet",
            Self::Rule => "its rule comes first in the object",
            Self::MatchIndex => "it comes first in the rule",
            Self::Key => "its key comes first in the alphabet",
        }
    }

    fn compare(self, a: &MatchRank<'_>, b: &MatchRank<'_>) -> Ordering {
        match self {
            Self::Hostname => a.hostname.cmp(&b.hostname),
            Self::PathKind => path_kind(a.path).cmp(&path_kind(b.path)),
            Self::PathLength => a.path.text().len().cmp(&b.path.text().len()),
            Self::Method => a.method.cmp(&b.method),
            Self::HeaderCount => a.headers.cmp(&b.headers),
            Self::QueryCount => a.query.cmp(&b.query),
            Self::Oldest => Reverse(a.order.created_at).cmp(&Reverse(b.order.created_at)),
            Self::Name => name(b.order).cmp(name(a.order)),
            Self::Rule => Reverse(a.order.rule).cmp(&Reverse(b.order.rule)),
            Self::MatchIndex => Reverse(a.index).cmp(&Reverse(b.index)),
            Self::Key => Reverse(a.key).cmp(&Reverse(b.key)),
        }
    }
}

/// `namespace/name` as one text: `a-b/x` comes before `a/x`, as the API orders them.
fn name(order: &RouteOrder) -> impl Iterator<Item = u8> {
    order
        .namespace
        .bytes()
        .chain(*b"/")
        .chain(order.name.bytes())
}

fn path_kind(path: &PathMatch) -> u8 {
    match path {
        PathMatch::Prefix(_) => 0,
        PathMatch::Regex(_) => 1,
        PathMatch::Exact(_) => 2,
    }
}

impl<'a> MatchRank<'a> {
    /// The rank of `route_match`, which is number `index` of `route`, under one of the route's hostnames (`None` if it
    /// has none).
    pub fn new(
        hostname: Option<&str>,
        key: &'a RouteKey,
        route: &'a Route,
        index: usize,
        route_match: &'a RouteMatch,
    ) -> Self {
        let hostname = HostPattern::new(hostname).rank();
        Self::of(hostname, key, route, index, route_match)
    }

    pub(crate) fn of(
        hostname: HostRank,
        key: &'a RouteKey,
        route: &'a Route,
        index: usize,
        route_match: &'a RouteMatch,
    ) -> Self {
        Self {
            hostname,
            path: &route_match.path,
            method: route_match.method.is_some(),
            headers: route_match.headers.len(),
            query: route_match.query.len(),
            order: &route.order,
            index,
            key,
        }
    }

    /// The first clause by which the two differ; `None` if they are the same match.
    pub fn deciding_clause(&self, other: &Self) -> Option<Clause> {
        Clause::ALL
            .into_iter()
            .find(|clause| clause.compare(self, other).is_ne())
    }
}

impl Ord for MatchRank<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let mut clauses = Clause::ALL
            .into_iter()
            .map(|clause| clause.compare(self, other));
        clauses
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for MatchRank<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for MatchRank<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for MatchRank<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        matches::{HeaderMatch, QueryMatch, ValueMatch},
        policy::RoutePolicy,
        route::{RouteAction, RouteSource},
    };

    /// One contender; every field but the one under test is equal.
    struct Contender {
        hostname: Option<&'static str>,
        key: RouteKey,
        route: Route,
        index: usize,
        route_match: RouteMatch,
    }

    fn contender() -> Contender {
        Contender {
            hostname: Some("*.b"),
            key: RouteKey::of("HTTPRoute", "ns", "name", 1),
            route: Route {
                listeners: vec![],
                hostnames: vec![],
                matches: vec![],
                filters: vec![],
                action: RouteAction::Forward(vec![]),
                policy: RoutePolicy::default(),
                order: RouteOrder {
                    created_at: 10,
                    namespace: "ns".into(),
                    name: "name".into(),
                    rule: 1,
                },
                source: RouteSource {
                    kind: "HTTPRoute".into(),
                    namespace: "ns".into(),
                    name: "name".into(),
                    rule: 1,
                    rule_name: None,
                },
            },
            index: 1,
            route_match: RouteMatch {
                path: PathMatch::Prefix("/abc".into()),
                method: None,
                headers: vec![],
                query: vec![],
            },
        }
    }

    impl Contender {
        fn rank(&self) -> MatchRank<'_> {
            MatchRank::new(
                self.hostname,
                &self.key,
                &self.route,
                self.index,
                &self.route_match,
            )
        }
    }

    /// `better` beats a plain contender by `clause`, also one that is better by any weaker clause.
    #[track_caller]
    fn decides(clause: Clause, better: impl Fn(&mut Contender)) {
        let (mut winner, loser) = (contender(), contender());
        better(&mut winner);
        assert!(winner.rank() > loser.rank());
        assert!(loser.rank() < winner.rank());
        assert_eq!(winner.rank().deciding_clause(&loser.rank()), Some(clause));
        assert_eq!(loser.rank().deciding_clause(&winner.rank()), Some(clause));
        let place = Clause::ALL.iter().position(|c| *c == clause).unwrap();
        for weaker in &Clause::ALL[place + 1..] {
            let mut loser = contender();
            improve(*weaker)(&mut loser);
            assert!(
                winner.rank() > loser.rank(),
                "{clause:?} must outweigh {weaker:?}"
            );
        }
    }

    /// A change that wins by exactly this clause.
    fn improve(clause: Clause) -> fn(&mut Contender) {
        match clause {
            Clause::Hostname => |c| c.hostname = Some("a.b"),
            Clause::PathKind => |c| c.route_match.path = PathMatch::Exact("/abc".into()),
            Clause::PathLength => |c| c.route_match.path = PathMatch::Prefix("/abc/d".into()),
            Clause::Method => |c| c.route_match.method = Some("GET".into()),
            Clause::HeaderCount => |c| {
                let value = ValueMatch::Exact("1".into());
                c.route_match.headers = vec![HeaderMatch {
                    name: "x".into(),
                    value,
                }];
            },
            Clause::QueryCount => |c| {
                let value = ValueMatch::Exact("1".into());
                c.route_match.query = vec![QueryMatch {
                    name: "x".into(),
                    value,
                }];
            },
            Clause::Oldest => |c| c.route.order.created_at = 9,
            Clause::Name => |c| c.route.order.name = "mame".into(),
            Clause::Rule => |c| c.route.order.rule = 0,
            Clause::MatchIndex => |c| c.index = 0,
            Clause::Key => |c| c.key = RouteKey::of("GRPCRoute", "ns", "name", 1),
        }
    }

    #[test]
    fn hostname_precedence() {
        decides(Clause::Hostname, improve(Clause::Hostname));
        decides(Clause::Hostname, |c| c.hostname = Some("*.a.b"));
        let (mut any, wildcard) = (contender(), contender());
        any.hostname = None;
        assert!(wildcard.rank() > any.rank());
    }

    #[test]
    fn path_kind_precedence() {
        decides(Clause::PathKind, improve(Clause::PathKind));
        decides(Clause::PathKind, |c| {
            c.route_match.path = PathMatch::Regex("a".into());
        });
        let (mut exact, mut regex) = (contender(), contender());
        exact.route_match.path = PathMatch::Exact("/".into());
        regex.route_match.path = PathMatch::Regex("/abc.*".into());
        assert!(exact.rank() > regex.rank());
    }

    #[test]
    fn path_length_precedence() {
        decides(Clause::PathLength, improve(Clause::PathLength));
    }

    #[test]
    fn method_precedence() {
        decides(Clause::Method, improve(Clause::Method));
    }

    #[test]
    fn header_count_precedence() {
        decides(Clause::HeaderCount, improve(Clause::HeaderCount));
    }

    #[test]
    fn query_count_precedence() {
        decides(Clause::QueryCount, improve(Clause::QueryCount));
    }

    #[test]
    fn oldest_precedence() {
        decides(Clause::Oldest, improve(Clause::Oldest));
    }

    #[test]
    fn name_precedence() {
        decides(Clause::Name, improve(Clause::Name));
        decides(Clause::Name, |c| c.route.order.namespace = "ms".into());
    }

    #[test]
    fn names_are_ordered_as_one_text_of_namespace_and_name() {
        decides(Clause::Name, |c| c.route.order.namespace = "ns-x".into());
    }

    #[test]
    fn rule_precedence() {
        decides(Clause::Rule, improve(Clause::Rule));
    }

    #[test]
    fn match_index_precedence() {
        decides(Clause::MatchIndex, improve(Clause::MatchIndex));
    }

    #[test]
    fn key_precedence() {
        decides(Clause::Key, improve(Clause::Key));
        assert_eq!(
            contender().rank().deciding_clause(&contender().rank()),
            None
        );
        assert_eq!(contender().rank(), contender().rank());
    }
}
