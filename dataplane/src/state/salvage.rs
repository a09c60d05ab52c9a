//! A rejected resource takes no service away that its predecessor can give: that is served on, where it lets in and leads nobody
//! otherwise than both would. A rule that has none answers 500, since leaving it out would hand its requests to a broader rule, perhaps
//! one that does not protect what this one does; entries and policies that have none refuse whom they are for.
//!
//! Each is judged alone. A predecessor that what is good in the table leaves no room for, such as a listener whose port another one has
//! now, is none: so all that is mended can be in force at once, and none of it keeps out what is good. Nor is what was rejected already.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_routing::{
    ClusterTls, CredentialKey, Listener, ListenerKey, ListenerProtocol, Rejection, ResourceKind,
    Route, RouteAction, RouteKey, RoutePolicy, RoutingTable, ca,
    compile::CompiledTable,
    egress::{Entry, ExportedTo, Policy},
    listener::ClientValidation,
    validate::{self, syntax},
};

use crate::reason::Reason;

/// `table` with the values that `serving` has of credentials that were rejected, as far as nothing else of these is another; `None` if there
/// are none. What a rule is rejected for may be that it lacks such a value: with it the rule is good as it is.
pub(super) fn with_known_values<P>(
    table: &RoutingTable,
    serving: Option<&CompiledTable<P>>,
    rejected: &[Rejection],
) -> Option<RoutingTable> {
    let serving = serving?;
    let known = of_kind(rejected, ResourceKind::Credential).filter_map(|rejection| {
        let before = serving.table().credentials.get_key_value(&*rejection.key);
        let (key, before) =
            before.filter(|_| !serving.is_rejected(rejection.kind, &rejection.key))?;
        let wanted = table.credentials.get(key)?;
        before
            .is_same_but_for_value(wanted)
            .then(|| (key.clone(), Arc::clone(before)))
    });
    let mut known = known.peekable();
    known.peek()?;
    let mut mended = table.clone();
    mended.credentials.extend(known);
    Some(mended)
}

/// `table` with each rejected resource replaced by the one that `serving` has under its key, together with what that one
/// needs, or by a refusal; `None` if there is nothing to put in place of any.
pub(super) fn mended<P>(
    table: &RoutingTable,
    serving: Option<&CompiledTable<P>>,
    rejected: &[Rejection],
) -> Option<RoutingTable> {
    let mut mended = table.clone();
    for rejection in rejected {
        let restore = |serving| restore(&mut mended, table, serving, rejected, rejection);
        let is_restored = serving.is_some_and(restore);
        match rejection.kind {
            ResourceKind::Route => refuse(&mut mended, table, &rejection.key, is_restored),
            ResourceKind::Policy if !is_restored => shut(&mut mended, &rejection.key),
            ResourceKind::Entry if !is_restored => shut_entry(&mut mended, &rejection.key),
            _ => {}
        }
    }
    (mended != *table).then_some(mended)
}

/// Whether the resource has a predecessor that was good, and still fits.
fn restore<P>(
    table: &mut RoutingTable,
    received: &RoutingTable,
    serving: &CompiledTable<P>,
    rejected: &[Rejection],
    rejection: &Rejection,
) -> bool {
    let key = rejection.key.as_str();
    let has_predecessor = !serving.is_rejected(rejection.kind, key);
    let serving = serving.table().as_ref();
    match rejection.kind {
        // It may need nothing of its predecessor.
        ResourceKind::Listener => restore_listener(table, received, serving, rejected, key),
        _ if !has_predecessor => return false,
        // Listeners of egress could not be served with them.
        ResourceKind::Settings
            if received.settings.egress.is_some() && serving.settings.egress.is_none() =>
        {
            return false;
        }
        ResourceKind::Settings => table.settings = Arc::clone(&serving.settings),
        ResourceKind::Cluster if asks_backends_otherwise(received, serving, key) => return false,
        ResourceKind::Cluster => restore_entry(&mut table.clusters, &serving.clusters, key),
        ResourceKind::Endpoints => restore_entry(&mut table.endpoints, &serving.endpoints, key),
        ResourceKind::Certificate => {
            restore_entry(&mut table.certificates, &serving.certificates, key);
        }
        ResourceKind::Entry if leads_otherwise(received, serving, key) => return false,
        ResourceKind::Entry => restore_entry(&mut table.entries, &serving.entries, key),
        ResourceKind::Policy if decides_otherwise(received, serving, key) => return false,
        ResourceKind::Policy => restore_entry(&mut table.policies, &serving.policies, key),
        // Who had the address before says nothing of who has it now, and what is known of credentials is in the table already.
        ResourceKind::Workload | ResourceKind::Credential => {}
        ResourceKind::Route => return restore_route(table, received, serving, rejected, key),
    }
    true
}

