//! What a change touches, and what it leaves alone.

use std::{cell::RefCell, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    cluster::Cluster, endpoint::ClusterEndpoints, key::ClusterKey, resource::ResourceKind,
};

fn route(name: &str, hostname: &str, path: &str) -> (RouteKey, Arc<Route>) {
    let route = json!({
        "listeners": ["ns/gw/http", "ns/gw/other"],
        "hostnames": [hostname],
        "matches": [{ "path": { "Prefix": path } }],
        "action": { "Forward": [{ "weight": 1, "backend": { "Cluster": "service/ns/s/80" } }] },
        "order": { "created_at": 0, "namespace": "ns", "name": name, "rule": 0 },
        "source": { "kind": "HTTPRoute", "namespace": "ns", "name": name, "rule": 0 },
    });
    (
        RouteKey::of("HTTPRoute", "ns", name, 0),
        Arc::new(serde_json::from_value(route).unwrap()),
    )
}

fn listener(port: u16) -> Arc<Listener> {
    Arc::new(Listener {
        port,
        protocol: ListenerProtocol::Http,
        hostname: None,
        tls: None,
        direction: Direction::Ingress,
    })
}

/// Two listeners, hosts `a` (two routes) and `b` (one).
fn table() -> RoutingTable {
    let mut table = RoutingTable::new(crate::GatewayKey::of("ns", "gw"));
    table
        .listeners
        .insert(ListenerKey::new("ns/gw/http"), listener(80));
    table
        .listeners
        .insert(ListenerKey::new("ns/gw/other"), listener(81));
    table.clusters.insert(
        ClusterKey::service("ns", "s", 80),
        Arc::new(Cluster::default()),
    );
    table.routes.extend([
        route("a1", "a", "/1"),
        route("a2", "a", "/2"),
        route("b", "b", "/"),
    ]);
    table
}

/// Compiles, and tells which routes were prepared.
fn compile_next(
    previous: Option<&CompiledTable<()>>,
    table: &RoutingTable,
) -> (CompiledTable<()>, Vec<String>) {
    let prepared = RefCell::new(Vec::new());
    let (compiled, rejections) = compile(previous, Arc::new(table.clone()), |_, route| {
        prepared.borrow_mut().push(route.source.name.clone());
        Ok(())
    });
    assert_eq!(rejections, []);
    (compiled, prepared.into_inner())
}

fn host<'a>(
    compiled: &'a CompiledTable<()>,
    port: u16,
    host: &str,
) -> Option<&'a Arc<host::HostTable<()>>> {
    compiled
        .port(port)?
        .listener_for(host)?
        .hosts
        .all()
        .find_map(|tables| tables.get(HostPattern::Exact(host)))
}

fn same_host(a: &CompiledTable<()>, b: &CompiledTable<()>, port: u16, name: &str) -> bool {
    host(a, port, name)
        .zip(host(b, port, name))
        .is_some_and(|(a, b)| Arc::ptr_eq(a, b))
}

#[test]
fn a_changed_route_rebuilds_its_hosts_only() {
    let mut table = table();
    let (before, prepared) = compile_next(None, &table);
    assert_eq!(prepared, ["a1", "a2", "b"]);
    table.routes.extend([route("a1", "a", "/changed")]);
    let (after, prepared) = compile_next(Some(&before), &table);
    assert_eq!(prepared, ["a1"]);
    for port in [80, 81] {
        assert!(same_host(&before, &after, port, "b"));
        assert!(!same_host(&before, &after, port, "a"));
    }
}

