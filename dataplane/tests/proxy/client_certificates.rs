//! Listeners that ask for client certificates: who gets in, and that nobody gets past them on a connection or a session that was
//! made elsewhere or earlier.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_routing::{
    Certificate, CertificateKey, GatewayKey, Listener, ListenerKey, ListenerProtocol, ListenerTls,
    RoutingTable, Secret,
    ca::named,
    listener::{ClientValidation, ClientValidationMode, TlsVersion},
};
use rcgen::{ExtendedKeyUsagePurpose as Purpose, date_time_ymd};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;

use crate::support::{Backend, Proxy, TableBuilder};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const PROTOCOLS: [&str; 2] = ["http/1.1", "h2"];

/// A certificate authority of the test's own.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(crate) pem: String,
}

pub(crate) type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: rcgen::Issuer::new(params, key),
            pem,
        }
    }

    fn client(&self) -> Identity {
        self.issue(|params| params.extended_key_usages = vec![Purpose::ClientAuth])
    }

    pub(crate) fn issue(&self, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (certificate.der().clone(), key.into())
    }
}

/// What a listener asks for.
fn validation(mode: ClientValidationMode, trusted: &[&Authority]) -> ClientValidation {
    ClientValidation {
        ca_pem: trusted.iter().map(|ca| ca.pem.clone()).collect(),
        mode,
    }
}

fn valid_only(trusted: &[&Authority]) -> ClientValidation {
    validation(ClientValidationMode::AllowValidOnly, trusted)
}

/// A proxy's side: one certificate for all, and who trusts it.
struct Site {
    backend: Backend,
    certificate: Certificate,
    roots: RootCertStore,
}

impl Site {
    async fn new() -> Self {
        let names = ["a.example", "b.example", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Self {
            backend: Backend::start("backend").await,
            certificate: Certificate {
                chain_pem: made.cert.pem(),
                key_pem: Secret::new(made.signing_key.serialize_pem()),
            },
            roots,
        }
    }

    /// A table of HTTPS listeners: port, hostname, and what they ask for.
    fn table(&self, listeners: &[(u16, Option<&str>, Option<ClientValidation>)]) -> RoutingTable {
        let key = |number: usize| {
            ListenerKey::of(&GatewayKey::of("test", "gateway"), &format!("l{number}"))
        };
        let mut table = TableBuilder::default()
            .cluster("backend", &[self.backend.address])
            .route("/", "backend", |route| {
                route.listeners = (0..listeners.len()).map(key).collect();
            })
            .build();
        table.listeners.clear();
        for (number, (port, hostname, validation)) in listeners.iter().enumerate() {
            let listener = Listener {
                port: *port,
                protocol: ListenerProtocol::Https,
                hostname: hostname.map(str::to_owned),
                tls: Some(ListenerTls {
                    certificates: vec![CertificateKey::new("c")],
                    min_version: TlsVersion::V1_2,
                    client_validation: validation.clone(),
                }),
                direction: portcullis_routing::Direction::Ingress,
            };
            table.listeners.insert(key(number), Arc::new(listener));
        }
        table
            .certificates
            .insert(CertificateKey::new("c"), Arc::new(self.certificate.clone()));
        table.seal();
        table
    }

    fn start(&self, listeners: &[(u16, Option<&str>, Option<ClientValidation>)]) -> Proxy {
        Proxy::start(TableBuilder::from(self.table(listeners)))
    }

    fn client(&self, identity: Option<&Identity>) -> Client {
        self.client_with(identity, "h2", &TLS13)
    }

    fn client_with(
        &self,
        identity: Option<&Identity>,
        protocol: &str,
        version: &'static SupportedProtocolVersion,
    ) -> Client {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                .unwrap(),
        };
        config.alpn_protocols = vec![protocol.into()];
        Client(Arc::new(config))
    }
}

/// A client, with the sessions that it could resume.
struct Client(Arc<ClientConfig>);

