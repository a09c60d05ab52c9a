//! One connection to one endpoint: TCP, and TLS where the cluster asks for it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use portcullis_routing::{Cluster, ClusterProtocol};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    error::{UpstreamError, UpstreamErrorKind},
    tls::{self, TlsPolicy},
};
use crate::stream::{Transport, UNSENT};

/// A silent connection is probed after this time and then as often; after [`PROBES`] without an answer it is dead, so
/// that one to a vanished node does not linger in a pool. (No `TCP_USER_TIMEOUT`: it would also cut a backend that is
/// well but does not read for a while.)
const KEEPALIVE: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;

/// How a cluster's endpoints are talked to. Connections are shared only under one and the same instance: it is what a
/// pool is keyed by, beside the endpoint.
#[derive(Debug)]
pub(super) struct Profile {
    /// HTTP/2 is wanted: by prior knowledge in clear text, by ALPN over TLS.
    pub(super) http2: bool,
    tls: Option<Result<Arc<TlsPolicy>, String>>,
}

impl Profile {
    /// The profile of a cluster.
    pub(super) fn new(cluster: &Cluster, tls: Option<Result<Arc<TlsPolicy>, String>>) -> Self {
        Self {
            http2: cluster.protocol == ClusterProtocol::Http2,
            tls,
        }
    }

    /// Whether this is how such a cluster is talked to.
    pub(super) fn fits(
        &self,
        cluster: &Cluster,
        tls: Option<&Result<Arc<TlsPolicy>, String>>,
    ) -> bool {
        self.http2 == (cluster.protocol == ClusterProtocol::Http2)
            && tls::same(self.tls.as_ref(), tls)
    }
}

/// An established connection and the HTTP version to speak on it.
pub(super) struct Connected {
    pub(super) transport: Transport,
    pub(super) http2: bool,
}

/// Connects. `http2` false asks for HTTP/1.1 even if the profile wants HTTP/2.
pub(super) async fn connect(
    address: SocketAddr,
    profile: &Profile,
    http2: bool,
) -> Result<Connected, UpstreamError> {
    let tls = profile
        .tls
        .as_ref()
        .map(Result::as_ref)
        .transpose()
        .map_err(unusable_policy)?;
    let tcp = connect_tcp(address).await?;
    let Some(policy) = tls else {
        return Ok(Connected {
            transport: tcp.into(),
            http2,
        });
    };
    let TlsPolicy {
        server_name,
        configs,
    } = &**policy;
    let config = if http2 {
        &configs.http2
    } else {
        &configs.http1
    };
    let stream = TlsConnector::from(config.clone())
        .connect(server_name.clone(), tcp)
        .await
        .map_err(|error| UpstreamError::new(UpstreamErrorKind::Tls, error))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Connected {
        transport: stream.into(),
        http2,
    })
}

/// Connects, and speaks nothing.
pub(super) async fn connect_tcp(address: SocketAddr) -> Result<TcpStream, UpstreamError> {
    let tcp = TcpStream::connect(address).await;
    let tcp = tcp.map_err(|error| refused(&error))?;
    tune(&tcp);
    Ok(tcp)
}

/// Sets the options of a connection to a server. Best effort: a kernel that lacks one still carries the connection.
pub(crate) fn tune(tcp: &TcpStream) {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE)
        .with_retries(PROBES);
    for set in [
        socket.set_tcp_nodelay(true),
        socket.set_tcp_keepalive(&keepalive),
        socket.set_tcp_notsent_lowat(UNSENT),
    ] {
        if let Err(error) = set {
            tracing::debug!(%error, "a socket option cannot be set");
        }
    }
}

fn unusable_policy(reason: &String) -> UpstreamError {
    UpstreamError::new(
        UpstreamErrorKind::Tls,
        format_args!("the TLS policy cannot be used: {reason}"),
    )
}

fn refused(error: &io::Error) -> UpstreamError {
    let kind = match error.kind() {
        io::ErrorKind::TimedOut => UpstreamErrorKind::ConnectTimeout,
        _ if is_own_shortage(error) => UpstreamErrorKind::Overloaded,
        _ => UpstreamErrorKind::Refused,
    };
    UpstreamError::new(kind, error)
}

/// Whether the proxy itself ran out of something: not a failure of the endpoint.
fn is_own_shortage(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory
    ) || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_takes_little_that_it_cannot_send_to_a_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = TcpStream::connect(listener.local_addr().unwrap());
        let server = server.await.unwrap();
        tune(&server);
        let unsent = SockRef::from(&server).tcp_notsent_lowat();
        assert_eq!(unsent.unwrap(), UNSENT);
    }
}
