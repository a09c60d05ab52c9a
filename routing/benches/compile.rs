//! What a table costs: compiling it, changing one route or one endpoint of it, looking a request up, and memory. Every
//! benchmark asserts its answers.
//!
//! `cargo bench -p portcullis-routing` prints the bytes per route first, then the times. Each table has one HTTP
//! listener and ten routes per host (`hosts`), or one host for all routes (`one_host`); a route has a prefix, a header
//! match, a filter and two weighted clusters; there is a cluster with three endpoints per route.

use std::{cell::Cell, hint::black_box, sync::Arc};

use divan::{Bencher, counter::ItemsCount};
use http::{HeaderMap, HeaderValue, Method};
use portcullis_routing::{
    CompiledTable, Delta, RequestHead, RoutingTable, apply, compile, delta::Upserts, diff,
};
use serde_json::json;

const SIZES: [usize; 4] = [10, 1_000, 5_000, 40_000];
const ROUTES_PER_HOST: usize = 10;

fn main() {
    for routes in SIZES {
        print_memory(routes);
    }
    divan::main();
}

/// How routes are spread over hosts.
#[derive(Clone, Copy)]
enum Shape {
    Hosts,
    OneHost,
}

impl Shape {
    fn host(self, route: usize) -> String {
        match self {
            Self::Hosts => format!("host-{}.example.com", route / ROUTES_PER_HOST),
            Self::OneHost => "www.example.com".to_owned(),
        }
    }
}

fn name(route: usize) -> String {
    format!("route-{route}")
}

fn route(shape: Shape, index: usize, clusters: usize) -> serde_json::Value {
    let cluster = |index: usize| format!("service/shop/backend-{}/8080", index % clusters);
    json!({
        "listeners": ["shop/edge/http"],
        "hostnames": [shape.host(index)],
        "matches": [{
            "path": { "Prefix": format!("/api/service-{index}") },
            "headers": [{ "name": "x-version", "value": { "Exact": "two" } }],
        }],
        "filters": [{ "RequestHeaders": { "set": [{ "name": "X-Route", "value": name(index) }] } }],
        "action": { "Forward": [
            { "weight": 90, "backend": { "Cluster": cluster(index) } },
            { "weight": 10, "backend": { "Cluster": cluster(index + 1) } },
        ] },
        "order": { "created_at": index, "namespace": "shop", "name": name(index), "rule": 0 },
        "source": { "kind": "HTTPRoute", "namespace": "shop", "name": name(index), "rule": 0 },
    })
}

fn endpoints(cluster: usize, last: u8) -> serde_json::Value {
    let octets = [cluster >> 8 & 255, cluster & 255];
    let endpoint = |host: u8| json!({ "host": format!("10.{}.{}.{host}", octets[0], octets[1]), "port": 8080 });
    json!({ "endpoints": [endpoint(1), endpoint(2), endpoint(last)] })
}

/// The table as it comes over the wire.
fn wire(shape: Shape, routes: usize) -> String {
    let all = |resource: &dyn Fn(usize) -> (String, serde_json::Value)| {
        (0..routes).map(resource).collect::<serde_json::Map<_, _>>()
    };
    let cluster = |index: usize| format!("service/shop/backend-{index}/8080");
    let table = json!({
        "schema": 1,
        "gateway": "shop/edge",
        "listeners": { "shop/edge/http": { "port": 80, "protocol": "HTTP" } },
        "routes": all(&|i| (format!("httproute/shop/{}/0", name(i)), route(shape, i, routes))),
        "clusters": all(&|i| (cluster(i), json!({}))),
        "endpoints": all(&|i| (cluster(i), endpoints(i, 3))),
    });
    table.to_string()
}

fn decode(wire: &str) -> RoutingTable {
    let mut table: RoutingTable = serde_json::from_str(wire).unwrap();
    table.seal();
    table
}

fn compiled(
    previous: Option<&CompiledTable<i64>>,
    table: &Arc<RoutingTable>,
) -> CompiledTable<i64> {
    let (compiled, rejections) = compile(previous, table.clone(), |_, route| {
        Ok(route.order.created_at)
    });
    assert!(rejections.is_empty());
    compiled
}

