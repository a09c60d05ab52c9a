//! The objects that are made for one Gateway.

mod availability;
mod metadata;
mod pod;
mod service;
mod workload;

use std::{collections::BTreeMap, sync::Arc};

use gateway_api::apis::experimental::gateways::Gateway;
use k8s_openapi::{
    api::core::v1::ServiceAccount, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use portcullis_routing::ListenerProtocol;

pub use self::pod::{CONTAINER, admin_port};
use super::{
    Infrastructure, Object, ProvisionOptions, infrastructure_name,
    object::{APPLIED, Kind},
};
use crate::{resources::ObjectKey, status::GatewayAddress, translate::Parameters};

/// Everything that the objects of a Gateway are made of.
#[derive(Debug, PartialEq)]
pub(super) struct Blueprint {
    pub(super) key: ObjectKey,
    pub(super) gateway: Arc<Gateway>,
    /// Refers to the Gateway.
    pub(super) owner: OwnerReference,
    /// Those that clients connect to.
    pub(super) ports: BTreeMap<u16, ListenerProtocol>,
    pub(super) parameters: Arc<Parameters>,
    /// The addresses that the Service has now.
    pub(super) given: Vec<GatewayAddress>,
    /// Whether probes come by IPv6.
    pub(super) prefers_ipv6: bool,
    pub(super) options: ProvisionOptions,
}

/// The objects of a Gateway, and what they were made of, so that they need not be made again before that changes.
#[derive(Debug, Default)]
pub struct Made {
    blueprint: Option<Blueprint>,
    objects: Vec<Object>,
}

impl Made {
    /// What is made of a blueprint: what was made `before`, if that was the same one.
    pub(super) fn of(blueprint: Blueprint, before: Option<&Arc<Self>>) -> Arc<Self> {
        let same = before.filter(|before| before.blueprint.as_ref() == Some(&blueprint));
        same.map_or_else(
            || {
                let objects = objects(&blueprint);
                Arc::new(Self {
                    blueprint: Some(blueprint),
                    objects,
                })
            },
            Arc::clone,
        )
    }

    /// The objects, in the order in which they are applied.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }
}

/// Objects are equal whatever they were made of.
impl PartialEq for Made {
    fn eq(&self, other: &Self) -> bool {
        self.objects == other.objects
    }
}

impl Eq for Made {}

impl Blueprint {
    fn infrastructure(&self) -> &Infrastructure {
        &self.parameters.infrastructure
    }

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
fn objects(blueprint: &Blueprint) -> Vec<Object> {
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
