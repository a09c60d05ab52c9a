//! TLS towards backends: names are verified, sessions are resumed, ALPN decides the version.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use portcullis_routing::{
    Certificate, CertificateKey, Cluster, ClusterProtocol, ClusterTls, Secret, SubjectAltName,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::upstream::{
    OpenRequest, Progress, UpstreamErrorKind,
    testing::{
        backend::OK,
        nobody::nobody,
        world::{World, exchange, ready},
    },
};

/// What was seen of each handshake.
type Handshakes = Rc<RefCell<Vec<Handshake>>>;

#[derive(Debug)]
struct Handshake {
    kind: HandshakeKind,
    server_name: Option<String>,
    /// The leaf that the proxy showed.
    client: Option<CertificateDer<'static>>,
}

/// A CA and what it signs.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut ca = CertificateParams::new([]).expect("parameters");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).expect("CA").pem();
        Self(Issuer::new(ca, key), pem)
    }

    /// A certificate with these names, and its key.
    fn sign(&self, names: Vec<SanType>) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("key");
        let mut leaf = CertificateParams::new([]).expect("parameters");
        leaf.subject_alt_names = names;
        let leaf = leaf.signed_by(&key, &self.0).expect("certificate");
        (leaf, key)
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a name"))
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().expect("a URI"))
}

/// A TLS backend; answers one request per connection, in HTTP/1.1, unless ALPN chose HTTP/2.
struct TlsBackend {
    address: SocketAddr,
    ca_pem: String,
    handshakes: Handshakes,
}

/// A backend with a CA of its own and a certificate for `name`.
async fn backend(name: &str, alpn: &[&[u8]]) -> TlsBackend {
    start(&Authority::new(), vec![dns(name)], alpn, None).await
}

/// A backend with a certificate of `authority`. It asks for one of `clients` if there are any.
async fn start(
    authority: &Authority,
    names: Vec<SanType>,
    alpn: &[&[u8]],
    clients: Option<&Authority>,
) -> TlsBackend {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    start_on(listener, authority, names, alpn, clients)
}

/// The same, on a socket of the caller's.
fn start_on(
    listener: TcpListener,
    authority: &Authority,
    names: Vec<SanType>,
    alpn: &[&[u8]],
    clients: Option<&Authority>,
) -> TlsBackend {
    let (leaf, key) = authority.sign(names);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = clients.map(|clients| {
        let mut roots = RootCertStore::empty();
        let pem = CertificateDer::from_pem_slice(clients.1.as_bytes()).expect("PEM");
        roots.add(pem).expect("a CA");
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .expect("a verifier")
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("configuration");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();

    let address = listener.local_addr().expect("address");
    let handshakes = Rc::new(RefCell::new(Vec::new()));
    tokio::task::spawn_local(serve(
        listener,
        TlsAcceptor::from(Arc::new(config)),
        Rc::clone(&handshakes),
    ));
    TlsBackend {
        address,
        ca_pem: authority.1.clone(),
        handshakes,
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, handshakes: Handshakes) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let (_, session) = stream.get_ref();
        let client = session.peer_certificates().and_then(|chain| chain.first());
        handshakes.borrow_mut().push(Handshake {
            kind: session.handshake_kind().expect("handshake"),
            server_name: session.server_name().map(str::to_owned),
            client: client.map(|leaf| leaf.clone().into_owned()),
        });
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
        ..ClusterTls::default()
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
    assert_eq!(handshakes[0].kind, HandshakeKind::Full);
    assert_eq!(handshakes[0].server_name.as_deref(), Some("up.internal"));
    assert_eq!(handshakes[1].kind, HandshakeKind::Resumed);
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
        ..ClusterTls::default()
    };
    world.cluster.tls = Some(tls);
    world.set_endpoints(vec![ready(good.address)]);
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
        ..ClusterTls::default()
    });
    world.set_endpoints(vec![ready(backend.address)]);
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

/// Changes the policy of the only cluster, as a new table does.
fn change(world: &mut World, backend: &TlsBackend, change: impl FnOnce(&mut ClusterTls)) {
    change(world.cluster.tls.as_mut().expect("a policy"));
    world.set_endpoints(vec![ready(backend.address)]);
}

