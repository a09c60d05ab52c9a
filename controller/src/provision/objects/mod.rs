//! The objects that are made for one Gateway.

mod availability;
mod metadata;
mod pod;
mod service;
mod workload;

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gateways::Gateway;
use k8s_openapi::{
    api::core::v1::{Service, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use portcullis_routing::{ListenerProtocol, RoutingTable};

use super::{
    Infrastructure, Object, ProvisionOptions, infrastructure_name,
    object::{APPLIED, Kind},
};
use crate::resources::ObjectKey;

/// Everything that the objects of a Gateway are made of.
pub(super) struct Blueprint<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) gateway: &'a Gateway,
    /// Refers to the Gateway.
    pub(super) owner: OwnerReference,
    pub(super) table: &'a RoutingTable,
    /// Those that clients connect to.
    pub(super) ports: &'a BTreeMap<u16, ListenerProtocol>,
    pub(super) infrastructure: &'a Infrastructure,
    /// The Service as it is now.
    pub(super) service: Option<&'a Service>,
    /// Whether probes come by IPv6.
    pub(super) prefers_ipv6: bool,
    pub(super) options: &'a ProvisionOptions,
}

impl Blueprint<'_> {
    fn class(&self) -> &str {
        &self.gateway.spec.gateway_class_name
    }

    /// The name of everything that is made for the Gateway.
    fn name(&self) -> String {
        infrastructure_name(&self.key.name, self.class())
    }

    fn object(&self, kind: Kind, object: impl serde::Serialize) -> Object {
        let key = ObjectKey::new(&self.key.namespace, self.name());
        Object::new(kind, key, object)
    }
}

/// The objects of a Gateway, in the order in which they are applied.
pub(super) fn objects(blueprint: &Blueprint<'_>) -> Vec<Object> {
    let account = ServiceAccount {
        metadata: blueprint.metadata(),
        // The proxy has nothing to say to the API server.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    let mut objects = vec![
        blueprint.object(Kind::ServiceAccount, account),
        service::service(blueprint),
        workload::workload(blueprint),
    ];
    objects.extend(availability::budget(blueprint));
    objects.extend(availability::autoscaler(blueprint));
    objects
}