#[test]
fn a_credential_that_changes_is_prepared_anew_where_it_is_named() {
    let credential = |value: &str| {
        let json = json!({"header": "x-api-key", "value": value, "secret": "ns/keys"});
        Arc::new(serde_json::from_value::<crate::filter::Credential>(json).unwrap())
    };
    let keys = ["one", "two"].map(|name| CredentialKey::of("ns", name));
    let mut table = table();
    for key in &keys {
        table.credentials.insert(key.clone(), credential("old"));
    }
    for (name, key) in ["a1", "b"].into_iter().zip(&keys) {
        let route = table
            .routes
            .get_mut(&RouteKey::of("HTTPRoute", "ns", name, 0));
        let route = Arc::make_mut(route.unwrap());
        let filter = crate::Filter::Credential(key.clone());
        match &mut route.action {
            // Wherever it stands.
            crate::RouteAction::Forward(backends) if name == "b" => {
                backends[0].filters.push(filter);
            }
            _ => route.filters.push(filter),
        }
    }
    let (before, _) = compile_next(None, &table);
    let (same, prepared) = compile_next(Some(&before), &table);
    assert_eq!(prepared, [""; 0]);
    table.credentials.insert(keys[1].clone(), credential("new"));
    let (after, prepared) = compile_next(Some(&same), &table);
    assert_eq!(prepared, ["b"]);
    assert!(same_host(&before, &after, 80, "a") && !same_host(&before, &after, 80, "b"));

    table.credentials.remove(&keys[0]);
    let (_, rejections) = compile(Some(&after), Arc::new(table), |_, _| Ok(()));
    let rejected: Vec<_> = rejections.iter().map(ToString::to_string).collect();
    assert_eq!(
        rejected,
        ["route httproute/ns/a1/0: credentialinjection/ns/one is not in the table"]
    );
}

#[test]
fn a_route_that_moves_leaves_its_old_host() {
    let mut table = table();
    let (before, _) = compile_next(None, &table);
    table.routes.extend([route("b", "c", "/")]);
    let (after, _) = compile_next(Some(&before), &table);
    assert!(host(&after, 80, "b").is_none());
    assert!(host(&after, 80, "c").is_some());
    assert!(same_host(&before, &after, 80, "a"));
}

#[test]
fn endpoints_touch_nothing() {
    let mut table = table();
    let (before, _) = compile_next(None, &table);
    table.endpoints.insert(
        ClusterKey::service("ns", "s", 80),
        Arc::new(ClusterEndpoints::default()),
    );
    let (after, prepared) = compile_next(Some(&before), &table);
    assert_eq!(prepared, [""; 0]);
    for (key, listener) in &before.listeners {
        assert!(Arc::ptr_eq(listener, &after.listeners[key]));
    }
    assert_eq!(after.table().endpoints.len(), 1);
}

#[test]
fn equal_routes_of_a_fresh_copy_are_recognised() {
    let (before, _) = compile_next(None, &table());
    let (after, prepared) = compile_next(Some(&before), &table());
    assert_eq!(prepared, [""; 0]);
    assert!(same_host(&before, &after, 80, "a"));
}

#[test]
fn a_new_listener_gets_its_routes_without_preparing_them_again() {
    let whole = table();
    let mut table = whole.clone();
    table.listeners.insert(
        ListenerKey::new("ns/gw/other"),
        Arc::new(Listener {
            port: 0,
            ..(*listener(81)).clone()
        }),
    );
    let (before, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
    assert_eq!(
        rejections
            .iter()
            .map(|r| (r.kind, r.key.as_str()))
            .collect::<Vec<_>>(),
        [(ResourceKind::Listener, "ns/gw/other")]
    );
    assert!(before.is_rejected(ResourceKind::Listener, "ns/gw/other"));
    assert!(!before.is_rejected(ResourceKind::Listener, "ns/gw/http"));
    assert!(host(&before, 80, "a").is_some());
    assert!(host(&before, 81, "a").is_none());
    let (after, prepared) = compile_next(Some(&before), &whole);
    assert_eq!(prepared, [""; 0]);
    assert_eq!(host(&after, 81, "a").unwrap().routes.len(), 2);
    assert!(same_host(&before, &after, 80, "a"));
}

#[test]
fn a_changed_listener_keeps_its_hosts() {
    let mut table = table();
    let (before, _) = compile_next(None, &table);
    table
        .listeners
        .insert(ListenerKey::new("ns/gw/other"), listener(82));
    let (after, _) = compile_next(Some(&before), &table);
    assert!(after.port(81).is_none());
    assert!(Arc::ptr_eq(
        host(&before, 81, "a").unwrap(),
        host(&after, 82, "a").unwrap()
    ));
    assert_eq!(
        after.ports().map(CompiledPort::port).collect::<Vec<_>>(),
        [80, 82]
    );
}

/// Routes for one host of the Gateway's namespace and of two others, on a listener of each direction.
fn of_tenants() -> RoutingTable {
    let mut table = table();
    Arc::make_mut(&mut table.settings).egress = Some(crate::egress::EgressSettings::default());
    let other = table.listeners.get_mut(&ListenerKey::new("ns/gw/other"));
    Arc::make_mut(other.unwrap()).direction = Direction::Egress;
    for (name, namespace) in [("a1", "one"), ("a2", "two")] {
        let key = RouteKey::of("HTTPRoute", "ns", name, 0);
        let route = Arc::make_mut(table.routes.get_mut(&key).unwrap());
        route.source.namespace = namespace.to_owned();
    }
    table.routes.extend([route("a3", "a", "/")]);
    table
}

/// The routes that a lookup for host `a` may come upon.
fn in_sight<'a>(
    compiled: &'a CompiledTable<()>,
    port: u16,
    caller: Option<&str>,
) -> BTreeSet<&'a str> {
    let listener = compiled.port(port).and_then(|port| port.listener_for("a"));
    let hosts = &listener.unwrap().hosts;
    let tables = hosts.of(caller).chain([hosts.everybody()]);
    let hosts = tables.flat_map(|tables| tables.matching("a"));
    let routes = hosts.flat_map(|host| &host.routes);
    routes.map(|it| it.route().source.name.as_str()).collect()
}

