//! Desired statuses: what each object should say about itself. No timestamps; who writes them adds those.

pub mod condition;
pub mod programmed;
pub mod reason;

use std::collections::BTreeMap;

use gateway_api::apis::experimental::{httproutes::HttpRoute, tlsroutes::TlsRoute};
use serde::Serialize;

pub use self::{
    condition::{Condition, ConditionSet, ConditionStatus},
    programmed::{Observation, Observed},
};
use crate::{
    resources::ObjectKey,
    translate::{GATEWAY_GROUP, RouteObject},
};

/// The desired statuses of all objects that are ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statuses {
    /// GatewayClasses that name our controller.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gateway_classes: BTreeMap<ObjectKey, GatewayClassStatus>,
    /// Gateways of those classes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gateways: BTreeMap<ObjectKey, GatewayStatus>,
    /// ListenerSets of those Gateways.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub listener_sets: BTreeMap<ObjectKey, ListenerSetStatus>,
    /// HTTPRoutes with a parent among those Gateways and ListenerSets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub http_routes: BTreeMap<ObjectKey, RouteStatus>,
    /// The same for TLSRoutes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tls_routes: BTreeMap<ObjectKey, RouteStatus>,
    /// BackendTLSPolicies for Services that routes of those Gateways use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub backend_tls_policies: BTreeMap<ObjectKey, PolicyStatus>,
    /// ServiceEntries, whose other conditions are not ours: [`condition::kind::SERVICE_ENTRY_ACCEPTED`],
    /// [`condition::kind::SERVICE_ENTRY_PROGRAMMED`]. One that is not here is left as it is; of one without conditions here
    /// those of ours are taken away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service_entries: BTreeMap<ObjectKey, ConditionSet>,
    /// EgressPolicies: `Accepted`, `Programmed`. One that is not here is left as it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub egress_policies: BTreeMap<ObjectKey, ConditionSet>,
    /// CredentialInjections that routes of those Gateways use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub credential_injections: BTreeMap<ObjectKey, PolicyStatus>,
}

impl Statuses {
    /// The statuses of routes of every kind, each with the kind.
    pub fn routes(&self) -> impl Iterator<Item = (&'static str, &ObjectKey, &RouteStatus)> {
        let http = self.http_routes.iter();
        let http = http.map(|(key, status)| (HttpRoute::KIND, key, status));
        let tls = self.tls_routes.iter();
        http.chain(tls.map(|(key, status)| (TlsRoute::KIND, key, status)))
    }
}

/// Status of a GatewayClass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassStatus {
    /// `Accepted`, `SupportedVersion`.
    pub conditions: ConditionSet,
    /// Names of supported features, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supported_features: Vec<&'static str>,
}

/// Status of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Addresses that the Gateway is reached at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<GatewayAddress>,
    /// `Accepted`, `Programmed`, `ResolvedRefs`.
    pub conditions: ConditionSet,
    /// One entry per listener, in the order of the spec.
    pub listeners: Vec<ListenerStatus>,
    /// Number of ListenerSets that are accepted.
    #[serde(skip_serializing_if = "is_none_attached")]
    pub attached_listener_sets: i32,
    /// Whether there may be more ListenerSets and routes, of kinds that cannot be read. What was said of their numbers stays as it is.
    #[serde(skip)]
    pub is_partial: bool,
    /// Why its table cannot be sent as a whole. `Programmed` is False then, whatever its data planes say.
    #[serde(skip)]
    pub too_long: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_none_attached(number: &i32) -> bool {
    *number == 0
}

/// Status of a ListenerSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetStatus {
    /// `Accepted`, `Programmed`.
    pub conditions: ConditionSet,
    /// One entry per listener, in the order of the spec; none while the Gateway does not take the ListenerSet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
    /// Whether there may be more routes, as with [`GatewayStatus::is_partial`].
    #[serde(skip)]
    pub is_partial: bool,
}

/// An address of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GatewayAddress {
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub value: String,
}

/// Status of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,
    /// Routes accepted on it, whether or not the listener itself is.
    pub attached_routes: i32,
    /// Kinds of routes that it takes.
    pub supported_kinds: Vec<RouteGroupKind>,
    /// `Accepted`, `Programmed`, `ResolvedRefs`, `Conflicted`, `OverlappingTLSConfig`.
    pub conditions: ConditionSet,
}

/// A kind of route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RouteGroupKind {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

impl RouteGroupKind {
    /// A kind of the Gateway API's own group.
    pub(crate) fn gateway_api(kind: &str) -> Self {
        Self {
            group: GATEWAY_GROUP.into(),
            kind: kind.into(),
        }
    }
}

/// Status of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// One entry per parentRef that points to a Gateway of ours or to a ListenerSet of one, in the order of the spec.
    pub parents: Vec<RouteParentStatus>,
    /// Whether it may have other parents of ours, of a kind that cannot be read. What was said of these stays as it is.
    #[serde(skip)]
    pub is_partial: bool,
}

/// What one parent makes of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The parentRef, as it stands in the spec.
    pub parent_ref: ParentReference,
    /// Our controller's name.
    pub controller_name: String,
    /// `Accepted`, `ResolvedRefs`, `PartiallyInvalid`.
    pub conditions: ConditionSet,
}

/// A route's reference to a parent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace, if the spec gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Listener name, if the spec gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Listener port, if the spec gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// Status of a policy, or of another object that several controllers may have a say about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// One entry per Gateway of ours that it says something to, by namespace and name.
    pub ancestors: Vec<PolicyAncestorStatus>,
    /// Whether it may say something to other Gateways of ours, by way of a kind that cannot be read. What was said of these stays as it
    /// is.
    #[serde(skip)]
    pub is_partial: bool,
}

/// What comes of it at one Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAncestorStatus {
    /// The Gateway.
    pub ancestor_ref: ParentReference,
    /// Our controller's name.
    pub controller_name: String,
    /// `Accepted`, `ResolvedRefs`.
    pub conditions: ConditionSet,
}

impl PolicyAncestorStatus {
    /// What comes of it at a Gateway of this controller.
    pub(crate) fn at_gateway(
        gateway: &ObjectKey,
        controller_name: &str,
        conditions: ConditionSet,
    ) -> Self {
        Self {
            ancestor_ref: ParentReference {
                group: GATEWAY_GROUP.into(),
                kind: "Gateway".into(),
                namespace: Some(gateway.namespace.clone()),
                name: gateway.name.clone(),
                section_name: None,
                port: None,
            },
            controller_name: controller_name.to_owned(),
            conditions,
        }
    }
}
