//! What the data planes of this replica serve, told to the replica that leads: it writes what the statuses say of them.
//!
//! One connection to the leader, and on it the whole of what is to be told, whenever that changes. What changes while a
//! request is under way is one more request. The leader forgets everything when the connection ends, and hears it again
//! on the next one, so neither side keeps count of anything.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_routing::{GatewayKey, Rejection, Report, ResourceKind};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Shared,
    data_planes::{DataPlanes, Fleet},
    limits::{HANDSHAKE_TIMEOUT, MAX_RELAY},
};
use crate::{resources::ObjectKey, watch::Backoff};

/// Where the data planes of a replica are told.
pub(super) const PATH: &str = "/v1/data-planes";

/// What changes within this time of the first change is told together.
const COALESCE: Duration = Duration::from_millis(10);

/// Bytes that are read of an answer in words.
const MAX_WORDS: usize = 4096;

/// Bytes of a message that is passed on.
const MAX_MESSAGE: usize = 512;

/// One line: a table that data planes of a Gateway serve, and what any of them does not serve of it.
#[derive(Serialize, Deserialize)]
struct Line {
    gateway: GatewayKey,
    #[serde(flatten)]
    report: Report,
}

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("this replica has no certificate yet")]
    NoCertificate,
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("it has ended the connection")]
    Ended,
    #[error("it answers with {status}: {words}")]
    Refused { status: StatusCode, words: String },
}

impl RelayError {
    /// Whether this is what a leader that has just begun, or ends, looks like. That TLS does not like it, or that it does not like
    /// what it is asked, is more than that.
    fn is_usual(&self) -> bool {
        match self {
            Self::Connect(error) => error.kind() != io::ErrorKind::InvalidData,
            Self::Refused { status, .. } => !status.is_client_error(),
            Self::NoCertificate | Self::Http(_) | Self::Ended => true,
        }
    }
}

/// Tells whoever leads, until nobody says any more who that is. `leader` is where the one that leads is, if it is another
/// replica than this one.
pub(super) async fn run(shared: Arc<Shared>, mut leader: watch::Receiver<Option<SocketAddr>>) {
    let mut backoff = Backoff::default();
    loop {
        let address = *leader.borrow_and_update();
        let telling = async {
            let Some(address) = address else {
                return std::future::pending().await;
            };
            loop {
                let Err(error) = tell(&shared, address, &mut backoff).await;
                let wait = backoff.wait();
                // A leader that has ended is followed by another one, and one that has just begun needs a moment.
                if backoff.is_lasting() || !error.is_usual() {
                    tracing::warn!(%address, %error, ?wait, "cannot tell the leader of the data planes that are connected here; trying again");
                } else {
                    tracing::info!(%address, %error, ?wait, "not connected to the leader; trying again");
                }
                sleep(wait).await;
            }
        };
        tokio::select! {
            changed = leader.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            never = telling => match never {},
        }
        backoff.reset();
    }
}

/// Tells the leader over one connection.
async fn tell(
    shared: &Shared,
    leader: SocketAddr,
    backoff: &mut Backoff,
) -> Result<Infallible, RelayError> {
    let (connector, name) = shared.tls.connector().ok_or(RelayError::NoCertificate)?;
    let connect = async {
        let stream = TcpStream::connect(leader).await?;
        stream.set_nodelay(true)?;
        connector.connect(name.clone(), stream).await
    };
    let connected = timeout(HANDSHAKE_TIMEOUT, connect).await;
    let stream = connected.unwrap_or_else(|elapsed| Err(elapsed.into()))?;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(shared.limits.heartbeat)
        .keep_alive_timeout(shared.limits.silence())
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await?;
    let authority = format!("{}:{}", name.to_str(), leader.port());
    let mut fleet = shared.roster.watch();
    let telling = async {
        let mut told = None;
        loop {
            let body = encode(&fleet.borrow_and_update().clone());
            if told.as_ref() != Some(&body) {
                put(&mut sender, &authority, body.clone()).await?;
                backoff.reset();
                told = Some(body);
            }
            if fleet.changed().await.is_err() {
                return Err(RelayError::Ended);
            }
            sleep(COALESCE).await;
        }
    };
    tokio::select! {
        ended = connection => Err(ended.map_or_else(RelayError::from, |()| RelayError::Ended)),
        failed = telling => failed,
    }
}

