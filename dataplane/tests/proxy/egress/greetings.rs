//! The first bytes of tunnels in which anything may be spoken, and of those to addresses; and refusals before any of it.

use portcullis_routing::egress::PolicyMode;
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::tunnels::{Echo, hello, open, read, rest};
use crate::support::{
    Backend,
    fake_dns::FakeDns,
    outside::{A, Outside, fixed, outcome},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_in_a_tunnel_for_anything_names_its_host_or_nobody() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let mut entry = echo.entry("api.example.com", 9000, "TCP");
    entry["addresses"] = json!(["192.0.2.7/32"]);
    let (proxy, log) = Outside::new(&dns).entry("api", entry).start();
    let mut count = 0;
    for (authority, first) in [
        ("api.example.com:9000", hello("api.example.com")),
        // No name at all.
        ("api.example.com:9000", hello("192.0.2.1")),
        ("api.example.com:9000", b"SSH-2.0-x\r\n".to_vec()),
        ("api.example.com:9000", vec![0x80]),
        // The first byte of TLS, and none of a greeting behind what could be a record's header.
        ("api.example.com:9000", vec![22, 0, 0, 0, 1, 0, 0, 0]),
        (
            "api.example.com:9000",
            in_an_odd_version(&hello("api.example.com")),
        ),
        ("192.0.2.7:9000", hello("192.0.2.7")),
        ("192.0.2.7:9000", hello("api.example.com")),
    ] {
        let mut tunnel = open(proxy.address(80), authority, &first).await;
        tunnel.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel).await, first, "{authority}");
        count += 1;
        let line = log.departures(count).await.pop().unwrap();
        assert_eq!(line["verdict"], "allow", "{line}");
        assert_eq!(line["ech"], json!(null));
    }
    let before = echo.received.load(std::sync::atomic::Ordering::SeqCst);
    let other = hello("other.example.com");
    for (authority, first) in [
        ("api.example.com:9000", &other),
        ("api.example.com:9000", &in_an_odd_version(&other)),
        ("192.0.2.7:9000", &other),
    ] {
        let mut tunnel = open(proxy.address(80), authority, first).await;
        // Alert: fatal, unrecognized_name.
        assert_eq!(rest(&mut tunnel).await, [21, 3, 3, 0, 2, 2, 112]);
        count += 1;
        let line = log.departures(count).await.pop().unwrap();
        assert_eq!(line["reason"], "sni_mismatch", "{line}");
        assert_eq!(line["sni"], "other.example.com");
    }
    let after = echo.received.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(before, after);
}

