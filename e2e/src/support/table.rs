//! Routing tables for a data plane under test.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use anyhow::Result;
use portcullis_routing::{
    Backend, Certificate, CertificateKey, Cluster, ClusterEndpoints, ClusterKey, ClusterProtocol,
    Endpoint, EndpointHost, EndpointState, Filter, GatewayKey, Listener, ListenerKey,
    ListenerProtocol, ListenerTls, PathMatch, ProxySettings, Route, RouteAction, RouteKey,
    RouteMatch, RouteOrder, RoutePolicy, RoutingTable, Secret, WeightedCluster,
    filter::{HeaderField, HeaderModifier},
    route::RouteSource,
};

use super::certificate::Identity;

const NAMESPACE: &str = "e2e";
/// Port of the listener in clear text, as the table names it.
pub(crate) const HTTP_PORT: u16 = 80;
/// Port of the listener with TLS, as the table names it.
pub(crate) const HTTPS_PORT: u16 = 443;
/// The header that every route's filter adds to an answer.
pub(crate) const MARK: (&str, &str) = ("x-bench", "1");

/// A table in the making: one listener in clear text, one with TLS, both for every host.
pub(crate) struct TableBuilder {
    table: RoutingTable,
}

impl TableBuilder {
    pub(crate) fn new(identity: &Identity) -> Self {
        let gateway = GatewayKey::of(NAMESPACE, "gateway");
        let certificate = CertificateKey::secret(NAMESPACE, "certificate");
        let mut table = RoutingTable::new(gateway.clone());
        table.certificates.insert(
            certificate.clone(),
            Arc::new(Certificate {
                chain_pem: identity.chain_pem.clone(),
                key_pem: Secret::new(identity.key_pem.as_str()),
            }),
        );
        let tls = ListenerTls {
            certificates: vec![certificate],
            min_version: portcullis_routing::listener::TlsVersion::V1_2,
            client_validation: None,
        };
        for (name, port, protocol, tls) in [
            ("http", HTTP_PORT, ListenerProtocol::Http, None),
            ("https", HTTPS_PORT, ListenerProtocol::Https, Some(tls)),
        ] {
            let listener = Listener {
                port,
                protocol,
                hostname: None,
                tls,
                direction: portcullis_routing::Direction::Ingress,
            };
            table
                .listeners
                .insert(ListenerKey::of(&gateway, name), Arc::new(listener));
        }
        Self { table }
    }

    /// Changes the settings of the proxy as a whole.
    #[must_use]
    pub(crate) fn settings(mut self, change: impl FnOnce(&mut ProxySettings)) -> Self {
        change(Arc::make_mut(&mut self.table.settings));
        self
    }

    /// Adds a backend with these endpoints.
    pub(crate) fn cluster(
        &mut self,
        name: &str,
        protocol: ClusterProtocol,
        endpoints: &[SocketAddr],
    ) -> ClusterKey {
        let key = ClusterKey::service(NAMESPACE, name, 80);
        let mut endpoints: Vec<_> = endpoints
            .iter()
            .map(|address| Endpoint {
                host: EndpointHost::Ip(address.ip()),
                port: address.port(),
                state: EndpointState::Ready,
            })
            .collect();
        endpoints.sort();
        self.table.clusters.insert(
            key.clone(),
            Arc::new(Cluster {
                protocol,
                ..Cluster::default()
            }),
        );
        self.table
            .endpoints
            .insert(key.clone(), Arc::new(ClusterEndpoints { endpoints }));
        key
    }

    /// Adds a rule that forwards `prefix` of `hostnames` (none: of every host) and marks the answer with [`MARK`].
    pub(crate) fn route(
        &mut self,
        name: &str,
        hostnames: &[&str],
        prefix: &str,
        cluster: &ClusterKey,
        policy: RoutePolicy,
    ) {
        let mark = HeaderField {
            name: MARK.0.to_owned(),
            value: MARK.1.to_owned(),
        };
        let route = Route {
            listeners: self.table.listeners.keys().cloned().collect(),
            hostnames: hostnames.iter().map(|host| (*host).to_owned()).collect(),
            matches: vec![RouteMatch {
                path: PathMatch::Prefix(prefix.to_owned()),
                method: None,
                headers: Vec::new(),
                query: Vec::new(),
            }],
            filters: vec![Filter::ResponseHeaders(HeaderModifier {
                set: vec![mark],
                ..HeaderModifier::default()
            })],
            action: RouteAction::Forward(vec![WeightedCluster {
                weight: 1,
                backend: Backend::Cluster(cluster.clone()),
                filters: Vec::new(),
            }]),
            policy,
            order: RouteOrder {
                created_at: 0,
                namespace: NAMESPACE.to_owned(),
                name: name.to_owned(),
                rule: 0,
            },
            source: RouteSource {
                kind: "HTTPRoute".to_owned(),
                namespace: NAMESPACE.to_owned(),
                name: name.to_owned(),
                rule: 0,
                rule_name: None,
            },
        };
        self.table.routes.insert(
            RouteKey::of("HTTPRoute", NAMESPACE, name, 0),
            Arc::new(route),
        );
    }

    /// Puts the table into `file` in one step, so that a reader sees the old one or the new one.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let temporary = file.with_extension("new");
        fs::write(&temporary, serde_json::to_vec(&self.table)?)?;
        Ok(fs::rename(temporary, file)?)
    }
}
