//! What a request on its way out costs where many tenants have routes and policies. Every benchmark asserts its answers.
//!
//! `cargo bench -p portcullis-routing --bench egress` prints the times. The Gateway is of namespace `infra`; tenants are `team-0`,
//! `team-1` and so on.

use std::{hint::black_box, sync::Arc};

use divan::Bencher;
use http::{HeaderMap, Method};
use portcullis_routing::{
    CompiledTable, RequestHead, RoutingTable, compile,
    egress::{Caller, Destination, Question, Seen, Verdict},
};
use serde_json::{Map, Value, json};

const HOST: &str = "api.example.com";
const SIZES: [usize; 3] = [1, 100, 1_000];

fn main() {
    divan::main();
}

fn compiled(table: Value) -> CompiledTable<()> {
    let table: RoutingTable = serde_json::from_value(table).unwrap();
    let (compiled, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
    assert_eq!(rejections, []);
    compiled
}

/// Each tenant has a route for the host. `hostnames` are those of the routes.
fn with_routes(tenants: usize, hostnames: &[&str]) -> CompiledTable<()> {
    let route = |tenant: usize| {
        let namespace = format!("team-{tenant}");
        let route = json!({
            "listeners": ["infra/egress/proxy"], "hostnames": hostnames, "matches": [{"path": {"Prefix": "/"}}],
            "action": {"Respond": {"status": 200, "reason": "found"}},
            "order": {"created_at": tenant, "namespace": namespace, "name": "keyed", "rule": 0},
            "source": {"kind": "HTTPRoute", "namespace": namespace, "name": "keyed", "rule": 0},
        });
        (format!("httproute/{namespace}/keyed/0"), route)
    };
    compiled(json!({
        "schema": 1, "gateway": "infra/egress", "settings": {"egress": {}},
        "listeners": {"infra/egress/proxy": {"port": 3128, "protocol": "HTTP", "direction": "Egress"}},
        "routes": (0..tenants).map(route).collect::<Map<_, _>>(),
    }))
}

/// The caller whose route comes last.
#[divan::bench(args = SIZES)]
fn route_of_a_tenant(bencher: Bencher<'_, '_>, tenants: usize) {
    let last = format!("team-{}", tenants - 1);
    look_up(bencher, &with_routes(tenants, &[HOST]), Some(&last), true);
}

/// A caller who has none, where those of others are for every host.
#[divan::bench(args = SIZES)]
fn no_route_of_a_caller(bencher: Bencher<'_, '_>, tenants: usize) {
    look_up(bencher, &with_routes(tenants, &[]), Some("other"), false);
}

fn look_up(
    bencher: Bencher<'_, '_>,
    compiled: &CompiledTable<()>,
    caller: Option<&str>,
    is_there: bool,
) {
    let headers = HeaderMap::new();
    let head = RequestHead {
        host: HOST,
        path: "/v1/models",
        query: None,
        method: &Method::GET,
        headers: &headers,
    };
    bencher.bench_local(|| {
        let listener = compiled.port(3128).and_then(|port| port.listener_for(HOST));
        let found = listener.and_then(|listener| listener.lookup_of(caller, black_box(&head)));
        assert_eq!(found.is_some(), is_there);
    });
}

/// A tenant has so many policies that allow 1,000 other hosts each, and one that allows the host.
fn with_policies(policies: usize) -> CompiledTable<()> {
    let policy = |number: usize| {
        let hosts: Vec<_> = (0..1_000)
            .map(|host| format!("h{host}.p{number}.example.net"))
            .collect();
        let policy = json!({
            "scope": {"Namespace": "team-0"}, "action": "Allow", "to": [{"hosts": hosts}],
        });
        (format!("egresspolicy/team-0/p{number}"), policy)
    };
    let last = json!({"scope": {"Namespace": "team-0"}, "action": "Allow", "to": [{"hosts": ["*.example.com"]}]});
    let policies = (0..policies).map(policy);
    governed(policies.chain([("egresspolicy/team-0/q".to_owned(), last)]))
}

/// The host is open, but for what policies say.
fn governed(policies: impl Iterator<Item = (String, Value)>) -> CompiledTable<()> {
    compiled(json!({
        "schema": 1, "gateway": "infra/egress", "settings": {"egress": {}},
        "entries": {"serviceentry/infra/api": {
            "hosts": [HOST], "ports": [{"number": 443, "protocol": "HTTPS"}],
            "order": {"namespace": "infra", "name": "api", "rule": 0},
        }},
        "policies": policies.collect::<Map<_, _>>(),
    }))
}

/// A request that ten policies with paths are held against, and none denies.
#[divan::bench(args = ["/v1/models/small:predict", "/v1/models/caf%C3%A9:predict"])]
fn policies_with_paths(bencher: Bencher<'_, '_>, path: &str) {
    let policy = |number: usize| {
        let to = json!([{"hosts": [HOST], "paths": [{"Prefix": format!("/v1/models/other-{number}")}, {"Exact": "/admin"}]}]);
        let policy = json!({"scope": "Gateway", "action": "Deny", "to": to});
        (format!("egresspolicy/infra/p{number}"), policy)
    };
    let compiled = governed((0..10).map(policy));
    let seen = Seen::Request {
        method: "GET",
        path,
        encrypted: true,
    };
    decide(bencher, &compiled, Some("team-0"), seen, Verdict::Allow);
}

/// An address that stands for so many hosts of 24 labels, and a policy that denies another one at each length.
#[divan::bench(args = [1, 10, 170])]
fn hosts_of_an_address(bencher: Bencher<'_, '_>, hosts: usize) {
    let labels = "x.".repeat(22);
    let listed = (0..hosts).map(|number| format!("{labels}h{number}.b"));
    let denied = (0..46).map(|length| format!("*.{}.c", "y".repeat(length + 1)));
    let compiled = compiled(json!({
        "schema": 1, "gateway": "infra/egress", "settings": {"egress": {}},
        "entries": {"serviceentry/infra/e": {
            "hosts": listed.collect::<Vec<_>>(), "addresses": ["192.0.2.1/32"],
            "ports": [{"number": 443, "protocol": "TCP"}],
            "order": {"namespace": "infra", "name": "e", "rule": 0},
        }},
        "policies": {"egresspolicy/infra/p": {
            "scope": "Gateway", "action": "Deny", "to": [{"hosts": denied.collect::<Vec<_>>()}],
        }},
    }));
    let question = Question {
        destination: Destination::Address([192, 0, 2, 1].into()),
        port: 443,
        caller: None,
        seen: Seen::Tunnel,
    };
    let egress = compiled.egress().unwrap();
    bencher.bench_local(|| {
        assert_eq!(egress.decide(black_box(&question)).verdict, Verdict::Allow);
    });
}

#[divan::bench(args = [1, 10, 100])]
fn policies_of_the_callers_namespace(bencher: Bencher<'_, '_>, policies: usize) {
    decide(
        bencher,
        &with_policies(policies),
        Some("team-0"),
        Seen::Tunnel,
        Verdict::Allow,
    );
}

#[divan::bench(args = [1, 10, 100])]
fn policies_of_another_namespace(bencher: Bencher<'_, '_>, policies: usize) {
    decide(
        bencher,
        &with_policies(policies),
        Some("other"),
        Seen::Tunnel,
        Verdict::Allow,
    );
}

#[divan::bench(args = [1, 10, 100])]
fn policies_against_an_unknown_caller(bencher: Bencher<'_, '_>, policies: usize) {
    let compiled = with_policies(policies);
    decide(bencher, &compiled, None, Seen::Tunnel, Verdict::Refuse);
}

fn decide(
    bencher: Bencher<'_, '_>,
    compiled: &CompiledTable<()>,
    caller: Option<&str>,
    seen: Seen<'_>,
    verdict: Verdict,
) {
    let question = Question {
        destination: Destination::Name(HOST),
        port: 443,
        caller: caller.map(|namespace| Caller {
            namespace,
            service_account: "default",
            labels: None,
        }),
        seen,
    };
    let egress = compiled.egress().unwrap();
    bencher.bench_local(|| {
        assert_eq!(egress.decide(black_box(&question)).verdict, verdict);
    });
}
