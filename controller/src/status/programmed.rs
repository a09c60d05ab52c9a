//! `Programmed` and the addresses of Gateways: what the data planes say, laid over what the translation wants.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::apis::experimental::gateways::Gateway;
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

impl Observation {
    /// Whether no data plane has said anything of its table yet.
    fn is_silent(&self) -> bool {
        self.acknowledged.is_empty() && self.rejected.is_empty()
    }
}

/// States `Programmed` and the addresses wherever they are for the data plane to say. May be called again with newer
/// observations.
pub fn observe(
    statuses: &mut Statuses,
    resources: &Resources,
    tables: &BTreeMap<GatewayKey, impl Borrow<RoutingTable>>,
    observed: &Observed,
) {
    let nothing = Observation::default();
    for (key, status) in &mut statuses.gateways {
        let Some(table) = tables.get(&GatewayKey::of(&key.namespace, &key.name)) else {
            continue;
        };
        let table = table.borrow();
        let gateway = resources.gateways.get(key);
        let requested = gateway.map(|gateway| requested_addresses(gateway));
        let requested = requested.unwrap_or_default();
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
                let observation = gateways.get(key).unwrap_or(&nothing);
                observe_gateway(status, table, observation, &requested, true);
                if observation.is_silent() {
                    status.conditions.make_provisional(kind::PROGRAMMED);
                    for listener in &mut status.listeners {
                        listener.conditions.make_provisional(kind::PROGRAMMED);
                    }
                }
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
        let wanted = table.listeners.get(&key);
        let Some(wanted) = wanted.filter(|wanted| table.has_certificate(wanted)) else {
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
    let servable = || {
        let listeners = table.listeners.iter();
        listeners.filter(|(_, wanted)| table.has_certificate(wanted))
    };
    let served = servable().any(|(key, _)| !observation.rejected.contains_key(key));
    let unusable = requested
        .iter()
        .find(|wanted| !observation.addresses.contains(wanted));
    let complete = servable().all(|(key, wanted)| {
        observation.rejected.contains_key(key) || observation.acknowledged.get(key) == Some(wanted)
    });
    let conditions: &mut ConditionSet = &mut status.conditions;
    let mut set =
        |status, reason, message: &str| conditions.set(kind::PROGRAMMED, status, reason, message);
    if servable().next().is_none() {
        set(False, reason::INVALID, "No listener can be served");
    } else if !served {
        set(
            False,
            reason::INVALID,
            "The data plane can serve none of the listeners",
        );
    } else if !complete {
        set(Unknown, reason::PENDING, "Waiting for the data plane");
    } else if let Some(address) = unusable {
        let message = format!(
            "spec.addresses: {} cannot be used; remove it, or make it available",
            address.value
        );
        set(False, reason::ADDRESS_NOT_USABLE, &message);
    } else if needs_address && observation.addresses.is_empty() {
        set(
            False,
            reason::ADDRESS_NOT_ASSIGNED,
            "No address has been assigned yet",
        );
    } else {
        set(True, reason::PROGRAMMED, "Served by the data plane");
    }
}

/// Lays over it what is in the way of the Gateways' infrastructure, by Gateway: what is served is still served, but for
/// what is not there is a reason.
pub fn obstruct(statuses: &mut Statuses, obstacles: &BTreeMap<ObjectKey, String>) {
    for (key, why) in obstacles {
        let Some(status) = statuses.gateways.get_mut(key) else {
            continue;
        };
        let conditions = &mut status.conditions;
        let message = format!("The infrastructure is not as it should be: {why}");
        match conditions.get(kind::PROGRAMMED) {
            Some(programmed) if programmed.status == ConditionStatus::True => {
                let message = format!("{}. {message}", programmed.message);
                conditions.set(
                    kind::PROGRAMMED,
                    ConditionStatus::True,
                    reason::PROGRAMMED,
                    message,
                );
            }
            // Nothing that the infrastructure could do would help.
            Some(programmed) if programmed.reason == reason::INVALID => {}
            _ => conditions.set(
                kind::PROGRAMMED,
                ConditionStatus::False,
                reason::NO_RESOURCES,
                message,
            ),
        }
    }
}

/// The addresses of the spec that have a value.
pub(crate) fn requested_addresses(gateway: &Gateway) -> Vec<GatewayAddress> {
    let addresses = gateway.spec.addresses.iter().flatten();
    addresses
        .filter_map(|address| {
            let value = address.value.clone().filter(|value| !value.is_empty())?;
            Some(GatewayAddress {
                kind: address.r#type.clone().unwrap_or_else(|| "IPAddress".into()),
                value,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifests::Loaded,
        status::Condition,
        translate::{Options, translate},
    };

    const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: portcullis
  listeners:
  - {name: one, port: 80, protocol: HTTP}
  - {name: two, port: 8080, protocol: HTTP}
";

    fn address(value: &str) -> GatewayAddress {
        GatewayAddress {
            kind: "IPAddress".into(),
            value: value.into(),
        }
    }

    /// Status and reason of `Programmed` of the Gateway and of its listeners.
    fn programmed(
        manifest: &str,
        change: impl FnOnce(&mut Observation),
    ) -> Vec<(ConditionStatus, &'static str)> {
        let status = observed(manifest, change);
        let short = |condition: &Condition| (condition.status, condition.reason);
        let listeners = status.listeners.iter().map(|listener| &listener.conditions);
        [&status.conditions]
            .into_iter()
            .chain(listeners)
            .map(|set| short(set.get(kind::PROGRAMMED).unwrap()))
            .collect()
    }

    /// The status of the Gateway.
    fn observed(manifest: &str, change: impl FnOnce(&mut Observation)) -> GatewayStatus {
        let mut loaded = Loaded::default();
        loaded.read_text("gateway.yaml", manifest);
        let options = Options {
            observed: Observed::default(),
            ..Options::standalone()
        };
        let mut translation = translate(&loaded.resources, &options);
        let mut observation = Observation {
            addresses: vec![address("192.0.2.1")],
            acknowledged: translation
                .tables
                .values()
                .flat_map(|table| table.listeners.clone())
                .collect(),
            rejected: BTreeMap::new(),
        };
        change(&mut observation);
        let observed = Observed::Cluster([(ObjectKey::new("default", "edge"), observation)].into());
        observe(
            &mut translation.statuses,
            &loaded.resources,
            &translation.tables,
            &observed,
        );
        translation.statuses.gateways.pop_first().unwrap().1
    }

    const PROGRAMMED: (ConditionStatus, &str) = (ConditionStatus::True, reason::PROGRAMMED);
    const PENDING: (ConditionStatus, &str) = (ConditionStatus::Unknown, reason::PENDING);
    const INVALID: (ConditionStatus, &str) = (ConditionStatus::False, reason::INVALID);

    #[test]
    fn all_is_programmed_once_every_listener_is_acknowledged_and_there_is_an_address() {
        assert_eq!(programmed(GATEWAY, |_| {}), [PROGRAMMED; 3]);
    }

    #[test]
    fn nothing_is_programmed_before() {
        assert_eq!(
            programmed(GATEWAY, |observation| *observation = Observation::default()),
            [PENDING; 3]
        );
    }

    /// Whether `Programmed` of the Gateway and of its listeners is left to what they say themselves.
    #[test]
    fn only_what_nothing_was_heard_of_is_provisional() {
        let provisional = |change: fn(&mut Observation)| {
            let status = observed(GATEWAY, change);
            let listeners = status.listeners.iter().map(|listener| &listener.conditions);
            let all = [&status.conditions].into_iter().chain(listeners);
            all.map(|set| set.get(kind::PROGRAMMED).unwrap().is_provisional)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            provisional(|observation| observation.acknowledged.clear()),
            [true; 3]
        );
        let late = |observation: &mut Observation| {
            observation.acknowledged.pop_first();
        };
        assert_eq!(provisional(late), [false; 3]);
        assert_eq!(provisional(|_| {}), [false; 3]);
    }

    #[test]
    fn a_listener_that_was_acknowledged_in_an_older_form_is_pending() {
        let stale = |observation: &mut Observation| {
            let listener = observation.acknowledged.values_mut().next().unwrap();
            Arc::make_mut(listener).hostname = Some("old.example.com".into());
        };
        assert_eq!(programmed(GATEWAY, stale), [PENDING, PENDING, PROGRAMMED]);
    }

    #[test]
    fn a_listener_that_the_data_plane_rejects_is_invalid_and_spares_the_others() {
        let reject = |observation: &mut Observation| {
            let (key, _) = observation.acknowledged.pop_first().unwrap();
            observation
                .rejected
                .insert(key, "the port is in use".into());
        };
        assert_eq!(
            programmed(GATEWAY, reject),
            [PROGRAMMED, INVALID, PROGRAMMED]
        );
        let reject_all = |observation: &mut Observation| {
            let keys = std::mem::take(&mut observation.acknowledged).into_keys();
            observation.rejected = keys.map(|key| (key, "the port is in use".into())).collect();
        };
        assert_eq!(programmed(GATEWAY, reject_all), [INVALID; 3]);
    }

    #[test]
    fn an_address_must_be_there_and_be_the_one_asked_for() {
        let none = |observation: &mut Observation| observation.addresses.clear();
        assert_eq!(
            programmed(GATEWAY, none)[0],
            (ConditionStatus::False, reason::ADDRESS_NOT_ASSIGNED)
        );
        let wanting = |value: &str| {
            GATEWAY.replace(
                "  listeners",
                &format!("  addresses: [{{value: {value}}}]\n  listeners"),
            )
        };
        assert_eq!(programmed(&wanting("192.0.2.1"), |_| {})[0], PROGRAMMED);
        let unusable = (ConditionStatus::False, reason::ADDRESS_NOT_USABLE);
        assert_eq!(programmed(&wanting("192.0.2.2"), |_| {})[0], unusable);
        // Nothing is going to be assigned in its place.
        assert_eq!(programmed(&wanting("192.0.2.2"), none)[0], unusable);
    }
}
