//! The connection of a tunnel to its host: made to one of the addresses that were checked, and counted.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use portcullis_routing::ClusterKey;
use tokio::net::TcpStream;

use super::guard::{Checked, Found, Origin};
use crate::{
    reason::Reason,
    state::Snapshot,
    telemetry::ConnectResult,
    tunnel::dial::{DialError, Dialled, dial},
    upstream::{Hold, RawUpstream},
    worker::Worker,
};

/// Time for the connection, all addresses together: that of a cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The other end of a tunnel.
pub(crate) struct Reached {
    pub(crate) stream: TcpStream,
    pub(crate) to: Found,
    /// Of a backend of the cluster.
    pub(crate) hold: Option<Hold>,
}

impl Reached {
    /// One of the addresses that were checked.
    pub(crate) fn outside(dialled: Dialled, checked: &Checked) -> Self {
        Self {
            stream: dialled.stream,
            to: checked.found(dialled.address),
            hold: None,
        }
    }
}

impl From<RawUpstream> for Reached {
    fn from(upstream: RawUpstream) -> Self {
        Self {
            stream: upstream.stream,
            to: Found {
                address: upstream.endpoint,
                origin: Origin::LISTED,
            },
            hold: Some(upstream.hold),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct NotReached {
    /// No endpoint, or that it failed or took too long.
    pub(crate) reason: Reason,
    /// The address that was tried last.
    pub(crate) address: Option<SocketAddr>,
    /// What became of each address.
    pub(crate) error: DialError,
}

/// Connects to `host` at one of its addresses. Whoever closes the connection counts that as well. Cancel-safe.
pub(crate) async fn reach(
    worker: &Worker,
    snapshot: &Snapshot,
    (host, port): (&str, u16),
    addresses: &[SocketAddr],
) -> Result<Dialled, NotReached> {
    let began = Instant::now();
    let failed = |result| {
        let key = ClusterKey::external(host, port);
        let (metrics, took) = (&worker.metrics, began.elapsed());
        metrics.upstream_connect(&snapshot.labels, &key, result, took);
    };
    let error = match dial(addresses, CONNECT_TIMEOUT).await {
        Ok(dialled) => {
            worker.metrics.upstream_connected(dialled.took);
            return Ok(dialled);
        }
        Err(error) => error,
    };
    let last = error.attempts.last();
    let (reason, address) = match last.map(|(address, error)| (address, error.kind())) {
        None => (Reason::NoEndpoint, None),
        Some((address, io::ErrorKind::TimedOut)) => {
            failed(ConnectResult::Timeout);
            (Reason::ConnectTimeout, Some(*address))
        }
        Some((address, _)) => {
            failed(ConnectResult::Refused);
            (Reason::ConnectFailed, Some(*address))
        }
    };
    Err(NotReached {
        reason,
        address,
        error,
    })
}
