//! A controller, its data planes and what they need, all in this process.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::client::Client;
use portcullis_controller::{
    ObjectKey,
    ca::{Authority, Identity, SpiffeId, Subject},
    metrics::Metrics,
    publish::{Fleet, Limits, Publisher, PublisherTls},
    run::Tables,
};
use portcullis_dataplane::{
    Config, Dataplane, DataplaneHandle,
    bind::BindAddresses,
    source::{Controller, Timing},
    state::Overrides,
    telemetry::MetricsOptions,
};
use portcullis_routing::{
    GatewayKey, Listener, ListenerKey, ListenerProtocol, PathMatch, Route, RouteAction, RouteKey,
    RouteMatch, RouteOrder, RoutePolicy, RouteSource, RoutingTable,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
/// The controller's name in its certificate.
pub(crate) const NAME: &str = "localhost";
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The Gateway that is served in these tests.
pub(crate) fn gateway() -> ObjectKey {
    ObjectKey::new("infra", "edge")
}

pub(crate) fn gateway_key() -> GatewayKey {
    GatewayKey::of("infra", "edge")
}

/// Waits for a condition, for a while.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let search = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, search)
        .await
        .unwrap_or_else(|_| panic!("waited too long until {what}"))
}

/// A table whose route for `/` answers with `status`, beside `others` routes that are never asked for.
pub(crate) fn table(status: u16, others: usize) -> Arc<RoutingTable> {
    let mut table = RoutingTable::new(gateway_key());
    let listener = ListenerKey::of(&gateway_key(), "http");
    let http = Listener {
        port: 80,
        protocol: ListenerProtocol::Http,
        hostname: None,
        tls: None,
        direction: portcullis_routing::Direction::Ingress,
    };
    table.listeners.insert(listener, Arc::new(http));
    table.routes.insert(
        RouteKey::of("HTTPRoute", "a", "r", 0),
        Arc::new(route("r", PathMatch::Prefix("/".into()), status)),
    );
    for number in 0..others {
        let name = format!("other-{number}");
        table.routes.insert(
            RouteKey::of("HTTPRoute", "a", &name, 0),
            Arc::new(route(&name, PathMatch::Exact(format!("/{name}")), 404)),
        );
    }
    table.seal();
    Arc::new(table)
}

pub(crate) fn route(name: &str, path: PathMatch, status: u16) -> Route {
    Route {
        listeners: vec![ListenerKey::of(&gateway_key(), "http")],
        hostnames: vec![],
        matches: vec![RouteMatch {
            path,
            method: None,
            headers: vec![],
            query: vec![],
        }],
        filters: vec![],
        action: RouteAction::Respond {
            status,
            reason: "invalid_filter".into(),
        },
        policy: RoutePolicy::default(),
        order: RouteOrder {
            created_at: 0,
            namespace: "a".into(),
            name: name.into(),
            rule: 0,
        },
        source: RouteSource {
            kind: "HTTPRoute".into(),
            namespace: "a".into(),
            name: name.into(),
            rule: 0,
            rule_name: None,
        },
    }
}

/// A sealed copy with a change.
pub(crate) fn changed(
    table: &RoutingTable,
    change: impl FnOnce(&mut RoutingTable),
) -> Arc<RoutingTable> {
    let mut table = table.clone();
    change(&mut table);
    table.seal();
    Arc::new(table)
}

/// What a certificate of the Gateway `name` in namespace `infra` is for.
pub(crate) fn data_plane(trust_domain: &str, name: &str) -> Subject {
    Subject::Gateway(SpiffeId {
        trust_domain: trust_domain.to_owned(),
        gateway: ObjectKey::new("infra", name),
    })
}

pub(crate) fn controller() -> Subject {
    Subject::Controller {
        names: vec![NAME.to_owned()],
    }
}

