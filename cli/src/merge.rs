//! Several Gateways in one process: their tables become one.
//!
//! In a cluster every Gateway has an address of its own. Here they share one, so two listeners of different Gateways
//! can get into each other's way, which inside one Gateway with its ListenerSets the translation would have found.

mod egress;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_controller::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
};
use portcullis_routing::{
    ClusterKey, GatewayKey, Listener, ListenerKey, ProxySettings, Route, RouteKey, RoutingTable,
    egress::EgressSettings,
};

/// Stands for all Gateways of the files. No Gateway can be called so.
const EVERY_GATEWAY: &str = "files/*";

/// One table with everything of `tables`, and what could not be had together. Of two listeners that exclude each other
/// the one of the Gateway that comes first by namespace and name is served, unless its certificates are broken.
///
/// The table's own Gateway is [`EVERY_GATEWAY`], however many there are: a proxy keeps to one for its whole life.
pub(crate) fn merge(tables: &BTreeMap<GatewayKey, RoutingTable>) -> (RoutingTable, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut merged = RoutingTable::new(GatewayKey::new(EVERY_GATEWAY));
    let refused = refused_listeners(tables, &mut findings);
    merged.settings = Arc::new(settings(tables, &mut findings));
    for table in tables.values() {
        findings.extend(client_certificates_differ(table, &merged));
        add(&mut merged, table, &refused);
    }
    merged.policies = egress::policies(tables, &mut findings);
    merged.seal();
    (merged, findings)
}

/// The settings of the first Gateway, and those of egress of the first one of that, whose namespace then counts as the Gateway's,
/// but for what others shut.
fn settings(
    tables: &BTreeMap<GatewayKey, RoutingTable>,
    findings: &mut Vec<Finding>,
) -> ProxySettings {
    let general = tables.iter().map(|(key, table)| {
        let settings = ProxySettings::clone(&table.settings);
        (
            key,
            ProxySettings {
                egress: None,
                ..settings
            },
        )
    });
    let general = first(general, findings).unwrap_or_default();
    let of_egress = || {
        let tables = tables.iter();
        tables.filter_map(|(key, table)| Some((key, table.settings.egress.clone()?)))
    };
    let namespace = of_egress()
        .map(|(key, _)| key.namespace().to_owned())
        .next();
    let comparable = of_egress().map(|(key, settings)| {
        // That each has addresses of its own is no difference.
        let own = Vec::new();
        (key, EgressSettings { own, ..settings })
    });
    let strictest = first(comparable, findings).map(|first| {
        let first = EgressSettings { namespace, ..first };
        let others = of_egress().map(|(_, settings)| settings);
        others.fold(first, egress::stricter)
    });
    ProxySettings {
        egress: strictest,
        ..general
    }
}

/// The first of several settings, each with its Gateway. Those that differ from it are told.
fn first<'t, T: PartialEq>(
    mut all: impl Iterator<Item = (&'t GatewayKey, T)>,
    findings: &mut Vec<Finding>,
) -> Option<T> {
    let (winner, settings) = all.next()?;
    let losers = all.filter(|(_, other)| *other != settings);
    findings.extend(losers.map(|(loser, _)| settings_differ(loser, winner)));
    Some(settings)
}

/// The listeners that others exclude. One whose certificates are all broken at present has the last pick: it may be of no use to
/// anybody.
fn refused_listeners(
    tables: &BTreeMap<GatewayKey, RoutingTable>,
    findings: &mut Vec<Finding>,
) -> BTreeSet<ListenerKey> {
    let mut claims: Vec<_> = tables
        .values()
        .flat_map(|table| {
            table
                .listeners
                .iter()
                .map(move |(key, it)| (table, key, it))
        })
        .collect();
    claims.sort_by_key(|(table, _, listener)| !table.has_certificate(listener));
    let mut served: Vec<(&ListenerKey, &Listener)> = Vec::new();
    let mut refused = BTreeSet::new();
    for (table, key, listener) in claims {
        let conflicts = served
            .iter()
            .find_map(|(other, theirs)| Some((other, conflict(listener, theirs)?)));
        let Some((other, why)) = conflicts else {
            served.push((key, listener));
            continue;
        };
        findings.push(object(&table.gateway, key).error(
            why.code,
            format!("spec.listeners[name={}]", key.name()),
            format!(
                "port {} is also used by listener {other} of another Gateway, {}; this listener is not served",
                listener.port, why.difference
            ),
            "here all Gateways share one address: give the listeners different ports or different hostnames, or run \
             each Gateway in a process of its own",
        ));
        refused.insert(key.clone());
    }
    refused
}

