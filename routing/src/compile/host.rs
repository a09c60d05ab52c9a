//! The routes of one hostname of a listener, arranged by path in the order of [`MatchRank`](crate::MatchRank): exact
//! paths, then regular expressions, then the longest prefix. Those that take connections stand apart: only their age tells them.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::{
    prefix::PrefixMap,
    route::{Candidate, CompiledRoute},
};
use crate::{hostname::HostRank, lookup::RequestHead, matches::PathMatch, rank::MatchRank};

/// All routes under one hostname.
#[derive(Debug)]
pub(crate) struct HostTable<P> {
    hostname: HostRank,
    /// By key.
    pub(crate) routes: Vec<Arc<CompiledRoute<P>>>,
    exact: HashMap<Box<str>, Vec<Candidate<P>>, RandomState>,
    regex: Vec<Candidate<P>>,
    prefixes: PrefixMap<Vec<Candidate<P>>>,
    connections: Vec<Candidate<P>>,
}

impl<P> HostTable<P> {
    /// `routes` are sorted by key and without duplicates.
    pub(super) fn new(hostname: HostRank, routes: Vec<Arc<CompiledRoute<P>>>) -> Self {
        let mut table = Self {
            hostname,
            routes: Vec::new(),
            exact: HashMap::default(),
            regex: Vec::new(),
            prefixes: PrefixMap::default(),
            connections: Vec::new(),
        };
        for route in &routes {
            for index in 0..route.candidates() {
                let route_match = route.route().matches.get(index);
                let place = match route_match {
                    Some(route_match) => table.place(&route_match.path),
                    None => &mut table.connections,
                };
                place.push(Candidate {
                    route: route.clone(),
                    index,
                });
            }
        }
        table.routes = routes;
        let places = table
            .exact
            .values_mut()
            .chain(table.prefixes.values_mut())
            .chain([&mut table.regex, &mut table.connections]);
        for place in places {
            place.sort_by(|a, b| b.rank(hostname).cmp(&a.rank(hostname)));
            place.shrink_to_fit();
        }
        table
    }

    fn place(&mut self, path: &PathMatch) -> &mut Vec<Candidate<P>> {
        match path {
            PathMatch::Exact(path) => self.exact.entry(path.as_str().into()).or_default(),
            PathMatch::Regex(_) => &mut self.regex,
            PathMatch::Prefix(path) => self.prefixes.entry(path),
        }
    }

    /// The rank of one of its candidates.
    pub(crate) fn rank<'t>(&self, candidate: &'t Candidate<P>) -> Option<MatchRank<'t>> {
        candidate.rank(self.hostname)
    }

    /// The first of those that take connections.
    pub(crate) fn connection(&self) -> Option<&Candidate<P>> {
        self.connections.first()
    }

    /// The best candidate that holds.
    pub(crate) fn find(&self, head: &RequestHead<'_>) -> Option<&Candidate<P>> {
        let holds = |candidate: &&Candidate<P>| candidate.accepts(head);
        let exact = if self.exact.is_empty() {
            None
        } else {
            self.exact.get(head.path)
        };
        exact
            .and_then(|candidates| candidates.iter().find(holds))
            .or_else(|| {
                self.regex
                    .iter()
                    .find(|candidate| holds(candidate) && candidate.accepts_path(head.path))
            })
            .or_else(|| self.prefixes.covering(head.path).flatten().find(holds))
    }
}
