//! Gateways whose infrastructure would have the same name: `a` of class `b-c`, and `a-b` of class `c`.

use std::collections::{BTreeMap, btree_map::Entry};

use portcullis_routing::RouteOrder;

use super::infrastructure_name;
use crate::resources::{ObjectKey, Resources};

/// Gateways that get nothing, each with the one that has the name: the oldest, then the first by name. Whether that is
/// served just now makes no difference, so nothing goes from one to the other and back.
pub(super) fn namesakes(resources: &Resources) -> BTreeMap<&ObjectKey, &ObjectKey> {
    let mut gateways: Vec<_> = resources.gateways.iter().collect();
    gateways.sort_by_key(|(key, gateway)| {
        let created = gateway.metadata.creation_timestamp.as_ref();
        let created = created.map_or(RouteOrder::NEVER, |time| time.0.as_second());
        (created, *key)
    });
    let mut holders = BTreeMap::new();
    let mut namesakes = BTreeMap::new();
    for (key, gateway) in gateways {
        let class = gateway.spec.gateway_class_name.as_str();
        let Some(known) = resources.gateway_classes.get(&ObjectKey::cluster(class)) else {
            continue;
        };
        let controller = known.spec.controller_name.as_str();
        let name = infrastructure_name(&key.name, class);
        match holders.entry((controller, key.namespace.as_str(), name)) {
            Entry::Vacant(free) => drop(free.insert(key)),
            Entry::Occupied(holder) => drop(namesakes.insert(key, *holder.get())),
        }
    }
    namesakes
}

/// What is wrong, and what to do about it.
pub(super) fn problem(holder: &ObjectKey) -> String {
    format!(
        "Gateway {holder} is older, and its infrastructure has the same name, as that is the Gateway's and the class' \
         together; give this one another name"
    )
}