/// The table with another prefix in its middle route.
fn with_one_route_changed(table: &RoutingTable) -> RoutingTable {
    let mut changed = table.clone();
    let middle = changed
        .routes
        .values_mut()
        .nth(table.routes.len() / 2)
        .unwrap();
    let route = Arc::make_mut(middle);
    route.matches[0].path = portcullis_routing::PathMatch::Prefix("/changed".to_owned());
    changed.seal();
    changed
}

/// The table with another address in its middle cluster.
fn with_one_endpoint_changed(table: &RoutingTable) -> RoutingTable {
    let mut changed = table.clone();
    let middle = changed
        .endpoints
        .values_mut()
        .nth(table.endpoints.len() / 2)
        .unwrap();
    *middle = serde_json::from_value(endpoints(0, 9)).unwrap();
    changed.seal();
    changed
}

fn print_memory(routes: usize) {
    let wire = wire(Shape::Hosts, routes);
    let mut kept = None;
    let whole =
        allocation_counter::measure(|| kept = Some(compiled(None, &Arc::new(decode(&wire)))));
    let table =
        allocation_counter::measure(|| kept = Some(compiled(None, kept.take().unwrap().table())));
    assert_eq!(
        kept.as_ref().map(|compiled| compiled.table().routes.len()),
        Some(routes)
    );
    assert!(
        table.bytes_current.abs() < 4096,
        "compiling again leaves nothing behind"
    );
    let changed = Arc::new(with_one_route_changed(kept.as_ref().unwrap().table()));
    let before = kept.unwrap();
    let mut after = None;
    let step = allocation_counter::measure(|| after = Some(compiled(Some(&before), &changed)));
    assert_eq!(after.map(|after| after.table().routes.len()), Some(routes));
    println!(
        "{routes:>6} routes: {:>5} bytes per route in table and compiled form, wire {:>4} bytes per route; \
         {:>4} bytes per route more while two versions live",
        whole.bytes_current / i64::try_from(routes).unwrap(),
        wire.len() / routes,
        step.bytes_current / i64::try_from(routes).unwrap(),
    );
}

/// Decoding, sealing and compiling a snapshot: what a data plane does when it starts.
#[divan::bench(args = SIZES, max_time = 5)]
fn snapshot_decode_and_compile(bencher: Bencher<'_, '_>, routes: usize) {
    let wire = wire(Shape::Hosts, routes);
    bencher.bench_local(|| {
        let compiled = compiled(None, &Arc::new(decode(&wire)));
        assert!(compiled.port(80).is_some());
        compiled
    });
}

#[divan::bench(args = SIZES, max_time = 5)]
fn compile_from_scratch_hosts(bencher: Bencher<'_, '_>, routes: usize) {
    from_scratch(bencher, Shape::Hosts, routes);
}

#[divan::bench(args = SIZES, max_time = 5)]
fn compile_from_scratch_one_host(bencher: Bencher<'_, '_>, routes: usize) {
    from_scratch(bencher, Shape::OneHost, routes);
}

fn from_scratch(bencher: Bencher<'_, '_>, shape: Shape, routes: usize) {
    let table = Arc::new(decode(&wire(shape, routes)));
    bencher.bench_local(|| {
        let compiled = compiled(None, &table);
        assert!(compiled.port(80).is_some());
        compiled
    });
}

#[divan::bench(args = SIZES, max_time = 5)]
fn one_route_changed_hosts(bencher: Bencher<'_, '_>, routes: usize) {
    change(bencher, Shape::Hosts, routes, with_one_route_changed, 1);
}

#[divan::bench(args = SIZES, max_time = 5)]
fn one_route_changed_one_host(bencher: Bencher<'_, '_>, routes: usize) {
    change(bencher, Shape::OneHost, routes, with_one_route_changed, 1);
}

#[divan::bench(args = SIZES, max_time = 5)]
fn one_endpoint_changed(bencher: Bencher<'_, '_>, routes: usize) {
    change(bencher, Shape::Hosts, routes, with_one_endpoint_changed, 0);
}