/// A greeting with its first byte in a record of its own, whose version is one that no TLS has.
fn in_an_odd_version(greeting: &[u8]) -> Vec<u8> {
    let message = &greeting[5..];
    let length = u16::try_from(message.len() - 1).unwrap().to_be_bytes();
    let first = [22, 2, 1, 0, 1, message[0]];
    [&first, &[22, 3, 1][..], &length, &message[1..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_begins_as_tls_does_keeps_no_host_from_speaking_and_other_words_wait_for_nothing()
{
    let dns = FakeDns::start(&[], 60).await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut entry = fixed("api.example.com", host.local_addr().unwrap());
    let target = host.local_addr().unwrap().port();
    entry["ports"] = json!([{"number": 9000, "protocol": "TCP", "target_port": target}]);
    let (proxy, log) = Outside::new(&dns).entry("api", entry).start();
    for first in [&[22][..], &[22, 3, 1, 0]] {
        let mut tunnel = open(proxy.address(80), "api.example.com:9000", first).await;
        let (mut reached, _) = host.accept().await.unwrap();
        reached.write_all(b"welcome").await.unwrap();
        assert_eq!(read(&mut tunnel, 7).await, b"welcome");
        // What was held back comes whole, and what is behind it.
        tunnel.write_all(b"more").await.unwrap();
        let whole = [first, b"more"].concat();
        assert_eq!(read(&mut reached, whole.len()).await, whole);
    }
    for first in [&[0x80][..], &[0x80, 0x2e, 1], &[0xff, 0xff], &[22, 16]] {
        let _tunnel = open(proxy.address(80), "api.example.com:9000", first).await;
        let (mut reached, _) = host.accept().await.unwrap();
        assert_eq!(read(&mut reached, first.len()).await, first);
    }
    let lines = log.departures(2).await;
    assert!(lines.iter().all(|it| it["verdict"] == "allow"), "{lines:?}");
}

/// A table that only tells of hosts that no entry opens, and refuses one.
fn only_told(dns: &FakeDns, refused: &str) -> Outside {
    let deny = json!({"scope": "Gateway", "action": "Deny", "to": [{"hosts": [refused]}]});
    Outside::new(dns)
        .settings(|egress| egress.mode = PolicyMode::Report)
        .policy("deny", deny)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_hosts_are_only_told_so_are_greetings_unless_their_host_is_refused() {
    let echo = Echo::start().await;
    let dns = FakeDns::start(&[echo.address.ip()], 60).await;
    let (proxy, log) = only_told(&dns, "denied.example.com").start();
    let port = echo.address.port();
    let (named, addressed) = (
        format!("some.example.com:{port}"),
        format!("127.0.0.1:{port}"),
    );
    let mut count = 0;
    for (authority, first, sni, detail) in [
        (
            &named,
            hello("some.example.com"),
            json!("some.example.com"),
            json!(null),
        ),
        (
            &named,
            hello("other.example.com"),
            json!("other.example.com"),
            json!("sni_mismatch"),
        ),
        (
            &addressed,
            hello("other.example.com"),
            json!("other.example.com"),
            json!("sni_mismatch"),
        ),
        (&named, b"SSH-2.0-x\r\n".to_vec(), json!(null), json!(null)),
    ] {
        let mut tunnel = open(proxy.address(80), authority, &first).await;
        tunnel.shutdown().await.unwrap();
        assert_eq!(rest(&mut tunnel).await, first, "{authority} {sni}");
        count += 1;
        let line = log.departures(count).await.pop().unwrap();
        let told = (
            &line["verdict"],
            &line["reason"],
            &line["sni"],
            &line["detail"],
        );
        assert_eq!(
            told,
            (&json!("report"), &json!("host_not_listed"), &sni, &detail)
        );
    }
    for authority in [&named, &addressed] {
        let mut tunnel = open(proxy.address(80), authority, &hello("denied.example.com")).await;
        // Alert: fatal, access_denied.
        assert_eq!(rest(&mut tunnel).await, [21, 3, 3, 0, 2, 2, 49]);
        count += 1;
        let line = log.departures(count).await.pop().unwrap();
        let told = (&line["verdict"], &line["reason"], &line["policy"]);
        assert_eq!(
            told,
            (
                &json!("refuse"),
                &json!("denied_by_policy"),
                &json!("egresspolicy/test/deny")
            )
        );
    }
    // That holds for what has passed before as well.
    let greeting = hello("other.example.com");
    let mut tunnel = open(proxy.address(80), &addressed, &greeting).await;
    assert_eq!(read(&mut tunnel, greeting.len()).await, greeting);
    let mut table = only_told(&dns, "other.example.com").0;
    table.seal();
    proxy.apply(table);
    assert_eq!(rest(&mut tunnel).await, b"");
    let line = log.departures(count + 1).await.pop().unwrap();
    assert_eq!(line["reason"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_hosts_are_only_told_port_443_is_for_anything() {
    // An unlisted host is reached at the very port that is asked for, and not everybody may listen there.
    let Ok(host) = TcpListener::bind("127.0.0.9:443").await else {
        return;
    };
    let dns = FakeDns::start(&["127.0.0.9".parse().unwrap()], 60).await;
    let (proxy, log) = only_told(&dns, "denied.example.com").start();
    let no_name = hello("192.0.2.1");
    for (number, (first, answer, detail)) in [
        (&b"SSH-2.0-x\r\n"[..], &b"SSH-2.0-y\r\n"[..], "not_tls"),
        (b"", b"220 mail\r\n", "not_tls"),
        (&no_name, b"hello", "sni_missing"),
    ]
    .into_iter()
    .enumerate()
    {
        let serve = async {
            let (mut stream, _) = host.accept().await.unwrap();
            assert_eq!(read(&mut stream, first.len()).await, first);
            stream.write_all(answer).await.unwrap();
        };
        let client = async {
            let mut tunnel = open(proxy.address(80), "some.example.com:443", first).await;
            assert_eq!(read(&mut tunnel, answer.len()).await, answer);
        };
        tokio::join!(serve, client);
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(
            (&line["verdict"], &line["detail"]),
            (&json!("report"), &json!(detail))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_speak_first_where_anything_is_spoken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dns = FakeDns::start(&[], 60).await;
    let mut entry = fixed("mail.example.com", address);
    entry["ports"] = json!([{"number": 25, "protocol": "TCP", "target_port": address.port()}]);
    let (proxy, _) = Outside::new(&dns).entry("mail", entry).start();
    let greet = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail\r\n").await.unwrap();
        assert_eq!(read(&mut stream, 4).await, b"EHLO");
    };
    let client = async {
        let mut tunnel = open(proxy.address(80), "mail.example.com:25", b"").await;
        assert_eq!(read(&mut tunnel, 10).await, b"220 mail\r\n");
        tunnel.write_all(b"EHLO").await.unwrap();
        tunnel
    };
    tokio::join!(greet, client);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_address_names_no_host() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let mut entry = echo.entry("api.example.com", 443, "TLS");
    entry["addresses"] = json!(["192.0.2.7/32"]);
    let (proxy, log) = Outside::new(&dns).entry("api", entry).start();
    for (first, reason) in [
        (hello("192.0.2.7"), "allowed"),
        (hello("api.example.com"), "allowed"),
        (hello("other.example.com"), "sni_mismatch"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_tls"),
    ] {
        let before = log.of_kind("egress").count();
        let mut tunnel = open(proxy.address(80), "192.0.2.7:443", &first).await;
        tunnel.shutdown().await.unwrap();
        let heard = rest(&mut tunnel).await;
        assert_eq!(heard == first, reason == "allowed", "{reason}");
        let line = log.departures(before + 1).await.pop().unwrap();
        assert_eq!(line["reason"], reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_anything_was_asked_leaves_one_line_too() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let entry = fixed("api.example.com", backend.address);
    let (proxy, log) = Outside::new(&dns).entry("api", entry).start();
    let host = "Host: api.example.com\r\n";
    for (number, (request, reason)) in [
        (
            format!("GET / HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n"),
            "bad_request",
        ),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), "bad_request"),
        (
            format!("TRACE / HTTP/1.1\r\n{host}\r\n"),
            "method_not_allowed",
        ),
        (format!("GET /%zz HTTP/1.1\r\n{host}\r\n"), "bad_path"),
        (
            "GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n".to_owned(),
            "bad_request",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = proxy.tell(A, &request).await;
        assert_eq!(outcome(&answer).1, Some(reason), "{answer}");
        let told = log.departures(number + 1).await;
        assert_eq!(told.len(), number + 1, "{told:?}");
        let line = &told[number];
        assert_eq!(
            (&line["verdict"], &line["reason"]),
            (&json!("refuse"), &json!(reason))
        );
        assert_eq!(line["caller"]["namespace"], "a");
    }
}
