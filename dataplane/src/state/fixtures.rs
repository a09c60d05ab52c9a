//! Tables for tests.

use std::sync::Arc;

use portcullis_routing::{
    Backend, Certificate, CertificateKey, Cluster, ClusterKey, GatewayKey, Listener, ListenerKey,
    ListenerProtocol, Millis, PathMatch, Route, RouteAction, RouteKey, RouteMatch, RouteOrder,
    RoutePolicy, RouteSource, RoutingTable, Secret, WeightedCluster, policy::Retry,
};

pub(crate) fn gateway() -> GatewayKey {
    GatewayKey::of("infra", "edge")
}

pub(crate) fn listener(name: &str) -> ListenerKey {
    ListenerKey::of(&gateway(), name)
}

pub(crate) fn route(number: usize) -> RouteKey {
    RouteKey::of("HTTPRoute", "shop", &format!("r{number}"), 0)
}

pub(crate) fn cluster(number: usize) -> ClusterKey {
    ClusterKey::service("shop", &format!("s{number}"), 80)
}

pub(crate) fn certificate_key() -> CertificateKey {
    CertificateKey::secret("infra", "tls")
}

/// A certificate for `a.example`, a new one at each call.
pub(crate) fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    Certificate {
        chain_pem: made.cert.pem(),
        key_pem: Secret::new(made.signing_key.serialize_pem()),
    }
}

/// A plain listener for every host.
pub(crate) fn plain(port: u16) -> Arc<Listener> {
    Arc::new(Listener {
        port,
        protocol: ListenerProtocol::Http,
        hostname: None,
        tls: None,
        direction: portcullis_routing::Direction::Ingress,
    })
}

/// A route of listener `l0` from `path` to cluster `number`.
pub(crate) fn path_route(number: usize, path: PathMatch) -> Arc<Route> {
    let name = format!("r{number}");
    let backend = Backend::Cluster(cluster(number));
    Arc::new(Route {
        listeners: vec![listener("l0")],
        hostnames: vec![],
        matches: vec![RouteMatch {
            path,
            method: None,
            headers: vec![],
            query: vec![],
        }],
        filters: vec![],
        action: RouteAction::Forward(vec![WeightedCluster {
            weight: 1,
            backend,
            filters: vec![],
        }]),
        policy: RoutePolicy::default(),
        order: RouteOrder {
            created_at: 0,
            namespace: "shop".into(),
            name: name.clone(),
            rule: 0,
        },
        source: RouteSource {
            kind: "HTTPRoute".into(),
            namespace: "shop".into(),
            name,
            rule: 0,
            rule_name: None,
        },
    })
}

/// Route `number` of [`table`] as no proxy takes it, for what it does: its matches are good.
pub(crate) fn broken(number: usize) -> Arc<Route> {
    let mut route = Route::clone(&path_route(
        number,
        PathMatch::Prefix(format!("/r{number}")),
    ));
    route.policy.retry = Some(Retry {
        codes: vec![99],
        attempts: 1,
        backoff: Millis(1),
    });
    Arc::new(route)
}

/// A sealed table with `listeners` listeners from port 8000 on, and `routes` routes, each with a path (`/r0`, ...) and a
/// cluster of its own.
pub(crate) fn table(listeners: usize, routes: usize) -> RoutingTable {
    let mut table = RoutingTable::new(gateway());
    for (number, port) in (8000..).take(listeners).enumerate() {
        table
            .listeners
            .insert(listener(&format!("l{number}")), plain(port));
    }
    for number in 0..routes {
        table.routes.insert(
            route(number),
            path_route(number, PathMatch::Prefix(format!("/r{number}"))),
        );
        table
            .clusters
            .insert(cluster(number), Arc::new(Cluster::default()));
    }
    table.seal();
    table
}

/// A sealed copy of `table` with a change.
pub(crate) fn changed(
    table: &RoutingTable,
    change: impl FnOnce(&mut RoutingTable),
) -> Arc<RoutingTable> {
    let mut table = table.clone();
    change(&mut table);
    table.seal();
    Arc::new(table)
}
