//! The Gateways that something has to be made for.

use std::{borrow::Borrow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use portcullis_routing::{GatewayKey, RoutingTable};

use super::{
    identity_secret_name,
    namesake::{self, namesakes},
    owner,
};
use crate::resources::{ObjectKey, Resources};

/// Gateways that are served, by namespace and name.
pub type Owners = BTreeMap<ObjectKey, Owner>;

/// A Gateway as the owner of what is made for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// The name of the Secret with the certificate of its data planes.
    pub identity_secret: String,
    /// Why that Secret is another Gateway's, if so.
    pub obstacle: Option<String>,
    /// What is made for it goes when it goes.
    pub reference: OwnerReference,
}

/// The Gateways that have a table.
pub fn owners(
    resources: &Resources,
    tables: &BTreeMap<GatewayKey, impl Borrow<RoutingTable>>,
) -> Owners {
    let namesakes = namesakes(resources);
    let served = resources
        .gateways
        .iter()
        .filter(|(key, _)| tables.contains_key(&GatewayKey::of(&key.namespace, &key.name)));
    served
        .filter_map(|(key, gateway)| {
            let class = &gateway.spec.gateway_class_name;
            let owner = Owner {
                identity_secret: identity_secret_name(&key.name, class),
                obstacle: namesakes.get(key).map(|holder| namesake::problem(holder)),
                // Without an identity it is no object of a cluster.
                reference: owner::reference(gateway)?,
            };
            Some((key.clone(), owner))
        })
        .collect()
}
