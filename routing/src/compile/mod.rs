//! The read side of a table. Compiling touches only the hosts whose routes changed; everything else is shared with the
//! compiled table before.

mod edit;
mod generation;
pub(crate) mod host;
pub(crate) mod hosts;
mod prefix;
pub(crate) mod route;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use itertools::{EitherOrBoth, Itertools};

use self::{edit::Edits, hosts::Hosts};
pub use self::{generation::Generation, route::CompiledRoute};
use crate::{
    delta::same,
    egress::{self, CompiledEgress},
    hostname::{HostMap, HostPattern},
    key::{CredentialKey, ListenerKey, RouteKey},
    listener::{Direction, Listener, ListenerProtocol},
    matcher::Patterns,
    pattern::PatternPool,
    resource::{Rejection, ResourceKind},
    route::Route,
    table::RoutingTable,
    validate,
};

/// A table ready for lookups. `P` is the data plane's own per-route payload.
#[derive(Debug)]
pub struct CompiledTable<P> {
    table: Arc<RoutingTable>,
    /// By number.
    ports: Vec<CompiledPort<P>>,
    listeners: BTreeMap<ListenerKey, Arc<CompiledListener<P>>>,
    /// By key.
    routes: Vec<Arc<CompiledRoute<P>>>,
    patterns: PatternPool,
    egress: Option<CompiledEgress>,
    generation: Generation,
    rejections: Vec<Rejection>,
}

/// The listeners of one port.
#[derive(Debug)]
pub struct CompiledPort<P> {
    port: u16,
    protocol: ListenerProtocol,
    direction: Direction,
    pub(crate) listeners: HostMap<Arc<CompiledListener<P>>>,
}

/// One listener with its routes, by whose requests they take and by their own hostnames.
#[derive(Debug)]
pub struct CompiledListener<P> {
    key: ListenerKey,
    listener: Arc<Listener>,
    pub(crate) hosts: Hosts<P>,
}

impl<P> CompiledTable<P> {
    /// The table it was compiled from, rejected resources included.
    pub fn table(&self) -> &Arc<RoutingTable> {
        &self.table
    }

    /// The listeners of a port of the Gateway's spec.
    pub fn port(&self, port: u16) -> Option<&CompiledPort<P>> {
        let index = self
            .ports
            .binary_search_by_key(&port, |compiled| compiled.port)
            .ok()?;
        self.ports.get(index)
    }

    /// All ports, in ascending order.
    pub fn ports(&self) -> impl Iterator<Item = &CompiledPort<P>> {
        self.ports.iter()
    }

    /// A route that is served.
    pub fn route(&self, key: &RouteKey) -> Option<&Arc<CompiledRoute<P>>> {
        let index = self
            .routes
            .binary_search_by_key(&key, |route| route.key())
            .ok()?;
        self.routes.get(index)
    }

    /// Who may reach what outside; `None` if nothing leaves here.
    pub fn egress(&self) -> Option<&CompiledEgress> {
        self.egress.as_ref()
    }

    /// As far as it is equal to that of the table before, both decide who may reach what outside as well.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The resources that are not served, by kind and key.
    pub fn rejections(&self) -> &[Rejection] {
        &self.rejections
    }

    /// Whether a resource of the table is not served.
    pub fn is_rejected(&self, kind: ResourceKind, key: &str) -> bool {
        self.rejections
            .binary_search_by_key(&(kind, key), |rejection| (rejection.kind, &rejection.key))
            .is_ok()
    }
}

impl<P> CompiledPort<P> {
    /// Its number in the Gateway's spec.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What all its listeners speak.
    pub fn protocol(&self) -> ListenerProtocol {
        self.protocol
    }

    /// Which way the traffic of all its listeners goes.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Its listeners, in no particular order.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<CompiledListener<P>>> {
        self.listeners.iter().map(|(_, listener)| listener)
    }
}

impl<P> CompiledListener<P> {
    /// Its key.
    pub fn key(&self) -> &ListenerKey {
        &self.key
    }

    /// The listener as it stands in the table.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }
}

