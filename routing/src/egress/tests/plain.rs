//! Policies are found by the hosts that they name. They say what they would say if each of them were looked at in turn.

use proptest::{collection::vec, option, prelude::*, sample::select};

use serde_json::Map;

use super::*;
use crate::{
    EndpointHost,
    egress::{
        about::Asked,
        callers::{Selects, selects},
        policies::{Opinion, PolicyIndex},
        way::Way,
    },
    hostname::HostPattern,
};

/// How it is refused, why, and whether another request might not be.
type Told = (PolicyMode, DecisionReason, bool);

/// The gravest that is said, by each policy in turn.
fn opinion(policies: &[(PolicyKey, Arc<Policy>)], asked: &Asked<'_>) -> Option<Told> {
    let of_scope = |is_in: &dyn Fn(&str) -> bool| {
        let mut all: Vec<_> = policies.iter().map(|(_, policy)| &**policy).collect();
        all.retain(|policy| is_in(namespace(policy)));
        all.sort_by_key(|policy| namespace(policy));
        let enforced = all.iter().copied();
        let enforced = enforced.filter(|it| it.mode == PolicyMode::Enforce);
        let told = |mode, (reason, by_request)| (mode, reason, by_request);
        let enforced = objection(enforced, asked).map(|it| told(PolicyMode::Enforce, it));
        enforced.or_else(|| Some(told(PolicyMode::Report, objection(all.into_iter(), asked)?)))
    };
    let caller = asked.question.caller.map(|caller| caller.namespace);
    let own = |namespace: &str| !namespace.is_empty() && caller.is_none_or(|it| it == namespace);
    let told = [of_scope(&str::is_empty), of_scope(&own)];
    let mut enforced = told.into_iter().flatten();
    let enforced = enforced.find(|(mode, ..)| *mode == PolicyMode::Enforce);
    enforced.or_else(|| told.into_iter().flatten().last())
}

/// Nothing of the Gateway's.
fn namespace(policy: &Policy) -> &str {
    match &policy.scope {
        PolicyScope::Gateway => "",
        PolicyScope::Namespace(namespace) => namespace,
    }
}

fn objection<'p>(
    policies: impl Iterator<Item = &'p Policy> + Clone,
    asked: &Asked<'_>,
) -> Option<(DecisionReason, bool)> {
    let selecting = policies.map(|policy| (selects(policy, asked.question.caller), policy));
    let selecting = selecting.filter(|(selected, _)| *selected != Selects::No);
    let reason = |selected: Selects, sure| match selected {
        Selects::No | Selects::Perhaps => DecisionReason::UnknownCaller,
        Selects::Unclear | Selects::Yes => sure,
    };
    let of = |action| {
        let selecting = selecting.clone();
        selecting.filter(move |(_, policy)| policy.action == action)
    };
    if let Some((selected, deny)) = of(PolicyAction::Deny).find(|(_, it)| names(it, asked)) {
        let naming = deny.to.iter().flatten();
        let mut naming = naming.filter(|to| is_to(to, deny, asked));
        let by_request = deny.to.is_some() && naming.all(DestinationMatch::is_of_requests);
        return Some((reason(selected, DecisionReason::DeniedByPolicy), by_request));
    }
    let surest = of(PolicyAction::Allow)
        .map(|(selected, _)| selected)
        .max()?;
    let sure = || of(PolicyAction::Allow).filter(|(selected, _)| *selected == Selects::Yes);
    if sure().any(|(_, policy)| names(policy, asked)) {
        return None;
    }
    if sure().any(|(_, policy)| names(policy, &asked.as_named())) {
        return Some((reason(surest, DecisionReason::LedElsewhere), false));
    }
    let other_requests = |policy: &Policy| {
        let mut to = policy.to.iter().flatten();
        to.any(|to| to.is_of_requests() && is_host(to, policy, asked) && asked.is_port(to, policy))
    };
    let by_request = sure().any(|(_, policy)| other_requests(policy));
    Some((
        reason(surest, DecisionReason::NotAllowedByPolicy),
        by_request,
    ))
}

fn names(policy: &Policy, asked: &Asked<'_>) -> bool {
    let mut to = policy.to.iter().flatten();
    policy.to.is_none() || to.any(|to| is_to(to, policy, asked))
}

