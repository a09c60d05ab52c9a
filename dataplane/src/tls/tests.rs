//! Whose certificate is shown, and that it changes without anybody noticing.

use portcullis_routing::{
    Certificate, CertificateKey, GatewayKey, ListenerProtocol, ListenerTls, Secret,
};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, pki_types::ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client};

use super::{accept::accept, *};
use crate::{
    deadline::Deadlines,
    state::{Overrides, TableState},
    telemetry::{Metrics, MetricsOptions},
};

/// A certificate authority of the test's own.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    roots: RootCertStore,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots
            .add(params.self_signed(&key).unwrap().der().clone())
            .unwrap();
        Self {
            issuer: rcgen::Issuer::new(params, key),
            roots,
        }
    }

    fn certificate(&self, names: &[&str]) -> Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        Certificate {
            chain_pem: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key_pem: Secret::new(key.serialize_pem()),
        }
    }

    fn client(&self) -> ClientConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        builder
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth()
    }
}

/// A table of HTTPS listeners on port 443: name, hostname, certificates, lowest version.
fn table(
    listeners: &[(&str, Option<&str>, &[&str], TlsVersion)],
    certificates: &[(&str, Certificate)],
) -> RoutingTable {
    let gateway = GatewayKey::of("ns", "gw");
    let mut table = RoutingTable::new(gateway.clone());
    for (name, hostname, refs, min_version) in listeners {
        let certificates = refs.iter().map(|name| CertificateKey::new(*name)).collect();
        let listener = Listener {
            port: 443,
            protocol: ListenerProtocol::Https,
            hostname: hostname.map(str::to_owned),
            tls: Some(ListenerTls {
                certificates,
                min_version: *min_version,
                client_validation: None,
            }),
            direction: portcullis_routing::Direction::Ingress,
        };
        table
            .listeners
            .insert(ListenerKey::of(&gateway, name), Arc::new(listener));
    }
    for (name, certificate) in certificates {
        table
            .certificates
            .insert(CertificateKey::new(*name), Arc::new(certificate.clone()));
    }
    table.seal();
    table
}

fn tables(table: RoutingTable) -> TableState {
    let tables = TableState::new(
        Arc::new(Metrics::new(MetricsOptions::default())),
        Overrides::default(),
    );
    let report = tables.apply(Arc::new(table)).unwrap();
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
    tables
}

/// One handshake for `host`: the client's end, and the listener that the server chose.
async fn connect(
    tables: &TableState,
    client: &Arc<ClientConfig>,
    host: &str,
) -> std::io::Result<(client::TlsStream<TcpStream>, ListenerKey)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let snapshot = tables.current();
    let snapshot = snapshot.as_ref().unwrap();
    let server = async {
        let deadline = Deadlines::new().register(None);
        let mut accepted = accept(listener.accept().await?.0, snapshot, 443, &deadline).await?;
        // A byte after the handshake, so that the client has taken the session tickets.
        tokio::io::AsyncWriteExt::write_all(&mut accepted.stream, b"x").await?;
        std::io::Result::Ok(accepted.listener)
    };
    let client = async {
        let tcp = TcpStream::connect(listener.local_addr()?).await?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::clone(client))
            .connect(name, tcp)
            .await?;
        tokio::io::AsyncReadExt::read_u8(&mut stream).await?;
        std::io::Result::Ok(stream)
    };
    let (listener, stream) = tokio::join!(server, client);
    Ok((stream?, listener?))
}

fn name(listener: &ListenerKey) -> &str {
    listener.as_str().rsplit('/').next().unwrap()
}

const V1_2: TlsVersion = TlsVersion::V1_2;

