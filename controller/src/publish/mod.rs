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
mod places;
mod relay;
mod roster;
mod service;
mod stream;
mod tls;
mod waiting;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use self::{
    board::Board,
    limits::HANDSHAKE_TIMEOUT,
    places::{Holder, Places},
    roster::Roster,
    tls::Peer,
    waiting::Waiting,
};
pub use self::{
    data_planes::{Acknowledgement, DataPlane, DataPlanes, Fleet, Word},
    limits::{Limits, MAX_REPORT},
    tls::PublisherTls,
};
use crate::{
    metrics::{Metrics, Turned},
    run::Tables,
};

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
    places: Arc<Places>,
    metrics: Arc<Metrics>,
    board: watch::Sender<Option<Arc<Board>>>,
    waiting: Arc<Waiting>,
    roster: Roster,
}

impl Publisher {
    /// Knows no data plane yet.
    pub fn new(tls: Arc<PublisherTls>, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let board = watch::Sender::new(None);
        let shared = Shared {
            tls,
            limits,
            places: Arc::new(Places::new(limits)),
            metrics,
            waiting: Waiting::new(limits),
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
            let board = match before {
                Some(before) => before.successor(&latest),
                None => Board::new(Arc::clone(&shared.waiting)).successor(&latest),
            };
            shared.board.send_replace(Some(Arc::new(board)));
            shared.waiting.keep(&latest);
            shared.roster.tables_changed();
        }
        if tables.changed().await.is_err() {
            return;
        }
    }
}

/// Accepts connections for ever.
async fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes));
    let mut connections = JoinSet::new();
    loop {
        // Whoever comes while there are too many waits in the queue of the socket.
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = match shared.places.take(Holder::Handshake(peer.ip())) {
                    Ok(place) => place,
                    Err(why) => {
                        shared.turn_away(peer, why);
                        continue;
                    }
                };
                let shared = Arc::clone(shared);
                connections.spawn(async move {
                    let client = greet(&shared, stream, peer).await;
                    drop((handshake, place));
                    if let Some((stream, client)) = client {
                        serve(&shared, stream, peer, client).await;
                    }
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

impl Shared {
    /// A client is not served.
    fn turn_away(&self, address: SocketAddr, why: Turned) {
        self.metrics.turned_away(why);
        tracing::warn!(%address, "{why}; a client was turned away");
    }
}

/// Whether a client has gone without a word, as proxies do that are ended while they connect.
fn has_left(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// The handshake of a connection: who is there, if it may speak.
async fn greet(
    shared: &Shared,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    // Frames are written whole; waiting for more would only delay them.
    _ = stream.set_nodelay(true);
    let Some(acceptor) = shared.tls.acceptor() else {
        tracing::debug!(%address, "a data plane came before there is a certificate for this side");
        return None;
    };
    let handshake = acceptor.accept(stream);
    let stream = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shared.metrics.turned_away(Turned::Handshake);
            if has_left(&error) {
                tracing::debug!(%address, %error, "a client has left during its TLS handshake");
            } else {
                tracing::warn!(%address, %error, "a TLS handshake failed");
            }
            return None;
        }
        Err(_) => {
            shared.metrics.turned_away(Turned::Handshake);
            tracing::warn!(%address, "a TLS handshake took too long");
            return None;
        }
    };
    let peer = Peer::of(stream.get_ref().1, &shared.tls);
    if peer.is_none() {
        shared.metrics.turned_away(Turned::Handshake);
        tracing::warn!(%address, "a client has no certificate");
    }
    Some((stream, peer?))
}

/// A connection after its handshake, to its end.
async fn serve(
    shared: &Arc<Shared>,
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    peer: Peer,
) {
    let holder = Holder::of(&peer.name, shared.tls.trust_domain());
    match shared.places.take(holder) {
        Ok(_place) => service::serve(shared, stream, address, peer).await,
        Err(why) => shared.turn_away(address, why),
    }
}
