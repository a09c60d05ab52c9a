//! Random tables and requests over alphabets small enough that everything collides with everything.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis_routing::{
    Backend, Cluster, ClusterEndpoints, ClusterKey, Direction, Endpoint, EndpointHost,
    EndpointState, GatewayKey, HeaderMatch, Listener, ListenerKey, ListenerProtocol, PathMatch,
    ProxySettings, QueryMatch, RequestHead, Route, RouteAction, RouteKey, RouteMatch, RouteOrder,
    RoutePolicy, RouteSource, RoutingTable, ValueMatch, WeightedCluster, settings::AccessLog,
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use crate::egress::{Egress, egress};

/// The ports that listeners use. TLS passes through the last one, most of the time.
pub(crate) const PORTS: [u16; 3] = [80, 81, 82];

/// Hostnames of listeners and routes.
const HOSTNAMES: &[&str] = &["a.b", "*.b", "*.a.b", "x.a.b", "*.c", "b", "y.x.a.b"];
const HOSTS: &[&str] = &["a.b", "x.a.b", "y.x.a.b", "q.b", "z.c", "b", "", "other"];
const PATHS: &[&str] = &[
    "/a", "/a/b", "/a/b/c", "/a/b/", "/a/", "/", "/ab", "/b//a", "/1", "*", "",
];
/// The short ones stand twice, so that many matches are left to the later clauses of precedence.
const PREFIXES: &[&str] = &["/", "/", "/a", "/a", "/a/b", "/b", "/a/b/c"];
const EXPRESSIONS: &[&str] = &["/a.*", "/(a|ab)", "/[ab]/?b", ".*", "/[0-9]+"];
const VALUES: &[&str] = &["1", "1", "1", "2", "1, 2", "a b", ""];

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) host: &'static str,
    pub(crate) path: &'static str,
    pub(crate) query: Option<String>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            host: self.host,
            path: self.path,
            query: self.query.as_deref(),
            method: &self.method,
            headers: &self.headers,
        }
    }
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let query = vec(
        (
            select(&["x", "x", "y", "%78"][..]),
            select(&["1", "1", "2", "a+b", "a%20b", "%"][..]),
        ),
        0..3,
    );
    let query = query.prop_map(|pairs| {
        pairs
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join("&")
    });
    let headers = vec((select(&["x", "x", "y"][..]), select(VALUES)), 0..3).prop_map(|lines| {
        let line = |(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut headers = HeaderMap::new();
        lines.into_iter().map(line).for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    });
    let method = select(&[Method::GET, Method::POST][..]);
    (
        select(HOSTS),
        select(PATHS),
        option::of(query),
        method,
        headers,
    )
        .prop_map(|(host, path, query, method, headers)| Request {
            host,
            path,
            query,
            method,
            headers,
        })
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        9 => select(VALUES).prop_map(|text| ValueMatch::Exact(text.to_owned())),
        1 => select(&["[12]", "1.*", "(a|a b)"][..]).prop_map(|text| ValueMatch::Regex(text.to_owned())),
    ]
}

fn path() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        20 => select(&PATHS[..7]).prop_map(|text| PathMatch::Exact(text.to_owned())),
        80 => select(PREFIXES).prop_map(|text| PathMatch::Prefix(text.to_owned())),
        15 => select(EXPRESSIONS).prop_map(|text| PathMatch::Regex(text.to_owned())),
        1 => Just(PathMatch::Regex("(broken".to_owned())),
        1 => Just(PathMatch::Prefix("/b/".to_owned())),
    ]
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let headers = option::weighted(0.25, (select(&["x", "x", "y"][..]), value()));
    let query = option::weighted(0.25, (select(&["x", "x", "y"][..]), value()));
    let method = option::weighted(0.25, select(&["GET", "POST"][..]));
    let any =
        (path(), method, headers, query).prop_map(|(path, method, header, query)| RouteMatch {
            path,
            method: method.map(str::to_owned),
            headers: header
                .into_iter()
                .map(|(name, value)| HeaderMatch {
                    name: name.to_owned(),
                    value,
                })
                .collect(),
            query: query
                .into_iter()
                .map(|(name, value)| QueryMatch {
                    name: name.to_owned(),
                    value,
                })
                .collect(),
        });
    // Equal ones in many routes, so that age, name, rule and key have something to decide.
    let all = RouteMatch {
        path: PathMatch::Prefix("/".to_owned()),
        method: None,
        headers: vec![],
        query: vec![],
    };
    prop_oneof![1 => Just(all), 3 => any]
}

