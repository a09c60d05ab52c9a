//! An HTTP/1.1 backend on loopback that does exactly what a test says, and counts.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::AbortHandle,
};

use super::nobody::nobody;

/// What a backend does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Sends these bytes.
    Send(&'static str),
    /// Sends these bytes and closes the connection.
    SendAndClose(&'static str),
    /// Sends these bytes once [`Backend::release`] was called.
    Held(&'static str),
    /// Sends back whatever comes after the head, behind these bytes.
    Tunnel(&'static str),
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What was seen so far.
#[derive(Default)]
struct Log {
    connections: Cell<usize>,
    closed: Cell<usize>,
    requests: RefCell<Vec<String>>,
    released: Cell<bool>,
    changed: Notify,
}

/// Stops listening when dropped; connections stay.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    log: Rc<Log>,
    listener: AbortHandle,
}

impl Backend {
    /// Answers every request with 200.
    pub(crate) fn ok() -> Self {
        Self::start(|_| Reply::Send(OK))
    }

    /// Does with the n-th request (from 0) what `reply` says.
    pub(crate) fn start(reply: impl Fn(usize) -> Reply + 'static) -> Self {
        let (socket, _) = nobody();
        Self::start_on(socket, reply)
    }

    /// As [`start`](Self::start), on a socket that has an address.
    pub(crate) fn start_on(socket: TcpSocket, reply: impl Fn(usize) -> Reply + 'static) -> Self {
        let listener = socket.listen(1024).expect("listen");
        let address = listener.local_addr().expect("address");
        let log = Rc::new(Log::default());
        let listener = tokio::task::spawn_local(accept(listener, Rc::clone(&log), Rc::new(reply)))
            .abort_handle();
        Self {
            address,
            log,
            listener,
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.get()
    }

    /// The heads and bodies of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.log.requests.borrow().clone()
    }

    /// Waits until the backend has seen so many requests.
    pub(crate) async fn seen(&self, requests: usize) {
        self.log
            .wait(|log| log.requests.borrow().len() >= requests)
            .await;
    }

    /// Waits until the proxy has closed so many connections.
    pub(crate) async fn closed(&self, connections: usize) {
        self.log.wait(|log| log.closed.get() >= connections).await;
    }

    /// Lets the held answers go.
    pub(crate) fn release(&self) {
        self.log.released.set(true);
        self.log.changed.notify_waiters();
    }
}

impl Drop for Backend {
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

async fn accept(listener: TcpListener, log: Rc<Log>, reply: Rc<dyn Fn(usize) -> Reply>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (log, reply) = (Rc::clone(&log), Rc::clone(&reply));
        tokio::task::spawn_local(async move {
            log.connections.set(log.connections.get() + 1);
            serve(stream, &log, &*reply).await;
            log.closed.set(log.closed.get() + 1);
            log.changed.notify_waiters();
        });
    }
}

/// Serves one connection until either side closes it.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Log,
    reply: &dyn Fn(usize) -> Reply,
) {
    while let Some(request) = read_request(&mut stream).await {
        let number = log.requests.borrow().len();
        log.requests.borrow_mut().push(request);
        log.changed.notify_waiters();
        let bytes = match reply(number) {
            Reply::Send(bytes) => bytes,
            Reply::SendAndClose(bytes) => {
                // The proxy may be gone, which the test would see elsewhere.
                let _ = stream.write_all(bytes.as_bytes()).await;
                return;
            }
            Reply::Held(bytes) => {
                log.wait(|log| log.released.get()).await;
                bytes
            }
            Reply::Tunnel(bytes) => {
                stream.write_all(bytes.as_bytes()).await.expect("written");
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write)
                    .await
                    .expect("echoed");
                return write.shutdown().await.expect("closed");
            }
        };
        if stream.write_all(bytes.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Head and body of the next request, as they came over the wire.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    while !is_complete(&request) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => request.push_str(std::str::from_utf8(&buffer[..length]).expect("text")),
        }
    }
    Some(request)
}

fn is_complete(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    match field("content-length: ") {
        Some(length) => body.len() >= length.parse().expect("length"),
        None => field("transfer-encoding: ").is_none() || body.ends_with("0\r\n\r\n"),
    }
}

/// An address that drops SYNs: a listener whose backlog is full, and the connection that fills it.
pub(crate) async fn black_hole() -> (SocketAddr, TcpListener, TcpStream) {
    let (socket, address) = nobody();
    let listener = socket.listen(0).expect("listen");
    let filler = TcpStream::connect(address)
        .await
        .expect("the first connection fits");
    (address, listener, filler)
}
