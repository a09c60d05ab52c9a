//! A worker's way out with one cluster.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{request, response};
use portcullis_routing::{
    Certificate, CertificateKey, Cluster, ClusterEndpoints, ClusterKey, Endpoint, EndpointHost,
    EndpointState, GatewayKey, RoutingTable,
};

use crate::{
    message,
    state::Certificates,
    telemetry::{Metrics, MetricsOptions},
    upstream::{
        OpenRequest, Outcome, TlsPolicies, Upstream, UpstreamError, UpstreamEvent, Upstreams,
        dns::Dns,
    },
};

pub(crate) struct World {
    pub(crate) upstreams: Upstreams,
    pub(crate) metrics: Metrics,
    pub(crate) key: ClusterKey,
    pub(crate) cluster: Cluster,
    /// Certificates of the table.
    pub(crate) certificates: BTreeMap<CertificateKey, Arc<Certificate>>,
    decoded: RefCell<Certificates>,
    tls: RefCell<TlsPolicies>,
}

impl World {
    /// A cluster with these endpoints.
    pub(crate) fn new(endpoints: &[SocketAddr]) -> Self {
        Self::with(Cluster::default(), endpoints)
    }

    pub(crate) fn with(cluster: Cluster, endpoints: &[SocketAddr]) -> Self {
        let world = Self::with_dns(cluster, Dns::default());
        world.set_endpoints(endpoints.iter().map(|&address| ready(address)).collect());
        world
    }

    pub(in crate::upstream) fn with_dns(cluster: Cluster, dns: Dns) -> Self {
        let metrics = Metrics::new(MetricsOptions::default());
        let upstreams = Upstreams::with_dns(metrics.worker(), dns);
        Self {
            upstreams,
            metrics,
            key: ClusterKey::service("ns", "app", 80),
            cluster,
            certificates: BTreeMap::new(),
            decoded: RefCell::default(),
            tls: RefCell::default(),
        }
    }

    /// Takes a new table with these endpoints.
    pub(crate) fn set_endpoints(&self, mut endpoints: Vec<Endpoint>) {
        endpoints.sort();
        let mut table = RoutingTable::new(GatewayKey::of("ns", "gateway"));
        table
            .clusters
            .insert(self.key.clone(), Arc::new(self.cluster.clone()));
        table
            .endpoints
            .insert(self.key.clone(), Arc::new(ClusterEndpoints { endpoints }));
        table.certificates = self.certificates.clone();
        self.take(table);
    }

    /// Takes a new table without the cluster.
    pub(crate) fn remove_cluster(&self) {
        self.take(RoutingTable::new(GatewayKey::of("ns", "gateway")));
    }

    fn take(&self, table: RoutingTable) {
        let mut decoded = self.decoded.borrow_mut();
        let (certificates, rejected) = Certificates::decode(&decoded, &table);
        assert_eq!(rejected, []);
        *decoded = certificates;
        let mut tls = self.tls.borrow_mut();
        // What is wrong with a policy is told by whoever would use it.
        (*tls, _) = TlsPolicies::build(&tls, &table, &decoded);
        self.upstreams
            .sync(&Arc::new(table), &Arc::new(tls.clone()), &Arc::default());
    }

    pub(crate) async fn open(&self) -> Result<Upstream, UpstreamError> {
        self.upstreams.open(&self.key, OpenRequest::default()).await
    }

    /// One GET that must succeed; tells which endpoint answered.
    pub(crate) async fn get(&self) -> SocketAddr {
        let mut upstream = self.open().await.expect("a session");
        let (head, body) = exchange(&mut upstream).await.expect("an answer");
        assert_eq!(
            (head.status.as_u16(), body.as_slice()),
            (200, b"ok".as_slice())
        );
        let endpoint = upstream.endpoint();
        upstream.report(Outcome::Answered);
        upstream.finish();
        endpoint
    }

    /// The value of a metric's series that has all of these labels.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> u64 {
        let text = self.metrics.encode().expect("metrics");
        let line = text
            .lines()
            .find(|line| line.starts_with(name) && line.contains(labels));
        let value = line
            .and_then(|line| line.rsplit_once(' '))
            .unwrap_or_else(|| panic!("no {name} {labels} in\n{text}"));
        value.1.parse().expect("number")
    }
}

/// A ready endpoint.
pub(crate) fn ready(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: EndpointHost::Ip(address.ip()),
        port: address.port(),
        state: EndpointState::Ready,
    }
}

/// A terminating endpoint that still serves.
pub(crate) fn draining(address: SocketAddr) -> Endpoint {
    Endpoint {
        state: EndpointState::Draining,
        ..ready(address)
    }
}

/// The head of a request without a body.
pub(crate) fn request(method: &str) -> request::Parts {
    message::testing::request(method, "/path?query", &[("host", "app.example.com")])
}

/// A GET and its whole answer.
pub(crate) async fn exchange(
    upstream: &mut Upstream,
) -> Result<(response::Parts, Vec<u8>), UpstreamError> {
    upstream.send_head(&request("GET"), true)?;
    answer(upstream).await
}

/// The head and the whole body of the answer.
pub(crate) async fn answer(
    upstream: &mut Upstream,
) -> Result<(response::Parts, Vec<u8>), UpstreamError> {
    loop {
        match upstream.read_event().await? {
            UpstreamEvent::Informational(_) => {}
            UpstreamEvent::Head(head, true) => return Ok((head, Vec::new())),
            UpstreamEvent::Head(head, false) => return Ok((head, body(upstream).await?)),
            event => panic!("{event:?} before the head"),
        }
    }
}

/// The rest of the body.
pub(crate) async fn body(upstream: &mut Upstream) -> Result<Vec<u8>, UpstreamError> {
    let mut body = Vec::new();
    loop {
        match upstream.read_event().await? {
            UpstreamEvent::Data(data) => body.extend_from_slice(&data),
            UpstreamEvent::HalfClosed | UpstreamEvent::Trailers(_) | UpstreamEvent::End => {
                return Ok(body);
            }
            event => panic!("{event:?} in the body"),
        }
    }
}

/// Sends a body of `pieces`, waiting for room before each.
pub(crate) async fn send_body(
    upstream: &mut Upstream,
    pieces: usize,
    piece: &Bytes,
) -> Result<(), UpstreamError> {
    let writer = upstream.writer();
    for _ in 0..pieces {
        writer.room().await;
        upstream.send_body(piece.clone()).await?;
    }
    upstream.finish_body(None).await
}
