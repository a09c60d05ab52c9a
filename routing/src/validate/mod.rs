//! Checks of what a table's types cannot say. Each resource is judged alone: a bad one is rejected, the others serve on.
//!
//! The controller is expected to have said everything in conditions before; a rejection points at a fault of the
//! controller, or at a table written by hand.

pub(crate) mod certificate;
pub(crate) mod cluster;
pub(crate) mod credential;
pub(crate) mod egress;
pub(crate) mod endpoint;
pub(crate) mod filter;
pub(crate) mod listener;
pub(crate) mod matches;
pub(crate) mod policy;
pub(crate) mod route;
pub(crate) mod settings;
pub mod syntax;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use itertools::{EitherOrBoth, Itertools};

use crate::{
    compile::compile,
    delta::same,
    matcher::{MatchMatcher, Patterns},
    matches::RouteMatch,
    pattern::PatternPool,
    resource::{Rejection, ResourceKind},
    table::RoutingTable,
};

/// The outcome of one check; the message is for people.
pub(crate) type Check = Result<(), String>;

/// Everything that a data plane would reject of a table, by kind and key.
pub fn table(table: Arc<RoutingTable>) -> Vec<Rejection> {
    compile(None, table, |_, _| Ok(())).1
}

/// Whether a match of a route can be carried out; an error says in words why not.
pub fn route_match(route_match: &RouteMatch) -> Result<(), String> {
    matches::check(route_match)?;
    let mut patterns = Patterns {
        pool: &mut PatternPool::default(),
        previous: None,
    };
    MatchMatcher::new(route_match, &mut patterns).map(drop)
}

/// Turns a condition into a check.
pub(crate) fn ensure(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(message()) }
}

/// Checks settings, clusters, endpoints, certificates, credentials and what egress consists of. Those that are good and equal in the previous table
/// are not checked again.
pub(crate) fn resources(
    previous: Option<(&RoutingTable, &[Rejection])>,
    table: &RoutingTable,
) -> Vec<Rejection> {
    let before = previous.map(|(before, _)| before);
    let known = previous.map_or(&[][..], |(_, rejections)| rejections);
    let clusters = before.map(|before| &before.clusters);
    let endpoints = before.map(|before| &before.endpoints);
    let references_lost = clusters.is_some_and(|clusters| lost_a_key(clusters, &table.clusters));
    let endpoints = endpoints.filter(|_| !references_lost);
    let mut rejections = Vec::new();
    if let Err(message) = settings::check(&table.settings) {
        rejections.push(Rejection {
            kind: ResourceKind::Settings,
            key: table.gateway.to_string(),
            message,
        });
    }
    rejections.extend(changed(
        ResourceKind::Cluster,
        clusters,
        known,
        &table.clusters,
        |_, c| cluster::check(c),
    ));
    rejections.extend(changed(
        ResourceKind::Endpoints,
        endpoints,
        known,
        &table.endpoints,
        |key, endpoints| endpoint::check(table, key, endpoints),
    ));
    let certificates = before.map(|before| &before.certificates);
    rejections.extend(changed(
        ResourceKind::Certificate,
        certificates,
        known,
        &table.certificates,
        |_, c| certificate::check(c),
    ));
    rejections.extend(changed(
        ResourceKind::Credential,
        before.map(|before| &before.credentials),
        known,
        &table.credentials,
        |_, it| credential::check(it),
    ));
    rejections.extend(changed(
        ResourceKind::Entry,
        before.map(|before| &before.entries),
        known,
        &table.entries,
        |_, entry| egress::entry(entry),
    ));
    rejections.extend(changed(
        ResourceKind::Policy,
        before.map(|before| &before.policies),
        known,
        &table.policies,
        |_, policy| egress::policy(policy),
    ));
    rejections.extend(changed(
        ResourceKind::Workload,
        before.map(|before| &before.workloads),
        known,
        &table.workloads,
        egress::workload,
    ));
    rejections
}

/// Whether a key of `old` is missing in `new`, so that references to it may dangle.
pub(crate) fn lost_a_key<K: Ord, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> bool {
    old.keys()
        .merge_join_by(new.keys(), Ord::cmp)
        .any(|pair| pair.is_left())
}

/// Rejections of one kind. Only what changed is checked, and what was rejected before, as its reason may be gone.
fn changed<K: Ord + AsRef<str>, V: PartialEq>(
    kind: ResourceKind,
    old: Option<&BTreeMap<K, Arc<V>>>,
    known: &[Rejection],
    new: &BTreeMap<K, Arc<V>>,
    check: impl Fn(&K, &V) -> Check,
) -> Vec<Rejection> {
    let bad: HashSet<&str> = known
        .iter()
        .filter(|known| known.kind == kind)
        .map(|known| known.key.as_str())
        .collect();
    let pairs = old
        .into_iter()
        .flatten()
        .merge_join_by(new, |old, new| old.0.cmp(new.0));
    let rejections = pairs.filter_map(|pair| {
        let (key, value) = match pair {
            EitherOrBoth::Left(_) => return None,
            EitherOrBoth::Both((key, old), (_, new))
                if same(old, new) && !bad.contains(key.as_ref()) =>
            {
                return None;
            }
            EitherOrBoth::Both(_, new) | EitherOrBoth::Right(new) => new,
        };
        let message = check(key, value).err()?;
        Some(Rejection {
            kind,
            key: key.as_ref().to_owned(),
            message,
        })
    });
    rejections.collect()
}
