//! Whether a table decides as the one before it, so that what is under way need not be decided anew.

use std::{collections::BTreeMap, sync::Arc};

use super::{CompiledListener, CompiledTable};
use crate::{
    delta::{same, unchanged},
    egress::CompiledEgress,
    key::ListenerKey,
    table::RoutingTable,
};

/// Tells tables that follow one another apart, as far as they decide who may reach what outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Changes with listeners, certificates, entries, policies, and the settings of egress.
    pub rules: u64,
    /// Changes with workloads.
    pub workloads: u64,
}

impl Generation {
    /// That of a table, whose listeners and rules of egress are these.
    pub(super) fn after<P>(
        previous: Option<&CompiledTable<P>>,
        table: &RoutingTable,
        listeners: &BTreeMap<ListenerKey, Arc<CompiledListener<P>>>,
        egress: Option<&CompiledEgress>,
    ) -> Self {
        let Some(previous) = previous else {
            return Self::default();
        };
        let (rules, workloads) = match (&previous.egress, egress) {
            (Some(old), Some(new)) => (new.decides_as(old), new.knows_as(old)),
            (old, new) => {
                let neither = old.is_none() && new.is_none();
                (neither, neither)
            }
        };
        let rules = rules
            && unchanged(&previous.table.certificates, &table.certificates)
            && are_same(&previous.listeners, listeners);
        let before = previous.generation;
        Self {
            rules: before.rules + u64::from(!rules),
            workloads: before.workloads + u64::from(!workloads),
        }
    }
}

/// Whether listeners are the same, whatever became of their routes.
fn are_same<P>(
    old: &BTreeMap<ListenerKey, Arc<CompiledListener<P>>>,
    new: &BTreeMap<ListenerKey, Arc<CompiledListener<P>>>,
) -> bool {
    old.len() == new.len()
        && old.iter().zip(new).all(|((old_key, old), (new_key, new))| {
            old_key == new_key && same(old.listener(), new.listener())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EntryKey, GatewayKey, Listener, ListenerProtocol, PolicyKey, WorkloadKey,
        compile::compile,
        egress::{EgressSettings, Workload},
        listener::Direction,
    };

    fn listener(hostname: Option<&str>) -> Arc<Listener> {
        Arc::new(Listener {
            port: 80,
            protocol: ListenerProtocol::Http,
            hostname: hostname.map(str::to_owned),
            tls: None,
            direction: Direction::Egress,
        })
    }

    fn table() -> RoutingTable {
        let gateway = GatewayKey::of("test", "gateway");
        let mut table = RoutingTable::new(gateway.clone());
        let key = ListenerKey::of(&gateway, "http");
        table.listeners.insert(key, listener(None));
        Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
        table
    }

    type Change<'a> = Box<dyn Fn(&mut RoutingTable) + 'a>;

    #[test]
    fn what_decides_makes_another_generation_and_nothing_else_does() {
        let entry = serde_json::json!({
            "hosts": ["a.example"], "ports": [{"number": 80, "protocol": "HTTP"}],
            "order": {"created_at": 0, "namespace": "test", "name": "a", "rule": 0},
        });
        let entry = Arc::new(serde_json::from_value(entry).unwrap());
        let policy = serde_json::json!({"scope": "Gateway", "action": "Deny"});
        let policy = Arc::new(serde_json::from_value(policy).unwrap());
        let workload = Arc::new(Workload {
            namespace: "a".into(),
            service_account: "x".into(),
            pod: "a-1".into(),
            labels: BTreeMap::new(),
            proxy_of: None,
        });
        let key = || ListenerKey::of(&GatewayKey::of("test", "gateway"), "http");
        let changes: [(Change<'_>, bool, bool); 8] = [
            (Box::new(|_| {}), false, false),
            (
                Box::new(|table| Arc::make_mut(&mut table.settings).limits.max_connections = 7),
                false,
                false,
            ),
            (
                Box::new(|table| {
                    let address = "192.0.2.1".parse().unwrap();
                    table
                        .workloads
                        .insert(WorkloadKey::of(address), Arc::clone(&workload));
                }),
                false,
                true,
            ),
            (
                Box::new(|table| {
                    table
                        .entries
                        .insert(EntryKey::of("test", "a"), Arc::clone(&entry));
                }),
                true,
                false,
            ),
            (
                Box::new(|table| {
                    table
                        .policies
                        .insert(PolicyKey::of("test", "p"), Arc::clone(&policy));
                }),
                true,
                false,
            ),
            (
                Box::new(|table| {
                    let settings = Arc::make_mut(&mut table.settings);
                    let egress = settings.egress.as_mut().unwrap();
                    egress.protected.push("198.51.100.0/24".parse().unwrap());
                }),
                true,
                false,
            ),
            (
                Box::new(|table| _ = table.listeners.insert(key(), listener(Some("a.example")))),
                true,
                false,
            ),
            (
                Box::new(|table| Arc::make_mut(&mut table.settings).egress = None),
                true,
                true,
            ),
        ];
        let mut table = table();
        let (mut compiled, _) = compile(None, Arc::new(table.clone()), |_, _| Ok(()));
        for (number, (change, rules, workloads)) in changes.iter().enumerate() {
            let before = compiled.generation();
            change(&mut table);
            (compiled, _) = compile(Some(&compiled), Arc::new(table.clone()), |_, _| Ok(()));
            let after = compiled.generation();
            let differ = (
                after.rules != before.rules,
                after.workloads != before.workloads,
            );
            assert_eq!(differ, (*rules, *workloads), "{number}");
        }
        // What was left out of sight in between is not taken for what it was.
        let without = compiled.generation();
        Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
        let (again, _) = compile(Some(&compiled), Arc::new(table), |_, _| Ok(()));
        assert!(again.generation().rules > without.rules);
    }
}
