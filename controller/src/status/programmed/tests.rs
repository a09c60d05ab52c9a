//! What `Programmed` says of what is known of the data planes.

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
        is_connected: true,
        acknowledged: translation
            .tables
            .values()
            .flat_map(|table| table.listeners.clone())
            .collect(),
        rejected: BTreeMap::new(),
        ..Observation::default()
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
const NOT_YET: (ConditionStatus, &str) = (ConditionStatus::False, reason::PENDING);
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
    let allowed = "  allowedListeners: {namespaces: {from: Same}}\n  gatewayClassName: portcullis";
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
            NOT_YET,
            NOT_YET,
            (ConditionStatus::False, reason::ADDRESS_NOT_ASSIGNED),
        ]
    );
}

#[test]
fn without_a_ready_proxy_nothing_is_programmed() {
    let unready = |observation: &mut Observation| observation.unready = Some("none".into());
    assert_eq!(programmed(GATEWAY, unready), [NOT_YET; 3]);
    let no_parent = (ConditionStatus::False, reason::PARENT_NOT_PROGRAMMED);
    assert_eq!(of_set(unready), [no_parent, NOT_YET, NOT_YET, NOT_YET]);
    // That they are silent is no wonder then.
    let silent = |observation: &mut Observation| {
        observation.acknowledged.clear();
        unready(observation);
    };
    let (_, status) = observed(GATEWAY, silent).gateways.pop_first().unwrap();
    assert_eq!(stated(&status.conditions, &status.listeners), [NOT_YET; 3]);
    let stated = status.conditions.get(kind::PROGRAMMED).unwrap();
    assert!(!stated.is_provisional && stated.message == "none");
    // What no proxy can serve is not served by more of them.
    let rejected = |observation: &mut Observation| {
        let (key, _) = observation.acknowledged.pop_first().unwrap();
        observation.rejected.insert(key, "taken".into());
        unready(observation);
    };
    assert_eq!(programmed(GATEWAY, rejected), [NOT_YET, INVALID, NOT_YET]);
}

#[test]
fn what_proxies_have_said_that_are_gone_counts_unless_there_is_nothing_to_start_others() {
    let stated = |is_connected: bool, unready: Option<Unready>| {
        let missing = unready.map(|unready| (ObjectKey::new("default", "edge"), unready));
        let miss = |observation: &mut Observation| {
            observation.is_connected = is_connected;
            let mut observed = Observed::Cluster(
                [(ObjectKey::new("default", "edge"), observation.clone())].into(),
            );
            observed.miss(&missing.into_iter().collect());
            let Observed::Cluster(mut gateways) = observed else {
                panic!("{observed:?}");
            };
            *observation = gateways.pop_first().unwrap().1;
        };
        programmed(GATEWAY, miss)
    };
    assert_eq!(stated(false, None), [PROGRAMMED; 3]);
    assert_eq!(stated(true, Some(Unready::Untold)), [PROGRAMMED; 3]);
    assert_eq!(stated(false, Some(Unready::Untold)), [PENDING; 3]);
    let told = Some(Unready::Told("none".into()));
    assert_eq!(stated(true, told), [NOT_YET; 3]);
}

#[test]
fn what_is_missing_and_what_is_in_the_way_are_told_together() {
    let told = |change: fn(&mut Observation)| {
        let mut statuses = observed(GATEWAY, change);
        let edge = ObjectKey::new("default", "edge");
        obstruct(&mut statuses, &[(edge, "the quota".to_owned())].into());
        let status = statuses.gateways.pop_first().unwrap().1;
        let condition = status.conditions.get(kind::PROGRAMMED).unwrap();
        (condition.reason, condition.message.clone())
    };
    let quota = "The infrastructure is not as it should be: the quota";
    let both = |missing: &str| (reason::NO_RESOURCES, format!("{missing}. {quota}"));
    let unready: fn(&mut Observation) = |it| it.unready = Some("0 of 2 proxies are ready".into());
    assert_eq!(told(unready), both("0 of 2 proxies are ready"));
    let nowhere: fn(&mut Observation) = |it| it.addresses.clear();
    assert_eq!(told(nowhere), both("No address has been assigned yet"));
    let why: fn(&mut Observation) = |it| {
        it.addresses.clear();
        it.unaddressed = Some("no load balancer".into());
    };
    assert_eq!(told(why), both("no load balancer"));
    // That is waited for follows from it.
    let silent: fn(&mut Observation) = |it| *it = Observation::default();
    assert_eq!(told(silent), (reason::NO_RESOURCES, quota.to_owned()));
}

/// A table that is served, with everything in it.
fn serves(table: RoutingTable) -> Served {
    Served {
        table: Arc::new(table),
        rejected_entries: BTreeMap::new(),
        rejected_policies: BTreeMap::new(),
    }
}