impl Client {
    /// A connection for `name`, which is the TLS name unless it is an address.
    async fn connect(&self, address: SocketAddr, name: &'static str) -> io::Result<Connection> {
        let tcp = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(Arc::clone(&self.0))
            .connect(ServerName::try_from(name).unwrap(), tcp)
            .await?;
        let tls = stream.get_ref().1;
        let is_resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let is_http2 = tls.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        let (sender, driver) = if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(io::Error::other)?;
            (Sender::Http2(sender), tokio::spawn(connection))
        } else {
            let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
            (Sender::Http1(sender), tokio::spawn(connection))
        };
        Ok(Connection {
            sender,
            driver,
            is_resumed,
        })
    }

    /// One request on a connection of its own: the status, or how it failed.
    async fn get(&self, address: SocketAddr, name: &'static str) -> io::Result<u16> {
        self.connect(address, name).await?.get(name).await
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

struct Connection {
    sender: Sender,
    driver: JoinHandle<hyper::Result<()>>,
    is_resumed: bool,
}

impl Connection {
    async fn get(&mut self, host: &str) -> io::Result<u16> {
        let request = http::Request::get(format!("https://{host}/"))
            .header("host", host)
            .body(Full::default())
            .unwrap();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(io::Error::other)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        let response = response.map_err(io::Error::other)?;
        if response.status() == 421 {
            assert_eq!(
                response.headers()["x-portcullis-reason"],
                "client_certificate"
            );
        }
        Ok(response.status().as_u16())
    }

    /// Waits for the proxy to end the connection.
    async fn ended(self) {
        drop(self.sender);
        _ = self.driver.await.unwrap();
    }
}

#[tokio::test]
async fn only_a_certificate_that_the_ca_has_issued_for_clients_gets_in() {
    let [ours, theirs] = ["ours", "theirs"].map(Authority::new);
    let site = Site::new().await;
    let proxy = site.start(&[(443, None, Some(valid_only(&[&ours])))]);
    let address = proxy.address(443);
    let good = ours.client();
    let bad = [
        None,
        Some(theirs.client()),
        Some(ours.issue(|params| params.extended_key_usages = vec![Purpose::ServerAuth])),
        Some(ours.issue(|params| params.not_after = date_time_ymd(2020, 1, 1))),
        Some(ours.issue(|params| params.not_before = date_time_ymd(4000, 1, 1))),
    ];
    for (version, protocol) in VERSIONS.into_iter().flat_map(|v| PROTOCOLS.map(|p| (v, p))) {
        let client = site.client_with(Some(&good), protocol, version);
        assert_eq!(client.get(address, "a.example").await.unwrap(), 200);
        for (number, bad) in bad.iter().enumerate() {
            let client = site.client_with(bad.as_ref(), protocol, version);
            let answer = client.get(address, "a.example").await;
            assert!(
                answer.is_err(),
                "{number} {version:?} {protocol}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn each_port_has_its_own_ca() {
    let [first, second] = ["first", "second"].map(Authority::new);
    let site = Site::new().await;
    let proxy = site.start(&[
        (443, None, Some(valid_only(&[&first]))),
        (8443, Some("b.example"), Some(valid_only(&[&second]))),
    ]);
    let clients = [&first, &second].map(|ca| site.client(Some(&ca.client())));
    for (port, name, welcome) in [(443, "a.example", 0), (8443, "b.example", 1)] {
        for (number, client) in clients.iter().enumerate() {
            let answer = client.get(proxy.address(port), name).await;
            assert_eq!(
                answer.ok(),
                (number == welcome).then_some(200),
                "{port} {number}"
            );
        }
    }
}

#[tokio::test]
async fn the_insecure_fallback_lets_everybody_in() {
    let [ours, theirs] = ["ours", "theirs"].map(Authority::new);
    let site = Site::new().await;
    let mode = ClientValidationMode::AllowInsecureFallback;
    let proxy = site.start(&[(443, None, Some(validation(mode, &[&ours])))]);
    let expired = ours.issue(|params| params.not_after = date_time_ymd(2020, 1, 1));
    for identity in [
        None,
        Some(ours.client()),
        Some(theirs.client()),
        Some(expired),
    ] {
        for (version, protocol) in VERSIONS.into_iter().flat_map(|v| PROTOCOLS.map(|p| (v, p))) {
            let client = site.client_with(identity.as_ref(), protocol, version);
            let answer = client.get(proxy.address(443), "a.example").await;
            assert_eq!(answer.unwrap(), 200, "{version:?} {protocol}");
        }
    }
}

#[tokio::test]
async fn a_ca_that_is_trusted_no_longer_ends_connections_and_one_more_ends_none() {
    let [old, new] = ["old", "new"].map(Authority::new);
    let site = Site::new().await;
    let table = |trusted: &[&Authority]| site.table(&[(443, None, Some(valid_only(trusted)))]);
    let proxy = Proxy::start(TableBuilder::from(table(&[&old])));
    let address = proxy.address(443);
    let (of_old, of_new) = (old.client(), new.client());
    let mut open = Vec::new();
    for protocol in PROTOCOLS {
        let client = site.client_with(Some(&of_old), protocol, &TLS13);
        let mut connection = client.connect(address, "a.example").await.unwrap();
        assert_eq!(connection.get("a.example").await.unwrap(), 200);
        open.push(connection);
    }

    proxy.apply(table(&[&old, &new]));
    for connection in &mut open {
        assert_eq!(connection.get("a.example").await.unwrap(), 200);
    }
    for identity in [&of_old, &of_new] {
        let answer = site.client(Some(identity)).get(address, "a.example").await;
        assert_eq!(answer.unwrap(), 200);
    }

    proxy.apply(table(&[&new]));
    for mut connection in open {
        assert_eq!(connection.get("a.example").await.unwrap(), 421);
        connection.ended().await;
    }
    let answer = site.client(Some(&of_old)).get(address, "a.example").await;
    assert!(answer.is_err(), "{answer:?}");
    let answer = site.client(Some(&of_new)).get(address, "a.example").await;
    assert_eq!(answer.unwrap(), 200);
}

#[tokio::test]
async fn a_connection_that_is_older_than_the_validation_is_not_served() {
    let ca = Authority::new("ca");
    let site = Site::new().await;
    let mode = ClientValidationMode::AllowInsecureFallback;
    let before = [None, Some(validation(mode, &[&ca]))];
    for before in before {
        let proxy = site.start(&[(443, None, before)]);
        let mut open = Vec::new();
        for (identity, protocol) in [(None, "http/1.1"), (Some(ca.client()), "h2")] {
            let client = site.client_with(identity.as_ref(), protocol, &TLS13);
            let connection = client.connect(proxy.address(443), "a.example").await;
            open.push(connection.unwrap());
        }
        proxy.apply(site.table(&[(443, None, Some(valid_only(&[&ca])))]));
        for mut connection in open {
            assert_eq!(connection.get("a.example").await.unwrap(), 421);
            connection.ended().await;
        }
    }
}

#[tokio::test]
async fn a_session_is_not_carried_past_the_validation() {
    let ca = Authority::new("ca");
    let site = Site::new().await;
    let open = (443, None, None);
    let closed = (8443, None, Some(valid_only(&[&ca])));
    for version in VERSIONS {
        let proxy = site.start(&[open.clone(), closed.clone()]);
        let client = site.client_with(None, "http/1.1", version);
        for is_resumed in [false, true] {
            let connection = client.connect(proxy.address(443), "a.example").await;
            let mut connection = connection.unwrap();
            assert_eq!(connection.get("a.example").await.unwrap(), 200);
            assert_eq!(connection.is_resumed, is_resumed, "{version:?}");
        }
        // The same name at another port, and later the same port: with the session that was just good.
        let answer = client.get(proxy.address(8443), "a.example").await;
        assert!(answer.is_err(), "{version:?}: {answer:?}");
        let client = site.client_with(None, "http/1.1", version);
        assert_eq!(
            client.get(proxy.address(443), "a.example").await.unwrap(),
            200
        );
        proxy.apply(site.table(&[(443, None, Some(valid_only(&[&ca]))), closed.clone()]));
        let answer = client.get(proxy.address(443), "a.example").await;
        assert!(answer.is_err(), "{version:?}: {answer:?}");

        // Whoever has shown a certificate shows it again.
        let client = site.client_with(Some(&ca.client()), "http/1.1", version);
        for _ in 0..2 {
            let connection = client.connect(proxy.address(8443), "a.example").await;
            let mut connection = connection.unwrap();
            assert_eq!(connection.get("a.example").await.unwrap(), 200);
            assert!(!connection.is_resumed, "{version:?}");
        }
    }
}

/// Two Gateways may share a port without a cluster, and only one of them asks for certificates.
#[tokio::test]
async fn a_handshake_that_names_nobody_is_no_way_around_the_validation() {
    let ca = Authority::new("ca");
    let site = Site::new().await;
    let proxy = site.start(&[
        (443, None, None),
        (443, Some("a.example"), Some(valid_only(&[&ca]))),
    ]);
    for protocol in PROTOCOLS {
        let client = site.client_with(None, protocol, &TLS13);
        let connection = client.connect(proxy.address(443), "127.0.0.1").await;
        let mut connection = connection.unwrap();
        assert_eq!(connection.get("b.example").await.unwrap(), 200);
        assert_eq!(connection.get("a.example").await.unwrap(), 421);
        connection.ended().await;
    }
}

#[tokio::test]
async fn a_listener_that_cannot_verify_its_clients_is_closed_whatever_it_was_before() {
    let ca = Authority::new("ca");
    let site = Site::new().await;
    let unusable = [
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ];
    for (before, pem) in [None, Some(valid_only(&[&ca]))]
        .into_iter()
        .flat_map(|before| unusable.map(|pem| (before.clone(), pem)))
    {
        let proxy = site.start(&[(443, None, before), (8443, None, None)]);
        let broken = Some(ClientValidation {
            ca_pem: vec![pem.to_owned()],
            mode: ClientValidationMode::AllowValidOnly,
        });
        let client = site.client(Some(&ca.client()));
        let address = proxy.address(443);
        let mut open = client.connect(address, "a.example").await.unwrap();
        assert_eq!(open.get("a.example").await.unwrap(), 200);
        let report = proxy.apply(site.table(&[(443, None, broken), (8443, None, None)]));
        let [rejection] = report.rejected.as_slice() else {
            panic!("{:?}", report.rejected);
        };
        assert!(
            rejection.message.contains("client certificates"),
            "{rejection}"
        );
        assert_ne!(open.get("a.example").await.ok(), Some(200));
        let answer = client.get(address, "a.example").await;
        assert!(answer.is_err(), "{answer:?}");
        let other = client.get(proxy.address(8443), "a.example").await;
        assert_eq!(other.unwrap(), 200);
    }
}

/// That the controller cannot read whom to trust is no reason to turn away whom it trusted, nor to let in anybody else.
#[tokio::test]
async fn a_listener_whose_ca_cannot_be_read_goes_on_as_before() {
    let ca = Authority::new("ca");
    let site = Site::new().await;
    let from_map = |pem: &str| ClientValidation {
        ca_pem: vec![named("ConfigMap ns/ca", pem)],
        mode: ClientValidationMode::AllowValidOnly,
    };
    let proxy = site.start(&[(443, None, Some(from_map(&ca.pem)))]);
    let unread = from_map("");
    let report = proxy.apply(site.table(&[(443, None, Some(unread))]));
    assert_eq!(report.rejected.len(), 1, "{:?}", report.rejected);
    let known = site.client(Some(&ca.client()));
    let answer = known.get(proxy.address(443), "a.example").await;
    assert_eq!(answer.unwrap(), 200);
    let stranger = site.client(Some(&Authority::new("other").client()));
    let answer = stranger.get(proxy.address(443), "a.example").await;
    assert!(answer.is_err(), "{answer:?}");
}
