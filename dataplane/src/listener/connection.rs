//! From an accepted socket to a session: PROXY protocol, TLS, and which HTTP is spoken.

use std::{cell::OnceCell, future::poll_fn, io, net::SocketAddr, rc::Rc, time::Duration};

use http::HeaderValue;
use portcullis_routing::{
    Direction, ListenerKey, compile::CompiledPort, listener::ListenerProtocol,
};
use tokio::net::TcpStream;

use super::passthrough::{self, Admitted};
use crate::{
    deadline::Deadline,
    downstream::{Connection, Downstream, h1, h2, refusal::refuse},
    egress::{
        Identity, Ruling,
        event::{Departure, Form},
    },
    exchange,
    proxy_protocol::{self, BEGIN_V1},
    reason::Reason,
    state::Snapshot,
    stream::{BufferedStream, ReadHandle},
    telemetry::{HandshakeResult, RequestRecord},
    tls::{
        accept::{Accepted, accept},
        client::ClientIdentity,
    },
    worker::{OpenConnection, Worker},
};

/// What every HTTP/2 connection begins with (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection until it ends.
pub(super) async fn serve(
    worker: Rc<Worker>,
    open: OpenConnection,
    deadline: Rc<Deadline>,
    port: u16,
    tcp: TcpStream,
    peer: SocketAddr,
) {
    let Some(snapshot) = worker.snapshot() else {
        return;
    };
    let limits = snapshot.settings().limits.clone();
    deadline.set(limits.header_timeout.duration());
    if is_passthrough(&snapshot, port) {
        // Boxed: those that pass through should not make all others larger.
        let admitted = Box::pin(admit(&worker, &snapshot, port, tcp, peer, &deadline)).await;
        // A tunnel may outlive many tables.
        drop(snapshot);
        // It has its own.
        drop(deadline);
        if let Some(admitted) = admitted {
            Box::pin(admitted.run()).await;
        }
        return drop(open);
    }
    // Boxed for the time it takes: the handshake needs much more room than the session.
    let established = Box::pin(establish(&worker, &snapshot, port, tcp, peer, &deadline)).await;
    // A connection may outlive many tables.
    drop(snapshot);
    let (stream, connection) = match established {
        Ok(established) => established,
        Err(error) => {
            tracing::debug!(port, %peer, %error, "no session came of a connection");
            return;
        }
    };
    // Boxed for the time it takes: a connection should not hold the memory of an exchange while it is idle.
    let exchange = async |downstream: &mut Downstream| {
        Box::pin(exchange::serve(&worker, &connection, downstream)).await;
    };
    let refused = |reason| record_refusal(&worker, &connection, reason);
    // Boxed apart: an idle connection of HTTP/1 should not hold the room that one of HTTP/2 needs.
    if connection.http2 {
        let deadlines = &worker.deadlines;
        Box::pin(h2::serve(
            stream,
            deadline,
            deadlines,
            &limits,
            connection.egress,
            exchange,
            refused,
        ))
        .await;
    } else {
        Box::pin(h1::serve(
            stream,
            &connection,
            deadline,
            &limits,
            exchange,
            refused,
        ))
        .await;
    }
    drop(open);
}

/// Counts and logs a request of which nothing is known but why it is none.
fn record_refusal(worker: &Worker, connection: &Connection, reason: Reason) {
    let Some(snapshot) = worker.snapshot() else {
        return;
    };
    let record = RequestRecord {
        client: connection.client,
        tls: connection.tls,
        http2: connection.http2,
        method: "",
        host: "",
        path: "",
        user_agent: None,
        request_id: "",
        listener: None,
        route: None,
        cluster: None,
        endpoint: None,
        status: reason.status().as_u16(),
        reason: Some(reason),
        duration: Duration::ZERO,
        upstream_duration: None,
        bytes_in: 0,
        bytes_out: reason.body().len() as u64,
        attempts: 0,
        upstream_reused: false,
    };
    worker.metrics.request_started();
    worker.metrics.request(&snapshot.labels, &record);
    worker
        .access_log
        .log(snapshot.settings().access_log, &record);
    if connection.egress && reason != Reason::RequestTimeout {
        tell_refusal(worker, connection, &snapshot, reason);
    }
}

