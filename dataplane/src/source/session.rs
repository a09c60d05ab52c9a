//! One connection to the controller: frames in, reports out, until something fails.

use std::{convert::Infallible, error::Error as _, io, iter::successors, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_routing::{FrameReader, Report};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    BadFrame, Client,
    identity::{self, IdentityError},
};

/// Time to connect, TLS handshake included.
const CONNECT: Duration = Duration::from_secs(10);

/// Bytes of a stream that may be under way.
const WINDOW: u32 = 1 << 20;

/// Resources that a report names at most, listeners first. More of them are only logged.
const MAX_REJECTIONS: usize = 1000;

/// Bytes of a message in a report.
const MAX_MESSAGE: usize = 512;

/// Bytes that are read of an answer in words.
const MAX_WORDS: usize = 4096;

/// Why a connection ended, or there was none.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot connect to {host}:{port}: {error}")]
    Connect {
        host: String,
        port: u16,
        error: io::Error,
    },
    #[error("the controller speaks no HTTP/2")]
    NoHttp2,
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("the controller answers with {status}: {words}")]
    Refused { status: StatusCode, words: String },
    #[error("the controller has ended the stream")]
    Ended,
    #[error("nothing was heard of the controller for {0:?}")]
    Silent(Duration),
    #[error("a frame was refused, a snapshot is asked for: {0}")]
    BadFrame(#[from] BadFrame),
}

impl SessionError {
    /// Whether this is what a controller that starts or ends looks like. Whatever it says for itself, and what TLS does not like,
    /// is more than that.
    pub(super) fn is_usual(&self) -> bool {
        match self {
            Self::Connect { error, .. } => error.kind() != io::ErrorKind::InvalidData,
            Self::Http(error) => !is_told_by_tls(error),
            Self::Ended => true,
            _ => false,
        }
    }
}

/// Whether TLS has ended a connection. With version 1.3 a client's handshake is over before the server has looked at its
/// certificate, so what the server does not like comes later.
fn is_told_by_tls(error: &hyper::Error) -> bool {
    successors(error.source(), |error| (*error).source()).any(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    })
}

impl Client<'_> {
    /// Connects, and takes frames until something fails.
    pub(super) async fn session(&self) -> Result<Infallible, SessionError> {
        // Ends with the session.
        let mut tasks = JoinSet::new();
        let mut controller = self.connect(&mut tasks).await?;
        let request = self.request(Method::GET, &self.table_path(), Full::default());
        let response = controller.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(refused(response).await);
        }
        tracing::info!(
            host = self.controller.endpoint.host,
            "connected to the controller"
        );
        self.link(|link| link.connected = true);
        let frames = self.frames(response.into_body());
        let reports = self.reports(controller);
        let (never, _) = tokio::try_join!(frames, reports)?;
        match never {}
    }

    async fn connect(
        &self,
        tasks: &mut JoinSet<()>,
    ) -> Result<SendRequest<Full<Bytes>>, SessionError> {
        let endpoint = &self.controller.endpoint;
        let tls = TlsConnector::from(identity::client_config(self.identity())?);
        let connect = async {
            let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
            stream.set_nodelay(true)?;
            tls.connect(endpoint.name.clone(), stream).await
        };
        let connected = timeout(CONNECT, connect)
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()));
        let stream = connected.map_err(|error| SessionError::Connect {
            host: endpoint.host.clone(),
            port: endpoint.port,
            error,
        })?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(SessionError::NoHttp2);
        }
        // The controller may take its time to answer, for it waits until it knows its objects; that it is alive is asked
        // for below HTTP's requests.
        let silence = self.controller.timing.silence;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .keep_alive_interval(silence / 3)
            .keep_alive_timeout(silence)
            .handshake(TokioIo::new(stream))
            .await?;
        tasks.spawn(async move {
            // Whoever waits for an answer learns of the failure too.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the controller broke");
            }
        });
        Ok(sender)
    }

    /// Takes frames.
    async fn frames(&self, mut body: Incoming) -> Result<Infallible, SessionError> {
        let silence = self.controller.timing.silence;
        let mut reader = FrameReader::default();
        loop {
            let part = timeout(silence, body.frame())
                .await
                .map_err(|_| SessionError::Silent(silence))?;
            let part = part.ok_or(SessionError::Ended)??;
            if let Some(data) = part.data_ref() {
                reader.push(data);
            }
            while let Some(frame) = reader.next_frame() {
                self.take(frame.map_err(BadFrame::from)?)?;
            }
        }
    }

    /// Reports what is served, now and whenever it changes.
    async fn reports(
        &self,
        mut controller: SendRequest<Full<Bytes>>,
    ) -> Result<Infallible, SessionError> {
        let mut reports = self.reports.clone();
        reports.mark_changed();
        loop {
            if reports.changed().await.is_err() {
                // The proxy is ending.
                return std::future::pending().await;
            }
            let report = reports.borrow_and_update().clone();
            let Some(body) = report.and_then(encode) else {
                continue;
            };
            let path = format!("/v1/gateways/{}/reports", self.controller.gateway);
            let request = self.request(Method::POST, &path, body.into());
            let response = controller.send_request(request).await?;
            if !response.status().is_success() {
                let error = refused(response).await;
                tracing::warn!(%error, "a report was not taken");
            }
        }
    }

    fn table_path(&self) -> String {
        let mut path = format!("/v1/gateways/{}/table?watch=true", self.controller.gateway);
        if let Some(table) = &*self.tables.borrow()
            && !self.wants_snapshot.get()
        {
            path.push_str("&have=");
            path.push_str(&table.version.0);
        }
        path
    }

    fn request(&self, method: Method, path: &str, body: Full<Bytes>) -> Request<Full<Bytes>> {
        let endpoint = &self.controller.endpoint;
        let host = endpoint.name.to_str();
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.into_owned()
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        // Names of Kubernetes objects and versions need no percent-encoding. Anything else is answered with 404.
        *request.uri_mut() = format!("https://{host}:{}{path}", endpoint.port)
            .parse()
            .unwrap_or_default();
        request
    }
}