fn is_to(to: &DestinationMatch, policy: &Policy, asked: &Asked<'_>) -> bool {
    is_host(to, policy, asked) && asked.is_about(to, policy)
}

fn is_host(to: &DestinationMatch, policy: &Policy, asked: &Asked<'_>) -> bool {
    let Asked { question, way, .. } = asked;
    let named = |host: &str, destination: Destination<'_>| match destination {
        Destination::Name(name) => HostPattern::new(Some(host)).matches(name),
        Destination::Address(address) => host.parse() == Ok(address),
    };
    let astray = asked.astray(policy);
    let asked_for: Vec<_> = astray
        .into_iter()
        .flat_map(|it| it.asked_names(question))
        .collect();
    let is_asked_elsewhere = astray.is_some_and(|it| it.asks_another(question));
    let endpoints = astray.map(|it| &it.entry.endpoints);
    let mut endpoints = endpoints.into_iter().flatten();
    let mut hosts = to.hosts.iter();
    to.hosts.is_empty()
        || match policy.action {
            PolicyAction::Allow => {
                endpoints.next().is_none()
                    && !is_asked_elsewhere
                    && hosts.any(|host| named(host, question.destination))
            }
            PolicyAction::Deny => hosts.any(|host| {
                let stands_for = match question.destination {
                    Destination::Name(_) => &[],
                    Destination::Address(_) => way.hosts(),
                };
                named(host, question.destination)
                    || stands_for.iter().any(|one| overlap(one, host))
                    || asked_for.iter().any(|one| overlap(one, host))
                    || endpoints.clone().any(|endpoint| match &endpoint.host {
                        EndpointHost::Name(name) => named(host, Destination::Name(name)),
                        EndpointHost::Ip(address) => named(host, Destination::Address(*address)),
                    })
            }),
        }
}

/// Whether some name matches both.
fn overlap(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|host| HostPattern::new(Some(host)));
    match (one, other) {
        (HostPattern::Wildcard(one), HostPattern::Wildcard(other)) => {
            let [one, other] = [one, other].map(|suffix| format!(".{suffix}"));
            one.ends_with(&other) || other.ends_with(&one)
        }
        (HostPattern::Exact(host), pattern) | (pattern, HostPattern::Exact(host)) => {
            pattern.matches(host)
        }
        (HostPattern::Any, _) | (_, HostPattern::Any) => true,
    }
}

/// All names of up to so many labels. One label ends as the other, so that suffixes are told apart by whole labels.
fn all_names(most: usize) -> Vec<String> {
    let longer = |names: &Vec<String>| {
        let names = names.iter();
        let longer = names.flat_map(|name| ["b", "ab"].map(|it| format!("{it}.{name}")));
        longer.collect::<Vec<_>>()
    };
    let first = vec!["b".to_owned(), "ab".to_owned()];
    let by_length = std::iter::successors(Some(first), |names| Some(longer(names)));
    by_length.take(most).flatten().collect()
}

#[test]
fn an_address_is_denied_if_some_host_is_the_entrys_and_the_policys() {
    let names = all_names(5);
    let hosts = all_names(3).into_iter();
    let patterns: Vec<_> = hosts.flat_map(|host| [format!("*.{host}"), host]).collect();
    let matches = |pattern: &str, host: &str| HostPattern::new(Some(pattern)).matches(host);
    for listed in &patterns {
        let entry = json!({"hosts": [listed], "addresses": ["192.0.2.0/24"], "ports": [{"number": 443, "protocol": "TCP"}]});
        for denied in &patterns {
            let both = names
                .iter()
                .any(|it| matches(listed, it) && matches(denied, it));
            assert_eq!(overlap(listed, denied), both, "{listed} {denied}");
            let policy = json!({"scope": "Gateway", "action": "Deny", "to": [{"hosts": [denied]}]});
            let compiled = compiled(table(json!({"e": entry}), json!({"p": policy})));
            let answer = ask(&compiled, "a/x 192.0.2.1 443 tunnel");
            assert_eq!(
                answer.starts_with("refuse denied_by_policy"),
                both,
                "{listed} {denied}"
            );
        }
    }
}