/// Puts a rule's predecessor in its place, at those listeners of both that are left.
fn restore_route(
    table: &mut RoutingTable,
    received: &RoutingTable,
    serving: &RoutingTable,
    rejected: &[Rejection],
    key: &str,
) -> bool {
    let wanted = received.routes.get_key_value(key);
    let Some(((key, wanted), before)) = wanted.zip(serving.routes.get(key)) else {
        return false;
    };
    let mut route = Route::clone(before);
    route
        .listeners
        .retain(|key| wanted.listeners.contains(key) && is_served_at(received, before, key));
    let is_one = takes_the_same(before, wanted)
        && before.credentials().eq(wanted.credentials())
        && may_have_credentials(before, received, serving, rejected);
    if !is_one || route.listeners.is_empty() {
        return false;
    }
    for cluster in route.clusters() {
        keep_entry(&mut table.clusters, &serving.clusters, cluster);
        keep_entry(&mut table.endpoints, &serving.endpoints, cluster);
    }
    table.routes.insert(key.clone(), Arc::new(route));
    true
}

/// Whether two rules are for the same requests. Keys go by the numbers of rules, so what had a key before may be another rule.
fn takes_the_same(before: &Route, wanted: &Route) -> bool {
    before.order == wanted.order
        && before.hostnames == wanted.hostnames
        && before.matches == wanted.matches
}

/// Whether the credentials of a rule from before are known, and what leads it outside is as it was: else they might go to somebody else.
fn may_have_credentials(
    route: &Route,
    received: &RoutingTable,
    serving: &RoutingTable,
    rejected: &[Rejection],
) -> bool {
    let is_known = |key: &CredentialKey| {
        let mut rejected = of_kind(rejected, ResourceKind::Credential);
        received.credentials.contains_key(key) && !rejected.any(|it| it.key == key.as_str())
    };
    let is_as_it_was = |key| received.entries.get(key) == serving.entries.get(key);
    route.credentials().next().is_none()
        || (route.credentials().all(is_known) && route.entries().all(is_as_it_was))
}

/// Whether a listener is in the table, and speaks what a rule is for.
fn is_served_at(table: &RoutingTable, route: &Route, key: &ListenerKey) -> bool {
    let listener = table.listeners.get(key);
    listener.is_some_and(|it| (it.protocol == ListenerProtocol::Tls) == route.takes_connections())
}

/// Puts a listener's predecessor in its place, with certificates that this one names.
fn restore_listener(
    table: &mut RoutingTable,
    received: &RoutingTable,
    serving: &RoutingTable,
    rejected: &[Rejection],
    key: &str,
) {
    let Some((key, wanted)) = received.listeners.get_key_value(key) else {
        return;
    };
    let before = serving.listeners.get(key);
    let before = before.filter(|before| !admits_otherwise(before, wanted));
    let listener = if received.has_certificate(wanted) {
        before.cloned()
    } else {
        with_known_cas(before, wanted)
    };
    let Some(listener) = listener.filter(|it| has_room(received, rejected, key, it)) else {
        return;
    };
    let tls = listener.tls.iter();
    for certificate in tls.flat_map(|tls| &tls.certificates) {
        keep_entry(&mut table.certificates, &serving.certificates, certificate);
    }
    table.listeners.insert(key.clone(), listener);
}

