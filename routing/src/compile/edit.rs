//! What changes in which hosts: the step from one compiled table to the next.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{host::HostTable, route::CompiledRoute};
use crate::{
    hostname::{HostMap, HostPattern},
    key::ListenerKey,
};

/// The edits of every touched host of every touched listener.
pub(super) struct Edits<'a, P> {
    listeners: HashMap<&'a ListenerKey, HashMap<HostPattern<'a>, HostEdit<'a, P>>>,
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
        removed: &'a [Arc<CompiledRoute<P>>],
        added: &'a [Arc<CompiledRoute<P>>],
    ) -> Self {
        let mut edits = Self {
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

    /// Adds all of `routes` to listeners that were not served before.
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
    ) -> Option<&HashMap<HostPattern<'a>, HostEdit<'a, P>>> {
        self.listeners.get(listener)
    }

    fn each_host(
        &mut self,
        route: &'a Arc<CompiledRoute<P>>,
        wanted: impl Fn(&ListenerKey) -> bool,
        mut note: impl FnMut(&mut HostEdit<'a, P>),
    ) {
        for listener in route
            .route()
            .listeners
            .iter()
            .filter(|listener| wanted(listener))
        {
            let hosts = self.listeners.entry(listener).or_default();
            for pattern in HostPattern::of_list(&route.route().hostnames) {
                note(hosts.entry(pattern).or_default());
            }
        }
    }
}

impl<P> HostEdit<'_, P> {
    /// Rebuilds the host that is edited, or drops it if no route is left.
    pub(super) fn apply(&self, pattern: HostPattern<'_>, hosts: &mut HostMap<Arc<HostTable<P>>>) {
        let before = hosts.get(pattern).map_or(&[][..], |host| &host.routes);
        let removed: BTreeSet<_> = self.removed.iter().map(|route| route.key()).collect();
        let kept = before.iter().filter(|route| !removed.contains(route.key()));
        let mut routes: Vec<_> = kept.chain(self.added.iter().copied()).cloned().collect();
        routes.sort_by(|a, b| a.key().cmp(b.key()));
        routes.dedup_by(|a, b| a.key() == b.key()); // a route may name a listener or hostname twice
        if routes.is_empty() {
            hosts.remove(pattern);
        } else {
            hosts.insert(pattern, Arc::new(HostTable::new(routes)));
        }
    }
}
