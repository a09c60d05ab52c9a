//! What a change costs a controller before anybody hears of it: the translation of all objects, and what follows from it for the
//! infrastructure of Gateways. Every benchmark asserts its answers.
//!
//! `cargo bench -p portcullis-controller`. Each Gateway has an HTTP listener, a route, a Service with two endpoints, and the
//! Service of its own proxies. An egress Gateway has ServiceEntries and pods.

use std::sync::Arc;

use divan::Bencher;
use portcullis_controller::{
    CONTROLLER_NAME, Options, Resources, Translation,
    manifests::Loaded,
    provision::{Plan, ProvisionOptions, owners, wanted},
    translate::translate,
};

const GATEWAYS: [usize; 3] = [1, 10, 100];

/// Entries and pods of an egress Gateway.
const CALLERS: [usize; 3] = [100, 1_000, 10_000];

fn main() {
    divan::main();
}

const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
---";

/// The objects of one Gateway.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge-NUMBER, namespace: shop, uid: uid-NUMBER}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web-NUMBER, namespace: shop}
spec:
  parentRefs: [{name: edge-NUMBER}]
  rules: [{backendRefs: [{name: web-NUMBER, port: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web-NUMBER, namespace: shop}
spec: {ports: [{port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-NUMBER, namespace: shop, labels: {kubernetes.io/service-name: web-NUMBER}}
addressType: IPv4
ports: [{port: 3000}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}}
- {addresses: [10.0.0.2], conditions: {ready: true}}
---
apiVersion: v1
kind: Service
metadata:
  name: edge-NUMBER-portcullis
  namespace: shop
  ownerReferences:
  - {apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: edge-NUMBER, uid: uid-NUMBER, controller: true}
spec: {type: ClusterIP, clusterIP: 10.96.0.1, ports: [{port: 80}]}
---";

/// The objects of that many Gateways.
fn resources(gateways: usize) -> Resources {
    let all = (0..gateways).map(|number| GATEWAY.replace("NUMBER", &number.to_string()));
    let text: String = std::iter::once(CLASS.to_owned()).chain(all).collect();
    let mut loaded = Loaded::accepted();
    loaded.read_text("all.yaml", &text);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.resources
}

const EGRESS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis-egress}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: out, namespace: infra}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{name: proxy, port: 3128, protocol: HTTP}]
---";

/// One entry with a host of its own and one that all have and mean differently, and one pod.
const CALLER: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api-NUMBER, namespace: shop}
spec:
  hosts: [api-NUMBER.example, shared.example]
  ports: [{number: 443, name: https, protocol: HTTPS, targetPort: PORT}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-NUMBER, namespace: shop}
spec: {containers: [{name: web, image: web}]}
status: {phase: Running, podIP: ADDRESS}
---";

/// An egress Gateway with that many entries and pods.
fn egress(callers: usize) -> Resources {
    let caller = |number: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
        CALLER
            .replace("NUMBER", &number.to_string())
            .replace("PORT", &(10_000 + number).to_string())
            .replace("ADDRESS", &address.to_string())
    };
    let all = (0..u32::try_from(callers).unwrap()).map(caller);
    let text: String = std::iter::once(EGRESS.to_owned()).chain(all).collect();
    let mut loaded = Loaded::accepted();
    loaded.read_text("all.yaml", &text);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.resources
}

/// All entries are in conflict with each other, which must not cost more than the entries.
#[divan::bench(args = CALLERS)]
fn translation_of_egress(bencher: Bencher<'_, '_>, callers: usize) {
    let resources = egress(callers);
    bencher.bench_local(|| {
        let translation = translated(&resources);
        let table = translation.tables.values().next().unwrap();
        assert_eq!(
            (table.entries.len(), table.workloads.len()),
            (callers, callers)
        );
        translation
    });
}

fn translated(resources: &Resources) -> Translation {
    translate(resources, &Options::default())
}

fn plan(before: &Plan, resources: &Resources, translation: &Translation) -> Plan {
    let options = ProvisionOptions {
        image: "registry.example/portcullis-proxy:1.0".into(),
        controller_url: "https://portcullis.portcullis-system.svc:9443".into(),
    };
    wanted(
        before,
        resources,
        &translation.tables,
        &translation.ports,
        &translation.parameters,
        CONTROLLER_NAME,
        &options,
    )
}

#[divan::bench(args = GATEWAYS)]
fn translation(bencher: Bencher<'_, '_>, gateways: usize) {
    let resources = resources(gateways);
    bencher.bench_local(|| {
        let translation = translated(&resources);
        assert_eq!(translation.tables.len(), gateways);
        translation
    });
}

/// What is to run the Gateways, for the first time.
#[divan::bench(args = GATEWAYS)]
fn first_plan(bencher: Bencher<'_, '_>, gateways: usize) {
    let resources = resources(gateways);
    let translation = translated(&resources);
    bencher.bench_local(|| {
        let plan = plan(&Plan::default(), &resources, &translation);
        assert_eq!(plan.gateways.len(), gateways);
        plan
    });
}

/// The same after a change that is none for them, such as of an endpoint.
#[divan::bench(args = GATEWAYS)]
fn next_plan(bencher: Bencher<'_, '_>, gateways: usize) {
    let resources = resources(gateways);
    let before = plan(&Plan::default(), &resources, &translated(&resources));
    let translation = translated(&resources);
    bencher.bench_local(|| {
        let plan = plan(&before, &resources, &translation);
        assert!(is_made_of(&plan, &before), "something is made anew");
        plan
    });
}

/// Whether a plan has the same objects as the one before, in the same allocations.
fn is_made_of(plan: &Plan, before: &Plan) -> bool {
    let made = |plan: &Plan| -> Vec<_> {
        let wanted = plan.gateways.values();
        wanted.map(|it| it.objects.clone().unwrap()).collect()
    };
    let (plan, before) = (made(plan), made(before));
    plan.len() == before.len() && plan.iter().zip(&before).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Who needs a certificate.
#[divan::bench(args = GATEWAYS)]
fn owners_of_certificates(bencher: Bencher<'_, '_>, gateways: usize) {
    let resources = resources(gateways);
    let translation = translated(&resources);
    bencher.bench_local(|| {
        let owners = owners(&resources, &translation.tables);
        assert_eq!(owners.len(), gateways);
        owners
    });
}

/// The addresses of the Gateways.
#[divan::bench(args = GATEWAYS)]
fn addresses(bencher: Bencher<'_, '_>, gateways: usize) {
    let resources = resources(gateways);
    bencher.bench_local(|| {
        let addresses = portcullis_controller::provision::addresses(&resources);
        assert_eq!(addresses.len(), gateways);
        addresses
    });
}
