//! The self-test's HTTP client: one kept connection, clear text or TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Far more than any answer of the demo takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the demo's gateway.
pub(crate) struct Client {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Client {
    /// Connects in clear text.
    pub(crate) async fn http(address: SocketAddr) -> anyhow::Result<Self> {
        Self::over(tcp(address).await?, address.port()).await
    }

    /// Connects with TLS as `localhost` and accepts nothing but `certificate`.
    pub(crate) async fn https(
        address: SocketAddr,
        certificate: rustls::pki_types::CertificateDer<'static>,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp(address).await?)
            .await
            .context("TLS handshake failed")?;
        Self::over(stream, address.port()).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        port: u16,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Errors of the connection surface at the request that meets them.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self {
            sender,
            host: format!("localhost:{port}"),
        })
    }

    /// GETs `path` with extra headers and returns the answer with its whole body.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Response<Bytes>> {
        let mut request = Request::get(path).header(HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new())?;
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            anyhow::Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("no answer in {PATIENCE:?}"))?
    }
}

async fn tcp(address: SocketAddr) -> anyhow::Result<TcpStream> {
    TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))
}
