//! A client of the protocol that does what a test tells it.

use std::{io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_controller::ca::Identity;
use portcullis_routing::{Frame, FrameReader, RoutingTable};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;

use crate::world::{NAME, PATIENCE};

/// A client of the protocol that reads only when it is told to.
pub(crate) struct Client {
    sender: http2::SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

/// A stream of frames.
pub(crate) struct Frames {
    body: Incoming,
    reader: FrameReader,
}

impl Client {
    /// A client over a connection that is there.
    pub(crate) async fn over(stream: TcpStream, identity: &Identity) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(identity.authorities.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(NAME).unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(1 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = tokio::spawn(async move { _ = connection.await });
        Ok(Self { sender, connection })
    }

    /// Whether the controller has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> hyper::Result<hyper::Response<Incoming>> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("https://{NAME}{path}").parse().unwrap();
        self.sender.send_request(request).await
    }

    /// Status and words of one answer; an error if the connection is closed instead.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> hyper::Result<(StatusCode, String)> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8(body.to_vec()).unwrap()))
    }

    /// The stream of the Gateway's table.
    pub(crate) async fn watch(&mut self, have: Option<&RoutingTable>) -> Frames {
        let have = have.map_or(String::new(), |table| format!("&have={}", table.version));
        let path = format!("/v1/gateways/infra/edge/table?watch=true{have}");
        let response = self.send(Method::GET, &path, vec![]).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Frames {
            body: response.into_body(),
            reader: FrameReader::default(),
        }
    }
}

impl Frames {
    /// Takes a first part of what comes and no more; whether there is any.
    pub(crate) async fn begin(&mut self) -> bool {
        let Some(Ok(part)) = self.body.frame().await else {
            return false;
        };
        self.reader.push(part.data_ref().unwrap());
        true
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            loop {
                if let Some(frame) = self.reader.next_frame() {
                    return Some(frame.unwrap());
                }
                let part = self.body.frame().await?.ok()?;
                self.reader.push(part.data_ref()?);
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("a frame comes")
    }

    /// The next frame that is no heartbeat.
    pub(crate) async fn news(&mut self) -> Frame {
        loop {
            match self.next().await.expect("the stream goes on") {
                Frame::Heartbeat { .. } => {}
                frame => return frame,
            }
        }
    }
}