/// Compiles a table and says which resources are not served, and why.
///
/// `prepare` makes the payload of a route; an `Err` rejects that route alone. Routes that are equal in `previous` keep
/// their payload unless a credential that they name changed, hosts whose routes did not change keep their tables. Clusters, endpoints and certificates are checked
/// but not compiled. Equal resources are recognised fastest, and held in memory once, if the two tables share them: so
/// bring a whole new table in as `apply(old, &diff(old, new))`.
pub fn compile<P>(
    previous: Option<&CompiledTable<P>>,
    table: Arc<RoutingTable>,
    mut prepare: impl FnMut(&RouteKey, &Arc<Route>) -> Result<P, String>,
) -> (CompiledTable<P>, Vec<Rejection>) {
    let mut rejections = validate::resources(
        previous.map(|p| (p.table.as_ref(), p.rejections.as_slice())),
        &table,
    );
    let (valid, rejected) = validate::listener::partition(&table);
    rejections.extend(rejected);

    let mut pass = RoutePass::new(previous, &table);
    pass.run(&mut prepare);
    let RoutePass {
        routes,
        removed,
        added,
        pool,
        rejected,
        ..
    } = pass;
    rejections.extend(rejected);
    rejections.extend(validate::cluster::missing_certificates(&table));
    rejections.sort_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
    rejections.dedup_by(|a, b| (a.kind, &a.key) == (b.kind, &b.key));

    // One that goes the other way has its routes in other places.
    let served_before = |key: &ListenerKey, listener: &Listener| {
        let before = previous.and_then(|p| p.listeners.get(key));
        before.filter(|before| before.listener.direction == listener.direction)
    };
    let fresh = valid.iter();
    let fresh = fresh.filter(|(key, listener)| served_before(key, listener).is_none());
    let fresh: BTreeSet<&ListenerKey> = fresh.map(|(key, _)| *key).collect();
    let mut edits = Edits::new(&valid, &removed, &added);
    if !fresh.is_empty() {
        edits.fill(&fresh, &routes);
    }
    let listeners = valid.iter().map(|(key, listener)| {
        let before = served_before(key, listener);
        let compiled = compile_listener(before, key, listener, &edits);
        (ListenerKey::clone(key), compiled)
    });
    let listeners: BTreeMap<_, _> = listeners.collect();
    let ports = group_by_port(&listeners);
    let before = previous.and_then(|p| Some((&*p.table, &*p.rejections, p.egress.as_ref()?)));
    let egress = egress::compile::compile(before, &table, &rejections);
    let generation = Generation::after(previous, &table, &listeners, egress.as_ref());
    let compiled = CompiledTable {
        generation,
        table,
        ports,
        listeners,
        routes,
        patterns: pool,
        egress,
        rejections: rejections.clone(),
    };
    (compiled, rejections)
}

fn compile_listener<P>(
    previous: Option<&Arc<CompiledListener<P>>>,
    key: &ListenerKey,
    listener: &Arc<Listener>,
    edits: &Edits<'_, P>,
) -> Arc<CompiledListener<P>> {
    let edits = edits.of(key);
    match previous {
        Some(previous) if edits.is_none() && same(&previous.listener, listener) => previous.clone(),
        _ => {
            let mut hosts = previous
                .map(|previous| previous.hosts.clone())
                .unwrap_or_default();
            for (place, edit) in edits.into_iter().flatten() {
                hosts.edit(place.namespace, |hosts| edit.apply(place.hostname, hosts));
            }
            Arc::new(CompiledListener {
                key: key.clone(),
                listener: listener.clone(),
                hosts,
            })
        }
    }
}

fn group_by_port<P>(
    listeners: &BTreeMap<ListenerKey, Arc<CompiledListener<P>>>,
) -> Vec<CompiledPort<P>> {
    let mut ports: BTreeMap<u16, CompiledPort<P>> = BTreeMap::new();
    for compiled in listeners.values() {
        let Listener {
            port,
            protocol,
            hostname,
            direction,
            ..
        } = compiled.listener.as_ref();
        let entry = ports.entry(*port).or_insert_with(|| CompiledPort {
            port: *port,
            protocol: *protocol,
            direction: *direction,
            listeners: HostMap::default(),
        });
        entry
            .listeners
            .insert(HostPattern::new(hostname.as_deref()), compiled.clone());
    }
    ports.into_values().collect()
}

