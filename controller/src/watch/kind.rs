//! The kinds that are watched, one line each.

use std::fmt;

use gateway_api::apis::{
    experimental::{
        gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute,
        listenersets::ListenerSet, referencegrants::ReferenceGrant, tlsroutes::TlsRoute,
    },
    standard::backendtlspolicies::BackendTlsPolicy,
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use kube::{Resource, core::NamespaceResourceScope};
use portcullis_crds::{
    CredentialInjection, EgressPolicy, GatewayParameters, ServiceEntry, service_entry,
};
use serde::de::DeserializeOwned;

use super::{Watches, delegate_resource, object::StatusUse};
use crate::{
    callers::{Node, Pod},
    resources::{Objects, Redacted, Resources},
};

/// A kind that is watched.
pub(super) trait Kind:
    Resource<DynamicType = ()>
    + Clone
    + fmt::Debug
    + DeserializeOwned
    + PartialEq
    + StatusUse
    + Send
    + Sync
    + 'static
{
    /// Its name.
    const NAME: &'static str;
    /// Whether only egress needs it, so that without it all else goes on.
    const OF_EGRESS: bool;
    /// Whether it is known without its objects what goes by them, so that all else goes on where they may not be read. A kind of
    /// which this is not so stops everything until the controller has read it once.
    const MAY_BE_REFUSED: bool;
    /// Whether its objects say who calls: what may not be read any more, or was a moment ago, must not speak for anybody.
    const IDENTIFIES: bool;
    /// Whether it is built into some releases of Kubernetes only, or its CRD may be there without the version that is read.
    const MAY_BE_MISSING: bool;
    /// Versions that are alike, of which a cluster may serve any; empty if there is only that of the type.
    const VERSIONS: &'static [&'static str];

    /// Where its objects are kept.
    fn objects(resources: &mut Resources) -> &mut Objects<Self>;
}

/// A kind whose objects are read only if another object refers to them.
pub(super) trait Referenced: Kind + Resource<Scope = NamespaceResourceScope> {}

delegate_resource!(Redacted, it => it.0.meta(), it.0.meta_mut());

/// How a kind is watched.
macro_rules! watch {
    ($watches:ident, $type:ty, built_in) => {
        $watches.built_in::<$type>()
    };
    ($watches:ident, $type:ty, custom) => {
        $watches.custom::<$type>()
    };
    ($watches:ident, $type:ty, custom_with_status) => {
        $watches.custom::<$type>()
    };
    ($watches:ident, $type:ty, by_name) => {
        $watches.custom::<$type>()
    };
    ($watches:ident, $type:ty, by_gateway) => {
        $watches.custom::<$type>()
    };
    ($watches:ident, $type:ty, by_gateway_with_status) => {
        $watches.custom::<$type>()
    };
    ($watches:ident, $type:ty, custom_of_later_release) => {
        $watches.custom::<$type>()
    };
    ($watches:ident, $type:ty, service_entry) => {
        $watches.custom::<$type>()
    };
    ($watches:ident, $type:ty, egress_policy) => {
        $watches.custom::<$type>()
    };
    ($watches:ident, $type:ty, for_egress) => {
        $watches.for_egress::<$type>()
    };
    ($watches:ident, $type:ty, for_egress_if_known) => {
        $watches.for_egress::<$type>()
    };
    ($watches:ident, $type:ty, who_calls) => {
        $watches.for_egress::<$type>()
    };
    ($watches:ident, $type:ty, by_reference) => {
        $watches.by_reference::<$type>()
    };
}

macro_rules! is_written {
    (custom_with_status) => {
        true
    };
    (by_name) => {
        true
    };
    (by_gateway_with_status) => {
        true
    };
    (custom_of_later_release) => {
        true
    };
    (service_entry) => {
        true
    };
    (egress_policy) => {
        true
    };
    ($how:ident) => {
        false
    };
}

macro_rules! versions {
    (service_entry) => {
        &service_entry::VERSIONS
    };
    ($how:ident) => {
        &[]
    };
}

/// Whether it is watched only while there is an egress Gateway.
macro_rules! is_for_egress {
    (for_egress) => {
        true
    };
    (for_egress_if_known) => {
        true
    };
    (who_calls) => {
        true
    };
    ($how:ident) => {
        false
    };
}

macro_rules! may_be_missing {
    (for_egress_if_known) => {
        true
    };
    (custom_of_later_release) => {
        true
    };
    ($how:ident) => {
        false
    };
}

macro_rules! is_of_egress {
    (service_entry) => {
        true
    };
    (egress_policy) => {
        true
    };
    ($how:ident) => {
        is_for_egress!($how)
    };
}

macro_rules! may_be_refused {
    (by_name) => {
        true
    };
    (by_gateway) => {
        true
    };
    (by_gateway_with_status) => {
        true
    };
    (custom_of_later_release) => {
        true
    };
    ($how:ident) => {
        false
    };
}