/// However many hosts an address may stand for, what is looked at has an end.
#[test]
fn where_too_many_hosts_would_have_to_be_compared_the_address_is_denied() {
    let entry = json!({"hosts": ["*.b"], "addresses": ["192.0.2.1/32"], "ports": [{"number": 443, "protocol": "TCP"}]});
    let policy = |hosts: usize, account: &str, mode: &str| {
        let hosts: Vec<_> = (0..hosts).map(|number| format!("h{number}.b")).collect();
        let from = json!([{"service_accounts": [["a", account]]}]);
        json!({"p": {"scope": "Gateway", "mode": mode, "action": "Deny", "from": from, "to": [{"hosts": hosts, "ports": [80]}]}})
    };
    for (hosts, account, mode, is_allowed) in [
        (4_095, "x", "Enforce", true),
        (4_096, "x", "Enforce", false),
        (4_096, "other", "Enforce", true),
        (4_096, "x", "Report", true),
    ] {
        let policies = policy(hosts, account, mode);
        let compiled = compiled(table(json!({"e": entry}), policies));
        let answer = ask(&compiled, "a/x 192.0.2.1 443 tunnel");
        assert_eq!(
            !answer.starts_with("refuse"),
            is_allowed,
            "{hosts} {account} {mode}: {answer}"
        );
    }
}

/// So it is with the labels of hosts, and with many policies that name the same one.
#[test]
fn what_is_compared_is_counted_by_labels_and_by_policies() {
    let entry = |hosts: usize, labels: &str| {
        let hosts: Vec<_> = (0..hosts)
            .map(|number| format!("{labels}h{number}.b"))
            .collect();
        json!({"e": {"hosts": hosts, "addresses": ["192.0.2.1/32"], "ports": [{"number": 443, "protocol": "TCP"}]}})
    };
    let policies = |policies: usize, hosts: &[&str]| -> Value {
        let policy =
            json!({"scope": "Gateway", "action": "Deny", "to": [{"hosts": hosts, "ports": [80]}]});
        let keyed = |number| (format!("p{number}"), policy.clone());
        (0..policies).map(keyed).collect::<Map<_, _>>().into()
    };
    let deep = "x.".repeat(18);
    for (entry, policies, is_allowed) in [
        (entry(1_000, ""), policies(1, &["other"]), true),
        (entry(200, &deep), policies(1, &["other"]), true),
        (entry(300, &deep), policies(1, &["other"]), false),
        (entry(300, &deep), policies(1, &[]), true),
        (entry(100, ""), policies(30, &["*.b"]), true),
        (entry(100, ""), policies(40, &["*.b"]), false),
    ] {
        let compiled = compiled(table(entry, policies));
        let answer = ask(&compiled, "a/x 192.0.2.1 443 tunnel");
        assert_eq!(answer.starts_with("allow"), is_allowed, "{answer}");
    }
}

const HOSTS: &[&str] = &[
    "a.b",
    "*.b",
    "x.a.b",
    "*.a.b",
    "*.x.a.b",
    "c",
    "192.0.2.1",
    "192.0.2.2",
];
const NAMES: &[&str] = &["a.b", "x.a.b", "y.x.a.b", "c"];
const NAMESPACES: &[&str] = &["one", "two"];
const ADDRESSES: &[&str] = &["192.0.2.1", "192.0.2.2"];

fn destination() -> impl Strategy<Value = Value> {
    let hosts = vec(select(HOSTS), 0..3);
    let ports = vec(select(&[80_u16, 443, 8443][..]), 0..2);
    let methods = vec(Just("GET"), 0..2);
    let paths = vec(Just(json!({"Prefix": "/v1"})), 0..2);
    (hosts, ports, methods, paths).prop_map(|(hosts, ports, methods, paths)| {
        // Single requests are not what most are about.
        if methods.len() + paths.len() == 2 {
            json!({"hosts": hosts, "ports": ports, "methods": methods, "paths": paths})
        } else {
            json!({"hosts": hosts, "ports": ports})
        }
    })
}