/// What is served of a listener whose certificates are missing: itself, for one that it names no more may have been revoked. CAs that
/// could not be read are those of `before`.
fn with_known_cas(before: Option<&Arc<Listener>>, wanted: &Arc<Listener>) -> Option<Arc<Listener>> {
    if !client_validation(wanted).is_some_and(|it| ca::is_unread(&it.ca_pem)) {
        return Some(Arc::clone(wanted));
    }
    let known = client_validation(before?).cloned();
    let mut listener = Arc::clone(wanted);
    if let Some(tls) = &mut Arc::make_mut(&mut listener).tls {
        tls.client_validation = known;
    }
    Some(listener)
}

/// Whether no listener that is good as it is needs the place of this one: that one goes first.
fn has_room(
    received: &RoutingTable,
    rejected: &[Rejection],
    key: &ListenerKey,
    listener: &Listener,
) -> bool {
    let is_in_the_way = |other: &Listener| {
        let (speaks, goes) = (other.protocol, other.direction);
        let fits = speaks == listener.protocol && goes == listener.direction;
        other.port == listener.port && (!fits || other.hostname == listener.hostname)
    };
    let is_rejected = |key: &ListenerKey| {
        let mut rejected = of_kind(rejected, ResourceKind::Listener);
        rejected.any(|it| it.key == key.as_str())
    };
    let mut others = received.listeners.iter().filter(|(other, _)| *other != key);
    !others.any(|(other, it)| is_in_the_way(it) && !is_rejected(other))
}

/// Whether a cluster's predecessor verifies its endpoints in another way or not at all. What is sent now may be for those only whom the
/// new one would let have it, whatever is wrong with that one.
fn asks_backends_otherwise(received: &RoutingTable, serving: &RoutingTable, key: &str) -> bool {
    let Some(wanted) = cluster_tls(received, key) else {
        return false;
    };
    !cluster_tls(serving, key).is_some_and(|before| before.is_same_but_for_cas(wanted))
}

fn cluster_tls<'a>(table: &'a RoutingTable, key: &str) -> Option<&'a ClusterTls> {
    table.clusters.get(key)?.tls.as_ref()
}

/// Whether an entry has no predecessor, or one that lets others through, leads them elsewhere or is verified in another way.
fn leads_otherwise(received: &RoutingTable, serving: &RoutingTable, key: &str) -> bool {
    let pair = serving.entries.get(key).zip(received.entries.get(key));
    !pair.is_some_and(|(before, wanted)| before.is_same_but_for_cas(wanted))
}

/// Whether a policy has no predecessor, or one that is for others or says something else of what it names.
fn decides_otherwise(received: &RoutingTable, serving: &RoutingTable, key: &str) -> bool {
    let pair = serving.policies.get(key).zip(received.policies.get(key));
    !pair.is_some_and(|(before, wanted)| before.is_same_but_for_destinations(wanted))
}

/// Whether a listener's predecessor speaks another protocol, such as clear text where there is to be TLS now, or lets in whom the new one
/// shuts out, as it asks for client certificates in another way or not at all. That certificates of the same CAs could not be read is
/// no other way.
fn admits_otherwise(before: &Listener, wanted: &Listener) -> bool {
    if (before.protocol, before.direction) != (wanted.protocol, wanted.direction) {
        return true;
    }
    let Some(wanted) = client_validation(wanted) else {
        return false;
    };
    match client_validation(before) {
        Some(before) if ca::is_unread(&wanted.ca_pem) => !before.is_same_but_for_cas(wanted),
        before => before != Some(wanted),
    }
}

fn client_validation(listener: &Listener) -> Option<&ClientValidation> {
    listener.tls.as_ref()?.client_validation.as_ref()
}

