//! Tables in a few words.

use std::{net::SocketAddr, sync::Arc};

use portcullis_routing::{
    Backend, Certificate, CertificateKey, Cluster, ClusterEndpoints, ClusterKey, ClusterProtocol,
    CredentialKey, Endpoint, EndpointHost, EndpointState, Filter, GatewayKey, Listener,
    ListenerKey, ListenerProtocol, PathMatch, Route, RouteAction, RouteKey, RouteMatch, RouteOrder,
    RoutePolicy, RouteSource, RoutingTable, Secret, WeightedCluster, filter::Credential,
    settings::ProxySettings,
};

/// A table under construction. It has an HTTP listener without hostname on port 80.
pub(crate) struct TableBuilder(RoutingTable);

impl Default for TableBuilder {
    fn default() -> Self {
        let mut table = RoutingTable::new(gateway());
        let listener = Listener {
            port: 80,
            protocol: ListenerProtocol::Http,
            hostname: None,
            tls: None,
            direction: portcullis_routing::Direction::Ingress,
        };
        table.listeners.insert(listener_key(), Arc::new(listener));
        Self(table)
    }
}

impl From<RoutingTable> for TableBuilder {
    fn from(table: RoutingTable) -> Self {
        Self(table)
    }
}

fn gateway() -> GatewayKey {
    GatewayKey::of("test", "gateway")
}

fn listener_key() -> ListenerKey {
    ListenerKey::of(&gateway(), "http")
}

/// The key of the cluster called `name`.
pub(crate) fn cluster_key(name: &str) -> ClusterKey {
    ClusterKey::service("test", name, 80)
}

impl TableBuilder {
    /// Changes the settings of the proxy.
    pub(crate) fn settings(mut self, change: impl FnOnce(&mut ProxySettings)) -> Self {
        change(Arc::make_mut(&mut self.0.settings));
        self
    }

    /// An HTTP/1 backend.
    pub(crate) fn cluster(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.cluster_with(name, endpoints, Cluster::default())
    }

    /// A backend that speaks HTTP/2 in clear text.
    pub(crate) fn h2c_cluster(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.cluster_with(
            name,
            endpoints,
            Cluster {
                protocol: ClusterProtocol::Http2,
                ..Cluster::default()
            },
        )
    }

    /// A backend with settings of its own.
    pub(crate) fn cluster_with(
        mut self,
        name: &str,
        endpoints: &[SocketAddr],
        cluster: Cluster,
    ) -> Self {
        let endpoint = |address: &SocketAddr| Endpoint {
            host: EndpointHost::Ip(address.ip()),
            port: address.port(),
            state: EndpointState::Ready,
        };
        let mut endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
        endpoints.sort();
        self.0.clusters.insert(cluster_key(name), Arc::new(cluster));
        self.0
            .endpoints
            .insert(cluster_key(name), Arc::new(ClusterEndpoints { endpoints }));
        self
    }

    /// A route for the prefix `path`, forwarding to `cluster`, with changes.
    pub(crate) fn route(self, path: &str, cluster: &str, change: impl FnOnce(&mut Route)) -> Self {
        let action = RouteAction::Forward(vec![weighted(cluster, 1)]);
        self.action(path, action, change)
    }

    /// A route for the prefix `path` with any action.
    pub(crate) fn action(
        mut self,
        path: &str,
        action: RouteAction,
        change: impl FnOnce(&mut Route),
    ) -> Self {
        let rule = self.0.routes.len();
        let path = PathMatch::Prefix(path.into());
        let mut route = Route {
            listeners: vec![listener_key()],
            hostnames: vec![],
            matches: vec![RouteMatch {
                path,
                method: None,
                headers: vec![],
                query: vec![],
            }],
            filters: vec![],
            action,
            policy: RoutePolicy::default(),
            order: RouteOrder {
                created_at: 0,
                namespace: "test".into(),
                name: "route".into(),
                rule,
            },
            source: RouteSource {
                kind: "HTTPRoute".into(),
                namespace: "test".into(),
                name: "route".into(),
                rule,
                rule_name: None,
            },
        };
        change(&mut route);
        self.0.routes.insert(
            RouteKey::of("HTTPRoute", "test", "route", rule),
            Arc::new(route),
        );
        self
    }

    /// A credential that filters call `name`.
    pub(crate) fn credential(
        mut self,
        name: &str,
        (header, value): (&str, &str),
        overwrite: bool,
    ) -> Self {
        let credential = Credential {
            header: header.into(),
            value: Secret::new(value),
            overwrite,
            secret: "test/keys".into(),
            key: String::new(),
            prefix: String::new(),
        };
        let key = CredentialKey::of("test", name);
        self.0.credentials.insert(key, Arc::new(credential));
        self
    }

    /// A listener of TLS that passes through.
    pub(crate) fn passthrough(mut self, name: &str, port: u16, hostname: Option<&str>) -> Self {
        let listener = Listener {
            port,
            protocol: ListenerProtocol::Tls,
            hostname: hostname.map(str::to_owned),
            tls: None,
            direction: portcullis_routing::Direction::Ingress,
        };
        let key = ListenerKey::of(&gateway(), name);
        self.0.listeners.insert(key, Arc::new(listener));
        self
    }

    /// A TLSRoute of a listener, for one host.
    pub(crate) fn tls_route(
        mut self,
        listener: &str,
        hostname: &str,
        backends: Vec<WeightedCluster>,
    ) -> Self {
        let name = format!("r{}", self.0.routes.len());
        let (key, route) = tls_route(("test", &name), listener, hostname, backends);
        self.0.routes.insert(key, route);
        self
    }

    /// A certificate.
    pub(crate) fn certificate(mut self, key: CertificateKey, certificate: Certificate) -> Self {
        self.0.certificates.insert(key, Arc::new(certificate));
        self
    }

    /// The table, sealed.
    pub(crate) fn build(mut self) -> RoutingTable {
        self.0.seal();
        self.0
    }
}

/// A TLSRoute of this namespace and name for one host of a listener.
pub(crate) fn tls_route(
    (namespace, name): (&str, &str),
    listener: &str,
    hostname: &str,
    backends: Vec<WeightedCluster>,
) -> (RouteKey, Arc<Route>) {
    let route = Route {
        listeners: vec![ListenerKey::of(&gateway(), listener)],
        hostnames: vec![hostname.into()],
        matches: vec![],
        filters: vec![],
        action: RouteAction::Forward(backends),
        policy: RoutePolicy::default(),
        order: RouteOrder {
            created_at: 0,
            namespace: namespace.into(),
            name: name.into(),
            rule: 0,
        },
        source: RouteSource {
            kind: "TLSRoute".into(),
            namespace: namespace.into(),
            name: name.into(),
            rule: 0,
            rule_name: None,
        },
    };
    let key = RouteKey::of("TLSRoute", namespace, name, 0);
    (key, Arc::new(route))
}

/// A share of a cluster.
pub(crate) fn weighted(cluster: &str, weight: u32) -> WeightedCluster {
    WeightedCluster {
        weight,
        backend: Backend::Cluster(cluster_key(cluster)),
        filters: vec![],
    }
}

/// Adds a credential of the table.
pub(crate) fn credential(name: &str) -> Filter {
    Filter::Credential(CredentialKey::of("test", name))
}

/// Adds a filter to a route.
pub(crate) fn with_filter(filter: Filter) -> impl FnOnce(&mut Route) {
    move |route| route.filters.push(filter)
}