struct Conflict {
    code: &'static str,
    difference: &'static str,
}

fn conflict(one: &Listener, other: &Listener) -> Option<Conflict> {
    if one.port != other.port {
        None
    } else if one.protocol != other.protocol {
        Some(Conflict {
            code: "ProtocolConflict",
            difference: "with another protocol",
        })
    } else if one.direction != other.direction {
        Some(Conflict {
            code: "ProtocolConflict",
            difference: "for traffic of the other direction",
        })
    } else if one.hostname == other.hostname {
        Some(Conflict {
            code: "HostnameConflict",
            difference: "with the same hostname",
        })
    } else {
        None
    }
}

fn settings_differ(loser: &GatewayKey, winner: &GatewayKey) -> Finding {
    gateway(loser).error(
        "SettingsConflict",
        "spec.infrastructure.parametersRef",
        format!("its proxy settings differ from those of Gateway {winner}, which are the ones in force, but for what these refuse besides"),
        "here all Gateways share one proxy: give them the same GatewayParameters, or run each in a process of its own",
    )
}

/// A backend has one set of connections, made with one certificate.
fn client_certificates_differ(table: &RoutingTable, merged: &RoutingTable) -> Option<Finding> {
    let shown = |table: &RoutingTable, key: &ClusterKey| {
        let tls = table.clusters.get(key)?.tls.as_ref()?;
        Some(tls.client_certificate.clone())
    };
    let differs = |key: &&ClusterKey| {
        let theirs = shown(merged, key);
        theirs.is_some_and(|theirs| shown(table, key).is_some_and(|own| own != theirs))
    };
    let cluster = table.clusters.keys().find(differs).map(ClusterKey::as_str);
    // Nothing else of an entry depends on the Gateway.
    let mut entries = table.entries.iter();
    let entry = entries.find(|(key, own)| merged.entries.get(*key).is_some_and(|it| it != *own));
    let backend = cluster.or(entry.map(|(key, _)| key.as_str()))?;
    Some(gateway(&table.gateway).error(
        "ClientCertificateConflict",
        "spec.tls.backend.clientCertificateRef",
        format!("backend {backend} is also used by another Gateway with another client certificate, which is the one in force"),
        "here all Gateways share their connections: refer to the same Secret in both, or run each in a process of its own",
    ))
}

fn gateway(key: &GatewayKey) -> ObjectRef {
    let (namespace, name) = key.as_str().split_once('/').unwrap_or(("", key.as_str()));
    ObjectRef::new("Gateway", ObjectKey::new(namespace, name))
}

/// The object that a listener of a Gateway stands in: the Gateway itself, or a ListenerSet.
fn object(of: &GatewayKey, key: &ListenerKey) -> ObjectRef {
    match key.listener_set() {
        None => gateway(of),
        Some((namespace, name)) => ObjectRef::new("ListenerSet", ObjectKey::new(namespace, name)),
    }
}

fn add(merged: &mut RoutingTable, table: &RoutingTable, refused: &BTreeSet<ListenerKey>) {
    merged.listeners.extend(
        table
            .listeners
            .iter()
            .filter(|(key, _)| !refused.contains(*key))
            .map(|(key, it)| (key.clone(), it.clone())),
    );
    for (key, route) in &table.routes {
        let listeners: Vec<_> = route
            .listeners
            .iter()
            .filter(|key| !refused.contains(*key))
            .cloned()
            .collect();
        if !listeners.is_empty() {
            attach(&mut merged.routes, key, route, listeners);
        }
    }
    // What is named by its own identity is the same in every table that has it, but for the client certificate.
    for (key, cluster) in &table.clusters {
        merged
            .clusters
            .entry(key.clone())
            .or_insert_with(|| Arc::clone(cluster));
    }
    for (key, entry) in &table.entries {
        merged
            .entries
            .entry(key.clone())
            .or_insert_with(|| Arc::clone(entry));
    }
    let workloads = table.workloads.iter();
    merged
        .workloads
        .extend(workloads.map(|(key, it)| (key.clone(), Arc::clone(it))));
    for (key, endpoints) in &table.endpoints {
        let known = merged.endpoints.entry(key.clone());
        let known = known.or_insert_with(|| Arc::clone(endpoints));
        // Those of egress lack the names; to what these lead its requests are not sent all the same, unless it is of the cluster.
        if known.endpoints.len() < endpoints.endpoints.len() {
            *known = Arc::clone(endpoints);
        }
    }
    let credentials = table.credentials.iter();
    merged
        .credentials
        .extend(credentials.map(|(key, it)| (key.clone(), Arc::clone(it))));
    merged.certificates.extend(
        table
            .certificates
            .iter()
            .map(|(key, it)| (key.clone(), it.clone())),
    );
}

