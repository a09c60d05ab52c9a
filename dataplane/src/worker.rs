//! A worker: one thread with everything that its requests need, shared with nobody.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwapOption, Cache};
use tokio::{
    runtime,
    sync::mpsc::UnboundedReceiver,
    task::spawn_local,
    time::{Instant, sleep},
};

use crate::{
    deadline::Deadlines,
    egress::{Egress, own::Own},
    exchange::retry::RetryBudget,
    listener::AcceptLoops,
    reason::Reason,
    state::Snapshot,
    telemetry::{AccessLog, WorkerMetrics},
    upstream::Upstreams,
};

/// Where the control thread leaves snapshots.
type SnapshotCell = Arc<ArcSwapOption<Snapshot>>;

/// How often it is looked whether the last connection is gone.
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// What the control thread tells a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept connections of this port of the spec, from this socket too.
    Open {
        port: u16,
        socket: std::net::TcpListener,
    },
    /// Accept what has arrived on this port, then no more; its connections drain.
    Close { port: u16 },
    /// There is a new snapshot. Requests would find it by themselves; this lets go of the old one where there are none.
    Refresh,
    /// Go on for `delay` with the last answer of each connection, then finish what there is within `grace`, then end.
    Drain { delay: Duration, grace: Duration },
}

/// What a worker is started with.
pub(crate) struct Start {
    pub(crate) id: usize,
    pub(crate) published: SnapshotCell,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access_log: AccessLog,
    pub(crate) commands: UnboundedReceiver<Command>,
    /// Where the admin port is.
    pub(crate) admin: Option<SocketAddr>,
}

impl Start {
    /// Runs the worker on this thread until it has drained. Fails if the system gives it no runtime.
    pub(crate) fn run(self) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(runtime::LocalOptions::default())?;
        runtime.block_on(async {
            let worker = Worker::new(
                self.id,
                &self.published,
                self.metrics,
                self.access_log,
                Own::new(self.admin),
            );
            let worker = Rc::new(worker);
            Rc::clone(&worker).obey(self.commands).await;
            worker.has_ended.set(true);
        });
        Ok(())
    }
}

/// The state of one worker thread.
pub struct Worker {
    /// Number of the worker, from 0.
    pub id: usize,
    /// The way out.
    pub upstreams: Upstreams,
    /// This worker's counters.
    pub metrics: Arc<WorkerMetrics>,
    /// This worker's side of the access log.
    pub access_log: AccessLog,
    pub(crate) egress: Egress,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) retry_budget: RetryBudget,
    /// Mirrored requests under way.
    pub(crate) mirrors: Rc<Cell<u32>>,
    /// Connections that are open.
    pub(crate) connections: Cell<u32>,
    /// Whether what is still under way is cut.
    pub(crate) has_ended: Cell<bool>,
    published: RefCell<Cache<SnapshotCell, Option<Arc<Snapshot>>>>,
    /// The same, in a form that can be handed to requests without touching a count that other workers touch too.
    #[expect(clippy::redundant_allocation, reason = "see above")]
    current: RefCell<Option<Rc<Arc<Snapshot>>>>,
}

impl Worker {
    /// A worker that serves what is in `published`. To be made on the worker's own runtime.
    pub(crate) fn new(
        id: usize,
        published: &SnapshotCell,
        metrics: Arc<WorkerMetrics>,
        access_log: AccessLog,
        own: Own,
    ) -> Self {
        let deadlines = Deadlines::new();
        Self {
            id,
            upstreams: Upstreams::new(Arc::clone(&metrics)),
            egress: Egress::new(Arc::clone(&metrics), &deadlines, own),
            metrics,
            access_log,
            deadlines,
            retry_budget: RetryBudget::default(),
            mirrors: Rc::default(),
            connections: Cell::new(0),
            has_ended: Cell::new(false),
            published: RefCell::new(Cache::new(Arc::clone(published))),
            current: RefCell::new(None),
        }
    }

    /// Does what it is told until it is told to drain, or nobody is left to tell it anything.
    async fn obey(self: Rc<Self>, mut commands: UnboundedReceiver<Command>) {
        spawn_local({
            let worker = Rc::clone(&self);
            async move { worker.access_log.keep_flushing().await }
        });
        spawn_local({
            let deadlines = Rc::clone(&self.deadlines);
            async move { deadlines.keep_sweeping().await }
        });
        let ports = AcceptLoops::new(Rc::clone(&self));
        while let Some(command) = commands.recv().await {
            match command {
                Command::Drain { delay, grace } => {
                    return self.drain(&ports, &mut commands, delay, grace).await;
                }
                command => self.carry_out(&ports, command),
            }
        }
    }

