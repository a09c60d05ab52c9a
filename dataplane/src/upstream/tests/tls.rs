//! TLS towards backends: names are verified, sessions are resumed, ALPN decides the version.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use portcullis_routing::{Cluster, ClusterProtocol, ClusterTls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{HandshakeKind, ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::upstream::{
    OpenRequest, Progress, UpstreamErrorKind,
    testing::{
        backend::OK,
        world::{World, exchange},
    },
};

/// Kind and server name of each handshake.
type Handshakes = Rc<RefCell<Vec<(HandshakeKind, Option<String>)>>>;

/// A TLS backend for one name; answers one request per connection, in HTTP/1.1, unless ALPN chose HTTP/2.
struct TlsBackend {
    address: SocketAddr,
    ca_pem: String,
    handshakes: Handshakes,
}

async fn backend(name: &str, alpn: &[&[u8]]) -> TlsBackend {
    let ca_key = KeyPair::generate().expect("key");
    let mut ca = CertificateParams::new([]).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("CA").pem();
    let key = KeyPair::generate().expect("key");
    let leaf = CertificateParams::new([name.to_owned()]).expect("parameters");
    let leaf = leaf
        .signed_by(&key, &Issuer::new(ca, ca_key))
        .expect("certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("configuration");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let handshakes = Rc::new(RefCell::new(Vec::new()));
    tokio::task::spawn_local(serve(
        listener,
        TlsAcceptor::from(Arc::new(config)),
        Rc::clone(&handshakes),
    ));
    TlsBackend {
        address,
        ca_pem,
        handshakes,
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, handshakes: Handshakes) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let (_, session) = stream.get_ref();
        let kind = session.handshake_kind().expect("handshake");
        handshakes
            .borrow_mut()
            .push((kind, session.server_name().map(str::to_owned)));
        if session.alpn_protocol() == Some(b"h2") {
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(stream).await.expect("handshake");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let mut send = respond
                        .send_response(http::Response::new(()), false)
                        .expect("head");
                    send.send_data(bytes::Bytes::from_static(b"ok"), true)
                        .expect("body");
                }
            });
            continue;
        }
        let mut request = [0; 4096];
        // The first record holds the whole request.
        if stream
            .read(&mut request)
            .await
            .is_ok_and(|length| length > 0)
        {
            stream.write_all(OK.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("closed");
        }
    }
}

fn world(backend: &TlsBackend, name: &str, protocol: ClusterProtocol) -> World {
    let tls = ClusterTls {
        server_name: name.to_owned(),
        ca_pem: vec![backend.ca_pem.clone()],
    };
    let cluster = Cluster {
        protocol,
        tls: Some(tls),
        ..Cluster::default()
    };
    World::with(cluster, &[backend.address])
}

#[tokio::test(flavor = "local")]
async fn the_name_is_sent_verified_and_the_session_resumed() {
    let backend = backend("up.internal", &[]).await;
    let world = world(&backend, "up.internal", ClusterProtocol::Http1);
    world.get().await;
    world.get().await;
    let handshakes = backend.handshakes.borrow();
    assert_eq!(
        handshakes[0],
        (HandshakeKind::Full, Some("up.internal".to_owned()))
    );
    assert_eq!(handshakes[1].0, HandshakeKind::Resumed);
}

#[tokio::test(flavor = "local")]
async fn a_certificate_for_another_name_is_refused() {
    let backend = backend("up.internal", &[]).await;
    let error = world(&backend, "other.internal", ClusterProtocol::Http1)
        .open()
        .await
        .err()
        .expect("refused");
    assert_eq!(
        (error.kind, error.progress),
        (UpstreamErrorKind::Tls, Progress::NothingSent)
    );
    assert!(backend.handshakes.borrow().is_empty());
}

#[tokio::test(flavor = "local")]
async fn a_certificate_of_another_ca_is_refused() {
    let (good, evil) = (
        backend("up.internal", &[]).await,
        backend("up.internal", &[]).await,
    );
    let mut world = world(&good, "up.internal", ClusterProtocol::Http1);
    world.get().await;
    let tls = ClusterTls {
        server_name: "up.internal".to_owned(),
        ca_pem: vec![evil.ca_pem],
    };
    world.cluster.tls = Some(tls);
    world.set_endpoints(vec![super::super::testing::world::ready(good.address)]);
    let error = world
        .open()
        .await
        .err()
        .expect("no connection of the old policy is used under the new one");
    assert_eq!(error.kind, UpstreamErrorKind::Tls);
}

#[tokio::test(flavor = "local")]
async fn a_policy_that_cannot_be_used_is_told() {
    let backend = backend("up.internal", &[]).await;
    let mut world = world(&backend, "up.internal", ClusterProtocol::Http1);
    world.cluster.tls = Some(ClusterTls {
        server_name: "up.internal".to_owned(),
        ca_pem: vec!["no PEM".to_owned()],
    });
    world.set_endpoints(vec![super::super::testing::world::ready(backend.address)]);
    let error = world.open().await.err().expect("unusable");
    assert_eq!(error.kind, UpstreamErrorKind::Tls);
}

#[tokio::test(flavor = "local")]
async fn alpn_decides_between_http2_and_http1() {
    let both = backend("up.internal", &[b"h2", b"http/1.1"]).await;
    let world_of_both = world(&both, "up.internal", ClusterProtocol::Http2);
    for _ in 0..3 {
        let mut upstream = world_of_both.open().await.expect("a session");
        assert!(upstream.is_http2());
        exchange(&mut upstream).await.expect("an answer");
        upstream.finish();
    }
    assert_eq!(both.handshakes.borrow().len(), 1);
    let websocket = OpenRequest {
        websocket: true,
        ..OpenRequest::default()
    };
    let upstream = world_of_both
        .upstreams
        .open(&world_of_both.key, websocket)
        .await
        .expect("a session");
    assert!(!upstream.is_http2());

    let old = backend("up.internal", &[b"http/1.1"]).await;
    let world_of_old = world(&old, "up.internal", ClusterProtocol::Http2);
    world_of_old.get().await;
    assert!(!world_of_old.open().await.expect("a session").is_http2());
}
