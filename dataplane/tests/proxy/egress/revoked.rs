//! What was allowed, and is not any more: whatever is under way ends, and nothing else does.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use portcullis_routing::{Millis, RoutingTable, WorkloadKey, egress::Workload};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    sync::watch,
};

use super::tunnels::{Echo, hello, open, read, rest};
use crate::support::{
    Backend,
    fake_dns::FakeDns,
    outside::{A, Outside, by_dns, connect, fixed, outcome},
};

pub(super) fn sealed(outside: Outside) -> RoutingTable {
    let mut table = outside.0;
    table.seal();
    table
}

/// Switches to whatever it is asked for, and sends back what it gets then.
pub(super) async fn switching() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.split();
        // It is cut: that is what the test is about.
        _ = tokio::io::copy(&mut from, &mut to).await;
    });
    address
}

/// What comes before an empty line.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_and_streams_end_when_they_are_not_allowed_any_more() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let socket = "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let stream =
        "POST /echo HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (address, request, sent) in [
        (switching().await, socket, "hello"),
        (backend.address, stream, "5\r\nhello\r\n"),
    ] {
        let with = || Outside::new(&dns).entry("api", fixed("api.example.com", address));
        let (proxy, log) = with().start();
        let mut client = connect(A, proxy.address(80)).await;
        client.write_all(request.as_bytes()).await.unwrap();
        head(&mut client).await;
        client.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(read(&mut client, sent.len()).await, sent.as_bytes());
        // A table that allows it still.
        proxy.apply(sealed(
            with().entry("more", fixed("more.example.com", address)),
        ));
        client.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(read(&mut client, sent.len()).await, sent.as_bytes());
        assert_eq!(log.of_kind("egress").count(), 0);
        let deny =
            json!({"scope": "Gateway", "action": "Deny", "to": [{"paths": [{"Prefix": "/"}]}]});
        proxy.apply(sealed(with().policy("deny", deny)));
        assert_eq!(rest(&mut client).await, b"");
        let line = log.departures(1).await.pop().unwrap();
        assert_eq!(
            (&line["verdict"], &line["reason"]),
            (&json!("refuse"), &json!("revoked"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_lasts_no_longer_than_a_tunnel_may() {
    let (address, dns) = (switching().await, FakeDns::start(&[], 60).await);
    let (proxy, log) = Outside::new(&dns)
        .settings(|egress| egress.tunnel_max_duration = Some(Millis(1)))
        .entry("api", fixed("api.example.com", address))
        .start();
    let mut client = connect(A, proxy.address(80)).await;
    let request = "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    rest(&mut client).await;
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(
        (&line["verdict"], &line["error"]),
        (&json!("allow"), &json!("tunnel_too_long"))
    );
}

/// Stands before a DNS server, and lets questions through while it is open.
struct Gate {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    /// Whether somebody waits.
    is_asked: watch::Receiver<bool>,
}

impl Gate {
    async fn start(dns: &FakeDns) -> Self {
        let (near, far) = (
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        );
        let (address, server) = (near.local_addr().unwrap(), dns.address);
        let (is_open, mut opened) = watch::channel(true);
        let (asked, is_asked) = watch::channel(false);
        tokio::spawn(async move {
            let (mut question, mut answer) = ([0; 1500], [0; 1500]);
            while let Ok((length, client)) = near.recv_from(&mut question).await {
                asked.send_replace(!*opened.borrow());
                opened.wait_for(|is_open| *is_open).await.unwrap();
                far.send_to(&question[..length], server).await.unwrap();
                let length = far.recv(&mut answer).await.unwrap();
                near.send_to(&answer[..length], client).await.unwrap();
            }
        });
        Self {
            address,
            is_open,
            is_asked,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_dns_gets_nowhere_once_it_is_not_allowed_any_more() {
    let backend = Backend::start("up").await;
    let dns = FakeDns::start(&[backend.address.ip()], 1).await;
    let mut gate = Gate::start(&dns).await;
    let table =
        || Outside::asking(gate.address).entry("api", by_dns("api.example.com", backend.address));
    let (allowed, denied) = (table(), sealed(table().guarded()));
    let (proxy, log) = allowed.start();
    let mut client = connect(A, proxy.address(80)).await;
    let request = b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let mut answered = 0;
    // Until the name has to be asked for again, while there is a connection to the backend that waits for requests.
    loop {
        client.write_all(request).await.unwrap();
        if answered > 0 {
            gate.is_open.send_replace(false);
        }
        let mut first = [0];
        tokio::select! {
            _ = client.peek(&mut first) => {}
            _ = gate.is_asked.wait_for(|is_asked| *is_asked) => break,
        }
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
        assert_eq!(read(&mut client, 2).await, b"up");
        answered += 1;
    }
    proxy.apply(denied);
    gate.is_open.send_replace(true);
    let answer = head(&mut client).await;
    assert_eq!(outcome(&answer), ("403", Some("revoked")), "{answer}");
    assert_eq!((backend.seen().len(), backend.connections()), (answered, 1));
    let line = log.departures(answered + 1).await.pop().unwrap();
    assert_eq!(
        (&line["verdict"], &line["reason"]),
        (&json!("refuse"), &json!("revoked"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_being_connected_ends_when_its_address_is_not_allowed_any_more() {
    let dns = FakeDns::start(&[], 60).await;
    // It takes connections, and does not begin with TLS.
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut entry = fixed("api.example.com", slow.local_addr().unwrap());
    entry["ports"][0]["tls"] = json!(0);
    entry["tls"] = json!([{}]);
    let table = || Outside::new(&dns).entry("api", entry.clone());
    let denied = sealed(table().guarded());
    let (proxy, log) = table().start();
    let url = "http://api.example.com/";
    let (answer, ()) = tokio::join!(proxy.fetch(A, url), async {
        let (mut reached, _) = slow.accept().await.unwrap();
        proxy.apply(denied);
        // The connection is given up with the request.
        rest(&mut reached).await;
    });
    assert_eq!(outcome(&answer), ("403", Some("revoked")), "{answer}");
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(line["reason"], "revoked");
}

/// The table, with another pod of namespace `a` at the address of [`A`], or none.
fn with_pod(outside: Outside, pod: Option<(&str, &str)>) -> Outside {
    let mut outside = outside;
    let key = WorkloadKey::of(A.into());
    outside.0.workloads.remove(&key);
    if let Some((pod, app)) = pod {
        let workload = Workload {
            namespace: "a".into(),
            service_account: "x".into(),
            pod: pod.into(),
            labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
            proxy_of: None,
        };
        outside.0.workloads.insert(key, Arc::new(workload));
    }
    outside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_with_the_pod_that_has_it_or_with_its_labels() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let table = |pod| {
        let mut entry = echo.entry("api.example.com", 22, "TCP");
        entry["exported_to"] = json!({"Namespaces": ["a"]});
        let deny: Value = json!({
            "scope": "Gateway", "action": "Deny", "from": [{"labels": [{"In": ["app", ["bad"]]}]}],
        });
        with_pod(Outside::new(&dns), pod)
            .entry("api", entry)
            .policy("bad", deny)
    };
    let (proxy, log) = table(Some(("a-1", "good"))).start();
    for (number, pod) in [None, Some(("a-2", "good")), Some(("a-1", "bad"))]
        .into_iter()
        .enumerate()
    {
        proxy.apply(sealed(table(Some(("a-1", "good")))));
        let mut tunnel = open(proxy.address(80), "api.example.com:22", b"x").await;
        assert_eq!(read(&mut tunnel, 1).await, b"x");
        proxy.apply(sealed(table(Some(("a-1", "better")))));
        tunnel.write_all(b"y").await.unwrap();
        assert_eq!(read(&mut tunnel, 1).await, b"y");
        proxy.apply(sealed(table(pod)));
        assert_eq!(rest(&mut tunnel).await, b"", "{pod:?}");
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(line["reason"], "revoked", "{pod:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_nobody_reads_ends_when_its_port_becomes_one_of_requests() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let table = |protocol| {
        let deny = json!({"scope": "Gateway", "action": "Deny", "to": [{"methods": ["DELETE"]}]});
        let outside =
            Outside::new(&dns).entry("api", echo.entry("api.example.com", 8080, protocol));
        if protocol == "HTTP" {
            outside.policy("deny", deny)
        } else {
            outside
        }
    };
    let (proxy, log) = table("TCP").start();
    for (number, (protocol, first)) in [("HTTP", b"x".to_vec()), ("TLS", b"x".to_vec())]
        .into_iter()
        .enumerate()
    {
        proxy.apply(sealed(table("TCP")));
        let mut tunnel = open(proxy.address(80), "api.example.com:8080", &first).await;
        assert_eq!(read(&mut tunnel, first.len()).await, first);
        proxy.apply(sealed(table(protocol)));
        assert_eq!(rest(&mut tunnel).await, b"", "{protocol}");
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(line["reason"], "revoked", "{protocol}");
    }
    // One that has greeted its host is what the port is for.
    proxy.apply(sealed(table("TCP")));
    let greeting = hello("api.example.com");
    let mut tunnel = open(proxy.address(80), "api.example.com:8080", &greeting).await;
    assert_eq!(read(&mut tunnel, greeting.len()).await, greeting);
    proxy.apply(sealed(table("TLS")));
    tunnel.write_all(b"y").await.unwrap();
    assert_eq!(read(&mut tunnel, 1).await, b"y");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_to_a_port_that_its_entry_has_left_ends() {
    let dns = FakeDns::start(&[[127, 0, 0, 1].into()], 60).await;
    for resolution in ["Static", "Dns"] {
        let (old, new) = (Echo::start().await, Echo::start().await);
        let entry = |echo: &Echo| {
            let mut entry = echo.entry("api.example.com", 9000, "TCP");
            if resolution == "Dns" {
                entry["resolution"] = json!("Dns");
                entry["endpoints"] = json!([]);
            }
            entry
        };
        let with = |echo: &Echo| Outside::new(&dns).entry("api", entry(echo));
        let (proxy, log) = with(&old).start();
        let mut tunnel = open(proxy.address(80), "api.example.com:9000", b"hello").await;
        assert_eq!(read(&mut tunnel, 5).await, b"hello");
        // Another entry changes nothing for it.
        let more = fixed("more.example.com", new.address);
        proxy.apply(sealed(with(&old).entry("more", more)));
        tunnel.write_all(b"again").await.unwrap();
        assert_eq!(read(&mut tunnel, 5).await, b"again");
        proxy.apply(sealed(with(&new)));
        assert_eq!(rest(&mut tunnel).await, b"", "{resolution}");
        let line = log.departures(1).await.pop().unwrap();
        assert_eq!(line["reason"], "revoked", "{line}");
        let mut tunnel = open(proxy.address(80), "api.example.com:9000", b"hello").await;
        assert_eq!(read(&mut tunnel, 5).await, b"hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_to_an_endpoint_that_its_entry_lists_no_more_ends_whatever_dns_says() {
    let here = [127, 0, 0, 1].into();
    let dns = FakeDns::start(&[here], 0).await;
    let echo = Echo::start().await;
    let with = |endpoints: &[&str]| {
        let mut entry = echo.entry("api.example.com", 9000, "TCP");
        entry["resolution"] = json!("Dns");
        let endpoints = endpoints.iter().map(|host| json!({"host": host}));
        entry["endpoints"] = endpoints.collect();
        Outside::new(&dns).entry("api", entry)
    };
    let (proxy, log) = with(&[]).start();
    let (one, two) = ("one.example.net", "two.example.net");
    for (number, (before, still, after)) in [
        (&[one][..], &[two, one][..], &[two][..]),
        (&[one], &[one, "127.0.0.9"], &[]),
        // The same address, by its own name.
        (&[one], &["127.0.0.1"], &["127.0.0.9", two]),
        (&["127.0.0.1"], &[two, "127.0.0.1"], &[two]),
        // It was found by both.
        (&[one, two], &[two], &["127.0.0.9"]),
        (&["127.0.0.1", one], &[one], &[two]),
        (&["127.0.0.1"], &["127.0.0.1"], &["api.example.com"]),
        (&[], &["api.example.com", two], &[two]),
    ]
    .into_iter()
    .enumerate()
    {
        dns.change(&[here]);
        proxy.apply(sealed(with(before)));
        let mut tunnel = open(proxy.address(80), "api.example.com:9000", b"hello").await;
        assert_eq!(read(&mut tunnel, 5).await, b"hello");
        dns.change(&[[127, 0, 0, 9].into()]);
        proxy.apply(sealed(with(still)));
        tunnel.write_all(b"again").await.unwrap();
        assert_eq!(read(&mut tunnel, 5).await, b"again", "{still:?}");
        proxy.apply(sealed(with(after)));
        assert_eq!(rest(&mut tunnel).await, b"", "{after:?}");
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(line["reason"], "revoked", "{line}");
    }
}