/// Applying a delta and compiling what it touches: from the frame to the table that is swapped in.
fn change(
    bencher: Bencher<'_, '_>,
    shape: Shape,
    routes: usize,
    make: impl Fn(&RoutingTable) -> RoutingTable,
    expected: usize,
) {
    let old = compiled(None, &Arc::new(decode(&wire(shape, routes))));
    let new = make(old.table());
    let delta: Delta =
        serde_json::from_str(&serde_json::to_string(&diff(old.table(), &new)).unwrap()).unwrap();
    assert_ne!(delta.upserts, Upserts::default());
    bencher.bench_local(|| {
        let table = apply(old.table(), &delta).unwrap();
        let prepared = Cell::new(0);
        let (compiled, rejections) = compile(Some(&old), Arc::new(table), |_, route| {
            prepared.set(prepared.get() + 1);
            Ok(route.order.created_at)
        });
        assert!(rejections.is_empty() && prepared.get() == expected);
        assert_eq!(compiled.table().version, new.version);
        compiled
    });
}

/// The controller's share of a change: finding the difference of two whole tables.
#[divan::bench(args = SIZES, max_time = 5)]
fn diff_of_one_route(bencher: Bencher<'_, '_>, routes: usize) {
    let old = decode(&wire(Shape::Hosts, routes));
    let new = with_one_route_changed(&decode(&wire(Shape::Hosts, routes)));
    bencher.bench_local(|| {
        let delta = diff(&old, &new);
        assert_eq!(delta.upserts.routes.len(), 1);
        delta
    });
}

#[divan::bench(args = SIZES, max_time = 5)]
fn seal(bencher: Bencher<'_, '_>, routes: usize) {
    let table = decode(&wire(Shape::Hosts, routes));
    bencher.bench_local(|| assert_eq!(table.computed_version(), table.version));
}

/// Requests in use at once in the warm benchmarks.
const WARM: usize = 64;
/// Lookups per iteration; divan divides by it where it prints items per second.
const BATCH: usize = 512;

#[divan::bench(args = SIZES)]
fn lookup_warm_hosts(bencher: Bencher<'_, '_>, routes: usize) {
    lookup(bencher, Shape::Hosts, routes, WARM.min(routes));
}

#[divan::bench(args = SIZES)]
fn lookup_warm_one_host(bencher: Bencher<'_, '_>, routes: usize) {
    lookup(bencher, Shape::OneHost, routes, WARM.min(routes));
}

/// Every route in turn, so that the table does not stay in the processor's caches.
#[divan::bench(args = SIZES)]
fn lookup_cold_hosts(bencher: Bencher<'_, '_>, routes: usize) {
    lookup(bencher, Shape::Hosts, routes, routes);
}

#[divan::bench(args = SIZES)]
fn lookup_cold_one_host(bencher: Bencher<'_, '_>, routes: usize) {
    lookup(bencher, Shape::OneHost, routes, routes);
}

/// Looks up `BATCH` requests per iteration, listener included, among requests for `spread` different routes.
fn lookup(bencher: Bencher<'_, '_>, shape: Shape, routes: usize, spread: usize) {
    let compiled = compiled(None, &Arc::new(decode(&wire(shape, routes))));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("user-agent", "bench"),
        ("accept", "*/*"),
        ("x-version", "two"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut next = 0;
    let inputs = move || {
        // A prime stride goes through all of them in an order that no prefetcher foresees.
        let batch = (0..BATCH).map(|_| {
            next = (next + 7_919) % spread;
            let index = next * (routes / spread);
            (
                i64::try_from(index).unwrap(),
                shape.host(index),
                format!("/api/service-{index}/items/42"),
            )
        });
        batch.collect::<Vec<_>>()
    };
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(inputs)
        .bench_local_refs(|batch| {
            for (index, host, path) in &*batch {
                let head = RequestHead {
                    host,
                    path,
                    query: None,
                    method: &Method::GET,
                    headers: black_box(&headers),
                };
                let listener = compiled.port(80).and_then(|port| port.listener_for(host));
                let found = listener.and_then(|listener| listener.lookup(&head));
                assert_eq!(found.map(|found| *found.route.payload()), Some(*index));
            }
        });
}
