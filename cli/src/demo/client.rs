//! The self-test's HTTP client: one kept connection, clear text or TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
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
    /// What stands before each path: nothing, or for a proxy that is named as such the scheme and host.
    base: String,
}

/// What a proxy makes of CONNECT.
pub(crate) enum Tunnel {
    /// It stands.
    Open(Client),
    /// It does not, and this says why.
    Refused(Response<Bytes>),
}

impl Client {
    /// Connects in clear text.
    pub(crate) async fn http(address: SocketAddr) -> anyhow::Result<Self> {
        let host = format!("localhost:{}", address.port());
        Self::over(tcp(address).await?, host, String::new()).await
    }

    /// Connects to a proxy that is asked for `http://{host}` in absolute form.
    pub(crate) async fn proxied(address: SocketAddr, host: &str) -> anyhow::Result<Self> {
        let base = format!("http://{host}");
        Self::over(tcp(address).await?, host.to_owned(), base).await
    }

    /// Asks a proxy for a tunnel to port 80 of `host`.
    pub(crate) async fn tunnel(address: SocketAddr, host: &str) -> anyhow::Result<Tunnel> {
        let mut proxy = Self::over(tcp(address).await?, String::new(), String::new()).await?;
        let place = format!("{host}:80");
        let request = Request::connect(&place).header(HOST, &place);
        let answer = in_time(proxy.send(request.body(Empty::new())?)).await?;
        if !answer.status().is_success() {
            return Ok(Tunnel::Refused(in_time(whole(answer)).await?));
        }
        let tunnel = TokioIo::new(hyper::upgrade::on(answer).await?);
        let client = Self::over(tunnel, host.to_owned(), String::new()).await?;
        Ok(Tunnel::Open(client))
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
        let host = format!("localhost:{}", address.port());
        Self::over(stream, host, String::new()).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: String,
        base: String,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Errors of the connection surface at the request that meets them.
        tokio::spawn(async move { connection.with_upgrades().await.ok() });
        Ok(Self { sender, host, base })
    }

    /// GETs `path` with extra headers and returns the answer with its whole body.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Response<Bytes>> {
        let mut request = Request::get(format!("{}{path}", self.base)).header(HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new())?;
        in_time(async { whole(self.send(request).await?).await }).await
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

/// An answer with its whole body.
async fn whole(answer: Response<Incoming>) -> anyhow::Result<Response<Bytes>> {
    let (head, body) = answer.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

async fn in_time<T>(exchange: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .with_context(|| format!("no answer in {PATIENCE:?}"))?
}

async fn tcp(address: SocketAddr) -> anyhow::Result<TcpStream> {
    TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))
}
