//! The kinds whose statuses are written: which desired status is whose, and where it goes.

use std::collections::BTreeMap;

use gateway_api::apis::{
    experimental::{
        gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute,
        listenersets::ListenerSet, tlsroutes::TlsRoute,
    },
    standard::backendtlspolicies::BackendTlsPolicy,
};
use kube::Resource;
use portcullis_crds::{CredentialInjection, EgressPolicy, ServiceEntry};

use super::merge::Desired;
use crate::{
    resources::ObjectKey,
    status::Statuses,
    watch::{AtVersion, StatusTarget, Watched},
};

const GATEWAY_CLASS: &str = "GatewayClass";
const GATEWAY: &str = "Gateway";
const LISTENER_SET: &str = "ListenerSet";
const HTTP_ROUTE: &str = "HTTPRoute";
const TLS_ROUTE: &str = "TLSRoute";
const BACKEND_TLS_POLICY: &str = "BackendTLSPolicy";
const SERVICE_ENTRY: &str = "ServiceEntry";
const EGRESS_POLICY: &str = "EgressPolicy";
const CREDENTIAL_INJECTION: &str = "CredentialInjection";

/// All of them.
pub(crate) const KINDS: [&str; 9] = [
    GATEWAY_CLASS,
    GATEWAY,
    LISTENER_SET,
    HTTP_ROUTE,
    TLS_ROUTE,
    BACKEND_TLS_POLICY,
    SERVICE_ENTRY,
    EGRESS_POLICY,
    CREDENTIAL_INJECTION,
];

/// What the status of an object should say; `None` if it is not ours to write.
pub(super) fn desired<'a>(target: &StatusTarget, statuses: &'a Statuses) -> Option<Desired<'a>> {
    let key = &target.key;
    match target.kind {
        GATEWAY_CLASS => statuses.gateway_classes.get(key).map(Desired::GatewayClass),
        GATEWAY => statuses.gateways.get(key).map(Desired::Gateway),
        LISTENER_SET => statuses.listener_sets.get(key).map(Desired::ListenerSet),
        // A route that is not ours any more may still carry entries of ours.
        HTTP_ROUTE => Some(Desired::Route(statuses.http_routes.get(key))),
        TLS_ROUTE => Some(Desired::Route(statuses.tls_routes.get(key))),
        BACKEND_TLS_POLICY => Some(Desired::Policy(statuses.backend_tls_policies.get(key))),
        SERVICE_ENTRY => statuses.service_entries.get(key).map(Desired::ServiceEntry),
        EGRESS_POLICY => statuses.egress_policies.get(key).map(Desired::Own),
        CREDENTIAL_INJECTION => Some(Desired::Policy(statuses.credential_injections.get(key))),
        _ => None,
    }
}

/// The objects that two sets of statuses differ in.
pub(super) fn differences(before: &Statuses, now: &Statuses) -> Vec<StatusTarget> {
    let mut targets = Vec::new();
    differ(
        &mut targets,
        GATEWAY_CLASS,
        &before.gateway_classes,
        &now.gateway_classes,
    );
    differ(&mut targets, GATEWAY, &before.gateways, &now.gateways);
    differ(
        &mut targets,
        LISTENER_SET,
        &before.listener_sets,
        &now.listener_sets,
    );
    differ(
        &mut targets,
        HTTP_ROUTE,
        &before.http_routes,
        &now.http_routes,
    );
    differ(&mut targets, TLS_ROUTE, &before.tls_routes, &now.tls_routes);
    differ(
        &mut targets,
        BACKEND_TLS_POLICY,
        &before.backend_tls_policies,
        &now.backend_tls_policies,
    );
    differ(
        &mut targets,
        SERVICE_ENTRY,
        &before.service_entries,
        &now.service_entries,
    );
    differ(
        &mut targets,
        EGRESS_POLICY,
        &before.egress_policies,
        &now.egress_policies,
    );
    differ(
        &mut targets,
        CREDENTIAL_INJECTION,
        &before.credential_injections,
        &now.credential_injections,
    );
    targets
}

fn differ<T: PartialEq>(
    targets: &mut Vec<StatusTarget>,
    kind: &'static str,
    before: &BTreeMap<ObjectKey, T>,
    now: &BTreeMap<ObjectKey, T>,
) {
    let gone = before.keys().filter(|key| !now.contains_key(key));
    let changed = now
        .iter()
        .filter(|(key, status)| before.get(key) != Some(status));
    let keys = gone.chain(changed.map(|(key, _)| key));
    targets.extend(keys.cloned().map(|key| StatusTarget { kind, key }));
}

/// The path of the kind and namespace of an object, at the version that the kind is asked for.
pub(super) fn path(target: &StatusTarget, version: AtVersion) -> String {
    let namespace = Some(target.key.namespace.as_str()).filter(|name| !name.is_empty());
    match target.kind {
        GATEWAY_CLASS => GatewayClass::url_path(&(), None),
        GATEWAY => Gateway::url_path(&(), namespace),
        LISTENER_SET => ListenerSet::url_path(&(), namespace),
        TLS_ROUTE => TlsRoute::url_path(&(), namespace),
        BACKEND_TLS_POLICY => BackendTlsPolicy::url_path(&(), namespace),
        SERVICE_ENTRY => Watched::<ServiceEntry>::url_path(&version, namespace),
        EGRESS_POLICY => EgressPolicy::url_path(&(), namespace),
        CREDENTIAL_INJECTION => CredentialInjection::url_path(&(), namespace),
        _ => HttpRoute::url_path(&(), namespace),
    }
}
