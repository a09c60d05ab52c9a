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

/// Gateways that are served, and those of other controllers, by namespace and name.
pub type Owners = BTreeMap<ObjectKey, Owner>;

/// A Gateway as the owner of what is made for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// The name of the Secret with the certificate of its data planes; `None` if its class is of another controller, so
    /// that it has none of ours.
    pub identity_secret: Option<String>,
    /// Why that Secret is another Gateway's, if so.
    pub obstacle: Option<String>,
    /// What is made for it goes when it goes.
    pub reference: OwnerReference,
}

/// The Gateways that have a table, and those whose class is of another controller.
pub fn owners(
    resources: &Resources,
    tables: &BTreeMap<GatewayKey, impl Borrow<RoutingTable>>,
    controller_name: &str,
) -> Owners {
    let namesakes = namesakes(resources);
    let gateways = resources.gateways.iter();
    gateways
        .filter_map(|(key, gateway)| {
            let class = &gateway.spec.gateway_class_name;
            let known = resources
                .gateway_classes
                .get(&ObjectKey::cluster(class.as_str()));
            let is_served = tables.contains_key(&GatewayKey::of(&key.namespace, &key.name));
            let is_theirs = known.is_some_and(|it| it.spec.controller_name != controller_name);
            if !is_served && !is_theirs {
                return None;
            }
            let owner = Owner {
                identity_secret: is_served.then(|| identity_secret_name(&key.name, class)),
                obstacle: namesakes.get(key).map(|holder| namesake::problem(holder)),
                // Without an identity it is no object of a cluster.
                reference: owner::reference(gateway)?,
            };
            Some((key.clone(), owner))
        })
        .collect()
}