async fn put(
    sender: &mut SendRequest<Full<Bytes>>,
    authority: &str,
    body: Bytes,
) -> Result<(), RelayError> {
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = Method::PUT;
    // The name is one of DNS.
    *request.uri_mut() = format!("https://{authority}{PATH}")
        .parse()
        .unwrap_or_default();
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let words = Limited::new(answer.into_body(), MAX_WORDS).collect().await;
    let words = words.map_or_else(
        |error| error.to_string(),
        |words| String::from_utf8_lossy(&words.to_bytes()).trim().to_owned(),
    );
    Err(RelayError::Refused { status, words })
}

/// What the data planes that are connected here serve: for each Gateway and table one line. So many proxies of one Gateway
/// are as much to tell as one.
fn encode(fleet: &Fleet) -> Bytes {
    let mut body = Vec::new();
    for (key, of) in &fleet.0 {
        for report in reports(of) {
            let line = Line {
                gateway: GatewayKey::of(&key.namespace, &key.name),
                report,
            };
            let Ok(line) = serde_json::to_vec(&line) else {
                continue;
            };
            if body.len() + line.len() >= MAX_RELAY {
                tracing::error!(gateway = %key, limit = MAX_RELAY, "there is too much to tell the leader; this Gateway's status will not follow its data planes here");
                continue;
            }
            body.extend(line);
            body.push(b'\n');
        }
    }
    body.into()
}

/// What is said here of a Gateway's tables, one report for each.
fn reports(data_planes: &DataPlanes) -> Vec<Report> {
    let mut reports = BTreeMap::new();
    for data_plane in data_planes.connected.values() {
        let Some((version, rejected)) = data_plane.word.last() else {
            continue;
        };
        let rejections: &mut BTreeMap<_, _> = reports.entry(version).or_default();
        for (kind, key, message) in rejected {
            if let Entry::Vacant(entry) = rejections.entry((kind, key)) {
                entry.insert(&message[..message.floor_char_boundary(MAX_MESSAGE)]);
            }
        }
    }
    let report = |(version, rejected): (_, BTreeMap<(ResourceKind, &str), &str>)| Report {
        version: Clone::clone(version),
        rejected: rejected
            .into_iter()
            .map(|((kind, key), message)| Rejection {
                kind,
                key: key.to_owned(),
                message: message.to_owned(),
            })
            .collect(),
    };
    reports.into_iter().map(report).collect()
}

/// Reads what another replica tells; in words what is wrong with it.
pub(super) fn decode(body: &[u8]) -> Result<BTreeMap<ObjectKey, Vec<Report>>, String> {
    let mut reports = BTreeMap::<_, Vec<_>>::new();
    for line in body.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        let Line { gateway, report } =
            serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let (namespace, name) = gateway
            .as_str()
            .split_once('/')
            .ok_or_else(|| format!("\"{gateway}\" is no Gateway"))?;
        reports
            .entry(ObjectKey::new(namespace, name))
            .or_default()
            .push(report);
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_is_not_there_yet_is_usual_and_one_that_is_not_trusted_or_refuses_is_not() {
        let connect = |kind: io::ErrorKind| RelayError::Connect(kind.into());
        let refused = |status| RelayError::Refused {
            status,
            words: String::new(),
        };
        for usual in [
            connect(io::ErrorKind::ConnectionRefused),
            connect(io::ErrorKind::UnexpectedEof),
            refused(StatusCode::SERVICE_UNAVAILABLE),
            RelayError::NoCertificate,
            RelayError::Ended,
        ] {
            assert!(usual.is_usual(), "{usual}");
        }
        for odd in [
            connect(io::ErrorKind::InvalidData),
            refused(StatusCode::FORBIDDEN),
        ] {
            assert!(!odd.is_usual(), "{odd}");
        }
    }
}
