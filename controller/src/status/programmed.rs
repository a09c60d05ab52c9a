//! `Programmed` and the addresses of Gateways: what the data planes say, laid over what the translation wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_routing::{GatewayKey, Listener, ListenerKey, RoutingTable};

use super::{
    ConditionSet, ConditionStatus, GatewayAddress, GatewayStatus, Statuses, condition::kind, reason,
};
use crate::resources::{ObjectKey, Resources};

/// What is known of the running data planes.
#[derive(Clone, Debug)]
pub enum Observed {
    /// One proxy in this process serves every table at once.
    Standalone {
        /// The addresses that it is bound to; none means all of the machine's.
        addresses: Vec<GatewayAddress>,
    },
    /// Data planes of their own, one per Gateway. A Gateway that is absent has none yet.
    Cluster(BTreeMap<ObjectKey, Observation>),
}

impl Default for Observed {
    fn default() -> Self {
        Self::Cluster(BTreeMap::new())
    }
}

/// What is known of one Gateway's data plane.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The addresses that it is reached at.
    pub addresses: Vec<GatewayAddress>,
    /// The listeners of the last table that it acknowledged. One counts as programmed when it equals the wanted one.
    pub acknowledged: BTreeMap<ListenerKey, Arc<Listener>>,
    /// Listeners that it could not serve, and why.
    pub rejected: BTreeMap<ListenerKey, String>,
}

/// States `Programmed` and the addresses wherever they are for the data plane to say. May be called again with newer
/// observations.
pub fn observe(
    statuses: &mut Statuses,
    resources: &Resources,
    tables: &BTreeMap<GatewayKey, RoutingTable>,
    observed: &Observed,
) {
    let nothing = Observation::default();
    for (key, status) in &mut statuses.gateways {
        let Some(table) = tables.get(&GatewayKey::of(&key.namespace, &key.name)) else {
            continue;
        };
        let requested = requested_addresses(resources, key);
        match observed {
            Observed::Standalone { addresses } => {
                let observation = Observation {
                    addresses: if addresses.is_empty() {
                        requested.clone()
                    } else {
                        addresses.clone()
                    },
                    acknowledged: table.listeners.clone(),
                    rejected: BTreeMap::new(),
                };
                // A proxy on all of the machine's addresses needs to know none of them.
                observe_gateway(status, table, &observation, &requested, false);
            }
            Observed::Cluster(gateways) => {
                observe_gateway(
                    status,
                    table,
                    gateways.get(key).unwrap_or(&nothing),
                    &requested,
                    true,
                );
            }
        }
    }
}

fn observe_gateway(
    status: &mut GatewayStatus,
    table: &RoutingTable,
    observation: &Observation,
    requested: &[GatewayAddress],
    needs_address: bool,
) {
    use ConditionStatus::{False, True, Unknown};
    for listener in &mut status.listeners {
        let key = ListenerKey::of(&table.gateway, &listener.name);
        let Some(wanted) = table.listeners.get(&key) else {
            continue;
        };
        let conditions = &mut listener.conditions;
        if let Some(why) = observation.rejected.get(&key) {
            conditions.set(
                kind::PROGRAMMED,
                False,
                reason::INVALID,
                format!("The data plane cannot serve it: {why}"),
            );
        } else if observation.acknowledged.get(&key) == Some(wanted) {
            conditions.set(
                kind::PROGRAMMED,
                True,
                reason::PROGRAMMED,
                "Served by the data plane",
            );
        } else {
            conditions.set(
                kind::PROGRAMMED,
                Unknown,
                reason::PENDING,
                "Waiting for the data plane",
            );
        }
    }
    status.addresses = observation
        .addresses
        .iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .cloned()
        .collect();
    let served = table
        .listeners
        .keys()
        .any(|key| !observation.rejected.contains_key(key));
    let unusable = requested
        .iter()
        .find(|wanted| !observation.addresses.contains(wanted));
    let complete = table.listeners.iter().all(|(key, wanted)| {
        observation.rejected.contains_key(key) || observation.acknowledged.get(key) == Some(wanted)
    });
    let conditions: &mut ConditionSet = &mut status.conditions;
    let mut set =
        |status, reason, message: &str| conditions.set(kind::PROGRAMMED, status, reason, message);
    if table.listeners.is_empty() {
        set(False, reason::INVALID, "No listener can be served");
    } else if !served {
        set(
            False,
            reason::INVALID,
            "The data plane can serve none of the listeners",
        );
    } else if needs_address && observation.addresses.is_empty() {
        set(
            False,
            reason::ADDRESS_NOT_ASSIGNED,
            "No address has been assigned yet",
        );
    } else if let Some(address) = unusable {
        let message = format!(
            "spec.addresses: {} cannot be used; remove it, or make it available",
            address.value
        );
        set(False, reason::ADDRESS_NOT_USABLE, &message);
    } else if complete {
        set(True, reason::PROGRAMMED, "Served by the data plane");
    } else {
        set(Unknown, reason::PENDING, "Waiting for the data plane");
    }
}

/// The addresses of the spec that have a value.
fn requested_addresses(resources: &Resources, key: &ObjectKey) -> Vec<GatewayAddress> {
    let addresses = resources
        .gateways
        .get(key)
        .and_then(|gateway| gateway.spec.addresses.as_deref());
    addresses
        .unwrap_or_default()
        .iter()
        .filter_map(|address| {
            let value = address.value.clone().filter(|value| !value.is_empty())?;
            Some(GatewayAddress {
                kind: address.r#type.clone().unwrap_or_else(|| "IPAddress".into()),
                value,
            })
        })
        .collect()
}