/// The same of one that wanted to leave: nobody knows where to.
fn tell_refusal(worker: &Worker, connection: &Connection, snapshot: &Snapshot, reason: Reason) {
    let ruling = Ruling::refused(reason);
    worker.metrics.egress_decision(&snapshot.labels, &ruling);
    let departure = Departure {
        gateway: snapshot.compiled.table().gateway.as_str(),
        caller: connection.caller.as_deref(),
        client: connection.client.ip(),
        form: Form::Host,
        host: "",
        port: None,
        sni: connection.sni.as_deref(),
        ech: false,
        address: None,
        ruling,
        route: None,
        error: None,
        detail: None,
        bytes_in: 0,
        bytes_out: reason.body().len() as u64,
        duration: Duration::ZERO,
    };
    let log = snapshot.settings().egress.as_ref();
    let log = log.map(|egress| egress.decision_log).unwrap_or_default();
    if departure.is_wanted(log) {
        worker.access_log.write(&departure.line());
    }
}

/// Whether TLS passes through a port.
fn is_passthrough(snapshot: &Snapshot, port: u16) -> bool {
    let port = snapshot.compiled.port(port);
    port.is_some_and(|port| port.protocol() == ListenerProtocol::Tls)
}

/// A tunnel for a connection to such a port, if there is to be one.
async fn admit(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    port: u16,
    mut tcp: TcpStream,
    peer: SocketAddr,
    deadline: &Deadline,
) -> Option<Box<Admitted>> {
    let client = client_address(snapshot, port, &mut tcp, peer, deadline).await;
    let client = client
        .inspect_err(|error| tracing::debug!(port, %peer, %error, "no tunnel came of a connection"))
        .ok()?;
    let port = snapshot.compiled.port(port)?;
    let admitted = passthrough::admit(worker, snapshot, port, tcp, client, deadline).await;
    admitted.map(Box::new)
}

/// Who connects: as the PROXY protocol says, if it is used. On ports of egress that is read and not believed: the address says who
/// calls there, and every pod could claim that of another one.
async fn client_address(
    snapshot: &Snapshot,
    port: u16,
    tcp: &mut TcpStream,
    peer: SocketAddr,
    deadline: &Deadline,
) -> io::Result<SocketAddr> {
    if !snapshot.settings().client_address.proxy_protocol {
        return Ok(peer);
    }
    let told = proxy_protocol::read(tcp, deadline).await?;
    let told = told.filter(|_| !is_egress(snapshot, port));
    Ok(told.unwrap_or(peer))
}

/// Whether a port is one of egress.
fn is_egress(snapshot: &Snapshot, port: u16) -> bool {
    let port = snapshot.compiled.port(port);
    port.is_some_and(|port| port.direction() == Direction::Egress)
}

/// What a handshake tells: the host that the client named, its listener, and who the client is.
type Named = (Option<Box<str>>, ListenerKey, Option<Rc<ClientIdentity>>);

async fn establish(
    worker: &Worker,
    snapshot: &Snapshot,
    port: u16,
    mut tcp: TcpStream,
    peer: SocketAddr,
    deadline: &Deadline,
) -> io::Result<(BufferedStream, Connection)> {
    let client = client_address(snapshot, port, &mut tcp, peer, deadline).await?;
    let local = tcp.local_addr()?;
    let client_text = HeaderValue::try_from(client.ip().to_string()).map_err(io::Error::other)?;
    let found = snapshot.compiled.port(port);
    let egress = is_egress(snapshot, port);
    let connection = |tls: Option<Named>, http2| {
        let is_tls = tls.is_some();
        let (sni, sni_listener, identity) = tls
            .map(|(sni, listener, identity)| (sni, Some(listener), identity))
            .unwrap_or_default();
        let shown = identity.as_ref().zip(sni_listener.as_ref());
        let caller = caller(snapshot, client, shown);
        Connection {
            port,
            tls: is_tls,
            sni,
            sni_listener,
            identity,
            egress,
            pinned: OnceCell::new(),
            caller,
            client,
            client_text: client_text.clone(),
            local,
            http2,
        }
    };
    let protocol = found.map(CompiledPort::protocol);
    if protocol == Some(ListenerProtocol::Https) {
        let Accepted {
            stream,
            sni,
            listener,
            client,
        } = match handshake(worker, tcp, snapshot, port, deadline).await? {
            Spoken::Tls(accepted) => accepted,
            Spoken::PlainHttp(tcp) => {
                record_refusal(worker, &connection(None, false), Reason::PlainHttp);
                let stream = BufferedStream::new(tcp);
                let reader = stream.read_handle();
                refuse(Box::new(stream), &reader, Reason::PlainHttp, deadline).await;
                return Err(io::Error::other(Reason::PlainHttp.text()));
            }
        };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        return Ok((
            BufferedStream::new(stream),
            connection(Some((sni, listener, client)), http2),
        ));
    }
    let stream = BufferedStream::new(tcp);
    let http2 = begins_with_preface(&stream.read_handle(), deadline).await?;
    Ok((stream, connection(None, http2)))
}

