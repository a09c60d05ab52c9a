//! One lookup per request, or per connection of TLS that passes through. It allocates nothing and locks nothing.

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
        self.find(head, |_| true)
    }

    /// The same among the routes that take requests of a caller of this namespace, or of one who is not known: those of the
    /// Gateway's namespace take everybody's, others only those of their own. On a listener of egress, where a route may add what
    /// is not everybody's to have, and see what others send.
    pub fn lookup_of(&self, caller: Option<&str>, head: &RequestHead<'_>) -> Option<Found<'_, P>> {
        self.find(head, |route| self.takes_from(route, caller))
    }

    /// The route that takes a connection of TLS that passes through, by the name that its greeting has (in lower case): the one with
    /// the most specific hostname, then the oldest.
    pub fn lookup_connection(&self, name: &str) -> Option<&Arc<CompiledRoute<P>>> {
        self.find_connection(name, |_| true)
    }

    /// The same among the routes that take [requests of the caller](Self::lookup_of).
    pub fn lookup_connection_of(
        &self,
        caller: Option<&str>,
        name: &str,
    ) -> Option<&Arc<CompiledRoute<P>>> {
        self.find_connection(name, |route| self.takes_from(route, caller))
    }

    fn takes_from(&self, route: &CompiledRoute<P>, caller: Option<&str>) -> bool {
        let namespace = route.route().source.namespace.as_str();
        namespace == self.key().gateway_namespace() || caller == Some(namespace)
    }

    fn find_connection(
        &self,
        name: &str,
        takes: impl Fn(&CompiledRoute<P>) -> bool,
    ) -> Option<&Arc<CompiledRoute<P>>> {
        self.hosts
            .matching(name)
            .find_map(|host| host.connection(&takes))
    }

    fn find(
        &self,
        head: &RequestHead<'_>,
        takes: impl Fn(&CompiledRoute<P>) -> bool,
    ) -> Option<Found<'_, P>> {
        let candidate = self
            .hosts
            .matching(head.host)
            .find_map(|host| host.find(head, &takes))?;
        Some(Found {
            route: &candidate.route,
            match_index: candidate.index,
        })
    }
}
