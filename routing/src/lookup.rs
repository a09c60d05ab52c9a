//! One lookup per request. It allocates nothing and locks nothing.

use std::sync::Arc;

use crate::compile::{CompiledListener, CompiledPort, CompiledRoute};

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Host in lower case, without port; empty if the request names none.
    pub host: &'a str,
    /// Normalised path, without query.
    pub path: &'a str,
    /// Query, without the `?`.
    pub query: Option<&'a str>,
    /// Method.
    pub method: &'a http::Method,
    /// Headers.
    pub headers: &'a http::HeaderMap,
}

/// The route that won a request.
#[derive(Debug)]
pub struct Found<'a, P> {
    /// The route.
    pub route: &'a Arc<CompiledRoute<P>>,
    /// Which of its `matches` won.
    pub match_index: usize,
}

impl<P> CompiledPort<P> {
    /// The listener that a host (or SNI, in lower case) belongs to: the one with the most specific hostname. There is
    /// no falling through to another one (HTTP listener isolation).
    pub fn listener_for(&self, host: &str) -> Option<&Arc<CompiledListener<P>>> {
        self.listeners.matching(host).next()
    }
}

impl<P> CompiledListener<P> {
    /// The route of greatest [`crate::MatchRank`] among those that match.
    pub fn lookup(&self, head: &RequestHead<'_>) -> Option<Found<'_, P>> {
        let candidate = self
            .hosts
            .matching(head.host)
            .find_map(|host| host.find(head))?;
        Some(Found {
            route: &candidate.route,
            match_index: candidate.index,
        })
    }
}