/// Who calls, where that matters, as far as the connection tells.
fn caller(
    snapshot: &Snapshot,
    client: SocketAddr,
    shown: Option<(&Rc<ClientIdentity>, &ListenerKey)>,
) -> Option<Rc<Identity>> {
    let egress = snapshot.compiled.egress()?;
    let address = client.ip();
    shown
        .and_then(|(shown, listener)| Identity::of_certificate(egress, shown, listener, address))
        .or_else(|| Identity::of_address(egress, address))
}

/// What a client says on a port with TLS.
// One lives for each handshake and is moved at once: a box would cost more than the move.
#[allow(clippy::large_enum_variant)]
enum Spoken {
    Tls(Accepted),
    PlainHttp(TcpStream),
}

/// Counts whatever comes of it.
async fn handshake(
    worker: &Worker,
    tcp: TcpStream,
    snapshot: &Snapshot,
    port: u16,
    deadline: &Deadline,
) -> io::Result<Spoken> {
    let spoken = hear(tcp, snapshot, port, deadline).await;
    worker.metrics.tls_handshake(match &spoken {
        Ok(Spoken::Tls(accepted)) if accepted.is_resumed() => HandshakeResult::Resumed,
        Ok(Spoken::Tls(_)) => HandshakeResult::Full,
        Ok(Spoken::PlainHttp(_)) | Err(_) => HandshakeResult::Failed,
    });
    spoken
}

async fn hear(
    tcp: TcpStream,
    snapshot: &Snapshot,
    port: u16,
    deadline: &Deadline,
) -> io::Result<Spoken> {
    if deadline.before_request(is_plain_http(&tcp)).await? {
        return Ok(Spoken::PlainHttp(tcp));
    }
    let accepted = accept(tcp, snapshot, port, deadline).await;
    accepted.map(Spoken::Tls)
}

/// Whether a request without TLS begins. A handshake begins with 22; methods are written in capital letters. So is a
/// balancer's PROXY line that nobody expects here: to call it HTTP would point the wrong way.
async fn is_plain_http(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0; BEGIN_V1.len()];
    let length = tcp.peek(&mut first).await?;
    let first = first.get(..length).unwrap_or_default();
    Ok(first.first().is_some_and(u8::is_ascii_uppercase) && !BEGIN_V1.starts_with(first))
}

/// Whether the client speaks HTTP/2 by prior knowledge. Decided at the first byte that differs, so that no HTTP/1
/// request, however short, is waited for in vain.
async fn begins_with_preface(reader: &ReadHandle, deadline: &Deadline) -> io::Result<bool> {
    deadline
        .before_request(poll_fn(|cx| reader.poll_starts_with(cx, PREFACE)))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of the future that an async function of six parameters makes.
    fn future_size<A, B, C, D, E, F, R>(_: impl FnOnce(A, B, C, D, E, F) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn an_idle_connection_holds_no_session_that_it_is_not() {
        // 1 KiB, a size class of the allocator, less what the runtime adds to a task.
        assert!(future_size(serve) <= 768, "{}", future_size(serve));
    }
}
