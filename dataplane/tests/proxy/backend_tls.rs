//! TLS towards backends, as clients see it.

use std::{net::SocketAddr, sync::Arc};

use portcullis_routing::{Certificate, CertificateKey, Cluster, ClusterTls, Secret};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{Proxy, TableBuilder};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new([]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let made = ca.self_signed(&key).unwrap();
        Self {
            pem: made.pem(),
            der: made.der().clone(),
            issuer: Issuer::new(ca, key),
        }
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap();
        (leaf.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A backend called `up.internal` that wants a client certificate of the same authority.
    async fn backend(&self) -> SocketAddr {
        let (leaf, key) = self.sign("up.internal");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        address
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that is refused is what the tests are about.
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let mut request = [0; 4096];
        if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    }
}

fn client_key() -> CertificateKey {
    CertificateKey::secret("test", "client")
}

fn table(backend: SocketAddr, ca: &Authority) -> TableBuilder {
    let tls = ClusterTls {
        server_name: "up.internal".into(),
        ca_pem: vec![ca.pem.clone()],
        client_certificate: Some(client_key()),
        ..ClusterTls::default()
    };
    let cluster = Cluster {
        tls: Some(tls),
        ..Cluster::default()
    };
    TableBuilder::default()
        .cluster_with("b", &[backend], cluster)
        .route("/", "b", |_| {})
}

fn certificate(ca: &Authority) -> Certificate {
    let (leaf, key) = ca.sign("gateway.internal");
    Certificate {
        chain_pem: leaf.pem(),
        key_pem: Secret::new(key.serialize_pem()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_trusted_gets_no_request() {
    let (ca, other) = (Authority::new(), Authority::new());
    let backend = ca.backend().await;
    let proxy = Proxy::start(table(backend, &ca).certificate(client_key(), certificate(&ca)));
    assert_eq!(proxy.get("a.example", "/").await.text(), "ok");

    // Neither side of the handshake, one after the other.
    for (server, client) in [(&other, &ca), (&ca, &other)] {
        let table = table(backend, server).certificate(client_key(), certificate(client));
        assert_eq!(proxy.apply(table.build()).rejected, []);
        let answer = proxy.get("a.example", "/").await;
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (502, "upstream_tls")
        );
    }

    let table = table(backend, &ca).certificate(client_key(), certificate(&ca));
    assert_eq!(proxy.apply(table.build()).rejected, []);
    assert_eq!(proxy.get("a.example", "/").await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_that_cannot_be_read_is_shown_as_it_was() {
    let ca = Authority::new();
    let backend = ca.backend().await;
    let proxy = Proxy::start(table(backend, &ca).certificate(client_key(), certificate(&ca)));
    let report = proxy.apply(table(backend, &ca).build());
    let rejected: Vec<_> = report.rejected.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(rejected, [client_key().as_str()]);
    assert_eq!(proxy.get("a.example", "/").await.text(), "ok");
}
