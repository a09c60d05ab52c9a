//! Requests by absolute form and by Host: what passes, what does not, and what is told of it.

use bytes::Bytes;
use http::Request;
use portcullis_routing::egress::{DecisionLog, PolicyMode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{
    Backend,
    client::{get, http2},
    fake_dns::FakeDns,
    outside::{A, B, Outside, STRANGER, connect, fixed, outcome},
};

#[tokio::test(flavor = "multi_thread")]
async fn listed_hosts_are_reached_in_every_form_and_hear_nothing_of_us() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let entry = fixed("api.example.com", backend.address);
    let (proxy, log) = Outside::new(&dns).entry("api", entry).start();
    let fields = "Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\nX-Forwarded-For: 192.0.2.1\r\n\
                  Connection: close\r\n\r\n";
    for head in [
        "GET http://API.example.com./one?q=1 HTTP/1.1\r\nHost: api.EXAMPLE.com.\r\n",
        "GET /one?q=1 HTTP/1.1\r\nHost: api.example.com:80\r\n",
    ] {
        let answer = proxy.tell(A, &format!("{head}{fields}")).await;
        assert!(answer.ends_with("\r\n\r\nup"), "{answer}");
    }
    let over_http2 = get("api.example.com", "/one?q=1");
    let answer = http2(proxy.address(80), over_http2).await;
    assert_eq!(answer.text(), "up");

    let seen = backend.seen();
    assert_eq!(seen.len(), 3);
    for (number, request) in seen.iter().enumerate() {
        assert_eq!(request.target, "/one?q=1");
        assert_eq!(request.headers["host"], "api.example.com");
        let names: Vec<_> = request
            .headers
            .keys()
            .map(http::HeaderName::as_str)
            .collect();
        let passed = ["host", "x-forwarded-for"];
        assert_eq!(
            names,
            if number < 2 {
                &passed[..]
            } else {
                &passed[..1]
            }
        );
    }

    let told = log.departures(3).await;
    assert_eq!(
        told.iter()
            .map(|line| line["form"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["absolute", "host", "host"]
    );
    let mut first = told[0].clone();
    for varying in ["time", "duration_ms"] {
        assert!(first.as_object_mut().unwrap().remove(varying).is_some());
    }
    assert_eq!(
        first,
        json!({
            "kind": "egress",
            "gateway": "test/gateway",
            "caller": {"namespace": "a", "service_account": "x", "pod": "a-1", "ip": A, "identity": "pod"},
            "form": "absolute", "host": "api.example.com", "port": 80, "address": backend.address.to_string(),
            "verdict": "allow", "reason": "allowed", "entry": "serviceentry/test/api", "bytes_in": 0, "bytes_out": 2,
        })
    );
    let allowed = r#"portcullis_egress_decisions_total{verdict="allow",reason="allowed",entry="serviceentry/test/api"}"#;
    proxy.reaches(allowed, 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_listed_is_refused_in_words_that_help() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let mut own = fixed("own.example.com", backend.address);
    own["exported_to"] = json!({"Namespaces": ["b"]});
    let mut tls = fixed("tls.example.com", backend.address);
    tls["ports"] = json!([{"number": 443, "protocol": "TLS"}]);
    let mut shut = fixed("shut.example.com", backend.address);
    shut["ports"][0]["shut"] = json!(true);
    let deny = json!({
        "scope": "Gateway", "action": "Deny", "from": [{"namespaces": ["a"]}], "to": [{"paths": [{"Prefix": "/admin"}]}],
    });
    let (proxy, log) = Outside::new(&dns)
        .entry("api", fixed("api.example.com", backend.address))
        .entry("own", own)
        .entry("tls", tls)
        .entry("shut", shut)
        .policy("admin", deny)
        .start();
    let unlisted = |place: &str, port: u16| {
        format!(
            "host_not_listed: {place}:{port} is not listed for a/x.\nTo allow it, apply a ServiceEntry with hosts: [{place}] and \
             port {port} (protocol HTTP), exported to namespace a.\n"
        )
    };
    let cases = [
        (A, "http://other.example.com/", "host_not_listed", unlisted("other.example.com", 80)),
        (A, "http://api.example.com:81/", "port_not_listed", unlisted("api.example.com", 81)),
        // That others have it is not said.
        (A, "http://own.example.com/", "not_exported", unlisted("own.example.com", 80)),
        (
            STRANGER,
            "http://own.example.com/",
            "unknown_caller",
            "unknown_caller: own.example.com:80 is open to some callers only, and who calls is not known.\nTo allow it, call from a \
             pod of the cluster without address translation on the way.\n".into(),
        ),
        (
            A,
            "http://shut.example.com/",
            "entry_shut",
            "entry_shut: shut.example.com:80 is listed, but the entry for it cannot be served.\nTo allow it, mend the entry: its \
             conditions say what is wrong with it.\n".into(),
        ),
        (
            A,
            "http://tls.example.com:443/",
            "protocol_not_listed",
            "protocol_not_listed: tls.example.com:443 is listed for TLS, not for HTTP requests in clear text.\nAsk for it by a \
             tunnel (CONNECT, as clients do for https://); or have the entry for it list port 443 with protocol HTTP. A second \
             ServiceEntry for the port does not help.\n".into(),
        ),
        (
            A,
            "http://api.example.com/x/../admin/users?token=secret",
            "denied_by_policy",
            "denied_by_policy: GET /admin/users of api.example.com:80 is denied to a/x by a policy of the Gateway's namespace.\nTo allow it, \
             change that EgressPolicy.\n".into(),
        ),
    ];
    for (number, (from, url, reason, words)) in cases.into_iter().enumerate() {
        let answer = proxy.fetch(from, url).await;
        let told = words.split(':').next();
        assert_eq!(outcome(&answer), ("403", told), "{url}: {answer}");
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, words);
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(
            (&line["verdict"], &line["reason"]),
            (&json!("refuse"), &json!(reason)),
            "{url}"
        );
        assert_eq!(line["address"], json!(null));
        let blamed = match reason {
            "denied_by_policy" => (json!("GET"), json!("/admin/users")),
            _ => (json!(null), json!(null)),
        };
        assert_eq!((line["method"].clone(), line["path"].clone()), blamed);
    }
    assert!(
        proxy
            .fetch(B, "http://own.example.com/")
            .await
            .ends_with("up")
    );
    assert_eq!(backend.seen().len(), 1);
    for (verdict, reason, entry) in [
        ("refuse", "not_exported", "_none"),
        ("refuse", "_other", "serviceentry/test/tls"),
        ("refuse", "denied_by_policy", "serviceentry/test/api"),
    ] {
        let series = format!(
            r#"portcullis_egress_decisions_total{{verdict="{verdict}",reason="{reason}",entry="{entry}"}}"#
        );
        proxy.reaches(&series, 1.0).await;
    }
}

/// An entry alone would not help, or nothing would.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_inside_is_reached_without_the_proxy() {
    let dns = FakeDns::start(&[], 60).await;
    let (proxy, _) = Outside::new(&dns).start();
    let cases = [
        (
            "http://192.0.2.7/",
            "host_not_listed: 192.0.2.7:80 is not listed for a/x.\nIf it is in the cluster, reach it without the proxy, by 192.0.2.7 \
             in NO_PROXY of the caller. To allow it here, apply a ServiceEntry with addresses: [192.0.2.7], resolution NONE and port 80 \
             (protocol HTTP), exported to namespace a, and have 192.0.2.7/32 in allowPrivate of an EgressPolicy of the Gateway's \
             namespace that allows it.\n",
        ),
        (
            "http://1.1.1.1/",
            "host_not_listed: 1.1.1.1:80 is not listed for a/x.\nTo allow it, apply a ServiceEntry with addresses: [1.1.1.1], \
             resolution NONE and port 80 (protocol HTTP), exported to namespace a; or ask for a host that is listed by its name.\n",
        ),
        (
            "http://127.0.0.1:8080/",
            "host_not_listed: 127.0.0.1:8080 is not listed for a/x.\nWhatever answers there is beside the proxy and not beside the \
             caller: reach it without the proxy, by 127.0.0.1 in NO_PROXY of the caller.\n",
        ),
        (
            "http://web.shop.svc/",
            "host_not_listed: web.shop.svc:80 is not listed for a/x.\nIf it is in the cluster, reach it without the proxy, by \
             web.shop.svc in NO_PROXY of the caller. To allow it, apply a ServiceEntry with hosts: [web.shop.svc] and port 80 \
             (protocol HTTP), exported to namespace a.\n",
        ),
    ];
    for (url, words) in cases {
        let answer = proxy.fetch(A, url).await;
        assert_eq!(outcome(&answer), ("403", Some("host_not_listed")), "{url}");
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_with_two_meanings_is_none() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let mut entry = fixed("api.example.com", backend.address);
    entry["addresses"] = json!(["0.0.0.0/0"]);
    let (proxy, log) = Outside::new(&dns).entry("api", entry).start();
    let spellings = [
        "0x7f.1",
        "2130706433",
        "127.1",
        "a..b",
        "-a.example.com",
        "1.2.3.4.5",
        "xn--a.example.com",
    ];
    for (number, host) in spellings.into_iter().enumerate() {
        let answer = proxy.fetch(A, &format!("http://{host}/")).await;
        assert_eq!(
            outcome(&answer),
            ("400", Some("bad_destination")),
            "{host}: {answer}"
        );
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(
            (&line["host"], &line["reason"]),
            (&json!(host), &json!("bad_destination"))
        );
        assert!(line["detail"].is_string(), "{line}");
    }
    for refused in [
        "GET http://user@api.example.com/ HTTP/1.1\r\nHost: user@api.example.com\r\n\r\n",
        "GET http://api.example.com/ HTTP/1.1\r\nHost: other.example.com\r\n\r\n",
    ] {
        let answer = proxy.tell(A, refused).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(backend.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_mode_report_it_passes_and_is_told() {
    let backend = Backend::start("up").await;
    let dns = FakeDns::start(&[backend.address.ip()], 60).await;
    let (proxy, log) = Outside::new(&dns)
        .settings(|egress| {
            egress.mode = PolicyMode::Report;
            egress.decision_log = DecisionLog::Refused;
        })
        .entry("api", fixed("api.example.com", backend.address))
        .private_for_a()
        .start();
    let port = backend.address.port();
    let url = format!("http://other.example.com:{port}/");
    assert!(
        proxy
            .fetch(A, "http://api.example.com/")
            .await
            .ends_with("up")
    );
    assert!(proxy.fetch(A, &url).await.ends_with("up"));
    assert_eq!(
        outcome(&proxy.fetch(B, &url).await),
        ("403", Some("address_refused"))
    );
    assert_eq!(
        backend.seen()[1].headers["host"],
        format!("other.example.com:{port}")
    );
    let told = log.departures(2).await;
    let verdicts: Vec<_> = told
        .iter()
        .map(|line| (&line["verdict"], &line["reason"]))
        .collect();
    let (report, refuse) = (json!("report"), json!("refuse"));
    let (unlisted, refused) = (json!("host_not_listed"), json!("address_refused"));
    assert_eq!(verdicts, [(&report, &unlisted), (&refuse, &refused)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_mode_report_a_host_is_spoken_to_as_most_hosts_speak() {
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = host.local_addr().unwrap();
    let dns = FakeDns::start(&[address.ip()], 60).await;
    let (proxy, _) = Outside::new(&dns)
        .settings(|egress| egress.mode = PolicyMode::Report)
        .start();
    let stream = connect(A, proxy.address(80)).await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let url = format!("http://other.example.com:{}/", address.port());
    let request = http::Request::get(url).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let (mut reached, _) = host.accept().await.unwrap();
    let mut head = [0; 16];
    reached.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"GET / HTTP/1.1\r\n");
    reached
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(answer.await.unwrap().status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_the_table_learns_of_later_is_known_from_then_on() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let mut entry = fixed("api.example.com", backend.address);
    entry["exported_to"] = json!({"Namespaces": ["a"]});
    let table = |with_pods: bool| {
        let mut outside = Outside::new(&dns).entry("api", entry.clone());
        if !with_pods {
            outside.0.workloads.clear();
        }
        outside
    };
    let (proxy, _) = table(false).start();
    let stream = crate::support::outside::connect(A, proxy.address(80)).await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut status = async || {
        let request = Request::builder().header("host", "api.example.com");
        let request = request
            .body(http_body_util::Full::new(Bytes::new()))
            .unwrap();
        sender.ready().await.unwrap();
        sender
            .send_request(request)
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status().await, 403);
    let mut known = table(true).0;
    known.seal();
    proxy.apply(known);
    assert_eq!(status().await, 200);
}
