//! ListenerSets: which Gateway each one belongs to, whether that takes it, and what its status says.

use std::{collections::BTreeMap, ops::Range};

use gateway_api::apis::experimental::{
    gateways::{Gateway, GatewayAllowedListenersNamespacesFrom as From},
    listenersets::ListenerSet,
};

use super::{
    Context, GATEWAY_GROUP, age::created_at, attach::instead, listener::ListenerState,
    namespaces::Namespaces,
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::{ConditionSet, ConditionStatus, ListenerSetStatus, condition::kind, reason},
};

pub(crate) const KIND: &str = "ListenerSet";

/// ListenerSets by the Gateway that they name, each Gateway's in the order of precedence.
#[derive(Debug)]
pub(crate) struct ListenerSets<'a>(BTreeMap<ObjectKey, Vec<(&'a ObjectKey, &'a ListenerSet)>>);

impl<'a> ListenerSets<'a> {
    pub(crate) fn new(ctx: &Context<'a>) -> Self {
        let mut by_gateway = BTreeMap::<_, Vec<_>>::new();
        for (key, set) in &ctx.resources.listener_sets {
            match gateway_of(key, set) {
                Some(gateway) => by_gateway.entry(gateway).or_default().push((key, &**set)),
                None => ctx.report(parent_of_another_kind(key, set)),
            }
        }
        for sets in by_gateway.values_mut() {
            sets.sort_by_cached_key(|(key, set)| (created_at(&set.metadata), key.to_string()));
        }
        Self(by_gateway)
    }

    /// The ListenerSets that name this Gateway, which is ours.
    pub(crate) fn take(&mut self, gateway: &ObjectKey) -> Vec<(&'a ObjectKey, &'a ListenerSet)> {
        self.0.remove(gateway).unwrap_or_default()
    }

    /// Reports those that nobody has taken: their Gateways are not ours.
    pub(crate) fn report(self, ctx: &Context<'_>) {
        for (gateway, sets) in self.0 {
            let is_there = ctx.resources.gateways.contains_key(&gateway);
            for (key, _) in sets {
                ctx.report(if is_there {
                    not_served(key, &gateway)
                } else {
                    gateway_not_found(ctx, key, &gateway)
                });
            }
        }
    }
}

/// The Gateway that a ListenerSet names as its parent, unless that is of another kind.
pub fn gateway_of(key: &ObjectKey, set: &ListenerSet) -> Option<ObjectKey> {
    let parent = &set.spec.parent_ref;
    let group = parent.group.as_deref().unwrap_or(GATEWAY_GROUP);
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    let namespace = parent.namespace.as_ref().unwrap_or(&key.namespace);
    ((group, kind) == (GATEWAY_GROUP, "Gateway")).then(|| ObjectKey::new(namespace, &parent.name))
}

fn parent_of_another_kind(key: &ObjectKey, set: &ListenerSet) -> Finding {
    let parent = &set.spec.parent_ref;
    let message = format!(
        "{} of group {:?} is no Gateway, so nobody serves this ListenerSet",
        parent.kind.as_deref().unwrap_or("Gateway"),
        parent.group.as_deref().unwrap_or(GATEWAY_GROUP)
    );
    ObjectRef::new(KIND, key.clone()).error(
        "ParentNotServed",
        "spec.parentRef.kind",
        message,
        "name a Gateway; without `kind` and `group` it is one",
    )
}

fn not_served(key: &ObjectKey, gateway: &ObjectKey) -> Finding {
    ObjectRef::new(KIND, key.clone()).note(
        "ParentNotServed",
        "spec.parentRef",
        format!("Gateway {gateway} is not served here, so the ListenerSet is not either"),
        "the finding of the Gateway says why",
    )
}

fn gateway_not_found(ctx: &Context<'_>, key: &ObjectKey, gateway: &ObjectKey) -> Finding {
    ObjectRef::new(KIND, key.clone()).error(
        "GatewayNotFound",
        "spec.parentRef.name",
        format!("there is no Gateway {gateway}, so the ListenerSet is not served"),
        instead(ctx, gateway, &ctx.resources.gateways),
    )
}

