//! A controller beside a fake API server, and objects for it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use portcullis_controller::{
    CONTROLLER_NAME, ObjectKey,
    certificates::CertificateOptions,
    leader::LeaseOptions,
    metrics::Metrics,
    provision::ProvisionOptions,
    publish::{Acknowledgement, DataPlane, DataPlanes, Fleet, PublisherTls, Word},
    run::{BackoffTimes, Controller, ControllerOptions, LET_STAND, LINGER},
};
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use portcullis_controller::run::Tables;

use crate::fake_api::FakeApi;

/// A GatewayClass, a Gateway with one HTTP listener, a Service and a route.
pub(crate) const SHOP: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}]
status:
  conditions:
  - {type: Accepted, status: Unknown, reason: Pending, message: Waiting for controller, lastTransitionTime: '1970-01-01T00:00:00Z'}
  - {type: Programmed, status: Unknown, reason: Pending, message: Waiting for controller, lastTransitionTime: '1970-01-01T00:00:00Z'}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 3000}]
endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: web, port: 8080}]}]";

/// What the controllers' certificates are for.
pub(crate) const CONTROLLER_HOST: &str = "portcullis-controller.portcullis-system.svc";

pub(crate) const EDGE: (&str, &str) = ("Gateway", "shop/edge");
pub(crate) const WEB: (&str, &str) = ("HTTPRoute", "shop/web");
pub(crate) const CLASS: (&str, &str) = ("GatewayClass", "portcullis");

/// The load balancer gives `shop/edge` an address.
pub(crate) fn give_address(api: &FakeApi) {
    let owner = api.get(EDGE)["metadata"]["uid"].clone();
    api.create(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "edge-portcullis", "namespace": "shop",
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "edge",
                "uid": owner, "controller": true,
            }],
        },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } },
    }));
}

/// Where the other replicas would reach the one with this name.
pub(crate) fn address(name: &str) -> SocketAddr {
    let port = name.bytes().map(u16::from).sum();
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// A controller under test.
pub(crate) struct Replica {
    pub(crate) controller: Controller,
    pub(crate) tables: watch::Receiver<Option<Tables>>,
    pub(crate) fleet: watch::Sender<Arc<Fleet>>,
    pub(crate) tls: Arc<PublisherTls>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Replica {
    /// Starts a controller with this name, whose Lease outlasts any pause of a busy machine.
    pub(crate) fn start(api: &FakeApi, name: &str) -> Self {
        Self::with(api, name, |_| {})
    }

    /// Starts a controller with this name and duration of its Lease.
    pub(crate) fn with_lease(api: &FakeApi, name: &str, duration: Duration) -> Self {
        Self::with(api, name, |options| options.lease.duration = duration)
    }

    /// Starts a controller that lets stand for so long what it has heard nothing of.
    pub(crate) fn with_patience(api: &FakeApi, name: &str, let_stand: Duration) -> Self {
        Self::with(api, name, |options| options.let_stand = let_stand)
    }

    /// Starts a controller that forgets pods and nodes with the last egress Gateway.
    pub(crate) fn forgetful(api: &FakeApi, name: &str) -> Self {
        Self::with(api, name, |options| options.linger = Duration::ZERO)
    }

    /// Starts a controller that serves no egress.
    pub(crate) fn without_egress(api: &FakeApi, name: &str) -> Self {
        Self::with(api, name, |options| options.egress = false)
    }

    /// Starts a controller that soon takes a failure of its watches for one that lasts.
    pub(crate) fn hasty(api: &FakeApi, name: &str) -> Self {
        Self::with(api, name, |options| {
            options.backoff = BackoffTimes {
                first: Duration::from_millis(10),
                longest: Duration::from_millis(200),
                usual: Duration::from_millis(300),
                ..BackoffTimes::default()
            };
        })
    }

    /// Starts a controller that makes the infrastructure of Gateways.
    pub(crate) fn provisioning(api: &FakeApi, name: &str) -> Self {
        Self::with(api, name, |options| options.provision = Some(provision()))
    }

    /// Starts such a controller, which lets nothing stand that it has heard nothing of.
    pub(crate) fn impatient(api: &FakeApi, name: &str) -> Self {
        Self::with(api, name, |options| {
            options.provision = Some(provision());
            options.let_stand = Duration::ZERO;
        })
    }

    fn with(api: &FakeApi, name: &str, change: impl FnOnce(&mut ControllerOptions)) -> Self {
        let tls = Arc::new(PublisherTls::new("cluster.local"));
        let mut options = ControllerOptions {
            controller_name: CONTROLLER_NAME.into(),
            certificates: CertificateOptions {
                namespace: "portcullis-system".into(),
                secret: "portcullis-ca".into(),
                names: vec![CONTROLLER_HOST.into()],
                tls: Arc::clone(&tls),
            },
            let_stand: LET_STAND,
            linger: LINGER,
            backoff: BackoffTimes::default(),
            egress: true,
            lease: LeaseOptions {
                namespace: "portcullis-system".into(),
                name: "portcullis-controller".into(),
                identity: name.into(),
                duration: Duration::from_secs(30),
                address: Some(address(name)),
            },
            provision: None,
        };
        change(&mut options);
        let metrics = Arc::new(Metrics::new().unwrap());
        let (sender, fleet) = watch::channel(Arc::default());
        let controller = Controller::start(&api.client(name), options, fleet, &metrics);
        Self {
            tables: controller.tables(),
            controller,
            fleet: sender,
            tls,
            metrics,
        }
    }

    /// Waits for tables of which this holds. Every test also sees that no table comes before its time.
    pub(crate) async fn tables(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&Tables) -> bool,
    ) -> Tables {
        let wait = self
            .tables
            .wait_for(|tables| tables.as_ref().is_some_and(&mut holds));
        let found = tokio::time::timeout(Duration::from_mins(1), wait).await;
        let found = found.unwrap_or_else(|_| panic!("waited in vain for tables: {what}"));
        found.unwrap().clone().unwrap()
    }

    /// One data plane of each Gateway acknowledges its table.
    pub(crate) fn acknowledge(&self) {
        self.hear(true);
    }

    /// Those that have acknowledged the tables are gone.
    pub(crate) fn desert(&self) {
        self.hear(false);
    }

    fn hear(&self, is_connected: bool) {
        let tables = self.tables.borrow().clone().unwrap();
        let fleet = tables.iter().map(|(key, table)| {
            let (namespace, name) = key.as_str().split_once('/').unwrap();
            let acknowledged = Some(Acknowledgement::new(table, 0, Vec::new()));
            let data_plane = DataPlane {
                address: SocketAddr::from(([192, 0, 2, 2], 40_000)),
                word: Word {
                    acknowledged: acknowledged.clone(),
                    ..Word::default()
                },
            };
            let data_planes = DataPlanes {
                connected: is_connected
                    .then_some((1, data_plane))
                    .into_iter()
                    .collect(),
                acknowledged,
                ..DataPlanes::default()
            };
            (ObjectKey::new(namespace, name), data_planes)
        });
        self.fleet.send_replace(Arc::new(fleet.collect()));
    }
}

fn provision() -> ProvisionOptions {
    ProvisionOptions {
        image: "registry.example/portcullis-proxy:1.0".into(),
        controller_url: "https://portcullis.portcullis-system.svc:9443".into(),
    }
}

/// How many routes the tables have.
pub(crate) fn routes(tables: &Tables) -> usize {
    tables.values().map(|table| table.routes.len()).sum()
}

/// The condition of a type in a list of conditions.
pub(crate) fn condition<'a>(conditions: &'a Value, kind: &str) -> &'a Value {
    let mut all = conditions.as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}
