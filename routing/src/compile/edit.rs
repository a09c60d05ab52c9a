//! What changes in which hosts: the step from one compiled table to the next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    host::HostTable,
    hosts::{Place, Tables, takes_only},
    route::CompiledRoute,
};
use crate::{hostname::HostPattern, key::ListenerKey, listener::Listener};

/// The listeners that are served.
pub(super) type Served<'a> = BTreeMap<&'a ListenerKey, &'a Arc<Listener>>;

/// The edits of every touched host of every touched listener.
pub(super) struct Edits<'a, P> {
    served: &'a Served<'a>,
    listeners: HashMap<&'a ListenerKey, HashMap<Place<'a>, HostEdit<'a, P>>>,
}

/// Routes that leave and enter one host.
pub(super) struct HostEdit<'a, P> {
    removed: Vec<&'a Arc<CompiledRoute<P>>>,
    added: Vec<&'a Arc<CompiledRoute<P>>>,
}

impl<P> Default for HostEdit<'_, P> {
    fn default() -> Self {
        Self {
            removed: Vec::new(),
            added: Vec::new(),
        }
    }
}

impl<'a, P> Edits<'a, P> {
    pub(super) fn new(
        served: &'a Served<'a>,
        removed: &'a [Arc<CompiledRoute<P>>],
        added: &'a [Arc<CompiledRoute<P>>],
    ) -> Self {
        let mut edits = Self {
            served,
            listeners: HashMap::new(),
        };
        for route in removed {
            edits.each_host(route, |_| true, |edit| edit.removed.push(route));
        }
        for route in added {
            edits.each_host(route, |_| true, |edit| edit.added.push(route));
        }
        edits
    }

    /// Adds all of `routes` to listeners that were not served before, or the other way.
    pub(super) fn fill(
        &mut self,
        fresh: &BTreeSet<&ListenerKey>,
        routes: &'a [Arc<CompiledRoute<P>>],
    ) {
        self.listeners.retain(|key, _| !fresh.contains(*key));
        for route in routes {
            self.each_host(
                route,
                |listener| fresh.contains(listener),
                |edit| edit.added.push(route),
            );
        }
    }

    /// The edits of one listener; `None` if it has none.
    pub(super) fn of(
        &self,
        listener: &ListenerKey,
    ) -> Option<&HashMap<Place<'a>, HostEdit<'a, P>>> {
        self.listeners.get(listener)
    }

    fn each_host(
        &mut self,
        route: &'a Arc<CompiledRoute<P>>,
        wanted: impl Fn(&ListenerKey) -> bool,
        mut note: impl FnMut(&mut HostEdit<'a, P>),
    ) {
        let named = route.route().listeners.iter();
        let served = named.filter_map(|key| self.served.get_key_value(key));
        for (key, listener) in served.filter(|(key, _)| wanted(key)) {
            let hosts = self.listeners.entry(key).or_default();
            let namespace = takes_only(route.route(), key, listener);
            for hostname in HostPattern::of_list(&route.route().hostnames) {
                let place = Place {
                    namespace,
                    hostname,
                };
                note(hosts.entry(place).or_default());
            }
        }
    }
}

impl<P> HostEdit<'_, P> {
    /// Rebuilds the host that is edited, or drops it if no route is left.
    pub(super) fn apply(&self, pattern: HostPattern<'_>, hosts: &mut Tables<P>) {
        let before = hosts.get(pattern).map_or(&[][..], |host| &host.routes);
        let removed: BTreeSet<_> = self.removed.iter().map(|route| route.key()).collect();
        let kept = before.iter().filter(|route| !removed.contains(route.key()));
        let mut routes: Vec<_> = kept.chain(self.added.iter().copied()).cloned().collect();
        routes.sort_by(|a, b| a.key().cmp(b.key()));
        routes.dedup_by(|a, b| a.key() == b.key()); // a route may name a listener or hostname twice
        if routes.is_empty() {
            hosts.remove(pattern);
        } else {
            hosts.insert(pattern, Arc::new(HostTable::new(pattern.rank(), routes)));
        }
    }
}