/// Lets a rule that was rejected answer 500 for what can be understood of its hosts and matches, wherever it has not been restored; one of
/// connections refuses them. What of it cannot be understood is not served at all.
fn refuse(mended: &mut RoutingTable, received: &RoutingTable, key: &str, is_restored: bool) {
    let Some((key, route)) = received.routes.get_key_value(key) else {
        return;
    };
    let Some(mut refusal) = refusal(received, route) else {
        return;
    };
    let restored = mended.routes.get(key).filter(|_| is_restored);
    let key = match restored {
        Some(restored) => {
            let listeners = &mut refusal.listeners;
            listeners.retain(|it| !restored.listeners.contains(it));
            RouteKey::new(format!("{key}-refused"))
        }
        None => key.clone(),
    };
    if !refusal.listeners.is_empty() {
        mended.routes.insert(key, Arc::new(refusal));
    }
}

/// Lets a policy that was rejected, and has no predecessor, deny everything to the callers that it selects: without it they might
/// reach what it was to keep them from.
fn shut(mended: &mut RoutingTable, key: &str) {
    if let Some(policy) = mended.policies.get_mut(key) {
        let mut shut = Policy::clone(policy).shut();
        let from = shut.from.iter_mut().flatten();
        for namespaces in from.filter_map(|from| from.namespaces.as_mut()) {
            namespaces.sort();
        }
        *policy = Arc::new(shut);
    }
}

/// Lets an entry that was rejected, and has no predecessor, refuse whom it would have let through, as far as it can be understood:
/// without it another one might lead them elsewhere.
fn shut_entry(mended: &mut RoutingTable, key: &str) {
    if let Some(entry) = mended.entries.get_mut(key) {
        let mut shut = Entry::clone(entry).shut();
        shut.hosts
            .retain(|host| syntax::outside_host_or_wildcard(host).is_ok());
        let mut numbers = BTreeSet::new();
        shut.ports
            .retain(|port| port.number != 0 && numbers.insert(port.number));
        if let ExportedTo::Namespaces(namespaces) = &mut shut.exported_to {
            namespaces.sort();
        }
        *entry = Arc::new(shut);
    }
}

fn refusal(table: &RoutingTable, route: &Route) -> Option<Route> {
    let action = if route.takes_connections() {
        RouteAction::Forward(Vec::new())
    } else {
        RouteAction::Respond {
            status: Reason::InvalidRule.status().as_u16(),
            reason: Reason::InvalidRule.code().to_owned(),
        }
    };
    let mut refusal = Route {
        filters: Vec::new(),
        action,
        policy: RoutePolicy::default(),
        ..route.clone()
    };
    refusal
        .listeners
        .retain(|key| is_served_at(table, route, key));
    refusal
        .hostnames
        .retain(|hostname| syntax::hostname_or_wildcard(hostname).is_ok());
    refusal
        .matches
        .retain(|one| validate::route_match(one).is_ok());
    // No hostname at all would be every host, and no match every connection.
    let is_wider = (refusal.hostnames.is_empty() && !route.hostnames.is_empty())
        || (refusal.matches.is_empty() && !route.matches.is_empty());
    (!refusal.listeners.is_empty() && !is_wider).then_some(refusal)
}

fn of_kind(rejected: &[Rejection], kind: ResourceKind) -> impl Iterator<Item = &Rejection> {
    rejected.iter().filter(move |it| it.kind == kind)
}

/// Puts the entry that is being served back in place of the new one.
fn restore_entry<K, V>(table: &mut BTreeMap<K, Arc<V>>, serving: &BTreeMap<K, Arc<V>>, key: &str)
where
    K: Ord + Clone + std::borrow::Borrow<str>,
{
    if let Some((key, value)) = serving.get_key_value(key) {
        table.insert(key.clone(), Arc::clone(value));
    }
}

/// Keeps an entry that is being served if the new table has none under its key.
fn keep_entry<K: Ord + Clone, V>(
    table: &mut BTreeMap<K, Arc<V>>,
    serving: &BTreeMap<K, Arc<V>>,
    key: &K,
) {
    if let Some(value) = serving.get(key) {
        table
            .entry(key.clone())
            .or_insert_with(|| Arc::clone(value));
    }
}