/// A report within the limits of a controller.
fn encode(mut report: Report) -> Option<Bytes> {
    report.rejected.truncate(MAX_REJECTIONS);
    for rejection in &mut report.rejected {
        let end = rejection.message.floor_char_boundary(MAX_MESSAGE);
        rejection.message.truncate(end);
    }
    serde_json::to_vec(&report).ok().map(Bytes::from)
}

async fn refused(response: Response<Incoming>) -> SessionError {
    let status = response.status();
    let words = Limited::new(response.into_body(), MAX_WORDS)
        .collect()
        .await;
    let words = words.map_or_else(
        |error| error.to_string(),
        |words| String::from_utf8_lossy(&words.to_bytes()).trim().to_owned(),
    );
    SessionError::Refused { status, words }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    };
    use tokio::{net::TcpListener, sync::watch};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{
        source::{Controller, Timing},
        state::fixtures,
        telemetry::{Metrics, MetricsOptions},
    };

    /// A certificate for `localhost`, and its key.
    fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    /// What a controller shows itself with, which trusts nobody but the owner of `trusted`.
    fn acceptor(
        own: &rcgen::CertifiedKey<rcgen::KeyPair>,
        trusted: &rcgen::CertifiedKey<rcgen::KeyPair>,
    ) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(trusted.cert.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let key = own.signing_key.serialize_pem();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![own.cert.der().clone()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config).into()
    }

    #[tokio::test]
    async fn a_controller_that_does_not_trust_the_proxy_is_not_usual() {
        let (controller, proxy) = (certificate(), certificate());
        let identity = tempfile::tempdir().unwrap();
        for (file, content) in [
            ("tls.crt", proxy.cert.pem()),
            ("tls.key", proxy.signing_key.serialize_pem()),
            ("ca.crt", controller.cert.pem()),
        ] {
            fs::write(identity.path().join(file), content).unwrap();
        }
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = acceptor(&controller, &certificate());
        let refuse = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                assert!(acceptor.accept(stream).await.is_err());
            }
        };
        let controller = Controller {
            endpoint: format!("https://localhost:{port}").parse().unwrap(),
            gateway: fixtures::gateway(),
            identity: identity.path().to_owned(),
            cache: None,
            timing: Timing::default(),
        };
        let (tables, _) = watch::channel(None);
        let (_reported, reports) = watch::channel(None);
        let metrics = Metrics::new(MetricsOptions::default());
        let client = Client::new(&controller, &tables, reports, &metrics);
        let try_on = async {
            // The reason is lost if the connection is gone before the proxy has read it.
            loop {
                let Err(error) = client.session().await;
                if matches!(error, SessionError::Http(_)) && !error.is_usual() {
                    return;
                }
            }
        };
        let tried = async {
            tokio::select! {
                () = try_on => {}
                () = refuse => {}
            }
        };
        timeout(Duration::from_secs(30), tried).await.unwrap();
    }

    #[test]
    fn a_controller_that_is_not_there_yet_is_usual_and_one_that_is_not_trusted_is_not() {
        let connect = |kind: io::ErrorKind| SessionError::Connect {
            host: "controller".into(),
            port: 9443,
            error: kind.into(),
        };
        for usual in [
            connect(io::ErrorKind::ConnectionRefused),
            connect(io::ErrorKind::UnexpectedEof),
            SessionError::Ended,
        ] {
            assert!(usual.is_usual(), "{usual}");
        }
        for odd in [
            connect(io::ErrorKind::InvalidData),
            SessionError::NoHttp2,
            SessionError::Silent(Duration::from_secs(30)),
            SessionError::Refused {
                status: StatusCode::FORBIDDEN,
                words: "another Gateway's".into(),
            },
        ] {
            assert!(!odd.is_usual(), "{odd}");
        }
    }
}
