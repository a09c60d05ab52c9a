//! One lookup per request, or per connection of TLS that passes through. It allocates nothing and locks nothing.

use std::sync::Arc;

use crate::compile::{
    CompiledListener, CompiledPort, CompiledRoute,
    host::HostTable,
    hosts::{Hosts, Tables},
    route::Candidate,
};

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
    /// The route of greatest [`MatchRank`](crate::MatchRank) among those that match, whoever asks.
    pub fn lookup(&self, head: &RequestHead<'_>) -> Option<Found<'_, P>> {
        let hosts = &self.hosts;
        best(hosts, hosts.others(), head.host, |host| host.find(head))
    }

    /// The same among the routes that take requests of a caller of this namespace, or of one who is not known: on a listener of egress
    /// those of the Gateway's namespace take everybody's, others only those of their own. There a route may add what is not
    /// everybody's to have, and see what others send.
    pub fn lookup_of(&self, caller: Option<&str>, head: &RequestHead<'_>) -> Option<Found<'_, P>> {
        let own = self.hosts.of(caller);
        best(&self.hosts, own, head.host, |host| host.find(head))
    }

    /// The route that takes a connection of TLS that passes through, by the name that its greeting has (in lower case): the one with
    /// the most specific hostname, then the oldest.
    pub fn lookup_connection(&self, name: &str) -> Option<&Arc<CompiledRoute<P>>> {
        let hosts = &self.hosts;
        let found = best(hosts, hosts.others(), name, HostTable::connection);
        found.map(|found| found.route)
    }

    /// The same among the routes that take [requests of the caller](Self::lookup_of).
    pub fn lookup_connection_of(
        &self,
        caller: Option<&str>,
        name: &str,
    ) -> Option<&Arc<CompiledRoute<P>>> {
        let own = self.hosts.of(caller);
        let found = best(&self.hosts, own, name, HostTable::connection);
        found.map(|found| found.route)
    }
}

/// The best that `find` finds for a host among the routes that take everybody's and those that `others` have: most often there are none
/// of these, and nothing is to be compared.
fn best<'t, P: 't>(
    hosts: &'t Hosts<P>,
    others: impl Iterator<Item = &'t Tables<P>>,
    host: &str,
    find: impl Fn(&'t HostTable<P>) -> Option<&'t Candidate<P>>,
) -> Option<Found<'t, P>> {
    // The first hostname that has something has the best.
    let first = |tables: &'t Tables<P>| {
        let mut hosts = tables.matching(host);
        hosts.find_map(|host| Some((host, find(host)?)))
    };
    let mut best = first(hosts.everybody());
    for other in others.filter_map(first) {
        let (host, candidate) = &other;
        let rank = host.rank(candidate);
        if best
            .as_ref()
            .is_none_or(|(host, known)| host.rank(known) < rank)
        {
            best = Some(other);
        }
    }
    best.map(|(_, candidate)| Found {
        route: &candidate.route,
        match_index: candidate.index,
    })
}