/// A controller that publishes what it is told, and can be killed and started again on the same port.
pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) tls: Arc<PublisherTls>,
    pub(crate) tables: watch::Sender<Option<Tables>>,
    pub(crate) fleet: watch::Receiver<Arc<Fleet>>,
    /// Where the replica that leads is, if it is another one.
    leader: watch::Sender<Option<SocketAddr>>,
    pub(crate) address: SocketAddr,
    limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    /// Heartbeats that proxies expect.
    heartbeat: Duration,
    running: JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::of(Authority::create(SystemTime::now()).unwrap(), limits).await
    }

    /// Another replica of this controller.
    pub(crate) async fn replica(&self) -> Self {
        Self::of(self.authority.clone(), self.limits).await
    }

    async fn of(authority: Authority, limits: Limits) -> Self {
        let identity = authority.issue(&controller(), SystemTime::now()).unwrap();
        let tls = Arc::new(PublisherTls::new(TRUST_DOMAIN));
        tls.replace(&identity).unwrap();
        let tables = watch::Sender::new(None);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let publisher = Publisher::new(Arc::clone(&tls), limits, Arc::clone(&metrics));
        let fleet = publisher.fleet();
        let leader = watch::Sender::new(None);
        let running = run(publisher, listener, &tables, &leader);
        Self {
            authority,
            tls,
            tables,
            fleet,
            leader,
            address,
            limits,
            metrics,
            heartbeat: limits.heartbeat,
            running,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn publish(&self, table: &Arc<RoutingTable>) {
        let tables = BTreeMap::from([(table.gateway.clone(), Arc::clone(table))]);
        self.tables.send_replace(Some(Arc::new(tables)));
    }

    /// Ends the controller, as if its process were killed.
    pub(crate) async fn kill(&mut self) {
        self.running.abort();
        (&mut self.running).await.unwrap_err();
    }

    /// Starts a controller that knows nothing yet.
    pub(crate) async fn start(&mut self) {
        self.tables = watch::Sender::new(None);
        let metrics = Arc::clone(&self.metrics);
        let publisher = Publisher::new(Arc::clone(&self.tls), self.limits, metrics);
        self.fleet = publisher.fleet();
        let address = self.address;
        let listener = until("the port is free again", || async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).ok()?;
            socket.listen(64).ok()
        })
        .await;
        self.running = run(publisher, listener, &self.tables, &self.leader);
    }

    /// Says where the replica that leads is, if it is another one.
    pub(crate) fn follow(&self, leader: Option<SocketAddr>) {
        self.leader.send_replace(leader);
    }

    /// Lets proxies expect other heartbeats than the controller sends.
    pub(crate) fn set_patience(&mut self, heartbeat: Duration) {
        self.heartbeat = heartbeat;
    }

    /// A new certificate.
    pub(crate) fn issue(&self, subject: &Subject) -> Identity {
        self.authority.issue(subject, SystemTime::now()).unwrap()
    }

    /// The directory with the proxy's certificate, where there is none yet.
    pub(crate) fn identity_folder(&self) -> PathBuf {
        self.folder.path().join("identity")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("table")
    }

    /// A proxy with the Gateway's certificate.
    pub(crate) fn proxy(&self) -> Proxy {
        if !self.identity_folder().exists() {
            write_identity(
                &self.identity_folder(),
                &self.issue(&data_plane(TRUST_DOMAIN, "edge")),
            );
        }
        self.start_proxy()
    }

    /// A proxy with the certificate that is there.
    pub(crate) fn start_proxy(&self) -> Proxy {
        let controller = Controller {
            endpoint: format!("https://{NAME}:{}", self.address.port())
                .parse()
                .unwrap(),
            gateway: gateway_key(),
            identity: self.identity_folder(),
            cache: Some(self.cache()),
            timing: Timing {
                silence: self.heartbeat * 3,
                retry: Duration::from_millis(5),
                retry_at_most: Duration::from_millis(50),
                cache: Duration::from_millis(1),
                ..Timing::default()
            },
        };
        let config = Config {
            addresses: BindAddresses::new(vec![Ipv4Addr::LOCALHOST.into()]),
            ports: [(80, 0), (81, 0)].into_iter().collect(),
            workers: NonZero::<usize>::MIN,
            admin: Some((Ipv4Addr::LOCALHOST, 0).into()),
            overrides: Overrides::default(),
            metrics: MetricsOptions::default(),
            source: None,
            controller: Some(controller),
            drain_delay: Duration::ZERO,
            access_log: Box::new(io::sink()),
        };
        Proxy(Some(Dataplane::start(config).unwrap()))
    }

    /// A client of the protocol itself, with the certificate `identity`.
    pub(crate) async fn client(&self, identity: &Identity) -> io::Result<Client> {
        Client::over(TcpStream::connect(self.address).await?, identity).await
    }

    /// Waits until what is known of the Gateway's data planes is as it should be.
    pub(crate) async fn until_fleet<T>(
        &mut self,
        what: &str,
        probe: impl Fn(&Fleet) -> Option<T>,
    ) -> T {
        let fleet = &mut self.fleet;
        let search = async {
            loop {
                if let Some(found) = probe(&fleet.borrow_and_update().clone()) {
                    return found;
                }
                fleet.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, search)
            .await
            .unwrap_or_else(|_| panic!("waited too long until {what}"))
    }

    /// Waits until a data plane serves `table`.
    pub(crate) async fn until_acknowledged(&mut self, table: &RoutingTable) {
        let version = &table.version;
        self.until_fleet("the table is acknowledged", |fleet| {
            let acknowledged = fleet.get(&gateway())?.acknowledged.as_ref()?;
            (acknowledged.table.version == *version).then_some(())
        })
        .await;
    }

    pub(crate) fn connected(&self) -> Vec<u64> {
        let fleet = self.fleet.borrow();
        fleet
            .get(&gateway())
            .map(|data_planes| data_planes.connected.keys().copied().collect())
            .unwrap_or_default()
    }

    /// How many clients were turned away for this reason.
    pub(crate) fn turned_away(&self, reason: &str) -> u64 {
        let metrics = String::from_utf8(self.metrics.encode().unwrap()).unwrap();
        let sample =
            format!("portcullis_controller_data_planes_refused_total{{reason=\"{reason}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&sample));
        value.unwrap().parse().unwrap()
    }
}

fn run(
    publisher: Publisher,
    listener: TcpListener,
    tables: &watch::Sender<Option<Tables>>,
    leader: &watch::Sender<Option<SocketAddr>>,
) -> JoinHandle<()> {
    let relay = publisher.relay(leader.subscribe());
    let serve = publisher.serve(listener, tables.subscribe());
    tokio::spawn(async move {
        tokio::join!(relay, serve);
    })
}

/// Puts an identity into `folder` as the kubelet does: a new directory, and one symbolic link that is moved.
pub(crate) fn write_identity(folder: &Path, identity: &Identity) {
    fs::create_dir_all(folder).unwrap();
    let version = tempfile::tempdir_in(folder).unwrap().keep();
    for (name, content) in identity.to_data() {
        fs::write(version.join(&name), content.0).unwrap();
        let link = folder.join(&name);
        if !link.exists() {
            std::os::unix::fs::symlink(Path::new("..data").join(&name), link).unwrap();
        }
    }
    let fresh = folder.join("..data.new");
    std::os::unix::fs::symlink(version.file_name().unwrap(), &fresh).unwrap();
    fs::rename(fresh, folder.join("..data")).unwrap();
}

/// A data plane in this process. Dropping it ends it.
pub(crate) struct Proxy(Option<DataplaneHandle>);

impl Proxy {
    fn handle(&self) -> &DataplaneHandle {
        self.0.as_ref().unwrap()
    }

    /// Status of `GET /` at the Gateway's port 80; `None` if nobody listens.
    pub(crate) async fn get(&self) -> Option<u16> {
        let address = self.handle().bound_address(80)?;
        get(address, "/").await.map(|(status, _)| status)
    }

    pub(crate) async fn until_serves(&self, status: u16) {
        until(&format!("it answers with {status}"), || async {
            (self.get().await == Some(status)).then_some(())
        })
        .await;
    }

    pub(crate) fn is_bound(&self) -> bool {
        !self.handle().addresses().is_empty()
    }

    /// A page of the admin port: status and text.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        get(self.handle().admin_address().unwrap(), path)
            .await
            .unwrap()
    }

    /// The sample as it stands in the exposition.
    async fn sample(&self, name: &str) -> String {
        let metrics = self.admin("/metrics").await.1;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    }

    /// A count.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        self.sample(name).await.parse().unwrap()
    }

    /// How long the table has been served.
    pub(crate) async fn table_age(&self) -> Duration {
        let seconds = self.sample("portcullis_table_age_seconds").await;
        Duration::from_secs_f64(seconds.parse().unwrap())
    }

    pub(crate) async fn until_metric(&self, name: &str, value: u64) {
        until(&format!("{name} is {value}"), || async {
            (self.metric(name).await == value).then_some(())
        })
        .await;
    }

    /// Waits until so many attempts to reach the controller have failed.
    pub(crate) async fn until_failed(&self, times: u64) {
        until(&format!("it has failed {times} times"), || async {
            let failures = self.metric("portcullis_controller_failures_total").await;
            (failures >= times).then_some(())
        })
        .await;
    }

    /// Frames received: snapshots and deltas.
    pub(crate) async fn frames(&self) -> [u64; 2] {
        [
            self.metric(r#"portcullis_controller_frames_total{kind="snapshot"}"#)
                .await,
            self.metric(r#"portcullis_controller_frames_total{kind="delta"}"#)
                .await,
        ]
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.shutdown();
        }
    }
}

/// Status and body of one request over HTTP/1.1.
async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
