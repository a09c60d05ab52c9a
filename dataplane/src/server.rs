//! The data plane as a whole: a control thread, a writer of the access log, and the workers.
//!
//! The control thread takes tables, binds ports and serves the admin port, so that none of that costs a request anything.

use std::{
    collections::BTreeMap,
    io,
    net::{self, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use portcullis_routing::{Rejection, ResourceKind, RoutingTable, delta::Report};
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::{mpsc::unbounded_channel, oneshot, watch},
};

use crate::{
    admin::{Admin, Health, Phase},
    config::Config,
    listener::ListenerManager,
    source::Controller,
    state::{TableError, TableSource, TableState},
    telemetry::{AccessLogWriter, Metrics},
    worker::{Command, Start},
};

/// How often ports that could not be bound are tried again.
const RETRY_PORTS: Duration = Duration::from_secs(5);

/// The data plane.
#[derive(Debug)]
pub struct Dataplane;

/// A running data plane. It ends with [`Self::shutdown`]; dropped without it, connections are cut.
#[derive(Debug)]
pub struct DataplaneHandle {
    shared: Arc<Shared>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    admin: Option<SocketAddr>,
    access_log: AccessLogWriter,
    drain_delay: Duration,
    workers: Vec<JoinHandle<()>>,
    control: JoinHandle<()>,
    /// Dropped to end the control thread.
    stop_control: oneshot::Sender<()>,
}

/// What the control thread and the handle both use.
#[derive(Debug)]
struct Shared {
    tables: Arc<TableState>,
    listeners: Mutex<ListenerManager>,
    health: Arc<Health>,
    /// What is served of the present table, its ports included.
    reports: watch::Sender<Option<Report>>,
}

impl Dataplane {
    /// Starts all threads. Nothing is served before the first table. Fails if the admin port cannot be bound or the system
    /// gives no threads.
    #[expect(
        clippy::disallowed_methods,
        reason = "a few commands per table; a busy worker must not hold up the others"
    )]
    pub fn start(config: Config) -> io::Result<DataplaneHandle> {
        let metrics = Arc::new(Metrics::new(config.metrics));
        let tables = Arc::new(TableState::new(Arc::clone(&metrics), config.overrides));
        let health = Arc::new(Health::default());
        let admin = config.admin.map(net::TcpListener::bind).transpose()?;
        let admin_address = admin
            .as_ref()
            .map(net::TcpListener::local_addr)
            .transpose()?;
        let access_log = AccessLogWriter::start(config.access_log)?;

        let mut senders = Vec::new();
        let mut workers = Vec::new();
        for id in 0..config.workers.get() {
            let (sender, commands) = unbounded_channel();
            let metrics = metrics.worker();
            let start = Start {
                id,
                published: Arc::clone(tables.cell()),
                access_log: access_log.worker(Arc::clone(&metrics)),
                metrics,
                commands,
                admin: admin_address,
            };
            workers.push(spawn(format!("worker-{id}"), move || start.run())?);
            senders.push(sender);
        }

        let listeners = Mutex::new(ListenerManager::new(
            config.addresses,
            config.ports,
            senders,
        ));
        let shared = Arc::new(Shared {
            tables: Arc::clone(&tables),
            listeners,
            health: Arc::clone(&health),
            reports: watch::Sender::new(None),
        });
        let drain_delay = config.drain_delay;
        let (stop_control, stopped) = oneshot::channel();
        let control = Control {
            admin: Admin {
                tables,
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
            },
            admin_socket: admin,
            source: config.source,
            controller: config.controller,
            shared: Arc::clone(&shared),
        };
        let control = spawn("control".to_owned(), move || control.run(stopped))?;
        Ok(DataplaneHandle {
            shared,
            health,
            metrics,
            admin: admin_address,
            access_log,
            workers,
            drain_delay,
            control,
            stop_control,
        })
    }
}

/// A named thread that reports its own failure.
fn spawn(
    name: String,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.clone()).spawn(move || {
        if let Err(error) = run() {
            tracing::error!(thread = name, %error, "the thread could not be started");
        }
    })
}

impl DataplaneHandle {
    /// Serves `table` from now on. The report names what is not served: rejected resources, and listeners whose port
    /// cannot be bound. An error leaves everything as it was.
    pub fn apply(&self, table: Arc<RoutingTable>) -> Result<Report, TableError> {
        let mut report = self.shared.tables.apply(table)?;
        report.rejected.extend(self.shared.reconcile());
        Ok(report)
    }

    /// Ports of the Gateway's spec with the addresses they are bound to.
    pub fn addresses(&self) -> BTreeMap<u16, Vec<SocketAddr>> {
        self.shared.listeners().bound().clone()
    }