    fn carry_out(&self, ports: &AcceptLoops, command: Command) {
        match command {
            Command::Open { port, socket } => {
                if let Err(error) = ports.open(port, socket) {
                    tracing::error!(worker = self.id, port, %error, "no connection can be accepted");
                }
            }
            Command::Close { port } => ports.close(port),
            Command::Refresh => drop(self.snapshot()),
            // Once is enough.
            Command::Drain { .. } => {}
        }
    }

    /// Lets connections finish. For `delay` every connection, old or new, gets an answer that says it is the last one. Then
    /// idle ones close; whoever has not heard of the end yet may still connect and gets one answer, until there is no
    /// connection left or half of the grace is over. Ports come and go as long as everybody is served.
    async fn drain(
        &self,
        ports: &AcceptLoops,
        commands: &mut UnboundedReceiver<Command>,
        delay: Duration,
        grace: Duration,
    ) {
        self.deadlines.announce_drain();
        let mut delay = pin!(sleep(delay));
        loop {
            tokio::select! {
                () = &mut delay => break,
                Some(command) = commands.recv() => self.carry_out(ports, command),
            }
        }
        let now = Instant::now();
        self.deadlines.drain(None);
        self.without_connections(now + grace / 2).await;
        ports.close_all();
        // The loops empty their queues before they end.
        sleep(DRAIN_STEP).await;
        self.without_connections(now + grace).await;
        if self.connections.get() > 0 {
            tracing::warn!(
                worker = self.id,
                connections = self.connections.get(),
                "connections are cut"
            );
        }
    }

    /// Waits until there is no connection, or until `end`.
    async fn without_connections(&self, end: Instant) {
        while self.connections.get() > 0 && Instant::now() < end {
            sleep(DRAIN_STEP).await;
        }
    }

    /// Counts a connection that was accepted; `None` if there are too many. Before the first table there is no listener,
    /// so nothing is accepted either.
    pub(crate) fn open_connection(self: &Rc<Self>) -> Option<OpenConnection> {
        let most = self.snapshot()?.settings().limits.max_connections;
        let open = self.connections.get();
        if open >= most {
            self.metrics.error(Reason::TooManyConnections);
            return None;
        }
        self.connections.set(open + 1);
        self.metrics.connection_opened();
        Some(OpenConnection(Rc::clone(self)))
    }

    /// The present snapshot; `None` before the first table. A request takes it once and keeps it. One atomic load, unless
    /// there is a new one, which the upstreams then learn of first.
    pub fn snapshot(&self) -> Option<Rc<Arc<Snapshot>>> {
        let mut published = self.published.borrow_mut();
        let published = published.load().as_ref()?;
        let mut current = self.current.borrow_mut();
        match &*current {
            Some(current) if Arc::ptr_eq(current, published) => Some(Rc::clone(current)),
            _ => {
                if let Some(egress) = &published.settings().egress {
                    self.egress.resolver.use_servers(&egress.dns_servers);
                }
                self.upstreams.sync(
                    published.compiled.table(),
                    &published.backend_tls,
                    &published.labels,
                );
                let fresh = Rc::new(Arc::clone(published));
                let before = current.replace(Rc::clone(&fresh));
                let generation = before.map(|before| before.compiled.generation());
                if generation != Some(fresh.compiled.generation()) {
                    self.egress.has_changed();
                }
                Some(fresh)
            }
        }
    }
}

/// A connection that counts as open until this is dropped, however it ends.
pub(crate) struct OpenConnection(Rc<Worker>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.metrics.connection_closed();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::telemetry::{AccessLogWriter, Metrics, MetricsOptions};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "as the server does")]
    fn ports_come_and_go_while_the_end_is_only_announced() {
        let metrics = Metrics::new(MetricsOptions::default()).worker();
        let log = AccessLogWriter::start(io::sink()).unwrap();
        let (tell, commands) = tokio::sync::mpsc::unbounded_channel();
        let start = Start {
            id: 0,
            published: SnapshotCell::default(),
            access_log: log.worker(Arc::clone(&metrics)),
            metrics,
            commands,
            admin: None,
        };
        // It goes on until the process ends.
        std::thread::spawn(move || start.run());
        let announced = Command::Drain {
            delay: Duration::from_hours(1),
            grace: Duration::ZERO,
        };
        tell.send(announced).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        tell.send(Command::Open { port: 80, socket }).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        // Accepted, and closed again for want of a table.
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
