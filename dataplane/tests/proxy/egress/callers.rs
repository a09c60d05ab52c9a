//! Callers who prove who they are: by a token in `Proxy-Authorization`, and by a client certificate.

use std::{net::Ipv4Addr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_routing::{
    Certificate, CertificateKey, Direction, GatewayKey, Listener, ListenerKey, ListenerProtocol,
    ListenerTls, Secret,
    egress::TokenSettings,
    listener::{ClientValidation, ClientValidationMode, TlsVersion},
};
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    client_certificates::{Authority, Identity},
    support::{
        Backend, Log, Proxy,
        fake_dns::FakeDns,
        outside::{A, Outside, STRANGER, connect, fixed, outcome},
        tokens::{AUDIENCE, ISSUER, Signer, claims, jwks, now},
    },
};

/// A key of the API server, a backend that namespace `team` may reach, and one that namespace `a` may.
struct Site {
    signer: Signer,
    backend: Backend,
    dns: FakeDns,
}

impl Site {
    async fn new() -> Self {
        Self {
            signer: Signer::p256("k"),
            backend: Backend::start("up").await,
            dns: FakeDns::start(&[], 60).await,
        }
    }

    fn outside(&self) -> Outside {
        let entry = |host: &str, namespace: &str| {
            let mut entry = fixed(host, self.backend.address);
            entry["exported_to"] = json!({"Namespaces": [namespace]});
            entry
        };
        Outside::new(&self.dns)
            .settings(|settings| settings.tokens = Some(believed(&[&self.signer])))
            .entry("team", entry("team.example.com", "team"))
            .entry("a", entry("a.example.com", "a"))
    }

    fn start(&self) -> (Proxy, Log) {
        self.outside().start()
    }

    /// The token of `team/app`.
    fn token(&self) -> String {
        self.signer.token(&claims("team", "app", now()))
    }
}

pub(super) fn believed(signers: &[&Signer]) -> TokenSettings {
    TokenSettings {
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        jwks: jwks(signers),
    }
}

pub(super) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// What `HTTP_PROXY=http://token:TOKEN@proxy` makes of it.
fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("token:{token}")))
}

/// A request for `url` with these credentials.
fn request(url: &str, credentials: &str) -> String {
    let host = url.split('/').nth(2).unwrap();
    format!(
        "GET {url} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {credentials}\r\nConnection: close\r\n\r\n"
    )
}

