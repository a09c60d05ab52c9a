//! Random entries, policies and workloads, and questions that they may answer.

use std::{net::IpAddr, sync::Arc};

use portcullis_routing::{
    CompiledTable, EntryKey, PolicyKey, RouteOrder, RoutingTable, WorkloadKey,
    egress::{
        Caller, Destination, DestinationMatch, EgressSettings, Entry, EntryPort, EntryProtocol,
        ExportedTo, Policy, PolicyAction, PolicyMode, PolicyScope, Question, Resolution, Seen,
        Workload,
    },
};
use proptest::{collection::vec, prelude::*, sample::select};

const HOSTS: &[&str] = &["a.b", "*.b", "x.a.b", "b", "*.a.b"];
const ASKED: &[&str] = &["a.b", "x.a.b", "y.x.a.b", "b", "c"];
const NAMESPACES: &[&str] = &["n", "m"];
const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)),
];

/// What makes a table one of egress. Keys stand in small numbers, so that tables share some and differ in others.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    pub(crate) entries: Vec<(u8, Entry)>,
    pub(crate) policies: Vec<(u8, Policy)>,
    pub(crate) workloads: Vec<(usize, Workload)>,
}

impl Egress {
    /// Adds everything to a table; where a key stands twice, the first counts.
    pub(crate) fn fill(&self, table: &mut RoutingTable) {
        Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
        for (number, entry) in &self.entries {
            let key = EntryKey::of("n", &number.to_string());
            let entries = &mut table.entries;
            entries
                .entry(key)
                .or_insert_with(|| Arc::new(entry.clone()));
        }
        for (number, policy) in &self.policies {
            let key = PolicyKey::of("n", &number.to_string());
            let policies = &mut table.policies;
            policies
                .entry(key)
                .or_insert_with(|| Arc::new(policy.clone()));
        }
        for (number, workload) in &self.workloads {
            let key = WorkloadKey::of(ADDRESSES[*number]);
            let workloads = &mut table.workloads;
            workloads
                .entry(key)
                .or_insert_with(|| Arc::new(workload.clone()));
        }
    }
}

pub(crate) fn egress() -> impl Strategy<Value = Egress> {
    let entries = vec((0..6_u8, entry()), 0..5);
    let policies = vec((0..4_u8, policy()), 0..3);
    let workloads = vec((0..ADDRESSES.len(), workload()), 0..3);
    (entries, policies, workloads).prop_map(|(entries, policies, workloads)| Egress {
        entries,
        policies,
        workloads,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let hosts = vec(select(HOSTS), 1..3);
    // Now and then a port stands twice, so that the entry is rejected.
    let ports = vec(select(&[80_u16, 81, 82][..]), 1..3);
    let exported_to = prop_oneof![
        3 => Just(ExportedTo::All),
        1 => select(NAMESPACES).prop_map(|it| ExportedTo::Namespaces(vec![it.to_owned()])),
    ];
    (hosts, ports, exported_to, 0..3_i64, 0..6_u8).prop_map(
        |(hosts, ports, exported_to, created_at, name)| Entry {
            hosts: hosts.into_iter().map(str::to_owned).collect(),
            addresses: vec![],
            ports: ports
                .into_iter()
                .map(|number| EntryPort {
                    number,
                    protocol: EntryProtocol::Http,
                    target_port: None,
                    tls: None,
                    shut: false,
                })
                .collect(),
            tls: vec![],
            resolution: Resolution::None,
            endpoints: vec![],
            exported_to,
            order: RouteOrder {
                created_at,
                namespace: "n".to_owned(),
                name: name.to_string(),
                rule: 0,
            },
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let scope = prop_oneof![
        Just(PolicyScope::Gateway),
        select(NAMESPACES).prop_map(|it| PolicyScope::Namespace(it.to_owned())),
    ];
    let action = select(&[PolicyAction::Allow, PolicyAction::Deny][..]);
    // `Bad` is no hostname in lower case, so that the policy is rejected.
    let host = prop_oneof![20 => select(HOSTS), 1 => Just("Bad")];
    (scope, action, host).prop_map(|(scope, action, host)| Policy {
        scope,
        from: None,
        to: Some(vec![DestinationMatch {
            hosts: vec![host.to_owned()],
            ..DestinationMatch::default()
        }]),
        action,
        mode: PolicyMode::Enforce,
        allow_private: vec![],
    })
}

fn workload() -> impl Strategy<Value = Workload> {
    select(NAMESPACES).prop_map(|namespace| Workload {
        namespace: namespace.to_owned(),
        service_account: "default".to_owned(),
        pod: "pod".to_owned(),
        labels: [].into(),
        proxy_of: None,
    })
}

/// Every decision that differs between some two tables of these, in words.
pub(crate) fn decisions<P>(compiled: &CompiledTable<P>) -> Vec<String> {
    let egress = compiled.egress();
    let mut decisions = Vec::new();
    for host in ASKED {
        for port in [80, 81, 83] {
            for address in ADDRESSES.iter().map(Some).chain([None]) {
                let workload = address.and_then(|address| egress?.workload(*address));
                let question = Question {
                    destination: Destination::Name(host),
                    port,
                    caller: workload.map(|workload| Caller {
                        namespace: &workload.namespace,
                        service_account: &workload.service_account,
                        labels: Some(&workload.labels),
                    }),
                    seen: Seen::Tunnel,
                };
                let decision = egress.map(|egress| egress.decide(&question));
                decisions.push(format!("{question:?}: {decision:?}"));
            }
        }
    }
    decisions
}