/// The namespaces that a Gateway takes ListenerSets from. A selector that is broken selects none, and is told.
pub(crate) fn allowed_namespaces(
    object: &ObjectRef,
    gateway: &Gateway,
) -> (Namespaces, Option<Finding>) {
    let allowed = gateway.spec.allowed_listeners.as_ref();
    let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
    let from = namespaces.and_then(|namespaces| namespaces.from.as_ref());
    match from {
        None | Some(From::None) => (Namespaces::None, None),
        Some(From::Same) => (Namespaces::Same, None),
        Some(From::All) => (Namespaces::All, None),
        Some(From::Selector) => {
            let field = "spec.allowedListeners.namespaces.selector";
            let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
            match Namespaces::selected(object, field, selector) {
                Ok(selected) => (selected, None),
                Err(finding) => (Namespaces::None, Some(finding)),
            }
        }
    }
}

/// A ListenerSet that names a Gateway of ours.
#[derive(Debug)]
pub(crate) struct ListenerSetState {
    generation: Option<i64>,
    /// The places of its listeners among those of the Gateway, or why the Gateway does not take it.
    listeners: Result<Range<usize>, Finding>,
}

impl ListenerSetState {
    /// A ListenerSet that the Gateway takes.
    pub(crate) fn taken(set: &ListenerSet, listeners: Range<usize>) -> Self {
        Self {
            generation: set.metadata.generation,
            listeners: Ok(listeners),
        }
    }

    /// A ListenerSet that `gateway` does not take.
    pub(crate) fn refused(object: &ObjectRef, set: &ListenerSet, gateway: &ObjectKey) -> Self {
        let finding = object.error(
            reason::NOT_ALLOWED,
            "spec.parentRef",
            format!(
                "Gateway {gateway} takes no ListenerSets from namespace {}",
                object.key.namespace
            ),
            "extend spec.allowedListeners of the Gateway; without it none is taken",
        );
        Self {
            generation: set.metadata.generation,
            listeners: Err(finding),
        }
    }

    /// The places of its listeners among those of the Gateway, if it is taken.
    pub(crate) fn listeners(&self) -> Option<Range<usize>> {
        self.listeners.clone().ok()
    }

    /// Why the Gateway does not take it.
    pub(crate) fn finding(&self) -> Option<&Finding> {
        self.listeners.as_ref().err()
    }

    /// Its status. `all` are the listeners of the Gateway, which is refused or not. `Programmed` stays Unknown where that
    /// is for the data plane to say.
    pub(crate) fn status(
        &self,
        all: &[ListenerState<'_>],
        gateway_refused: bool,
    ) -> ListenerSetStatus {
        use ConditionStatus::{False, True, Unknown};
        let mut conditions = ConditionSet::new(self.generation);
        let listeners = match &self.listeners {
            Ok(range) => &all[range.clone()],
            Err(refused) => {
                conditions.set_finding(kind::ACCEPTED, False, refused);
                conditions.set_finding(kind::PROGRAMMED, False, refused);
                return ListenerSetStatus {
                    conditions,
                    ..ListenerSetStatus::default()
                };
            }
        };
        let invalid = listeners.iter().filter(|listener| !listener.served());
        let invalid: Vec<_> = invalid.map(|listener| &*listener.spec.name).collect();
        let listed = format!("Listeners that are not valid: {}", invalid.join(", "));
        if gateway_refused {
            let message = "The Gateway is not accepted";
            conditions.set(kind::ACCEPTED, False, reason::PARENT_NOT_ACCEPTED, message);
            conditions.set(
                kind::PROGRAMMED,
                False,
                reason::PARENT_NOT_PROGRAMMED,
                message,
            );
        } else if invalid.len() == listeners.len() {
            conditions.set(kind::ACCEPTED, False, reason::LISTENERS_NOT_VALID, &listed);
            conditions.set(kind::PROGRAMMED, False, reason::LISTENERS_NOT_VALID, listed);
        } else {
            let (reason, message) = if invalid.is_empty() {
                (reason::ACCEPTED, "Accepted")
            } else {
                (reason::LISTENERS_NOT_VALID, &*listed)
            };
            conditions.set(kind::ACCEPTED, True, reason, message);
            let message = "Waiting for the data plane";
            conditions.set(kind::PROGRAMMED, Unknown, reason::PENDING, message);
        }
        let statuses = listeners
            .iter()
            .map(|listener| listener.status(self.generation, gateway_refused));
        ListenerSetStatus {
            conditions,
            listeners: statuses.collect(),
            ..ListenerSetStatus::default()
        }
    }
}
