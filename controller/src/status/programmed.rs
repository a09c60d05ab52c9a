//! `Programmed` and the addresses of Gateways, and `Programmed` of their ListenerSets: what the data planes say, laid over
//! what the translation wants.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::apis::experimental::gateways::Gateway;
use portcullis_routing::{GatewayKey, Listener, ListenerKey, RoutingTable};

use super::{
    ConditionSet, ConditionStatus, GatewayAddress, GatewayStatus, ListenerSetStatus, Statuses,
    condition::kind, reason,
};
use crate::{
    resources::{ObjectKey, Resources},
    translate::gateway_of,
};

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
    let mut sets = sets_by_gateway(statuses, resources);
    for (key, status) in &mut statuses.gateways {
        let Some(table) = tables.get(&GatewayKey::of(&key.namespace, &key.name)) else {
            // One that is refused now may still be served as it was: who makes DNS records of its addresses must not lose them.
            if let Observed::Cluster(gateways) = observed {
                let observation = gateways.get(key).unwrap_or(&nothing);
                status.addresses = distinct(&observation.addresses);
            }
            continue;
        };
        let table = table.borrow();
        let gateway = resources.gateways.get(key);
        let requested = gateway.map(|gateway| requested_addresses(gateway));
        let requested = requested.unwrap_or_default();
        let standalone = match observed {
            Observed::Standalone { addresses } => Some(Observation {
                addresses: if addresses.is_empty() {
                    requested.clone()
                } else {
                    addresses.clone()
                },
                acknowledged: table.listeners.clone(),
                rejected: BTreeMap::new(),
            }),
            Observed::Cluster(_) => None,
        };
        let observation = match observed {
            Observed::Standalone { .. } => standalone.as_ref(),
            Observed::Cluster(gateways) => gateways.get(key),
        };
        let view = View {
            table,
            observation: observation.unwrap_or(&nothing),
            requested: &requested,
            // A proxy on all of the machine's addresses needs to know none of them.
            needs_address: standalone.is_none(),
        };
        view.observe_gateway(status);
        for set in sets.remove(key).unwrap_or_default() {
            if let Some(status) = statuses.listener_sets.get_mut(&set) {
                view.observe_set(&set, status);
            }
        }
    }
}

/// Each address once, in order.
fn distinct(addresses: &[GatewayAddress]) -> Vec<GatewayAddress> {
    let distinct: BTreeSet<_> = addresses.iter().cloned().collect();
    distinct.into_iter().collect()
}

/// The ListenerSets of each Gateway.
fn sets_by_gateway(
    statuses: &Statuses,
    resources: &Resources,
) -> BTreeMap<ObjectKey, Vec<ObjectKey>> {
    let mut sets = BTreeMap::<_, Vec<_>>::new();
    for key in statuses.listener_sets.keys() {
        let set = resources.listener_sets.get(key);
        if let Some(gateway) = set.and_then(|set| gateway_of(key, set)) {
            sets.entry(gateway).or_default().push(key.clone());
        }
    }
    sets
}

/// What a condition is to say.
type Verdict = (ConditionStatus, &'static str, String);

/// One Gateway's table beside what is known of its data plane.
struct View<'a> {
    table: &'a RoutingTable,
    observation: &'a Observation,
    requested: &'a [GatewayAddress],
    needs_address: bool,
}

