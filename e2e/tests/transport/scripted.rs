//! A controller that sends what it should not.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::{Method, Request, Response, body, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_controller::ca::Identity;
use portcullis_routing::{Frame, diff};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::{World, controller, table, until};

/// What was asked for, path and query, and what is answered, one text after the other.
#[derive(Default)]
struct Script {
    asked: Vec<String>,
    answers: Vec<Vec<u8>>,
}

/// Answers each request for a table with the next text, and leaves the stream open.
async fn play(script: Arc<Mutex<Script>>, identity: &Identity) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = tls.accept(stream).await else {
                continue;
            };
            let script = Arc::clone(&script);
            let service = service_fn(move |request: Request<body::Incoming>| {
                let mut script = script.lock().unwrap();
                let answer = if request.method() == Method::GET {
                    script.asked.push(request.uri().to_string());
                    let is_left = !script.answers.is_empty();
                    is_left.then(|| script.answers.remove(0))
                } else {
                    None
                };
                let first = answer
                    .map(|answer| Ok::<_, Infallible>(body::Frame::data(Bytes::from(answer))));
                let body = StreamBody::new(stream::iter(first).chain(stream::pending()));
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// Each bad frame leaves what is served as it is, and makes the proxy ask for a whole table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_bad_frame_a_snapshot_is_asked_for() {
    let mut world = World::new().await;
    let snapshot = |status| Frame::Snapshot(table(status, 0)).to_line().unwrap();
    let strange_base = Frame::Delta(Arc::new(diff(&table(400, 0), &table(401, 0))));
    let strange_base = strange_base.to_line().unwrap();
    let mut wrong_sum = diff(&table(502, 0), &table(503, 0));
    wrong_sum.version = table(504, 0).version.clone();
    let wrong_sum = Frame::Delta(Arc::new(wrong_sum)).to_line().unwrap();
    let script = Arc::new(Mutex::new(Script {
        asked: Vec::new(),
        answers: vec![
            [snapshot(501), strange_base].concat(),
            [snapshot(502), wrong_sum].concat(),
            [
                snapshot(503),
                b"{\"kind\":\"patch\",\"schema\":1}\n".to_vec(),
            ]
            .concat(),
            [
                snapshot(504),
                b"{\"kind\":\"delta\",\"schema\":2}\n".to_vec(),
            ]
            .concat(),
            [snapshot(505), b"noise\n".to_vec()].concat(),
            snapshot(506),
        ],
    }));
    let identity = world.issue(&controller());
    world.address = play(Arc::clone(&script), &identity).await;
    let proxy = world.proxy();
    proxy.until_serves(506).await;
    let asked = script.lock().unwrap().asked.clone();
    assert_eq!(asked.len(), 6, "{asked:?}");
    assert!(
        !asked.iter().any(|path| path.contains("have=")),
        "{asked:?}"
    );
    let refused = r#"portcullis_table_applies_total{result="refused"}"#;
    assert_eq!(proxy.metric(refused).await, 5);
}

/// A controller that answers and then says nothing does not keep a proxy from its last known good table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_controller_does_not_keep_the_last_known_good_table_back() {
    let mut world = World::new().await;
    world.publish(&table(501, 0));
    let proxy = world.proxy();
    proxy.until_serves(501).await;
    until("it is kept", || async {
        world.cache().exists().then_some(())
    })
    .await;
    drop(proxy);

    let script = Arc::default();
    world.address = play(Arc::clone(&script), &world.issue(&controller())).await;
    let proxy = world.start_proxy();
    proxy.until_serves(501).await;
    assert_eq!(script.lock().unwrap().asked.len(), 1);
    assert_eq!(proxy.metric("portcullis_table_stale").await, 1);
    assert_eq!(proxy.metric("portcullis_controller_connected").await, 1);
}