    /// One address that a port of the Gateway's spec is bound to.
    pub fn bound_address(&self, port: u16) -> Option<SocketAddr> {
        self.shared.listeners().bound().get(&port)?.first().copied()
    }

    /// Where the admin port is bound.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The table being served.
    pub fn tables(&self) -> &Arc<TableState> {
        &self.shared.tables
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Where the proxy is in its life.
    pub fn phase(&self) -> Phase {
        self.health.phase()
    }

    /// Waits for SIGTERM or SIGINT.
    pub fn wait_for_signal(&self) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let (mut terminate, mut interrupt) = (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            );
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        })
    }

    /// Not ready any more. For the drain delay every connection is still answered, with word that it is the last answer;
    /// then idle connections close, others finish within the drain timeout of the table's settings and are then cut.
    /// Returns when everything has ended and the access log is written.
    pub fn shutdown(self) {
        self.health.enter(Phase::Draining);
        let grace = self
            .shared
            .tables
            .current()
            .as_ref()
            .map(|snapshot| snapshot.settings().drain_timeout.0.duration());
        let grace = grace.unwrap_or_default();
        let delay = self.drain_delay;
        tracing::info!(?delay, ?grace, "draining");
        self.shared
            .listeners()
            .tell(|| Command::Drain { delay, grace });
        for worker in self.workers {
            join(worker);
        }
        drop(self.stop_control);
        join(self.control);
        self.access_log.finish();
    }
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "the thread had panicked");
    }
}

impl Shared {
    /// Brings the ports in line with the present table. Tells which listeners cannot be served for want of their port.
    fn reconcile(&self) -> Vec<Rejection> {
        let snapshot = self.tables.current();
        let Some(snapshot) = snapshot.as_ref() else {
            return Vec::new();
        };
        let ports = snapshot.compiled.ports();
        let wanted = ports.map(|it| (it.port(), it.direction())).collect();
        let mut listeners = self.listeners();
        listeners.reconcile(&wanted);
        listeners.tell(|| Command::Refresh);
        let unbound = snapshot
            .compiled
            .table()
            .listeners
            .iter()
            .filter_map(|(key, listener)| {
                let message = listeners.failed().get(&listener.port)?.clone();
                Some(Rejection {
                    kind: ResourceKind::Listener,
                    key: key.to_string(),
                    message,
                })
            });
        let unbound: Vec<_> = unbound.collect();
        self.health
            .set_ports(!listeners.bound().is_empty(), &unbound);
        let report = Report {
            version: snapshot.compiled.table().version.clone(),
            rejected: [&unbound, snapshot.rejected()].concat(),
        };
        self.reports.send_if_modified(|last| {
            let news = last.as_ref() != Some(&report);
            if news {
                *last = Some(report);
            }
            news
        });
        unbound
    }

    fn listeners(&self) -> MutexGuard<'_, ListenerManager> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The control thread.
struct Control {
    admin: Admin,
    admin_socket: Option<net::TcpListener>,
    source: Option<TableSource>,
    controller: Option<Controller>,
    shared: Arc<Shared>,
}

impl Control {
    /// Runs until `stopped`.
    fn run(self, stopped: oneshot::Receiver<()>) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let tables = Arc::clone(&self.shared.tables);
            let (feed, channel) = TableSource::channel();
            let source = tables.follow(self.source.unwrap_or(channel));
            let controller = async {
                if let Some(controller) = &self.controller {
                    let reports = self.shared.reports.subscribe();
                    let follow = controller.follow(&feed, reports, &self.admin.metrics);
                    tokio::join!(follow, controller.keep_last_known_good(&tables));
                }
            };
            let admin = async {
                if let Some(socket) = self.admin_socket {
                    socket.set_nonblocking(true)?;
                    self.admin.clone().serve(TcpListener::from_std(socket)?).await;
                }
                std::future::pending::<io::Result<()>>().await
            };
            tokio::select! {
                _ = stopped => Ok(()),
                failed = admin => failed,
                () = async { tokio::join!(source, controller, keep_ports(&self.shared)); } => Ok(()),
            }
        })
    }
}

/// Binds the ports of every new table, and tries those again that could not be bound. Never ends.
async fn keep_ports(shared: &Shared) {
    let mut changes = shared.tables.changes();
    loop {
        let has_failed = !shared.listeners().failed().is_empty();
        let retry = async {
            if has_failed {
                tokio::time::sleep(RETRY_PORTS).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let is_retry = tokio::select! {
            // The sender lives as long as `shared`.
            _ = changes.changed() => false,
            () = retry => true,
        };
        // Whoever applied the table may have done it already.
        drop(shared.reconcile());
        if is_retry {
            shared.health.settle();
        }
    }
}