fn cluster_key(index: u16) -> ClusterKey {
    ClusterKey::service("ns", &format!("s{index}"), 80)
}

fn listener_key(index: usize) -> ListenerKey {
    ListenerKey::of(&GatewayKey::of("ns", "gw"), &format!("l{index}"))
}

fn route() -> impl Strategy<Value = (RouteKey, Route)> {
    let name = (
        // The last one is that of the Gateway.
        select(&["n", "n", "n", "n-m", "ns"][..]),
        select(&["r", "r", "r", "s"][..]),
        0..2_usize,
    );
    let of_requests = (
        select(&["HTTPRoute", "GRPCRoute"][..]),
        vec((0..5_usize).prop_map(listener_key), 2..6),
        vec(route_match(), 1..5),
    );
    let of_connections = (
        Just("TLSRoute"),
        vec((5..7_usize).prop_map(listener_key), 1..3),
        Just(Vec::new()),
    );
    let parts = (
        name,
        prop_oneof![3 => of_requests, 1 => of_connections],
        prop_oneof![Just(Vec::new()), vec(hostname(), 1..3)],
        0..2_i64,
        (0..4_u16).prop_map(cluster_key),
    );
    parts.prop_map(
        |(
            (namespace, name, rule),
            (kind, listeners, matches),
            mut hostnames,
            created_at,
            cluster,
        )| {
            hostnames.sort();
            hostnames.dedup();
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let key = RouteKey::of(kind, &namespace, &name, rule);
            let forward = WeightedCluster {
                weight: 1,
                backend: Backend::Cluster(cluster),
                filters: Vec::new(),
            };
            let route = Route {
                listeners,
                hostnames,
                matches,
                filters: Vec::new(),
                action: RouteAction::Forward(vec![forward]),
                policy: RoutePolicy::default(),
                order: RouteOrder {
                    created_at,
                    namespace: namespace.clone(),
                    name: name.clone(),
                    rule,
                },
                source: RouteSource {
                    kind: kind.to_owned(),
                    namespace,
                    name,
                    rule,
                    rule_name: None,
                },
            };
            (key, route)
        },
    )
}

/// A hostname, seldom an invalid one, so that something is rejected now and then.
fn hostname() -> impl Strategy<Value = String> {
    prop_oneof![40 => select(HOSTNAMES), 1 => Just("Bad")].prop_map(str::to_owned)
}

/// All of them, but now and then some are missing, so that references dangle.
fn mostly_all<T: Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let some = subsequence(all.clone(), 1..all.len());
    prop_oneof![4 => Just(all), 1 => some]
}

fn listener() -> impl Strategy<Value = Listener> {
    (
        prop_oneof![4 => Just(PORTS[0]), 1 => Just(PORTS[1])],
        option::weighted(0.4, hostname()),
    )
        .prop_map(|(port, hostname)| Listener {
            port,
            protocol: ListenerProtocol::Http,
            hostname,
            tls: None,
            direction: Direction::Ingress,
        })
}

/// One that TLS passes through, but for those that have just changed their mind.
fn passing() -> impl Strategy<Value = Listener> {
    let protocol = prop_oneof![6 => Just(ListenerProtocol::Tls), 1 => Just(ListenerProtocol::Http)];
    (listener(), protocol).prop_map(|(listener, protocol)| Listener {
        port: PORTS[2],
        protocol,
        ..listener
    })
}

fn endpoints() -> impl Strategy<Value = ClusterEndpoints> {
    vec(0..3_u8, 0..3).prop_map(|hosts| ClusterEndpoints {
        // Not always sorted, so that some are rejected.
        endpoints: hosts
            .into_iter()
            .map(|host| Endpoint {
                host: EndpointHost::Ip([10, 0, 0, host].into()),
                port: 80,
                state: EndpointState::Ready,
            })
            .collect(),
    })
}

/// The resources of a table, in the order of insertion.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) listeners: Vec<(ListenerKey, Listener)>,
    pub(crate) routes: Vec<(RouteKey, Route)>,
    pub(crate) clusters: Vec<ClusterKey>,
    pub(crate) endpoints: Vec<(ClusterKey, ClusterEndpoints)>,
    pub(crate) egress: Option<Egress>,
    /// Of all listeners, if there is something of egress.
    pub(crate) direction: Direction,
    pub(crate) sampled: u32,
}