/// A route with parents in several Gateways stands in each of their tables, with that Gateway's listeners.
fn attach(
    routes: &mut BTreeMap<RouteKey, Arc<Route>>,
    key: &RouteKey,
    route: &Arc<Route>,
    listeners: Vec<ListenerKey>,
) {
    let known = routes.entry(key.clone()).or_insert_with(|| {
        let mut copy = Route::clone(route);
        copy.listeners.clear();
        Arc::new(copy)
    });
    let all = &mut Arc::make_mut(known).listeners;
    all.extend(listeners);
    all.sort();
    all.dedup();
}

#[cfg(test)]
mod tests {
    use portcullis_controller::{Options, manifests::Loaded, translate};
    use portcullis_routing::{CertificateKey, Cluster, ClusterTls};

    use super::*;

    fn gateway(name: &str, listeners: &str) -> String {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  \
             gatewayClassName: portcullis\n  listeners: {listeners}\n"
        )
    }

    /// A redirect that is attached to both Gateways.
    const ROUTE: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  \
        parentRefs: [{name: a}, {name: b}]\n  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: x.example}}]}]\n";

    fn merged(a: &str, b: &str) -> (RoutingTable, Vec<Finding>) {
        let mut loaded = Loaded::default();
        loaded.read_text("test", &(gateway("a", a) + &gateway("b", b) + ROUTE));
        assert_eq!(loaded.problems, []);
        merge(&translate(&loaded.resources, &Options::standalone()).tables)
    }

    fn listeners_of_route(table: &RoutingTable) -> Vec<&str> {
        table
            .routes
            .values()
            .flat_map(|route| &route.listeners)
            .map(ListenerKey::as_str)
            .collect()
    }

    #[test]
    fn gateways_that_do_not_touch_are_all_served() {
        let (table, findings) = merged(
            "[{name: http, protocol: HTTP, port: 80, hostname: a.example}]",
            "[{name: http, protocol: HTTP, port: 80, hostname: b.example}, {name: other, protocol: HTTP, port: 81}]",
        );
        assert_eq!(findings, []);
        assert_eq!(table.listeners.len(), 3);
        assert_eq!(
            listeners_of_route(&table),
            ["default/a/http", "default/b/http", "default/b/other"]
        );
        assert_eq!(table.version, table.computed_version());
    }

    #[test]
    fn of_two_that_want_the_same_the_first_has_it() {
        let same = "[{name: http, protocol: HTTP, port: 80}]";
        let (table, findings) = merged(same, same);
        assert_eq!(listeners_of_route(&table), ["default/a/http"]);
        let found: Vec<_> = findings
            .iter()
            .map(|f| (f.code, f.object.to_string()))
            .collect();
        assert_eq!(
            found,
            [("HostnameConflict", "Gateway default/b".to_owned())]
        );
    }

    /// Connections are shared, so they cannot be made with the certificates of two Gateways.
    #[test]
    fn gateways_with_different_client_certificates_do_not_share_a_backend() {
        let table = |name: &str, certificate: Option<&str>| {
            let mut table = RoutingTable::new(GatewayKey::of("ns", name));
            let tls = ClusterTls {
                server_name: "b.example".into(),
                client_certificate: certificate.map(CertificateKey::new),
                ..ClusterTls::default()
            };
            let cluster = Cluster {
                tls: Some(tls),
                ..Cluster::default()
            };
            let key = ClusterKey::service("ns", "b", 443);
            table.clusters.insert(key, Arc::new(cluster));
            (table.gateway.clone(), table)
        };
        for (one, other, is_told) in [
            (Some("x"), Some("x"), false),
            (None, None, false),
            (Some("x"), Some("y"), true),
            (None, Some("y"), true),
        ] {
            let (merged, findings) = merge(&[table("a", one), table("b", other)].into());
            let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
            let expected: &[_] = if is_told {
                &["ClientCertificateConflict"]
            } else {
                &[]
            };
            assert_eq!(codes, expected, "{one:?} {other:?}");
            let tls = merged
                .clusters
                .values()
                .next()
                .unwrap()
                .tls
                .as_ref()
                .unwrap();
            let in_force = tls.client_certificate.as_ref().map(CertificateKey::as_str);
            assert_eq!(in_force, one, "the first Gateway's is in force");
        }
    }

    #[test]
    fn a_listener_whose_secret_is_broken_displaces_no_good_one() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let secret = |name: &str, certificate: &str| {
            let [certificate, key] = [certificate, &made.signing_key.serialize_pem()]
                .map(|pem| serde_json::to_string(pem).unwrap());
            format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  \
                 tls.crt: {certificate}\n  tls.key: {key}\n"
            )
        };
        let listener = |secret: &str| {
            format!(
                "[{{name: https, protocol: HTTPS, port: 443, tls: {{certificateRefs: [{{name: {secret}}}]}}}}]"
            )
        };
        let mut loaded = Loaded::default();
        let secrets = secret("good", &made.cert.pem()) + &secret("broken", "x");
        let gateways = gateway("a", &listener("broken")) + &gateway("b", &listener("good"));
        loaded.read_text("test", &(gateways + &secrets));
        assert_eq!(loaded.problems, []);
        let translation = translate(&loaded.resources, &Options::standalone());
        let (table, findings) = merge(&translation.tables);
        let served: Vec<_> = table.listeners.keys().map(ListenerKey::as_str).collect();
        assert_eq!(served, ["default/b/https"]);
        let found: Vec<_> = findings.iter().map(|f| f.object.to_string()).collect();
        assert_eq!(found, ["Gateway default/a"]);
    }

    #[test]
    fn a_listener_of_a_listener_set_may_lose_too() {
        const SETS: &str = "  allowedListeners: {namespaces: {from: Same}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: extra}
spec:
  parentRef: {name: b}
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: other, protocol: HTTP, port: 82}
";
        let (table, findings) = merged(
            "[{name: http, protocol: HTTP, port: 80}]",
            &format!("[{{name: http, protocol: HTTP, port: 81}}]\n{SETS}"),
        );
        let listeners: Vec<_> = table.listeners.keys().map(ListenerKey::as_str).collect();
        assert_eq!(
            listeners,
            [
                "default/a/http",
                "default/b/default/extra/other",
                "default/b/http"
            ]
        );
        let found: Vec<_> = findings
            .iter()
            .map(|f| (f.code, f.object.to_string(), &*f.field))
            .collect();
        assert_eq!(
            found,
            [(
                "HostnameConflict",
                "ListenerSet default/extra".to_owned(),
                "spec.listeners[name=http]"
            )]
        );
    }

    const EGRESS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: out, namespace: NAMESPACE}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{name: proxy, protocol: HTTP, port: PORT}]
