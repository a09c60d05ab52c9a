//! Publishing: every Gateway's data planes get its table, and say what they make of it. `docs/transport.md` has the
//! protocol.
//!
//! A data plane is served only the table of the Gateway that its certificate names. The publisher keeps one cursor per
//! stream and no queue: when a data plane can take more, it gets what leads from its cursor to the present table, so that
//! many changes cost one frame. Nothing is answered before the first tables are there.
//!
//! Data planes are connected to any replica; only the one that leads writes statuses. The others tell it what their data
//! planes say.

mod board;
mod data_planes;
mod limits;
mod relay;
mod roster;
mod service;
mod stream;
mod tls;

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{board::Board, limits::HANDSHAKE_TIMEOUT, roster::Roster, tls::Peer};
pub use self::{
    data_planes::{Acknowledgement, DataPlane, DataPlanes, Fleet, Word},
    limits::{Limits, MAX_REPORT},
    tls::PublisherTls,
};
use crate::run::Tables;

/// Serves tables to data planes.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
}

/// What every connection uses.
#[derive(Debug)]
struct Shared {
    tls: Arc<PublisherTls>,
    limits: Limits,
    board: watch::Sender<Option<Arc<Board>>>,
    roster: Roster,
}

impl Publisher {
    /// Knows no data plane yet.
    pub fn new(tls: Arc<PublisherTls>, limits: Limits) -> Self {
        let board = watch::Sender::new(None);
        let shared = Shared {
            tls,
            limits,
            roster: Roster::new(board.subscribe()),
            board,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What is known of the data planes, as it changes.
    pub fn fleet(&self) -> watch::Receiver<Arc<Fleet>> {
        self.shared.roster.watch()
    }

    /// Tells the replica that leads what the data planes of this one serve, so that it can say so in the statuses. `leader`
    /// is where it is, or `None` while that is this replica or nobody. Ends with the sender of `leader`.
    pub fn relay(
        &self,
        leader: watch::Receiver<Option<SocketAddr>>,
    ) -> impl Future<Output = ()> + Send + use<> {
        relay::run(Arc::clone(&self.shared), leader)
    }

    /// Serves `tables` on `listener` until their sender is dropped. They are `None` until every watch has synced and the
    /// first translation is done. Dropping the future cuts every connection.
    pub async fn serve(self, listener: TcpListener, tables: watch::Receiver<Option<Tables>>) {
        let Self { shared } = self;
        tokio::select! {
            () = keep_board(&shared, tables) => {}
            () = accept(&shared, &listener) => {}
        }
    }
}

/// Takes in new tables.
async fn keep_board(shared: &Shared, mut tables: watch::Receiver<Option<Tables>>) {
    loop {
        let latest = tables.borrow_and_update().clone();
        if let Some(latest) = latest {
            let before = shared.board.borrow().clone();
            let board = before.unwrap_or_default().successor(&latest);
            shared.board.send_replace(Some(Arc::new(board)));
            shared.roster.tables_changed();
        }
        if tables.changed().await.is_err() {
            return;
        }
    }
}

/// Accepts connections for ever.
async fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let places = Arc::new(Semaphore::new(shared.limits.clients));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::warn!(%peer, limit = shared.limits.clients, "too many data planes; one was turned away");
                    continue;
                };
                let shared = Arc::clone(shared);
                connections.spawn(async move {
                    connection(&shared, stream, peer).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no data plane can connect");
                // Out of file descriptors, most likely: trying again at once would only burn CPU.
                sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection from the handshake to its end.
async fn connection(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr) {
    // Frames are written whole; waiting for more would only delay them.
    _ = stream.set_nodelay(true);
    let Some(acceptor) = shared.tls.acceptor() else {
        tracing::debug!(%address, "a data plane came before there is a certificate for this side");
        return;
    };
    let handshake = acceptor.accept(stream);
    let stream = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::warn!(%address, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::warn!(%address, "a TLS handshake took too long");
            return;
        }
    };
    let Some(peer) = Peer::of(stream.get_ref().1, &shared.tls) else {
        tracing::warn!(%address, "a client has no certificate");
        return;
    };
    service::serve(shared, stream, address, peer).await;
}
