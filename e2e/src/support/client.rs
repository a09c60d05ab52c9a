//! An HTTP client that knows which connection it uses: one connection each, no pool, no retry.

use std::{convert::Infallible, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::{
    Request, Response, Uri,
    body::Incoming,
    client::conn::{http1, http2},
    header::HOST,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// A request body that cannot fail.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Anything bytes go through.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The HTTP version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    /// By ALPN with TLS, by prior knowledge without.
    Http2,
}

/// Where and how to connect.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// `Host` or `:authority`, and the name asked for by SNI.
    pub(crate) host: String,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) version: Version,
}

/// One connection.
pub(crate) struct Client {
    sender: Sender,
    scheme: &'static str,
    host: String,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// How long a connect or a short exchange may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

impl Target {
    /// An HTTP/1.1 target in clear text.
    pub(crate) fn clear(address: SocketAddr, host: &str) -> Self {
        Self {
            address,
            host: host.to_owned(),
            tls: None,
            version: Version::Http1,
        }
    }

    /// Connects, with TLS if asked for.
    pub(crate) async fn open(&self) -> Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(self.host.clone())?;
        Ok(Box::new(
            TlsConnector::from(Arc::clone(config))
                .connect(name, stream)
                .await?,
        ))
    }
}

impl Client {
    /// Connects; the connection is driven by a task of its own until this client is dropped.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let stream = timeout(PATIENCE, target.open())
            .await
            .context("connecting took too long")??;
        let io = TokioIo::new(stream);
        let sender = match target.version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        let scheme = if target.tls.is_some() {
            "https"
        } else {
            "http"
        };
        Ok(Self {
            sender,
            scheme,
            host: target.host.clone(),
        })
    }

    /// A request to `path` of this client's host.
    pub(crate) fn request(&self, method: &str, path: &str, body: Body) -> Result<Request<Body>> {
        let request = Request::builder().method(method);
        Ok(match self.sender {
            Sender::Http1(_) => request.uri(path).header(HOST, &self.host),
            Sender::Http2(_) => request.uri(
                Uri::builder()
                    .scheme(self.scheme)
                    .authority(self.host.as_str())
                    .path_and_query(path)
                    .build()?,
            ),
        }
        .body(body)?)
    }

    /// Sends a request and returns as soon as the head of the answer is there.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>> {
        Ok(match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }

    /// GETs `path` and reads the whole answer.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Response<Bytes>> {
        let request = self.request("GET", path, Empty::new().boxed())?;
        let exchange = async {
            let (head, body) = self.send(request).await?.into_parts();
            anyhow::Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        timeout(PATIENCE, exchange)
            .await
            .context("the answer took too long")?
    }

    /// Whether the connection can take no further request.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Whether a request was certainly not processed and may be sent again, as every client does: it was never sent, or the server
/// has said so (RFC 9113, 8.7).
pub(crate) fn is_unprocessed(error: &anyhow::Error) -> bool {
    let Some(error) = error.downcast_ref::<hyper::Error>() else {
        return false;
    };
    let by_server = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            error.is_remote() && (error.is_go_away() || refused)
        });
    error.is_canceled() || error.is_closed() || by_server
}

/// Checks that an answer is the right one: 200, as many bytes as expected, and the header a filter adds.
pub(crate) fn expect_answer(
    answer: &Response<Bytes>,
    length: usize,
    header: (&str, &str),
) -> Result<()> {
    ensure!(answer.status() == 200, "status {}", answer.status());
    ensure!(
        answer.body().len() == length,
        "{} bytes instead of {length}",
        answer.body().len()
    );
    let value = answer
        .headers()
        .get(header.0)
        .and_then(|value| value.to_str().ok());
    ensure!(
        value == Some(header.1),
        "header {}: {value:?} instead of {:?}",
        header.0,
        header.1
    );
    Ok(())
}
