//! The controller's side: objects in, tables out to the proxy by the controller's own translation and publisher. It can be taken
//! away, and come back as a fresh process would: knowing nothing of what was published before.

use std::{
    collections::BTreeMap,
    fs, mem,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use portcullis_controller::{
    ObjectKey, Options, Resources,
    ca::{Authority, SpiffeId, Subject},
    manifests::Loaded,
    metrics::Metrics,
    publish::{Fleet, Limits, Publisher, PublisherTls},
    run::Tables,
    translate,
};
use portcullis_routing::{GatewayKey, RoutingTable, TableVersion};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    manifests::{self, GATEWAY},
    world::{Change, GATEWAY_NAMESPACE, Key},
};
use crate::support::process::POLL;

const TRUST_DOMAIN: &str = "cluster.local";
/// The controller's name in its certificate.
const NAME: &str = "localhost";
/// How long a table may take to be in force: proxies look for a controller that was away every 15 s at least.
const PATIENCE: Duration = Duration::from_mins(1);
const BACKLOG: u32 = 64;

/// A controller without an API server: what it would watch is applied to it.
pub(super) struct Control {
    resources: Resources,
    tls: Arc<PublisherTls>,
    metrics: Arc<Metrics>,
    pub(super) address: SocketAddr,
    running: Option<Running>,
}

/// A publisher that serves.
struct Running {
    tables: watch::Sender<Option<Tables>>,
    fleet: watch::Receiver<Arc<Fleet>>,
    serving: JoinHandle<()>,
}

/// A table that was made.
pub(super) struct Made {
    pub(super) table: Arc<RoutingTable>,
    /// How long that took.
    pub(super) took: Duration,
}

