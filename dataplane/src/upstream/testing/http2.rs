//! An h2c backend on loopback: echoes bodies and trailers, resets or goes away as told.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use http::{HeaderMap, Request, Response};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::AbortHandle,
};

/// What was seen, and what to do.
#[derive(Default)]
struct Log {
    connections: Cell<usize>,
    requests: RefCell<Vec<Request<()>>>,
    resets: RefCell<Vec<Reason>>,
    hold: Cell<bool>,
    refuse: Cell<bool>,
    rest: RefCell<Bytes>,
    changed: Notify,
}

/// Stops listening when dropped.
pub(crate) struct Http2Backend {
    pub(crate) address: SocketAddr,
    log: Rc<Log>,
    leave: watch::Sender<usize>,
    listener: AbortHandle,
}

impl Http2Backend {
    /// Allows so many streams at once per connection.
    pub(crate) async fn start(max_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let log = Rc::new(Log::default());
        let (leave, leaving) = watch::channel(0);
        let (accepted, log_of_task) = (leaving, Rc::clone(&log));
        let listener = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Rc::clone(&log_of_task);
                log.connections.set(log.connections.get() + 1);
                let connection = server::Builder::new()
                    .max_concurrent_streams(max_streams)
                    .handshake(stream)
                    .await
                    .expect("handshake");
                tokio::task::spawn_local(serve(connection, log, accepted.clone()));
            }
        });
        Self {
            address,
            log,
            leave,
            listener: listener.abort_handle(),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.get()
    }

    pub(crate) fn requests(&self) -> Vec<Request<()>> {
        let copy = |request: &Request<()>| {
            let mut copy = Request::builder()
                .method(request.method())
                .uri(request.uri())
                .body(())
                .expect("request");
            *copy.headers_mut() = request.headers().clone();
            copy
        };
        self.log.requests.borrow().iter().map(copy).collect()
    }

    /// Answers no request until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.log.hold.set(true);
    }

    pub(crate) fn release(&self) {
        self.log.hold.set(false);
        self.log.changed.notify_waiters();
    }

    /// Resets every further stream with `REFUSED_STREAM`, or no longer.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.log.refuse.set(refuse);
    }

    /// Lets each answer have this between `ok` and the echo.
    pub(crate) fn go_on_with(&self, rest: Bytes) {
        self.log.rest.replace(rest);
    }

    /// Sends GOAWAY on all connections; what is under way is finished.
    pub(crate) fn go_away(&self) {
        self.leave.send_modify(|count| *count += 1);
    }

    /// Waits until so many requests were seen.
    pub(crate) async fn seen(&self, requests: usize) {
        self.log
            .wait(|log| log.requests.borrow().len() >= requests)
            .await;
    }

    /// Waits for the next stream that the proxy resets.
    pub(crate) async fn reset(&self) -> Reason {
        self.log.wait(|log| !log.resets.borrow().is_empty()).await;
        self.log.resets.borrow_mut().remove(0)
    }
}

impl Drop for Http2Backend {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Log {
    async fn wait(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            self.changed.notified().await;
        }
    }
}

async fn serve(
    mut connection: server::Connection<tokio::net::TcpStream, Bytes>,
    log: Rc<Log>,
    mut leave: watch::Receiver<usize>,
) {
    leave.mark_unchanged();
    let mut leaving = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Ok(()) = leave.changed(), if !leaving => {
                connection.graceful_shutdown();
                leaving = true;
                continue;
            }
        };
        let Some(Ok((request, mut respond))) = accepted else {
            return;
        };
        if log.refuse.get() {
            respond.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        tokio::task::spawn_local(answer(request, respond, Rc::clone(&log)));
    }
}

/// Echoes body and trailers behind `ok`.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, log: Rc<Log>) {
    let (parts, mut body) = request.into_parts();
    log.requests
        .borrow_mut()
        .push(Request::from_parts(parts, ()));
    log.changed.notify_waiters();
    tokio::select! {
        () = log.wait(|log| !log.hold.get()) => {}
        reason = std::future::poll_fn(|cx| respond.poll_reset(cx)) => {
            log.resets.borrow_mut().push(reason.expect("a reason"));
            return log.changed.notify_waiters();
        }
    }
    let mut send = respond
        .send_response(Response::new(()), false)
        .expect("head");
    let begin = [b"ok", &**log.rest.borrow()].concat();
    send.send_data(begin.into(), false).expect("data");
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        body.flow_control()
            .release_capacity(data.len())
            .expect("released");
        send.send_data(data, false).expect("data");
    }
    let trailers: Option<HeaderMap> = body.trailers().await.expect("trailers");
    match trailers {
        Some(trailers) => send.send_trailers(trailers).expect("trailers"),
        None => send.send_data(Bytes::new(), true).expect("end"),
    }
}