";
    const OF_EGRESS: &str = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example], ports: [{number: 443, name: https, protocol: HTTPS}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1}
spec: {containers: [{name: web, image: web}]}
status: {phase: Running, podIP: 10.0.0.1}
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {name: all}
spec: {}
";

    fn merged_with_egress(gateways: &str) -> (RoutingTable, Vec<Finding>) {
        let mut loaded = Loaded::default();
        let edge = gateway("edge", "[{name: http, protocol: HTTP, port: 80}]");
        loaded.read_text("test", &(edge + gateways + OF_EGRESS));
        assert_eq!(loaded.problems, []);
        merge(&translate(&loaded.resources, &Options::standalone()).tables)
    }

    fn egress_gateway(namespace: &str, port: u16) -> String {
        let port = port.to_string();
        EGRESS
            .replace("NAMESPACE", namespace)
            .replace("PORT", &port)
    }

    #[test]
    fn what_egress_needs_is_there_beside_an_ingress_gateway() {
        let (table, findings) = merged_with_egress(&egress_gateway("default", 3128));
        assert_eq!(findings, []);
        let egress = table.settings.egress.as_ref().unwrap();
        assert_eq!(egress.namespace.as_deref(), Some("default"));
        let numbers = [
            table.entries.len(),
            table.policies.len(),
            table.workloads.len(),
        ];
        assert_eq!((numbers, table.listeners.len()), ([1, 1, 1], 2));
        let ways: BTreeSet<_> = table.listeners.values().map(|it| it.port).collect();
        assert_eq!(ways, [80, 3128].into());
    }

    #[test]
    fn a_port_goes_one_way_only() {
        let (table, findings) = merged_with_egress(&egress_gateway("default", 80));
        let served: Vec<_> = table.listeners.keys().map(ListenerKey::as_str).collect();
        assert_eq!(served, ["default/edge/http"]);
        let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["ProtocolConflict"]);
    }

    #[test]
    fn the_gateway_of_the_table_never_changes() {
        let one = merge(&BTreeMap::new()).0.gateway;
        let two = merged(
            "[{name: http, protocol: HTTP, port: 80}]",
            "[{name: http, protocol: HTTP, port: 81}]",
        )
        .0
        .gateway;
        assert_eq!(one, two);
    }
}