/// Goes through the routes of both tables side by side.
struct RoutePass<'a, P> {
    previous: Option<&'a CompiledTable<P>>,
    table: &'a RoutingTable,
    /// Whether a listener or cluster went away or is another, so that references of unchanged routes may be wrong now.
    references_lost: bool,
    /// Credentials that changed or went away: what was prepared of routes that name them is outdated.
    renewed: BTreeSet<&'a CredentialKey>,
    pool: PatternPool,
    /// Results: every route served, by key.
    routes: Vec<Arc<CompiledRoute<P>>>,
    /// Served before but not any more, or not in this form.
    removed: Vec<Arc<CompiledRoute<P>>>,
    /// Not served before, or not in this form.
    added: Vec<Arc<CompiledRoute<P>>>,
    rejected: Vec<Rejection>,
}

impl<'a, P> RoutePass<'a, P> {
    fn new(previous: Option<&'a CompiledTable<P>>, table: &'a RoutingTable) -> Self {
        let references_lost = previous.is_some_and(|previous| {
            let old = &previous.table;
            validate::lost_a_key(&old.listeners, &table.listeners)
                || validate::listener::changed_protocol(&old.listeners, &table.listeners)
                || validate::lost_a_key(&old.clusters, &table.clusters)
        });
        let before = previous.map(|previous| &previous.table.credentials);
        let renewed = before.into_iter().flatten();
        let is_as_it_was = |key, old| table.credentials.get(key).is_some_and(|new| same(old, new));
        let renewed = renewed.filter(|(key, old)| !is_as_it_was(*key, old));
        Self {
            previous,
            table,
            references_lost,
            renewed: renewed.map(|(key, _)| key).collect(),
            pool: PatternPool::default(),
            routes: Vec::with_capacity(table.routes.len()),
            removed: Vec::new(),
            added: Vec::new(),
            rejected: Vec::new(),
        }
    }

    fn run(&mut self, prepare: &mut impl FnMut(&RouteKey, &Arc<Route>) -> Result<P, String>) {
        let served = self.previous.map_or(&[][..], |previous| &previous.routes);
        for pair in served
            .iter()
            .merge_join_by(&self.table.routes, |old, new| old.key().cmp(new.0))
        {
            match pair {
                EitherOrBoth::Left(old) => self.removed.push(old.clone()),
                EitherOrBoth::Both(old, (_, route))
                    if same(old.route(), route) && !self.is_renewed(route) =>
                {
                    self.keep(old);
                }
                EitherOrBoth::Both(old, (key, route)) => {
                    self.removed.push(old.clone());
                    self.compile(key, route, prepare);
                }
                EitherOrBoth::Right((key, route)) => self.compile(key, route, prepare),
            }
        }
    }

    /// Whether a route names a credential that is not what it was.
    fn is_renewed(&self, route: &Route) -> bool {
        !self.renewed.is_empty() && route.credentials().any(|key| self.renewed.contains(key))
    }

    fn keep(&mut self, old: &Arc<CompiledRoute<P>>) {
        let table = self.references_lost.then_some(self.table);
        let mut patterns = Patterns {
            pool: &mut self.pool,
            previous: self.previous.map(|p| &p.patterns),
        };
        match old.recheck(table, &mut patterns) {
            Ok(()) => self.routes.push(old.clone()),
            Err(message) => {
                self.removed.push(old.clone());
                self.reject(old.key(), message);
            }
        }
    }

    fn compile(
        &mut self,
        key: &RouteKey,
        route: &Arc<Route>,
        prepare: &mut impl FnMut(&RouteKey, &Arc<Route>) -> Result<P, String>,
    ) {
        let mut patterns = Patterns {
            pool: &mut self.pool,
            previous: self.previous.map(|p| &p.patterns),
        };
        match CompiledRoute::new(self.table, key, route, &mut patterns, prepare) {
            Ok(compiled) => {
                let compiled = Arc::new(compiled);
                self.routes.push(compiled.clone());
                self.added.push(compiled);
            }
            Err(message) => self.reject(key, message),
        }
    }

    fn reject(&mut self, key: &RouteKey, message: String) {
        self.rejected.push(Rejection {
            kind: ResourceKind::Route,
            key: key.to_string(),
            message,
        });
    }
}