/// `Programmed` of an entry at the egress Gateways `old` and `new`, the data planes of which have this said.
fn of_entry(
    old: impl FnOnce(&mut Observation),
    new: impl FnOnce(&mut Observation),
) -> (ConditionStatus, String, bool) {
    let gateway = |name: &str| {
        GATEWAY
            .replace("name: edge", &format!("name: {name}"))
            .replace(": portcullis", ": portcullis-egress")
    };
    let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}]}
";
    let mut loaded = Loaded::default();
    let manifests = [gateway("old"), gateway("new"), entry.to_owned()];
    loaded.read_text("all.yaml", &manifests.join("---"));
    let options = Options {
        observed: Observed::default(),
        ..Options::standalone()
    };
    let mut translation = translate(&loaded.resources, &options);
    let said = |name: &str| {
        let key = portcullis_routing::GatewayKey::of("default", name);
        let table = &translation.tables[&key];
        Observation {
            acknowledged: table.listeners.clone(),
            served: vec![serves(table.clone())],
            ..Observation::default()
        }
    };
    let (mut of_old, mut of_new) = (said("old"), said("new"));
    old(&mut of_old);
    new(&mut of_new);
    let all = [("old", of_old), ("new", of_new)];
    let all = all.map(|(name, said)| (ObjectKey::new("default", name), said));
    observe(
        &mut translation.statuses,
        &loaded.resources,
        &translation.tables,
        &Observed::Cluster(all.into()),
    );
    let conditions = translation.statuses.service_entries.pop_first().unwrap().1;
    let condition = conditions.get(kind::SERVICE_ENTRY_PROGRAMMED).unwrap();
    let said = condition.message.clone();
    (condition.status, said, condition.is_provisional)
}

#[test]
fn an_entry_stays_programmed_while_a_new_gateway_has_no_data_plane() {
    use ConditionStatus::{True, Unknown};
    let silent = |observation: &mut Observation| *observation = Observation::default();
    let without = |observation: &mut Observation| {
        let table = Arc::make_mut(&mut observation.served[0].table);
        table.entries.clear();
    };
    let served = "Served by the data planes of every egress Gateway that it is for";
    assert_eq!(of_entry(|_| {}, |_| {}), (True, served.to_owned(), false));
    // A leader that has just begun may be about to hear of it.
    let new = format!("{served}; Gateway default/new has none yet");
    assert_eq!(of_entry(|_| {}, silent), (True, new, true));
    let (status, message, is_provisional) = of_entry(|_| {}, without);
    assert!(
        status == Unknown && message.contains("default/new") && !is_provisional,
        "{message}"
    );
    assert_eq!(of_entry(silent, silent).0, Unknown);
    assert_eq!(of_entry(without, silent).0, Unknown);
}

#[test]
fn an_entry_is_programmed_once_no_data_plane_has_another_form_of_it() {
    use ConditionStatus::{False, True, Unknown};
    // One that is late serves another table, of which the first entry is changed so.
    let late = |change: fn(&mut RoutingTable)| {
        move |observation: &mut Observation| {
            let mut table = RoutingTable::clone(&observation.served[0].table);
            change(&mut table);
            observation.served.insert(0, serves(table));
        }
    };
    let (status, message, is_provisional) = of_entry(|_| {}, late(|table| table.entries.clear()));
    assert!(
        status == Unknown && message.contains("another form of it") && !is_provisional,
        "{message}"
    );
    let closed = |table: &mut RoutingTable| {
        let entry = table.entries.values_mut().next().unwrap();
        Arc::make_mut(entry).ports.clear();
    };
    assert_eq!(of_entry(|_| {}, late(closed)).0, Unknown);
    let (status, ..) = of_entry(|_| {}, late(|table| table.listeners.clear()));
    assert_eq!(status, True, "of the entry it has what it should");

    let strange = |observation: &mut Observation| observation.serves_unknown = true;
    let (status, _, is_provisional) = of_entry(|_| {}, strange);
    assert!(status == Unknown && is_provisional);

    let rejects = |observation: &mut Observation| {
        for served in &mut observation.served {
            let keys = served.table.entries.keys();
            served.rejected_entries = keys.map(|key| (key.clone(), "no".to_owned())).collect();
        }
    };
    assert_eq!(of_entry(|_| {}, rejects).0, False);
    let rejected_before = |observation: &mut Observation| {
        let keys: Vec<_> = observation.served[0]
            .table
            .entries
            .keys()
            .cloned()
            .collect();
        late(closed)(observation);
        let before = &mut observation.served[0];
        before.rejected_entries = keys.into_iter().map(|key| (key, "no".to_owned())).collect();
    };
    assert_eq!(of_entry(|_| {}, rejected_before).0, Unknown);
}
