//! The routes of a listener by hostname; on a listener of egress first by whose requests they take, so that what many have for
//! themselves makes nobody's lookup longer.

use std::{collections::HashMap, iter, sync::Arc};

use foldhash::fast::RandomState;

use super::host::HostTable;
use crate::{
    hostname::{HostMap, HostPattern},
    key::ListenerKey,
    listener::{Direction, Listener},
    route::Route,
};

/// The hosts of some routes.
pub(crate) type Tables<P> = HostMap<Arc<HostTable<P>>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Hosts<P> {
    /// Of the routes that take everybody's requests. On a listener of ingress these are all.
    everybody: Tables<P>,
    /// Of those that take only the requests of a namespace, by its name.
    namespaces: HashMap<Arc<str>, Arc<Tables<P>>, RandomState>,
}

/// Where a listener has a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place<'a> {
    /// The namespace whose requests alone it takes; `None` takes everybody's.
    pub(super) namespace: Option<&'a str>,
    pub(super) hostname: HostPattern<'a>,
}

/// The namespace whose requests alone a route takes from a listener. Of egress that is its own, unless it is the Gateway's.
pub(super) fn takes_only<'r>(
    route: &'r Route,
    key: &ListenerKey,
    listener: &Listener,
) -> Option<&'r str> {
    let own = route.source.namespace.as_str();
    let is_tenant = listener.direction == Direction::Egress && own != key.gateway_namespace();
    is_tenant.then_some(own)
}

impl<P> Default for Hosts<P> {
    fn default() -> Self {
        Self {
            everybody: HostMap::default(),
            namespaces: HashMap::default(),
        }
    }
}

impl<P> Clone for Hosts<P> {
    fn clone(&self) -> Self {
        Self {
            everybody: self.everybody.clone(),
            namespaces: self.namespaces.clone(),
        }
    }
}

impl<P> Hosts<P> {
    /// The hosts of the routes that take everybody's requests.
    pub(crate) fn everybody(&self) -> &Tables<P> {
        &self.everybody
    }

    /// The hosts of all others.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Tables<P>> {
        // Most often there are none, and no lookup has to go and see.
        let some = (!self.namespaces.is_empty()).then_some(&self.namespaces);
        let tables = some.into_iter().flat_map(HashMap::values);
        tables.map(|tables| &**tables)
    }

    /// Of these, those that take the requests of a caller of this namespace; of one who is not known, none.
    pub(crate) fn of(&self, caller: Option<&str>) -> impl Iterator<Item = &Tables<P>> {
        let own = caller.and_then(|caller| self.namespaces.get(caller));
        own.map(|tables| &**tables).into_iter()
    }

    /// The hosts of all routes.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Tables<P>> {
        iter::once(&self.everybody).chain(self.others())
    }

    /// Changes the hosts of those that are as `namespace` of a [`Place`] says.
    pub(super) fn edit(&mut self, namespace: Option<&str>, change: impl FnOnce(&mut Tables<P>)) {
        let Some(namespace) = namespace else {
            return change(&mut self.everybody);
        };
        let tables = self.namespaces.entry(namespace.into()).or_default();
        let tables = Arc::make_mut(tables);
        change(tables);
        if tables.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}