#[tokio::test]
async fn the_listener_that_the_sni_selects_shows_its_certificate() {
    let authority = Authority::new();
    let certificates = [
        ("exact", authority.certificate(&["a.site.example"])),
        ("wildcard", authority.certificate(&["*.site.example"])),
        ("other", authority.certificate(&["x.test", "y.test"])),
    ];
    let listeners: &[(&str, Option<&str>, &[&str], _)] = &[
        ("exact", Some("a.site.example"), &["exact"], V1_2),
        ("wildcard", Some("*.site.example"), &["wildcard"], V1_2),
        ("tests", Some("*.test"), &["exact", "other"], V1_2),
    ];
    let tables = tables(table(listeners, &certificates));
    let client = Arc::new(authority.client());
    // The client checks the name, so that each of these says whose certificate was shown.
    for (host, expected) in [
        ("a.site.example", "exact"),
        ("b.site.example", "wildcard"),
        ("A.SITE.EXAMPLE", "exact"),
        ("y.test", "tests"),
    ] {
        let (_, listener) = connect(&tables, &client, host).await.unwrap();
        assert_eq!(name(&listener), expected, "{host}");
    }
    let refused = connect(&tables, &client, "a.other").await.unwrap_err();
    assert!(
        refused.to_string().contains("UnrecognisedName"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_listener_without_hostname_serves_every_name_and_none() {
    let authority = Authority::new();
    let certificates = [("any", authority.certificate(&["a.example", "127.0.0.1"]))];
    let tables = tables(table(&[("any", None, &["any"], V1_2)], &certificates));
    let client = Arc::new(authority.client());
    connect(&tables, &client, "a.example").await.unwrap();
    // An address is no SNI.
    connect(&tables, &client, "127.0.0.1").await.unwrap();
    let mut http2 = authority.client();
    http2.alpn_protocols = vec![b"h2".to_vec()];
    let (stream, _) = connect(&tables, &Arc::new(http2), "a.example")
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn sessions_are_resumed_and_certificates_change_between_them() {
    let authority = Authority::new();
    let of =
        |certificate: Certificate| table(&[("any", None, &["any"], V1_2)], &[("any", certificate)]);
    let tables = tables(of(authority.certificate(&["a.example"])));
    let before = tables.current().as_ref().unwrap().tls.clone();
    let client = Arc::new(authority.client());
    let kind = |stream: &client::TlsStream<TcpStream>| stream.get_ref().1.handshake_kind();
    let (first, _) = connect(&tables, &client, "a.example").await.unwrap();
    assert_ne!(kind(&first), Some(HandshakeKind::Resumed));
    let (second, _) = connect(&tables, &client, "a.example").await.unwrap();
    assert_eq!(kind(&second), Some(HandshakeKind::Resumed));

    tables
        .apply(Arc::new(of(authority.certificate(&["b.example"]))))
        .unwrap();
    let fresh = Arc::new(authority.client());
    connect(&tables, &fresh, "b.example").await.unwrap();
    assert!(connect(&tables, &fresh, "a.example").await.is_err());
    let key = ListenerKey::of(&GatewayKey::of("ns", "gw"), "any");
    let after = tables.current().as_ref().unwrap().tls.clone();
    assert!(!Arc::ptr_eq(
        before.config(&key).unwrap(),
        after.config(&key).unwrap()
    ));
}

#[tokio::test]
async fn an_unchanged_listener_keeps_its_configuration() {
    let authority = Authority::new();
    let certificates = [
        ("one", authority.certificate(&["a.example"])),
        ("two", authority.certificate(&["b.example"])),
    ];
    let one: (&str, Option<&str>, &[&str], TlsVersion) = ("one", Some("a.example"), &["one"], V1_2);
    let two: (&str, Option<&str>, &[&str], TlsVersion) = ("two", Some("b.example"), &["two"], V1_2);
    let tables = tables(table(&[one], &certificates[..1]));
    let key = ListenerKey::of(&GatewayKey::of("ns", "gw"), "one");
    let before = Arc::clone(tables.current().as_ref().unwrap().tls.config(&key).unwrap());
    tables
        .apply(Arc::new(table(&[one, two], &certificates)))
        .unwrap();
    assert!(Arc::ptr_eq(
        &before,
        tables.current().as_ref().unwrap().tls.config(&key).unwrap()
    ));
}

#[tokio::test]
async fn the_lowest_version_is_per_listener() {
    let authority = Authority::new();
    let certificates = [("c", authority.certificate(&["old.example", "new.example"]))];
    let listeners: &[(&str, Option<&str>, &[&str], _)] = &[
        ("old", Some("old.example"), &["c"], V1_2),
        ("new", Some("new.example"), &["c"], TlsVersion::V1_3),
    ];
    let tables = tables(table(listeners, &certificates));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12])
        .unwrap();
    let client = Arc::new(
        builder
            .with_root_certificates(authority.roots.clone())
            .with_no_client_auth(),
    );
    connect(&tables, &client, "old.example").await.unwrap();
    assert!(connect(&tables, &client, "new.example").await.is_err());
}

#[tokio::test]
async fn a_client_that_never_greets_is_given_up() {
    let authority = Authority::new();
    let certificates = [("any", authority.certificate(&["a.example"]))];
    let tables = tables(table(&[("any", None, &["any"], V1_2)], &certificates));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let deadlines = Deadlines::new();
    let deadline = deadlines.register(None);
    deadline.set(std::time::Duration::from_secs(10));
    deadlines.sweep_at(std::time::Duration::from_secs(11));
    let tcp = listener.accept().await.unwrap().0;
    let error = accept(tcp, tables.current().as_ref().unwrap(), 443, &deadline)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
