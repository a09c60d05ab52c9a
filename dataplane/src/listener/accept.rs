//! A worker's accept loops, one per socket.

use std::{cell::RefCell, collections::HashMap, io, net, rc::Rc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
};
use tokio_util::sync::CancellationToken;

use super::connection;
use crate::worker::Worker;

/// Pause when the system is out of file descriptors or memory.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(50);

/// The ports that a worker accepts on.
pub(crate) struct AcceptLoops {
    worker: Rc<Worker>,
    /// What tells the loops of a port to stop.
    open: RefCell<HashMap<u16, CancellationToken>>,
}

impl AcceptLoops {
    /// Without any port.
    pub(crate) fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            open: RefCell::default(),
        }
    }

    /// Accepts connections of `port` from `socket`, besides those that the port has already.
    pub(crate) fn open(&self, port: u16, socket: net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(socket)?;
        self.worker.egress.own.opened(port, listener.local_addr()?);
        let stop = self.open.borrow_mut().entry(port).or_default().clone();
        spawn_local(accept(Rc::clone(&self.worker), port, listener, stop));
        Ok(())
    }

    /// Accepts what has arrived on `port`, then no more.
    pub(crate) fn close(&self, port: u16) {
        self.worker.egress.own.closed(port);
        if let Some(stop) = self.open.borrow_mut().remove(&port) {
            stop.cancel();
        }
    }

    /// The same for all ports.
    pub(crate) fn close_all(&self) {
        for (_, stop) in self.open.borrow_mut().drain() {
            stop.cancel();
        }
    }
}

async fn accept(worker: Rc<Worker>, port: u16, listener: TcpListener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => begin(&worker, port, tcp, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(port, %error, "no connection can be accepted");
                tokio::time::sleep(OUT_OF_RESOURCES).await;
            }
        }
    }
    // Closing a socket resets what waits in its queue, so the queue is emptied first.
    let Ok(listener) = listener.into_std() else {
        return;
    };
    while let Ok((tcp, peer)) = listener.accept() {
        if tcp.set_nonblocking(true).is_ok()
            && let Ok(tcp) = TcpStream::from_std(tcp)
        {
            begin(&worker, port, tcp, peer);
        }
    }
    // Those of the queue included.
    worker.deadlines.drain(Some(port));
}

/// Serves a connection in a task of its own: what happens to it happens to no other one.
fn begin(worker: &Rc<Worker>, port: u16, tcp: TcpStream, peer: net::SocketAddr) {
    if let Some(open) = worker.open_connection() {
        // Now, and not when the task begins, so that a signal to drain in between is not lost.
        let deadline = Rc::new(worker.deadlines.register(Some(port)));
        spawn_local(connection::serve(
            Rc::clone(worker),
            open,
            deadline,
            port,
            tcp,
            peer,
        ));
    }
}

/// Whether a failed `accept` says something about the connection only (it was reset while it waited).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