#[test]
fn what_others_have_for_themselves_makes_no_lookup_longer() {
    let (compiled, _) = compile_next(None, &of_tenants());
    for (caller, expected) in [
        (None, &["a3"][..]),
        (Some("ns"), &["a3"]),
        (Some("one"), &["a1", "a3"]),
        (Some("two"), &["a2", "a3"]),
        (Some("three"), &["a3"]),
    ] {
        let found = in_sight(&compiled, 81, caller);
        assert!(found.iter().eq(expected), "{caller:?} {found:?}");
        // Requests from outside are of no namespace.
        assert_eq!(in_sight(&compiled, 80, caller).len(), 3);
    }
}

#[test]
fn a_listener_that_goes_the_other_way_has_its_routes_in_other_places() {
    let mut table = of_tenants();
    let (before, _) = compile_next(None, &table);
    let key = ListenerKey::new("ns/gw/other");
    let other = Arc::make_mut(table.listeners.get_mut(&key).unwrap());
    other.direction = Direction::Ingress;
    let (inward, prepared) = compile_next(Some(&before), &table);
    assert_eq!(in_sight(&inward, 81, None).len(), 3);
    assert_eq!(prepared, [""; 0]);
    let (outward, _) = compile_next(Some(&inward), &of_tenants());
    assert_eq!(in_sight(&outward, 81, Some("one")).len(), 2);
    // A namespace without routes leaves nothing behind.
    let mut table = of_tenants();
    table
        .routes
        .remove(&RouteKey::of("HTTPRoute", "ns", "a1", 0));
    let (without, _) = compile_next(Some(&outward), &table);
    let listener = without.port(81).unwrap().listener_for("a").unwrap();
    assert_eq!(listener.hosts.all().count(), 2);
    assert!(same_host(&outward, &without, 80, "b"));
}

#[test]
fn a_cluster_that_goes_takes_its_routes_along_until_it_is_back() {
    let whole = table();
    let (before, _) = compile_next(None, &whole);
    let mut table = whole.clone();
    table.clusters.clear();
    let (without, rejections) = compile(Some(&before), Arc::new(table), |_, _| Ok(()));
    assert_eq!(rejections.len(), 3);
    assert!(host(&without, 80, "a").is_none());
    let (back, prepared) = compile_next(Some(&without), &whole);
    assert_eq!(prepared, ["a1", "a2", "b"]);
    assert!(host(&back, 80, "a").is_some());
}

#[test]
fn a_route_that_cannot_be_prepared_is_rejected_alone() {
    let prepare = |key: &RouteKey, _: &Arc<Route>| {
        if key.as_str().ends_with("a1/0") {
            Err("no".to_owned())
        } else {
            Ok(())
        }
    };
    let (compiled, rejections) = compile(None, Arc::new(table()), prepare);
    let key = RouteKey::of("HTTPRoute", "ns", "a1", 0);
    assert_eq!(
        rejections,
        [Rejection {
            kind: ResourceKind::Route,
            key: key.to_string(),
            message: "no".to_owned()
        }]
    );
    assert_eq!(host(&compiled, 80, "a").unwrap().routes.len(), 1);
    assert!(compiled.route(&key).is_none());
}