#[tokio::test(flavor = "local")]
async fn other_names_stand_in_for_the_server_name() {
    use SubjectAltName::{Hostname, Uri};
    let id = "spiffe://example/ns/a/sa/b";
    let names = || vec![dns("up.internal"), dns("*.wild.internal"), uri(id)];
    let authority = Authority::new();
    for (wanted, is_accepted) in [
        (vec![Hostname("up.internal".into())], true),
        (vec![Hostname("UP.internal".into())], true),
        (vec![Hostname("other.internal".into())], false),
        (vec![Hostname("sni.internal".into())], false),
        (vec![Hostname("a.wild.internal".into())], true),
        (vec![Hostname("a.b.wild.internal".into())], false),
        (vec![Hostname("*.internal".into())], true),
        (vec![Hostname("*.wild.internal".into())], true),
        (vec![Hostname("*.b.wild.internal".into())], false),
        (vec![Hostname("*.nal".into())], false),
        (vec![Uri(id.into())], true),
        (vec![Uri("spiffe://example/ns/a/sa/c".into())], false),
        (vec![Uri("spiffe://example/ns/a".into())], false),
        (vec![Uri("up.internal".into())], false),
        (
            vec![Uri("spiffe://other".into()), Hostname("up.internal".into())],
            true,
        ),
        (
            vec![Uri("spiffe://other".into()), Hostname("x.internal".into())],
            false,
        ),
    ] {
        let backend = start(&authority, names(), &[], None).await;
        let mut world = world(&backend, "sni.internal", ClusterProtocol::Http1);
        let told = format!("{wanted:?}");
        change(&mut world, &backend, |tls| tls.subject_alt_names = wanted);
        if is_accepted {
            world.get().await;
            let handshakes = backend.handshakes.borrow();
            let server_name = handshakes[0].server_name.as_deref();
            assert_eq!(server_name, Some("sni.internal"), "{told}");
        } else {
            let error = world.open().await.err().expect(&told);
            assert_eq!(error.kind, UpstreamErrorKind::Tls, "{told}");
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_name_is_worth_nothing_under_another_ca() {
    let backend = backend("up.internal", &[]).await;
    let mut world = world(&backend, "up.internal", ClusterProtocol::Http1);
    change(&mut world, &backend, |tls| {
        tls.subject_alt_names = vec![SubjectAltName::Hostname("up.internal".into())];
        tls.ca_pem = vec![Authority::new().1];
    });
    let error = world.open().await.err().expect("refused");
    assert_eq!(error.kind, UpstreamErrorKind::Tls);
    assert_eq!(world.metric("portcullis_upstream_connects_total", "tls"), 1);
}

#[tokio::test(flavor = "local")]
async fn a_rotated_ca_is_taken_over_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let before = start(&old, vec![dns("up.internal")], &[b"h2"], None).await;
    let mut world = world(&before, "up.internal", ClusterProtocol::Http2);
    let mut running = world.open().await.expect("a session");

    let after = start(&new, vec![dns("up.internal")], &[b"h2"], None).await;
    change(&mut world, &after, |tls| tls.ca_pem = vec![new.1.clone()]);
    world.get().await;
    assert_eq!(after.handshakes.borrow().len(), 1);
    // What was under way goes on.
    exchange(&mut running).await.expect("an answer");
    // Both at once, while certificates are being replaced.
    change(&mut world, &before, |tls| tls.ca_pem.push(old.1.clone()));
    world.get().await;
    assert_eq!(before.handshakes.borrow().len(), 2);
}

/// Puts a new certificate of `clients` under `key`, for the next table.
fn renew(world: &mut World, key: &CertificateKey, clients: &Authority) -> rcgen::Certificate {
    let (leaf, leaf_key) = clients.sign(vec![uri("spiffe://example/gateway")]);
    let certificate = Certificate {
        chain_pem: leaf.pem(),
        key_pem: Secret::new(leaf_key.serialize_pem()),
    };
    let certificates = &mut world.certificates;
    certificates.insert(key.clone(), Arc::new(certificate));
    leaf
}

#[tokio::test(flavor = "local")]
async fn a_client_certificate_is_shown_and_replaced() {
    let (servers, clients) = (Authority::new(), Authority::new());
    for protocol in [ClusterProtocol::Http1, ClusterProtocol::Http2] {
        let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
        let backend = start(&servers, vec![dns("up.internal")], alpn, Some(&clients)).await;
        let mut world = world(&backend, "up.internal", protocol);
        let key = CertificateKey::secret("ns", "client");
        change(&mut world, &backend, |tls| {
            tls.client_certificate = Some(key.clone());
        });
        // Named, but not there: the backend refuses, in TLS 1.3 after the handshake.
        let error = match world.open().await {
            Err(error) => error,
            Ok(mut upstream) => exchange(&mut upstream).await.expect_err("refused"),
        };
        assert_eq!(error.kind, UpstreamErrorKind::Tls, "{error}");

        for _ in 0..2 {
            let leaf = renew(&mut world, &key, &clients);
            change(&mut world, &backend, |_| {});
            world.get().await;
            let shown = backend
                .handshakes
                .borrow()
                .last()
                .expect("one")
                .client
                .clone();
            assert_eq!(shown.as_ref(), Some(leaf.der()));
        }
    }
}

#[tokio::test(flavor = "local")]
async fn an_ejected_endpoint_is_not_forgotten_when_the_client_certificate_is_renewed() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let good = start(&servers, vec![dns("up.internal")], &[], Some(&clients)).await;
    let (socket, bad) = nobody();
    let mut world = world(&good, "up.internal", ClusterProtocol::Http1);
    let key = CertificateKey::secret("ns", "client");
    let tls = world.cluster.tls.as_mut().expect("a policy");
    tls.client_certificate = Some(key.clone());
    renew(&mut world, &key, &clients);
    let endpoints = vec![ready(good.address), ready(bad)];
    world.set_endpoints(endpoints.clone());
    let ejections = |world: &World| world.metric("portcullis_upstream_ejections_total", "");
    while ejections(&world) == 0 {
        world.get().await;
    }

    renew(&mut world, &key, &clients);
    world.set_endpoints(endpoints.clone());
    for _ in 0..20 {
        assert_eq!(world.get().await, good.address);
    }
    assert_eq!(ejections(&world), 1);

    // It comes back as it would have without the renewal.
    let listener = socket.listen(1024).expect("listen");
    let revived = start_on(
        listener,
        &servers,
        vec![dns("up.internal")],
        &[],
        Some(&clients),
    );
    while world.get().await != revived.address {}
}