async fn last(log: &Log, count: usize) -> Value {
    log.departures(count).await.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_its_service_account_may_reach_from_wherever_it_is_sent() {
    let site = Site::new().await;
    let (proxy, log) = site.start();
    let token = site.token();
    let url = "http://team.example.com/x";
    let mut told = 0;
    let strange = ("407", Some("token_needed"));
    for (from, refused) in [(STRANGER, strange), (A, ("403", Some("host_not_listed")))] {
        let answer = proxy.fetch(from, url).await;
        assert_eq!(outcome(&answer), refused);
        for credentials in [bearer(&token), basic(&token)] {
            let answer = proxy.tell(from, &request(url, &credentials)).await;
            assert!(answer.ends_with("up"), "{answer}");
        }
        told += 3;
        let caller = json!({
            "namespace": "team", "service_account": "app", "pod": "app-0", "ip": from, "identity": "token",
        });
        assert_eq!(last(&log, told).await["caller"], caller);
    }
    // Nor does it reach what the pod itself might.
    let answer = proxy
        .tell(A, &request("http://a.example.com/", &bearer(&token)))
        .await;
    assert_eq!(outcome(&answer), ("403", Some("host_not_listed")));
    assert_eq!(site.backend.seen().len(), 4);
    for seen in site.backend.seen() {
        assert!(!seen.headers.contains_key("proxy-authorization"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_could_say_who_it_is_is_asked_but_not_in_a_tunnel() {
    let site = Site::new().await;
    let (proxy, log) = site.start();
    let host = "team.example.com:80";
    for head in [
        format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ] {
        let answer = proxy.tell(STRANGER, &head).await;
        assert_eq!(outcome(&answer), ("407", Some("token_needed")), "{answer}");
        assert!(
            answer
                .to_ascii_lowercase()
                .contains("\r\nproxy-authenticate: bearer ")
        );
        let words = "token_needed: team.example.com:80 is open to some callers only, and who calls is not known: send a token in \
                     Proxy-Authorization.\nMount one for audience portcullis-egress into the pod";
        assert!(
            answer.split_once("\r\n\r\n").unwrap().1.starts_with(words),
            "{answer}"
        );
    }
    assert_eq!(last(&log, 2).await["reason"], "unknown_caller");

    // A policy for requests lets the tunnel begin.
    let mut outside = site.outside();
    outside.0.entries.clear();
    let policy = json!({
        "scope": "Gateway", "action": "Deny", "from": [{"namespaces": ["a"]}], "to": [{"paths": [{"Prefix": "/admin"}]}],
    });
    let mut table = outside
        .entry("open", fixed("team.example.com", site.backend.address))
        .policy("admin", policy)
        .0;
    table.seal();
    assert!(proxy.apply(table).rejected.is_empty());
    let head = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let inner = "GET /admin HTTP/1.1\r\nHost: team.example.com\r\nConnection: close\r\n\r\n";
    let answer = proxy.tell(STRANGER, &format!("{head}{inner}")).await;
    let (connected, answer) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(connected, "HTTP/1.1 200 OK");
    assert_eq!(outcome(answer), ("403", Some("unknown_caller")), "{answer}");
    // What is asked for is open to everybody: a method and a path are why, so they are named.
    let why = "a policy for some callers may be against GET /admin of team.example.com:80, and who calls is not known";
    let told = format!("\r\n\r\nunknown_caller: {why}.\nTo allow it, call from a pod");
    assert!(answer.contains(&told), "{answer}");
    let sent =
        format!("GET http://{host}/admin HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = proxy.tell(STRANGER, &sent).await;
    let told = format!("\r\n\r\ntoken_needed: {why}: send a token in Proxy-Authorization.\n");
    assert!(answer.contains(&told), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_sent_a_good_token_is_not_asked_for_one_where_the_pod_decides() {
    let site = Site::new().await;
    let policy = json!({
        "scope": "Gateway", "action": "Deny", "from": [{"labels": [{"In": ["app", ["bad"]]}]}],
    });
    let (proxy, log) = site.outside().policy("pods", policy).start();
    let credentials = bearer(&site.token());
    let sent = request("http://team.example.com/x", &credentials);
    let answer = proxy.tell(STRANGER, &sent).await;
    assert_eq!(outcome(&answer), ("403", Some("unknown_caller")));
    let words = "unknown_caller: a policy for some callers may be against team.example.com:80, and of team/app the pod is not known, \
                 nor its labels.\nTo allow it, call from a pod";
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(body.starts_with(words), "{body}");
    assert_eq!(last(&log, 1).await["caller"]["namespace"], "team");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_refused_in_words_that_help_and_its_sender_is_nobody_else() {
    let site = Site::new().await;
    let (proxy, log) = site.start();
    let url = "http://a.example.com/";
    assert!(proxy.fetch(A, url).await.ends_with("up"));
    let mut expired = claims("a", "x", now());
    expired["exp"] = json!(1_700_000_000);
    let mut other = claims("a", "x", now());
    other["aud"] = json!(["api"]);
    let stranger = Signer::p256("k");
    let cases = [
        (
            site.signer.token(&expired),
            "it expired at 2023-11-14T22:13:20Z",
        ),
        (
            site.signer.token(&other),
            r#"its audience is ["api"] instead of "portcullis-egress""#,
        ),
        (
            stranger.token(&claims("a", "x", now())),
            "its signature is not that of its key",
        ),
        ("secret".into(), "it is not a JSON Web Token"),
    ];
    let mut told = 1;
    for (token, why) in &cases {
        for credentials in [bearer(token), basic(token)] {
            let answer = proxy.tell(A, &request(url, &credentials)).await;
            assert_eq!(outcome(&answer), ("407", Some("bad_token")), "{answer}");
            let challenges = answer.lines().filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("proxy-authenticate")
                    .then_some(value)
            });
            let wanted = [r#"Bearer realm="egress""#, r#"Basic realm="egress""#];
            assert_eq!(challenges.collect::<Vec<_>>(), wanted);
            let words = format!(
                "bad_token: the token in Proxy-Authorization is not believed: {why}.\nMount one for audience portcullis-egress into \
                 the pod, and read it anew for each connection: volumes: [{{name: egress, projected: {{sources: \
                 [{{serviceAccountToken: {{audience: portcullis-egress, path: token}}}}]}}}}].\n"
            );
            assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, words);
            told += 1;
            let line = last(&log, told).await;
            assert_eq!(
                (&line["reason"], &line["detail"]),
                (&json!("bad_token"), &json!(why))
            );
            assert_eq!(line["caller"], json!({"ip": A, "identity": "unknown"}));
            assert!(!line.to_string().contains(token.as_str()));
        }
    }
    let connect = format!(
        "CONNECT a.example.com:80 HTTP/1.1\r\nHost: a.example.com:80\r\nProxy-Authorization: {}\r\n\r\n",
        basic("secret")
    );
    let answer = proxy.tell(A, &connect).await;
    assert_eq!(outcome(&answer), ("407", Some("bad_token")));
    assert_eq!(site.backend.seen().len(), 1);
    let refused =
        r#"portcullis_egress_decisions_total{verdict="refuse",reason="_other",entry="_none"}"#;
    proxy.reaches(refused, 9.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_none_are_refused_and_too_long_ones_are_not_looked_at() {
    let site = Site::new().await;
    let (proxy, _) = site.start();
    let url = "http://a.example.com/";
    let twice = format!("{}\r\nProxy-Authorization: {0}", bearer(&site.token()));
    for credentials in ["Negotiate x", "Basic x", "Bearer", &twice] {
        let answer = proxy.tell(A, &request(url, credentials)).await;
        assert_eq!(
            outcome(&answer),
            ("407", Some("bad_token")),
            "{credentials}"
        );
    }
    let long = bearer(&"x".repeat(1 << 20));
    let answer = proxy.tell(A, &request(url, &long)).await;
    assert_eq!(outcome(&answer), ("431", Some("headers_too_large")));
    assert_eq!(site.backend.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_hold_for_the_next_request_and_without_keys_tokens_are_ignored() {
    let site = Site::new().await;
    let (proxy, log) = site.start();
    let next = Signer::rsa("next");
    let [old, new] =
        [&site.signer, &next].map(|it| bearer(&it.token(&claims("team", "app", now()))));
    let url = "http://team.example.com/";
    let fetch = async |credentials: &str| {
        let answer = proxy.tell(STRANGER, &request(url, credentials)).await;
        outcome(&answer).0.to_owned()
    };
    assert_eq!(
        (fetch(&old).await, fetch(&new).await),
        ("200".into(), "407".into())
    );

    let apply = |tokens: Option<TokenSettings>| {
        let mut table = site
            .outside()
            .settings(|settings| settings.tokens = tokens)
            .0;
        table.seal();
        assert!(proxy.apply(table).rejected.is_empty());
    };
    apply(Some(believed(&[&next])));
    assert_eq!(
        (fetch(&old).await, fetch(&new).await),
        ("407".into(), "200".into())
    );

    apply(None);
    for credentials in [&old, &new, "Bearer x"] {
        assert_eq!(fetch(credentials).await, "403");
    }
    let line = last(&log, 7).await;
    assert_eq!(line["reason"], "unknown_caller");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_tunnel_are_of_whoever_made_it() {
    let site = Site::new().await;
    let (proxy, log) = site.start();
    let mut stream = connect(STRANGER, proxy.address(80)).await;
    let host = "team.example.com:80";
    let credentials = basic(&site.token());
    let head = format!(
        "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: {credentials}\r\n\r\n"
    );
    // What is said in the tunnel is for the host.
    let inner = "GET / HTTP/1.1\r\nHost: team.example.com\r\nProxy-Authorization: Bearer x\r\nConnection: close\r\n\r\n";
    stream
        .write_all(format!("{head}{inner}").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("up"), "{answer}");
    assert_eq!(last(&log, 1).await["caller"]["identity"], "token");
}

/// A listener on port 443 that verifies clients by `authority`.
pub(super) fn https(mut outside: Outside, authority: &Authority) -> (Outside, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["proxy.example".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let listener = Listener {
        port: 443,
        protocol: ListenerProtocol::Https,
        hostname: None,
        tls: Some(ListenerTls {
            certificates: vec![CertificateKey::new("c")],
            min_version: TlsVersion::V1_2,
            client_validation: Some(ClientValidation {
                ca_pem: vec![authority.pem.clone()],
                mode: ClientValidationMode::AllowValidOnly,
            }),
        }),
        direction: Direction::Egress,
    };
    let key = ListenerKey::of(&GatewayKey::of("test", "gateway"), "https");
    outside.0.listeners.insert(key, Arc::new(listener));
    let certificate = Certificate {
        chain_pem: made.cert.pem(),
        key_pem: Secret::new(made.signing_key.serialize_pem()),
    };
    outside
        .0
        .certificates
        .insert(CertificateKey::new("c"), Arc::new(certificate));
    (outside, roots)
}

/// A connection over TLS from `from`, with this certificate.
pub(super) async fn connect_tls(
    proxy: &Proxy,
    from: Ipv4Addr,
    roots: &RootCertStore,
    (certificate, key): &Identity,
) -> TlsStream<TcpStream> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
        .unwrap();
    let tcp = connect(from, proxy.address(443)).await;
    let name = ServerName::try_from("proxy.example").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, tcp).await.unwrap()
}

/// What comes back over TLS for `bytes`, sent from `from` with this certificate.
async fn tell_tls(
    proxy: &Proxy,
    from: Ipv4Addr,
    roots: &RootCertStore,
    identity: &Identity,
    bytes: &str,
) -> String {
    let mut stream = connect_tls(proxy, from, roots, identity).await;
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The certificate of a workload.
pub(super) fn workload(authority: &Authority, uri: &str) -> Identity {
    authority.issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_goes_before_a_token_and_a_token_before_the_address() {
    let site = Site::new().await;
    let authority = Authority::new("mesh");
    let (outside, roots) = https(site.outside(), &authority);
    let (proxy, log) = outside.start();
    let [team, own, foreign] = [
        "spiffe://cluster.local/ns/team/sa/app",
        "spiffe://cluster.local/ns/a/sa/x",
        "spiffe://example.org/ns/team/sa/app",
    ]
    .map(|uri| workload(&authority, uri));
    let token = bearer(&site.token());
    let none = "Host: x";
    let cases = [
        // A token that is not needed is not looked at, good or bad.
        (&team, "Bearer x", "team", "certificate", json!(null)),
        (&own, &token, "a", "certificate", json!("a-1")),
        (&foreign, &token, "team", "token", json!("app-0")),
        (&foreign, none, "a", "pod", json!("a-1")),
    ];
    for (number, (certificate, credentials, namespace, kind, pod)) in cases.into_iter().enumerate()
    {
        let url = format!("http://{namespace}.example.com/");
        let mut bytes = request(&url, credentials);
        if credentials == none {
            bytes = bytes.replace("Proxy-Authorization: Host: x\r\n", "");
        }
        let answer = tell_tls(&proxy, A, &roots, certificate, &bytes).await;
        assert!(answer.ends_with("up"), "{number}: {answer}");
        let caller = last(&log, number + 1).await["caller"].clone();
        assert_eq!(
            (&caller["namespace"], &caller["identity"]),
            (&json!(namespace), &json!(kind))
        );
        assert_eq!(caller["pod"], pod, "{number}");
    }
    let bytes = request("http://a.example.com/", "Bearer x");
    let answer = tell_tls(&proxy, A, &roots, &foreign, &bytes).await;
    assert_eq!(outcome(&answer), ("407", Some("bad_token")));
}
