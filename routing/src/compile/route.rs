//! One route, compiled: its matches ready to be asked, and what the data plane prepared for it.

use std::sync::Arc;

use crate::{
    hostname::HostRank,
    key::RouteKey,
    lookup::RequestHead,
    matcher::{MatchMatcher, Mismatch, Patterns, expressions},
    rank::{CONNECTION, MatchRank},
    route::Route,
    table::RoutingTable,
    validate,
};

/// A route with its payload, shared by every hostname and listener it serves.
#[derive(Debug)]
pub struct CompiledRoute<P> {
    key: RouteKey,
    route: Arc<Route>,
    matches: Box<[MatchMatcher]>,
    payload: P,
}

impl<P> CompiledRoute<P> {
    pub(super) fn new(
        table: &RoutingTable,
        key: &RouteKey,
        route: &Arc<Route>,
        patterns: &mut Patterns<'_>,
        prepare: &mut impl FnMut(&RouteKey, &Arc<Route>) -> Result<P, String>,
    ) -> Result<Self, String> {
        validate::route::check(table, route)?;
        let matches = route
            .matches
            .iter()
            .map(|route_match| MatchMatcher::new(route_match, patterns));
        let matches = matches.collect::<Result<_, String>>()?;
        let payload = prepare(key, route)?;
        Ok(Self {
            key: key.clone(),
            route: route.clone(),
            matches,
            payload,
        })
    }

    /// Checks what of an unchanged route depends on the rest of the table: its references, and the room for its
    /// regular expressions.
    pub(super) fn recheck(
        &self,
        table: Option<&RoutingTable>,
        patterns: &mut Patterns<'_>,
    ) -> Result<(), String> {
        if let Some(table) = table {
            validate::route::check_references(table, &self.route)?;
        }
        self.route
            .matches
            .iter()
            .flat_map(expressions)
            .try_for_each(|text| patterns.get(text).map(drop))
    }

    /// Its key.
    pub fn key(&self) -> &RouteKey {
        &self.key
    }

    /// The route as it stands in the table.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// What `prepare` made for it.
    pub fn payload(&self) -> &P {
        &self.payload
    }

    /// Number of its matches: a route of connections counts as having one.
    pub(crate) fn candidates(&self) -> usize {
        self.route.matches.len().max(1)
    }

    /// The rank of one of its matches under one of its hostnames.
    pub(crate) fn rank(&self, hostname: HostRank, index: usize) -> Option<MatchRank<'_>> {
        let route_match = if self.route.takes_connections() {
            &CONNECTION
        } else {
            self.route.matches.get(index)?
        };
        Some(MatchRank::of(
            hostname,
            &self.key,
            &self.route,
            index,
            route_match,
        ))
    }

    pub(crate) fn matcher(&self, index: usize) -> Option<&MatchMatcher> {
        self.matches.get(index)
    }
}

/// One match of a route under one hostname.
#[derive(Debug)]
pub(crate) struct Candidate<P> {
    pub(crate) route: Arc<CompiledRoute<P>>,
    pub(crate) index: usize,
}

impl<P> Candidate<P> {
    /// Its rank among candidates of other hostnames.
    pub(crate) fn rank(&self, hostname: HostRank) -> Option<MatchRank<'_>> {
        self.route.rank(hostname, self.index)
    }

    /// Whether every condition but the path's holds.
    pub(super) fn accepts(&self, head: &RequestHead<'_>) -> bool {
        self.ask(|matcher| matcher.check_rest(head))
    }

    pub(super) fn accepts_path(&self, path: &str) -> bool {
        self.ask(|matcher| matcher.check_path(path))
    }

    fn ask<'a>(
        &'a self,
        question: impl FnOnce(&'a MatchMatcher) -> Result<(), Mismatch<'a>>,
    ) -> bool {
        self.route
            .matcher(self.index)
            .is_some_and(|matcher| question(matcher).is_ok())
    }
}