impl View<'_> {
    fn observe_gateway(&self, status: &mut GatewayStatus) {
        let mut own = Vec::new();
        for listener in &mut status.listeners {
            let key = ListenerKey::of(&self.table.gateway, &listener.name);
            if self.observe_listener(&key, &mut listener.conditions) {
                own.push(key);
            }
        }
        status.addresses = distinct(&self.observation.addresses);
        // A ListenerSet comes and goes without a flicker of the Gateway, unless there is nothing else to serve.
        let concerned = if own.is_empty() {
            let all = self.table.listeners.keys();
            all.filter(|key| self.wanted(key).is_some())
                .cloned()
                .collect()
        } else {
            own
        };
        let verdict = match self.judge(&concerned) {
            served @ (ConditionStatus::True, ..) => self.unreachable().unwrap_or(served),
            verdict => verdict,
        };
        self.state(&mut status.conditions, verdict);
    }

    fn observe_set(&self, set: &ObjectKey, status: &mut ListenerSetStatus) {
        let mut served = Vec::new();
        for listener in &mut status.listeners {
            let gateway = &self.table.gateway;
            let key = ListenerKey::of_set(gateway, &set.namespace, &set.name, &listener.name);
            if self.observe_listener(&key, &mut listener.conditions) {
                served.push(key);
            }
        }
        if served.is_empty() {
            return;
        }
        let verdict = match (self.judge(&served), self.unreachable()) {
            ((ConditionStatus::True, ..), Some((programmed, _, message))) => {
                let message = format!("The Gateway is not programmed: {message}");
                (programmed, reason::PARENT_NOT_PROGRAMMED, message)
            }
            (verdict, _) => verdict,
        };
        self.state(&mut status.conditions, verdict);
    }

    /// States `Programmed`. It is provisional while nothing was heard of the data plane.
    fn state(&self, conditions: &mut ConditionSet, (status, reason, message): Verdict) {
        conditions.set(kind::PROGRAMMED, status, reason, message);
        if status == ConditionStatus::Unknown && self.observation.is_silent() {
            conditions.make_provisional(kind::PROGRAMMED);
        }
    }

    /// The listener as the data plane should have it, if there is anything to have.
    fn wanted(&self, key: &ListenerKey) -> Option<&Arc<Listener>> {
        let wanted = self.table.listeners.get(key);
        wanted.filter(|wanted| self.table.has_certificate(wanted))
    }

    fn is_acknowledged(&self, key: &ListenerKey) -> bool {
        self.observation.acknowledged.get(key) == self.wanted(key)
    }

    /// States `Programmed` of a listener, if it is for the data plane to say; returns whether it is.
    fn observe_listener(&self, key: &ListenerKey, conditions: &mut ConditionSet) -> bool {
        use ConditionStatus::{False, True, Unknown};
        if self.wanted(key).is_none() {
            return false;
        }
        let verdict = if let Some(why) = self.observation.rejected.get(key) {
            let message = format!("The data plane cannot serve it: {why}");
            (False, reason::INVALID, message)
        } else if self.is_acknowledged(key) {
            (True, reason::PROGRAMMED, "Served by the data plane".into())
        } else {
            let message = "Waiting for the data plane".into();
            (Unknown, reason::PENDING, message)
        };
        self.state(conditions, verdict);
        true
    }

    /// What these listeners together make of `Programmed`.
    fn judge(&self, listeners: &[ListenerKey]) -> Verdict {
        use ConditionStatus::{False, True, Unknown};
        let is_rejected = |key: &ListenerKey| self.observation.rejected.contains_key(key);
        let (status, reason, message) = if listeners.is_empty() {
            (False, reason::INVALID, "No listener can be served")
        } else if listeners.iter().all(is_rejected) {
            let message = "The data plane can serve none of the listeners";
            (False, reason::INVALID, message)
        } else if !listeners
            .iter()
            .all(|key| is_rejected(key) || self.is_acknowledged(key))
        {
            (Unknown, reason::PENDING, "Waiting for the data plane")
        } else {
            (True, reason::PROGRAMMED, "Served by the data plane")
        };
        (status, reason, message.into())
    }

    /// Why the Gateway cannot be reached where it should be, if so.
    fn unreachable(&self) -> Option<Verdict> {
        let addresses = &self.observation.addresses;
        let mut requested = self.requested.iter();
        if let Some(unusable) = requested.find(|wanted| !addresses.contains(wanted)) {
            let message = format!(
                "spec.addresses: {} cannot be used; remove it, or make it available",
                unusable.value
            );
            return Some((ConditionStatus::False, reason::ADDRESS_NOT_USABLE, message));
        }
        (self.needs_address && addresses.is_empty()).then(|| {
            (
                ConditionStatus::False,
                reason::ADDRESS_NOT_ASSIGNED,
                "No address has been assigned yet".into(),
            )
        })
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
            programmed => {
                let is_provisional = programmed.is_some_and(|it| it.is_provisional);
                conditions.set(
                    kind::PROGRAMMED,
                    ConditionStatus::False,
                    reason::NO_RESOURCES,
                    message,
                );
                // What is in the way of a part of it takes nothing from proxies that have not spoken up yet.
                if is_provisional {
                    conditions.make_provisional(kind::PROGRAMMED);
                }
            }
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
        status::{Condition, ListenerStatus},
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
        let mut statuses = observed(manifest, change);
        let (_, status) = statuses.gateways.pop_first().unwrap();
        stated(&status.conditions, &status.listeners)
    }

    fn stated(
        own: &ConditionSet,
        listeners: &[ListenerStatus],
    ) -> Vec<(ConditionStatus, &'static str)> {
        let short = |condition: &Condition| (condition.status, condition.reason);
        let listeners = listeners.iter().map(|listener| &listener.conditions);
        std::iter::once(own)
            .chain(listeners)
            .map(|set| short(set.get(kind::PROGRAMMED).unwrap()))
            .collect()
    }

    fn observed(manifest: &str, change: impl FnOnce(&mut Observation)) -> Statuses {
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
        translation.statuses
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
            let status = observed(GATEWAY, change).gateways.pop_first().unwrap().1;
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
    fn an_obstacle_does_not_speak_for_proxies_that_are_silent() {
        let obstructed = |change: fn(&mut Observation)| {
            let mut statuses = observed(GATEWAY, change);
            let edge = ObjectKey::new("default", "edge");
            obstruct(&mut statuses, &[(edge, "the quota".to_owned())].into());
            let status = statuses.gateways.pop_first().unwrap().1;
            let condition = status.conditions.get(kind::PROGRAMMED).unwrap();
            (condition.reason, condition.is_provisional)
        };
        assert_eq!(
            obstructed(|observation| *observation = Observation::default()),
            (reason::NO_RESOURCES, true)
        );
        let late = |observation: &mut Observation| {
            observation.acknowledged.pop_first();
        };
        assert_eq!(obstructed(late), (reason::NO_RESOURCES, false));
        assert_eq!(obstructed(|_| {}), (reason::PROGRAMMED, false));
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

    /// Status and reason of `Programmed` of a ListenerSet beside [`GATEWAY`] and of its listeners, then of the Gateway.
    fn of_set(change: impl FnOnce(&mut Observation)) -> Vec<(ConditionStatus, &'static str)> {
        let allowed =
            "  allowedListeners: {namespaces: {from: Same}}\n  gatewayClassName: portcullis";
        let manifest = GATEWAY.replace("  gatewayClassName: portcullis", allowed)
            + "---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: shop}
spec:
  parentRef: {name: edge}
  listeners:
  - {name: one, port: 81, protocol: HTTP}
  - {name: two, port: 82, protocol: HTTP}
";
        let statuses = observed(&manifest, change);
        let (_, set) = statuses.listener_sets.first_key_value().unwrap();
        let (_, gateway) = statuses.gateways.first_key_value().unwrap();
        let mut all = stated(&set.conditions, &set.listeners);
        all.extend(stated(&gateway.conditions, &[]));
        all
    }

    fn key_of_set(listener: &str) -> ListenerKey {
        ListenerKey::of_set(
            &GatewayKey::of("default", "edge"),
            "default",
            "shop",
            listener,
        )
    }

    #[test]
    fn a_listener_set_is_programmed_once_its_own_listeners_are_acknowledged() {
        assert_eq!(of_set(|_| {}), [PROGRAMMED; 4]);
        let late = |observation: &mut Observation| {
            observation.acknowledged.remove(&key_of_set("two"));
        };
        assert_eq!(
            of_set(late),
            [PENDING, PROGRAMMED, PENDING, PROGRAMMED],
            "the Gateway does not wait for it"
        );
        let only_sets = |observation: &mut Observation| {
            let is_of_set = |key: &ListenerKey| key.listener_set().is_some();
            observation.acknowledged.retain(|key, _| is_of_set(key));
        };
        assert_eq!(
            of_set(only_sets),
            [PROGRAMMED, PROGRAMMED, PROGRAMMED, PENDING],
            "nor it for the Gateway's own listeners"
        );
    }

    #[test]
    fn a_listener_set_needs_one_listener_that_is_served_and_an_address() {
        let reject = |names: &'static [&str]| {
            move |observation: &mut Observation| {
                let rejected = names.iter().map(|name| (key_of_set(name), "taken".into()));
                observation.rejected = rejected.collect();
            }
        };
        assert_eq!(
            of_set(reject(&["two"])),
            [PROGRAMMED, PROGRAMMED, INVALID, PROGRAMMED]
        );
        assert_eq!(
            of_set(reject(&["one", "two"])),
            [INVALID, INVALID, INVALID, PROGRAMMED]
        );
        let nowhere = |observation: &mut Observation| observation.addresses.clear();
        assert_eq!(
            of_set(nowhere),
            [
                (ConditionStatus::False, reason::PARENT_NOT_PROGRAMMED),
                PROGRAMMED,
                PROGRAMMED,
                (ConditionStatus::False, reason::ADDRESS_NOT_ASSIGNED),
            ]
        );
    }
}