impl Parts {
    /// The sealed table; where a key stands twice, the first counts.
    pub(crate) fn table(&self) -> RoutingTable {
        let mut table = RoutingTable::new(GatewayKey::of("ns", "gw"));
        let access_log = AccessLog::Sampled(self.sampled);
        table.settings = Arc::new(ProxySettings {
            access_log,
            ..ProxySettings::default()
        });
        let outward = self.egress.as_ref().map(|_| self.direction);
        let direction = outward.unwrap_or_default();
        for (key, listener) in &self.listeners {
            let listener = Listener {
                direction,
                ..listener.clone()
            };
            table
                .listeners
                .entry(key.clone())
                .or_insert_with(|| Arc::new(listener));
        }
        for (key, route) in &self.routes {
            table
                .routes
                .entry(key.clone())
                .or_insert_with(|| Arc::new(route.clone()));
        }
        for key in &self.clusters {
            table
                .clusters
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Cluster::default()));
        }
        for (key, endpoints) in &self.endpoints {
            table
                .endpoints
                .entry(key.clone())
                .or_insert_with(|| Arc::new(endpoints.clone()));
        }
        if let Some(egress) = &self.egress {
            egress.fill(&mut table);
        }
        table.seal();
        table
    }
}

pub(crate) fn parts() -> impl Strategy<Value = Parts> {
    let listeners = (
        mostly_all((0..7).collect()),
        vec(listener(), 5),
        vec(passing(), 2),
    )
        .prop_map(|(kept, mut all, passing)| {
            all.extend(passing);
            let kept = kept.into_iter();
            kept.map(|index: usize| (listener_key(index), all[index].clone()))
                .collect()
        });
    let routes = vec(route(), 0..24);
    let clusters = mostly_all((0..4).map(cluster_key).collect());
    let endpoints = vec(((0..4_u16).prop_map(cluster_key), endpoints()), 0..4);
    let egress = option::weighted(0.7, egress());
    let direction = select(&[Direction::Ingress, Direction::Egress][..]);
    let settings = (direction, 0..3_u32);
    (listeners, routes, clusters, endpoints, egress, settings).prop_map(
        |(listeners, routes, clusters, endpoints, egress, (direction, sampled))| Parts {
            listeners,
            routes,
            clusters,
            endpoints,
            egress,
            direction,
            sampled,
        },
    )
}

/// A sealed table.
pub(crate) fn table() -> impl Strategy<Value = RoutingTable> {
    parts().prop_map(|parts| parts.table())
}

/// A chain of sealed tables, each of which keeps most of the one before, as in life.
pub(crate) fn history() -> impl Strategy<Value = Vec<RoutingTable>> {
    (parts(), vec((parts(), any::<[u32; 7]>()), 1..4)).prop_map(|(first, steps)| {
        let mut tables = vec![first.table()];
        let mut parts = first;
        for (other, mask) in steps {
            parts = Parts {
                listeners: mixed(parts.listeners, other.listeners, mask[0]),
                routes: mixed(parts.routes, other.routes, mask[1]),
                clusters: mixed(parts.clusters, other.clusters, mask[2]),
                endpoints: mixed(parts.endpoints, other.endpoints, mask[3]),
                egress: match (parts.egress, other.egress) {
                    (Some(old), Some(new)) => Some(Egress {
                        entries: mixed(old.entries, new.entries, mask[4]),
                        policies: mixed(old.policies, new.policies, mask[5]),
                        workloads: mixed(old.workloads, new.workloads, mask[6]),
                    }),
                    (_, new) => new,
                },
                direction: other.direction,
                sampled: other.sampled,
            };
            tables.push(parts.table());
        }
        tables
    })
}

/// About three quarters of `old`, then a quarter of `new`, chosen by the bits of `mask`.
fn mixed<T>(old: Vec<T>, new: Vec<T>, mask: u32) -> Vec<T> {
    let quarter = |index: usize| {
        mask.rotate_right(2 * u32::try_from(index % 16).unwrap())
            .is_multiple_of(4)
    };
    let kept = old
        .into_iter()
        .enumerate()
        .filter(|(index, _)| !quarter(*index))
        .map(|(_, item)| item);
    let added = new
        .into_iter()
        .enumerate()
        .filter(|(index, _)| quarter(index + 5))
        .map(|(_, item)| item);
    kept.chain(added).collect()
}
