//! `Programmed` and the addresses of Gateways, and `Programmed` of their ListenerSets, ServiceEntries and EgressPolicies: what the data planes say, laid over
//! what the translation wants.

mod egress;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::apis::experimental::gateways::Gateway;
use portcullis_routing::{EntryKey, GatewayKey, Listener, ListenerKey, PolicyKey, RoutingTable};

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

/// What Kubernetes says of the proxies of a Gateway of which it calls none ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    /// Nothing: what is to run them is not there, or was not looked at yet.
    Untold,
    /// That none is, and what to do about it.
    Told(String),
}

impl Observed {
    /// Lays over it which Gateways have no ready proxy.
    pub fn miss(&mut self, unready: &BTreeMap<ObjectKey, Unready>) {
        let Self::Cluster(gateways) = self else {
            return;
        };
        for (gateway, unready) in unready {
            let observation = gateways.entry(gateway.clone()).or_default();
            match unready {
                Unready::Told(why) => observation.unready = Some(why.clone()),
                // Those who have spoken are gone, and perhaps there will be no others.
                Unready::Untold if !observation.is_connected => observation.forget_words(),
                Unready::Untold => {}
            }
        }
    }

    /// Lays over it why Gateways have no address.
    pub fn lack_addresses(&mut self, unaddressed: BTreeMap<ObjectKey, String>) {
        let Self::Cluster(gateways) = self else {
            return;
        };
        for (gateway, why) in unaddressed {
            gateways.entry(gateway).or_default().unaddressed = Some(why);
        }
    }
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
    /// Why there is none, and what to do about it, as far as is known.
    pub unaddressed: Option<String>,
    /// Whether any of its proxies is connected to a controller. What they have said stays when all are gone.
    pub is_connected: bool,
    /// The listeners of the last table that it acknowledged. One counts as programmed when it equals the wanted one.
    pub acknowledged: BTreeMap<ListenerKey, Arc<Listener>>,
    /// Listeners that it could not serve, and why.
    pub rejected: BTreeMap<ListenerKey, String>,
    /// Every table that one of its proxies serves, the last one and those of proxies that are late. Where all are gone it is the one
    /// that was served last.
    pub served: Vec<Served>,
    /// Whether a proxy serves a table that is not known here.
    pub serves_unknown: bool,
    /// Why none of its proxies is ready, so that no client can connect; `None` also while that is not known.
    pub unready: Option<String>,
}

/// A table that is served, and what of egress is not served of it, and why. An entry or policy counts as programmed when every table
/// that is served has it as it is wanted.
#[derive(Clone, Debug)]
pub struct Served {
    /// The table.
    pub table: Arc<RoutingTable>,
    /// Entries of the allow-list that a proxy rejects.
    pub rejected_entries: BTreeMap<EntryKey, String>,
    /// Policies of egress that a proxy rejects.
    pub rejected_policies: BTreeMap<PolicyKey, String>,
}

impl Observation {
    /// Whether no data plane has said anything of its table yet.
    fn is_silent(&self) -> bool {
        self.acknowledged.is_empty() && self.rejected.is_empty()
    }

    fn forget_words(&mut self) {
        self.acknowledged.clear();
        self.rejected.clear();
        self.served.clear();
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
    egress::observe(statuses, tables, observed);
    let nothing = Observation::default();
    let mut sets = sets_by_gateway(statuses, resources);
    for (key, status) in &mut statuses.gateways {
        let Some(table) = tables.get(&GatewayKey::of(&key.namespace, &key.name)) else {
            // One that is refused now may still be served as it was: who makes DNS records of its addresses must not lose them.
            if let Observed::Cluster(gateways) = observed {
                let observation = gateways.get(key).unwrap_or(&nothing);
                status.addresses = distinct(&observation.addresses);
            }
            let own = status.listeners.iter_mut().map(|it| &mut it.conditions);
            own.chain([&mut status.conditions]).for_each(let_stand);
            for set in sets.remove(key).unwrap_or_default() {
                if let Some(status) = statuses.listener_sets.get_mut(&set) {
                    let listeners = status.listeners.iter_mut().map(|it| &mut it.conditions);
                    let all = listeners.chain([&mut status.conditions]);
                    all.for_each(let_stand);
                }
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
                is_connected: true,
                acknowledged: table.listeners.clone(),
                ..Observation::default()
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

/// What is held back without being refused is as it was, as far as is known.
fn let_stand(conditions: &mut ConditionSet) {
    if conditions.is_unknown(kind::PROGRAMMED) {
        conditions.make_provisional(kind::PROGRAMMED);
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
        let verdict = self.judge(&concerned);
        let verdict = self.hindrance(&verdict).unwrap_or(verdict);
        let too_long = status.too_long.clone();
        let too_long = too_long.map(|why| (ConditionStatus::False, reason::INVALID, why));
        self.state(&mut status.conditions, too_long.unwrap_or(verdict));
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
        let verdict = self.judge(&served);
        let verdict = match self.hindrance(&verdict) {
            Some((programmed, _, message)) => {
                let message = format!("The Gateway is not programmed: {message}");
                (programmed, reason::PARENT_NOT_PROGRAMMED, message)
            }
            None => verdict,
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
        let verdict = match self.hindrance(&verdict) {
            Some((programmed, _, message)) if !self.has_entrance() => {
                (programmed, reason::PENDING, message)
            }
            _ => verdict,
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

    /// Whether a client can connect anywhere, as far as is known.
    fn has_entrance(&self) -> bool {
        let has_address = !self.needs_address || !self.observation.addresses.is_empty();
        has_address && self.observation.unready.is_none()
    }

    /// What keeps clients from what the data plane has been given, or is to be given.
    fn hindrance(&self, (status, ..): &Verdict) -> Option<Verdict> {
        let unready = self.observation.unready.clone();
        let unready = unready.map(|why| (ConditionStatus::False, reason::PENDING, why));
        match status {
            ConditionStatus::True => unready.or_else(|| self.unreachable()),
            ConditionStatus::Unknown => unready,
            ConditionStatus::False => None,
        }
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
            let unknown = || "No address has been assigned yet".to_owned();
            let why = self.observation.unaddressed.clone();
            (
                ConditionStatus::False,
                reason::ADDRESS_NOT_ASSIGNED,
                why.unwrap_or_else(unknown),
            )
        })
    }
}

/// Lays over it what is in the way of the Gateways' infrastructure, by Gateway: what is served is still served, but for
/// what is not there is a reason, beside what else is missing.
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
                let message = match programmed {
                    Some(programmed) if programmed.status == ConditionStatus::False => {
                        format!("{}. {message}", programmed.message)
                    }
                    _ => message,
                };
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
mod tests;
