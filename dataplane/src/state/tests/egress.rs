//! What is served in place of entries, policies and settings of egress that a proxy cannot use.

use portcullis_routing::{
    EntryKey, PolicyKey,
    egress::{Entry, Policy},
};
use serde_json::{Value, json};

use super::*;

pub(super) fn opens_egress(table: &mut RoutingTable) {
    Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
}

/// A wrong entry for these hosts, besides one that nobody understands.
pub(super) fn wrong_entry(hosts: &[&str]) -> Arc<Entry> {
    let hosts: Vec<_> = ["Bad"].iter().chain(hosts).collect();
    let entry = json!({
        "hosts": hosts, "ports": [{"number": 80, "protocol": "HTTP"}],
        "order": {"namespace": "ns", "name": "e", "rule": 0},
    });
    Arc::new(serde_json::from_value(entry).unwrap())
}

pub(super) fn shut_hosts(state: &TableState) -> Option<Vec<String>> {
    let served = snapshot(state);
    let entry = served.compiled.egress()?.entry(&EntryKey::of("ns", "e"))?;
    entry.is_shut().then(|| entry.hosts.clone())
}

fn ports(state: &TableState) -> Vec<u16> {
    let served = snapshot(state);
    served.compiled.ports().map(CompiledPort::port).collect()
}

/// Without it another entry might lead its callers elsewhere.
#[test]
fn a_rejected_entry_without_a_predecessor_refuses_whom_it_is_for() {
    let state = state();
    let key = EntryKey::of("ns", "e");
    let first = changed(&table(1, 1), |table| {
        Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
        let twice = json!({"number": 80, "protocol": "HTTP", "target_port": 8080});
        let entry = json!({
            "hosts": ["Bad", "api.example"], "ports": [twice, twice],
            "order": {"namespace": "ns", "name": "e", "rule": 0},
        });
        let entry = serde_json::from_value(entry).unwrap();
        table.entries.insert(key.clone(), Arc::new(entry));
    });
    let report = state.apply(first).unwrap();
    assert_eq!(rejected(&report), [(ResourceKind::Entry, key.as_str())]);
    let served = snapshot(&state);
    let entry = served.compiled.egress().unwrap().entry(&key).unwrap();
    assert!(entry.is_shut(), "{entry:?}");
    assert_eq!(
        (entry.hosts.as_slice(), entry.ports.len()),
        (&["api.example".to_owned()][..], 1)
    );
}

/// A refusal is no predecessor either.
#[test]
fn an_entry_refuses_whom_it_is_for_now() {
    let state = state();
    for host in ["a.example", "b.example"] {
        let table = changed(&table(1, 1), |table| {
            opens_egress(table);
            let entry = wrong_entry(&[host]);
            table.entries.insert(EntryKey::of("ns", "e"), entry);
        });
        state.apply(table).unwrap();
        assert_eq!(shut_hosts(&state), Some(vec![host.to_owned()]));
    }
}

/// A gateway that begins with egress needs the settings of it, whatever else is wrong with them.
#[test]
fn settings_without_egress_do_not_stand_in_for_those_with() {
    let state = state();
    let first = table(1, 1);
    state.apply(Arc::new(first.clone())).unwrap();
    let second = changed(&first, |table| {
        opens_egress(table);
        Arc::make_mut(&mut table.settings).limits.max_headers = 0;
        let mut out = Listener::clone(&plain(3128));
        out.direction = portcullis_routing::Direction::Egress;
        table.listeners.insert(listener("out"), out.into());
        let entry = wrong_entry(&["api.example"]);
        table.entries.insert(EntryKey::of("ns", "e"), entry);
    });
    state.apply(second).unwrap();
    assert_eq!(ports(&state), [3128, 8000]);
    assert_eq!(shut_hosts(&state), Some(vec!["api.example".to_owned()]));
}

fn policy_key() -> PolicyKey {
    PolicyKey::of("ns", "p")
}

fn with_policy(policy: Value) -> Arc<RoutingTable> {
    let policy: Policy = serde_json::from_value(policy).unwrap();
    changed(&table(1, 1), |table| {
        opens_egress(table);
        table.policies.insert(policy_key(), policy.into());
    })
}

/// A Deny for callers of these namespaces, of a path.
fn deny(namespaces: &[&str], path: &str) -> Arc<RoutingTable> {
    with_policy(json!({
        "scope": "Gateway", "action": "Deny",
        "from": [{"namespaces": namespaces}],
        "to": [{"paths": [{"Exact": path}]}],
    }))
}

fn policy(state: &TableState) -> Policy {
    let served = snapshot(state);
    assert!(
        !served
            .compiled
            .is_rejected(ResourceKind::Policy, policy_key().as_str())
    );
    Policy::clone(&served.compiled.table().policies[&policy_key()])
}

/// Callers that it selects only now must not pass meanwhile.
#[test]
fn a_policy_that_shuts_callers_out_is_no_predecessor() {
    let state = state();
    for namespaces in [&["a"][..], &["a", "b"]] {
        state.apply(deny(namespaces, "no path")).unwrap();
        let shut = policy(&state);
        assert_eq!(shut.to, None);
        let from = shut.from.unwrap();
        assert_eq!(from[0].namespaces.as_deref().unwrap(), namespaces);
    }
}

#[test]
fn a_rejected_policy_is_in_force_as_it_was_before() {
    let state = state();
    let good = deny(&["a"], "/a");
    state.apply(Arc::clone(&good)).unwrap();
    for path in ["one", "two"] {
        state.apply(deny(&["a"], path)).unwrap();
        assert_eq!(policy(&state), *good.policies[&policy_key()]);
    }
}

/// It may have let pass what is refused now.
#[test]
fn a_policy_that_is_for_others_or_says_something_else_is_no_predecessor() {
    let with = |change: Value, path: &str| {
        let mut policy = json!({
            "scope": {"Namespace": "a"}, "action": "Deny", "from": [{"namespaces": ["a"]}],
            "to": [{"paths": [{"Exact": path}]}],
        });
        for (field, value) in change.as_object().unwrap() {
            policy[field] = value.clone();
        }
        with_policy(policy)
    };
    let allow = json!({"scope": "Gateway", "action": "Allow"});
    let opens = json!({"scope": "Gateway", "action": "Allow", "allow_private": ["10.0.0.0/8"]});
    for (before, now, is_shut) in [
        (json!({}), json!({}), false),
        (json!({"mode": "Report"}), json!({}), true),
        (json!({"mode": "Report"}), json!({"mode": "Report"}), false),
        (json!({"action": "Allow"}), json!({}), true),
        (json!({"scope": "Gateway"}), json!({}), true),
        (json!({"from": [{"namespaces": ["b"]}]}), json!({}), true),
        (allow.clone(), allow.clone(), false),
        (opens.clone(), opens.clone(), false),
        (opens, allow, true),
    ] {
        let state = state();
        let first = state.apply(with(before.clone(), "/a")).unwrap();
        assert_eq!(rejected(&first), []);
        for path in ["one", "two"] {
            let report = state.apply(with(now.clone(), path)).unwrap();
            assert_eq!(
                rejected(&report),
                [(ResourceKind::Policy, policy_key().as_str())]
            );
            let denies_all = policy(&state).to.is_none();
            assert_eq!(denies_all, is_shut, "{before} {now}");
        }
    }
}

#[test]
fn a_rejected_policy_shuts_out_callers_in_any_order() {
    let state = state();
    state.apply(deny(&["b", "a"], "/a")).unwrap();
    let from = policy(&state).from.unwrap();
    assert_eq!(from[0].namespaces.as_deref().unwrap(), ["a", "b"]);
}
