//! The handshake: the client's greeting names a host, the host's listener has the certificate.

use std::{io, rc::Rc};

use portcullis_routing::ListenerKey;
use rustls::{AlertDescription, HandshakeKind, server::Acceptor};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{alert, client::ClientIdentity};
use crate::{deadline::Deadline, state::Snapshot};

/// An established TLS connection.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The connection.
    pub(crate) stream: TlsStream<TcpStream>,
    /// The host that the client named, lower case.
    pub(crate) sni: Option<Box<str>>,
    /// The listener that serves it.
    pub(crate) listener: ListenerKey,
    /// The client's certificate, if the listener needs one.
    pub(crate) client: Option<Rc<ClientIdentity>>,
}

impl Accepted {
    /// Whether a session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// Does the handshake with a client of `port`. A host that no listener serves is refused. Gives up when `deadline`
/// passes.
pub(crate) async fn accept(
    tcp: TcpStream,
    snapshot: &Snapshot,
    port: u16,
    deadline: &Deadline,
) -> io::Result<Accepted> {
    deadline
        .before_request(handshake(tcp, snapshot, port))
        .await
}

async fn handshake(tcp: TcpStream, snapshot: &Snapshot, port: u16) -> io::Result<Accepted> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let sni: Option<Box<str>> = start
        .client_hello()
        .server_name()
        .map(|name| name.to_ascii_lowercase().into());
    // Without SNI only a listener that serves every host can be meant.
    let host = sni.as_deref().unwrap_or_default();
    let listener = snapshot
        .compiled
        .port(port)
        .and_then(|port| port.listener_for(host))
        .map(|listener| listener.key());
    let chosen = listener.and_then(|key| Some((key.clone(), snapshot.tls.config(key)?)));
    let Some((listener, config)) = chosen else {
        // RFC 6066 3.
        let alert = alert::fatal(AlertDescription::UnrecognisedName);
        start.io.write_all(&alert).await?;
        start.io.shutdown().await?;
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no listener has a certificate for this name",
        ));
    };
    let stream = start.into_stream(config.clone()).await?;
    let client = snapshot.tls.identity(&listener).and_then(|wanted| {
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Rc::new(ClientIdentity::new(chain, wanted)))
    });
    Ok(Accepted {
        stream,
        sni,
        listener,
        client,
    })
}