impl Control {
    /// Starts it, and puts the certificate for the proxy into `identity`.
    pub(super) async fn start(identity: &Path) -> Result<Self> {
        let now = SystemTime::now();
        let authority = Authority::create(now)?;
        let names = vec![NAME.to_owned()];
        let tls = Arc::new(PublisherTls::new(TRUST_DOMAIN));
        tls.replace(&authority.issue(&Subject::Controller { names }, now)?)?;
        let of_proxy = Subject::Gateway(SpiffeId {
            trust_domain: TRUST_DOMAIN.to_owned(),
            gateway: gateway(),
        });
        fs::create_dir(identity)?;
        for (name, content) in authority.issue(&of_proxy, now)?.to_data() {
            fs::write(identity.join(name), content.0)?;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut control = Self {
            resources: Resources::default(),
            tls,
            metrics: Arc::new(Metrics::new()?),
            address: listener.local_addr()?,
            running: None,
        };
        control.serve(listener);
        Ok(control)
    }

    /// What a proxy is told to follow.
    pub(super) fn endpoint(&self) -> String {
        format!("https://{NAME}:{}", self.address.port())
    }

    fn serve(&mut self, listener: TcpListener) {
        let (tls, metrics) = (Arc::clone(&self.tls), Arc::clone(&self.metrics));
        let publisher = Publisher::new(tls, Limits::default(), metrics);
        let fleet = publisher.fleet();
        let tables = watch::Sender::new(None);
        let serving = tokio::spawn(publisher.serve(listener, tables.subscribe()));
        self.running = Some(Running {
            tables,
            fleet,
            serving,
        });
    }

    /// Takes the publisher away, as if its process were killed.
    pub(super) async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.serving.abort();
            // It was told to end, and says so.
            let _ = running.serving.await;
        }
    }

    /// Brings it back at the same address.
    pub(super) async fn revive(&mut self) -> Result<()> {
        let start = Instant::now();
        let listener = loop {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            match socket.bind(self.address) {
                Ok(()) => break socket.listen(BACKLOG)?,
                Err(error) if start.elapsed() > PATIENCE => Err(error)?,
                Err(_) => sleep(POLL).await,
            }
        };
        self.serve(listener);
        Ok(())
    }

    /// Reads objects that are there from the beginning.
    pub(super) fn add(&mut self, objects: &[Value]) -> Result<()> {
        for object in objects {
            self.resources.merge(read(object)?);
        }
        Ok(())
    }

    /// What an API server would tell it.
    pub(super) fn apply(&mut self, change: &Change) -> Result<()> {
        let resources = &mut self.resources;
        match change {
            Change::Entry(entry) => {
                let read = read(&manifests::entry(entry))?;
                resources.service_entries.extend(read.service_entries);
            }
            Change::Policy(policy) => {
                let read = read(&manifests::policy(policy))?;
                resources.egress_policies.extend(read.egress_policies);
            }
            Change::Pod(pod) => {
                let read = read(&manifests::pod(pod))?;
                resources.pods.extend(read.pods);
            }
            Change::NoEntry(key) => {
                gone(resources.service_entries.remove(&named(key)).as_ref(), key)?;
            }
            Change::NoPolicy(key) => {
                gone(resources.egress_policies.remove(&named(key)).as_ref(), key)?;
            }
            Change::NoPod(key) => gone(resources.pods.remove(&named(key)).as_ref(), key)?,
        }
        Ok(())
    }

    /// Makes the table of what is there now.
    pub(super) async fn make(&mut self) -> Result<Made> {
        let resources = mem::take(&mut self.resources);
        let translating = spawn_blocking(move || {
            let start = Instant::now();
            let translation = translate(&resources, &Options::standalone());
            (resources, translation, start.elapsed())
        });
        let (resources, mut translation, took) = translating.await?;
        self.resources = resources;
        let table = translation.tables.remove(&gateway_key());
        let table = Arc::new(table.context("the Gateway is not served")?);
        Ok(Made { table, took })
    }

    /// Gives a table to the proxy.
    pub(super) fn publish(&self, table: &Arc<RoutingTable>) -> Result<()> {
        let tables: Tables = Arc::new(BTreeMap::from([(gateway_key(), Arc::clone(table))]));
        self.running()?.tables.send_replace(Some(tables));
        Ok(())
    }

    /// Waits until the proxy serves a table, the whole of it.
    pub(super) async fn acknowledged(&mut self, version: &TableVersion) -> Result<()> {
        let running = self.running.as_mut();
        let fleet = &mut running.context("the publisher is away")?.fleet;
        let waiting = async {
            loop {
                let latest = Arc::clone(&fleet.borrow_and_update());
                let proxies = latest.get(&gateway());
                let acknowledged = proxies.and_then(|proxies| proxies.acknowledged.as_ref());
                if let Some(served) = acknowledged.filter(|it| it.table.version == *version) {
                    let rejected = &served.rejected;
                    ensure!(rejected.is_empty(), "the proxy refuses {rejected:?}");
                    return Ok(());
                }
                fleet.changed().await?;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("a table is not in force after {} s", PATIENCE.as_secs()))?
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().context("the publisher is away")
    }
}

fn gateway() -> ObjectKey {
    ObjectKey::new(GATEWAY_NAMESPACE, GATEWAY)
}

/// The Gateway, as tables and proxies call it.
pub(super) fn gateway_key() -> GatewayKey {
    GatewayKey::of(GATEWAY_NAMESPACE, GATEWAY)
}

fn named((namespace, name): &Key) -> ObjectKey {
    ObjectKey::new(namespace, name)
}

fn read(object: &Value) -> Result<Resources> {
    let mut loaded = Loaded::default();
    loaded.read_text("an object", &object.to_string());
    let problem = loaded.problems.first();
    ensure!(problem.is_none(), "{problem:?}\n{object}");
    Ok(loaded.resources)
}

/// Whether there was something to remove.
fn gone<T>(object: Option<&T>, (namespace, name): &Key) -> Result<()> {
    ensure!(object.is_some(), "there is no {namespace}/{name}");
    Ok(())
}