fn caller_match() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        select(NAMESPACES).prop_map(|namespace| json!({"namespaces": [namespace]})),
        select(NAMESPACES).prop_map(|namespace| json!({"service_accounts": [[namespace, "x"]]})),
        Just(json!({"labels": [{"In": ["app", ["x"]]}]})),
        Just(json!({"unclear": true})),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let scope = prop_oneof![
        Just(json!("Gateway")),
        select(NAMESPACES).prop_map(|namespace| json!({"Namespace": namespace})),
    ];
    let from = option::weighted(0.5, vec(caller_match(), 0..3));
    let to = option::weighted(0.9, vec(destination(), 0..3));
    let action = select(&["Allow", "Deny"][..]);
    let mode = select(&["Enforce", "Enforce", "Report"][..]);
    (scope, from, to, action, mode).prop_map(|(scope, from, to, action, mode)| {
        let policy =
            json!({"scope": scope, "from": from, "to": to, "action": action, "mode": mode});
        serde_json::from_value(policy).unwrap()
    })
}

/// An entry of some namespace, which may lead elsewhere.
fn entry() -> impl Strategy<Value = Entry> {
    let endpoint = select(&["x.a.b", "c", "192.0.2.2"][..]);
    let endpoint = endpoint.prop_map(|host| json!({"host": host}));
    let namespace = select(&["one", "two", "gateways"][..]);
    let target = option::of(Just(8443_u16));
    let hosts = vec(select(&HOSTS[..6]), 1..3);
    let protocol = select(&["HTTP", "TCP"][..]);
    let name = || option::of(select(&["c", "x.a.b"][..]));
    let tls = (name(), option::of(select(&["c", "*.a.b"][..])));
    let tls = tls.prop_map(|(sent, taken)| {
        let taken: Vec<_> = taken.iter().map(|name| json!({"Hostname": name})).collect();
        json!({"server_name": sent, "subject_alt_names": taken})
    });
    let tls = option::weighted(0.3, tls);
    (namespace, vec(endpoint, 0..2), target, hosts, protocol, tls).prop_map(
        |(namespace, endpoints, target, hosts, protocol, tls)| {
            let place = tls.is_some().then_some(0);
            let entry = json!({
                "tls": Vec::from_iter(tls),
                "hosts": hosts, "addresses": ["192.0.2.0/24"], "endpoints": endpoints,
                "ports": [{"number": 443, "protocol": protocol, "target_port": target, "tls": place}],
                "order": {"created_at": 0, "namespace": namespace, "name": "e", "rule": 0},
            });
            serde_json::from_value(entry).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn policies_say_what_they_would_say_one_by_one(
        policies in vec(policy(), 0..7),
        entry in option::weighted(0.9, entry()),
    ) {
        let policies: Vec<_> = policies.into_iter().enumerate().map(|(number, policy)| {
            (PolicyKey::of("a", &number.to_string()), Arc::new(policy))
        }).collect();
        let index = PolicyIndex::new(policies.iter().map(|(key, policy)| (key, policy)));
        let key = EntryKey::of("a", "e");
        let entry = entry.map(Arc::new);
        let opened = entry.as_ref().map(|entry| Opened { key: &key, entry, port: &entry.ports[0] });
        let way = Way::new(opened, "gateways");
        let labels = BTreeMap::from([("app".to_owned(), "x".to_owned())]);
        let known = NAMESPACES.iter().flat_map(|namespace| ["x", "y"].map(|service_account| {
            let labels = (service_account == "x").then_some(&labels);
            Some(Caller { namespace, service_account, labels })
        }));
        let names = NAMES.iter().map(|name| Destination::Name(name));
        let addresses = ADDRESSES.iter().map(|it| Destination::Address(it.parse().unwrap()));
        let destinations: Vec<_> = names.chain(addresses).collect();
        let request = |path| Seen::Request { method: "GET", path, encrypted: false };
        for caller in known.chain([None]) {
            for destination in &destinations {
                for seen in [Seen::Tunnel, request("/v1/a"), request("/v2")] {
                    let question = Question { destination: *destination, port: 443, caller, seen };
                    let expected = opinion(&policies, &Asked::new(&question, way));
                    let told = match index.opinion(&question, way) {
                        Opinion::Fine => None,
                        Opinion::Against { mode, reason, by_request, .. } => Some((mode, reason, by_request)),
                    };
                    prop_assert_eq!(told, expected, "{:?}", question);
                }
            }
        }
    }
}
