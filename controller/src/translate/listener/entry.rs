//! Listeners as they are written, in a Gateway or in a ListenerSet: the two have types of their own that say the same.

use std::borrow::Cow;

use gateway_api::apis::experimental::{
    gateways::{
        Gateway, GatewayListeners, GatewayListenersAllowedRoutes,
        GatewayListenersAllowedRoutesKinds, GatewayListenersAllowedRoutesNamespaces,
        GatewayListenersAllowedRoutesNamespacesFrom as GatewayFrom,
        GatewayListenersAllowedRoutesNamespacesSelector,
        GatewayListenersAllowedRoutesNamespacesSelectorMatchExpressions, GatewayListenersTls,
        GatewayListenersTlsCertificateRefs, GatewayListenersTlsMode,
    },
    listenersets::{
        ListenerSet, ListenerSetListeners, ListenerSetListenersAllowedRoutes,
        ListenerSetListenersAllowedRoutesNamespacesFrom as SetFrom,
        ListenerSetListenersAllowedRoutesNamespacesSelector, ListenerSetListenersTls,
        ListenerSetListenersTlsMode,
    },
};
use portcullis_routing::{GatewayKey, ListenerKey};

use crate::finding::ObjectRef;

/// A listener as it is written, and where.
pub(crate) struct Entry<'a> {
    /// The Gateway or ListenerSet.
    pub(super) object: ObjectRef,
    /// Path of the listener in it.
    pub(super) field: String,
    pub(super) spec: Cow<'a, GatewayListeners>,
    pub(super) key: ListenerKey,
}

impl<'a> Entry<'a> {
    /// The listeners of the Gateway `object` itself.
    pub(crate) fn of_gateway(
        object: &ObjectRef,
        key: &GatewayKey,
        gateway: &'a Gateway,
    ) -> impl Iterator<Item = Self> {
        let listeners = gateway.spec.listeners.iter().enumerate();
        listeners.map(|(index, spec)| Self {
            object: object.clone(),
            field: field(index),
            key: ListenerKey::of(key, &spec.name),
            spec: Cow::Borrowed(spec),
        })
    }

    /// The listeners that the ListenerSet `object` adds to the Gateway `key`.
    pub(crate) fn of_set(
        object: &ObjectRef,
        key: &GatewayKey,
        set: &ListenerSet,
    ) -> impl Iterator<Item = Self> {
        let listeners = set.spec.listeners.iter().enumerate();
        listeners.map(|(index, spec)| Self {
            object: object.clone(),
            field: field(index),
            key: ListenerKey::of_set(key, &object.key.namespace, &object.key.name, &spec.name),
            spec: Cow::Owned(listener(spec)),
        })
    }
}

fn field(index: usize) -> String {
    format!("spec.listeners[{index}]")
}

fn listener(spec: &ListenerSetListeners) -> GatewayListeners {
    GatewayListeners {
        allowed_routes: spec.allowed_routes.as_ref().map(allowed_routes),
        hostname: spec.hostname.clone(),
        name: spec.name.clone(),
        port: spec.port,
        protocol: spec.protocol.clone(),
        tls: spec.tls.as_ref().map(tls),
    }
}

fn allowed_routes(spec: &ListenerSetListenersAllowedRoutes) -> GatewayListenersAllowedRoutes {
    let kinds = spec.kinds.as_ref().map(|kinds| {
        let kinds = kinds.iter().map(|kind| GatewayListenersAllowedRoutesKinds {
            group: kind.group.clone(),
            kind: kind.kind.clone(),
        });
        kinds.collect()
    });
    let namespaces =
        spec.namespaces
            .as_ref()
            .map(|namespaces| GatewayListenersAllowedRoutesNamespaces {
                from: namespaces.from.as_ref().map(|from| match from {
                    SetFrom::All => GatewayFrom::All,
                    SetFrom::Selector => GatewayFrom::Selector,
                    SetFrom::Same => GatewayFrom::Same,
                }),
                selector: namespaces.selector.as_ref().map(selector),
            });
    GatewayListenersAllowedRoutes { kinds, namespaces }
}

fn selector(
    spec: &ListenerSetListenersAllowedRoutesNamespacesSelector,
) -> GatewayListenersAllowedRoutesNamespacesSelector {
    let expressions = spec.match_expressions.as_ref().map(|expressions| {
        let expressions = expressions.iter().map(|expression| {
            GatewayListenersAllowedRoutesNamespacesSelectorMatchExpressions {
                key: expression.key.clone(),
                operator: expression.operator.clone(),
                values: expression.values.clone(),
            }
        });
        expressions.collect()
    });
    GatewayListenersAllowedRoutesNamespacesSelector {
        match_expressions: expressions,
        match_labels: spec.match_labels.clone(),
    }
}

fn tls(spec: &ListenerSetListenersTls) -> GatewayListenersTls {
    let certificate_refs = spec.certificate_refs.as_ref().map(|references| {
        let references = references
            .iter()
            .map(|reference| GatewayListenersTlsCertificateRefs {
                group: reference.group.clone(),
                kind: reference.kind.clone(),
                name: reference.name.clone(),
                namespace: reference.namespace.clone(),
            });
        references.collect()
    });
    GatewayListenersTls {
        certificate_refs,
        mode: spec.mode.as_ref().map(|mode| match mode {
            ListenerSetListenersTlsMode::Terminate => GatewayListenersTlsMode::Terminate,
            ListenerSetListenersTlsMode::Passthrough => GatewayListenersTlsMode::Passthrough,
        }),
        options: spec.options.clone(),
    }
}