macro_rules! identifies {
    (who_calls) => {
        true
    };
    ($how:ident) => {
        false
    };
}

macro_rules! referenced {
    ($type:ty, by_reference) => {
        impl Referenced for $type {}
    };
    ($type:ty, $how:ident) => {};
}

macro_rules! kinds {
    ($($name:literal: $type:ty => $field:ident, $how:ident $(reads $($status:literal)*)?;)*) => {
        $(
            impl StatusUse for $type {
                const READ: &'static [&'static str] = &[$($($status),*)?];
                const WRITTEN: bool = is_written!($how);
            }

            impl Kind for $type {
                const NAME: &'static str = $name;
                const OF_EGRESS: bool = is_of_egress!($how);
                const MAY_BE_REFUSED: bool = may_be_refused!($how);
                const IDENTIFIES: bool = identifies!($how);
                const MAY_BE_MISSING: bool = may_be_missing!($how);
                const VERSIONS: &'static [&'static str] = versions!($how);

                fn objects(resources: &mut Resources) -> &mut Objects<Self> {
                    &mut resources.$field
                }
            }

            referenced!($type, $how);
        )*

        /// The names of all kinds.
        pub(super) const NAMES: &[&str] = &[$($name),*];

        /// The names of the kinds that are watched only while there is an egress Gateway.
        pub(super) fn names_for_egress() -> Vec<&'static str> {
            let kinds = [$(($name, is_for_egress!($how))),*];
            let wanted = kinds.into_iter().filter(|(_, is_for_egress)| *is_for_egress);
            wanted.map(|(name, _)| name).collect()
        }

        /// Whether nothing but egress goes by the kind of this name.
        pub(super) fn is_of_egress(name: &str) -> bool {
            match name {
                $($name => is_of_egress!($how),)*
                _ => false,
            }
        }

        /// Watches all kinds, unless egress is not served and nothing else goes by one.
        pub(super) fn watch_all(watches: &mut Watches) {
            $(if watches.egress || !<$type as Kind>::OF_EGRESS {
                watch!(watches, $type, $how);
            })*
        }
    };
}

// What follows where a kind may not be read that was not read since the start. One that was stays in force as it was, whatever it is, but for
// pods. No table is made of less than what proxies may have from a controller before this one.
//
// - GatewayClass, Gateway, HTTPRoute, Namespace, Service, EndpointSlice: without them nearly nothing could be served, so nothing is
//   published.
// - BackendTLSPolicy: backends would be spoken to in clear text, and any Service may have one, so nothing is published.
// - ReferenceGrant: rules and certificates that are permitted would be cut off, and any reference may need one, so nothing is published.
// - Secret, ConfigMap: nobody would know which of those that are referred to exist, so nothing is published.
// - ListenerSet: Gateways that take any stand still.
// - TLSRoute: Gateways with a listener of TLS stand still.
// - GatewayParameters: Gateways that name one, or whose class does, stand still.
// - CredentialInjection: rules that refer to one answer 500, as they do without a credential.
// - EgressPolicy, ServiceEntry, Node: egress Gateways stand still, as they would be more open, or shut. Without pods nobody's address says who calls,
//   and ServiceCIDRs say nothing that Services do not.
kinds! {
    "GatewayClass": GatewayClass => gateway_classes, custom_with_status;
    "Gateway": Gateway => gateways, custom_with_status;
    "ListenerSet": ListenerSet => listener_sets, by_gateway_with_status;
    "HTTPRoute": HttpRoute => http_routes, custom_with_status;
    "TLSRoute": TlsRoute => tls_routes, custom_of_later_release;
    "BackendTLSPolicy": BackendTlsPolicy => backend_tls_policies, custom_with_status;
    "ReferenceGrant": ReferenceGrant => reference_grants, custom;
    "GatewayParameters": GatewayParameters => gateway_parameters, by_gateway;
    "ServiceEntry": ServiceEntry => service_entries, service_entry;
    "EgressPolicy": EgressPolicy => egress_policies, egress_policy;
    "CredentialInjection": CredentialInjection => credential_injections, by_name;
    "Namespace": Namespace => namespaces, built_in;
    "Service": Service => services, built_in reads "loadBalancer";
    "EndpointSlice": EndpointSlice => endpoint_slices, built_in;
    "Secret": Redacted<Secret> => secrets, by_reference;
    "ConfigMap": ConfigMap => config_maps, by_reference;
    "Pod": Pod => pods, who_calls reads "phase" "podIP" "podIPs" "containerStatuses"
        "initContainerStatuses";
    "Node": Node => nodes, for_egress reads "addresses";
    "ServiceCIDR": ServiceCIDR => service_cidrs, for_egress_if_known;
}
