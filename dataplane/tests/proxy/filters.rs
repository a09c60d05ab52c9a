//! Filters, as client and backend see them.

use std::{net::SocketAddr, time::Duration};

use portcullis_routing::{
    Filter, RouteAction,
    filter::{Cors, HeaderField, HeaderModifier, Mirror, PathModifier, Redirect, UrlRewrite},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{Backend, Proxy, TableBuilder, client, table};

fn set(name: &str, value: &str) -> HeaderModifier {
    HeaderModifier {
        set: vec![HeaderField {
            name: name.into(),
            value: value.into(),
        }],
        ..HeaderModifier::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backends_headers_come_after_the_rules() {
    let backend = Backend::start("b").await;
    let mut weighted = table::weighted("b", 1);
    weighted.filters = vec![
        Filter::RequestHeaders(set("x-from", "backend")),
        Filter::ResponseHeaders(set("x-to", "backend")),
    ];
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .action("/", RouteAction::Forward(vec![weighted]), |route| {
            route.filters = vec![
                Filter::RequestHeaders(set("x-from", "rule")),
                Filter::RequestHeaders(set("x-rule", "1")),
                Filter::ResponseHeaders(HeaderModifier {
                    remove: vec!["x-backend".into()],
                    ..set("x-to", "rule")
                }),
            ];
        });
    let proxy = Proxy::start(table);
    let answer = proxy.get("a", "/").await;
    assert_eq!(answer.header("x-to"), "rule");
    assert!(!answer.headers.contains_key("x-backend"));
    let seen = backend.only();
    assert_eq!(
        (&seen.headers["x-from"], &seen.headers["x-rule"]),
        (&"backend".parse().unwrap(), &"1".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrites_host_and_path() {
    let backend = Backend::start("b").await;
    let rewrite = UrlRewrite {
        hostname: Some("inner.example".into()),
        path: Some(PathModifier::ReplacePrefix("/new".into())),
    };
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .route("/old", "b", table::with_filter(Filter::UrlRewrite(rewrite)));
    let proxy = Proxy::start(table);
    proxy.get("outer.example", "/old/x?q=1").await;
    let seen = backend.only();
    assert_eq!(seen.target, "/new/x?q=1");
    assert_eq!(seen.headers["host"], "inner.example");
    assert_eq!(seen.headers["x-forwarded-host"], "outer.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_without_asking_a_backend() {
    let redirect = Redirect {
        scheme: Some("https".into()),
        hostname: None,
        port: None,
        path: Some(PathModifier::ReplaceFull("/there".into())),
        status: 308,
    };
    let proxy =
        Proxy::start(TableBuilder::default().action("/", RouteAction::Redirect(redirect), |_| {}));
    let answer = proxy.get("a.example:8080", "/here?q=1").await;
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), "https://a.example/there?q=1");
    assert!(answer.body.is_empty());
}

/// HTTP/1.0 knows requests without a host.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_never_names_an_empty_host() {
    let moved = Redirect {
        scheme: None,
        hostname: None,
        port: None,
        path: Some(PathModifier::ReplaceFull("/there".into())),
        status: 302,
    };
    let https = Redirect {
        scheme: Some("https".into()),
        ..moved.clone()
    };
    let proxy = Proxy::start(
        TableBuilder::default()
            .action("/", RouteAction::Redirect(moved), |_| {})
            .action("/https", RouteAction::Redirect(https), |_| {}),
    );
    let answer = client::raw(proxy.address(80), b"GET /here?q=1 HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("location: /there?q=1\r\n"), "{answer}");
    let answer = client::raw(proxy.address(80), b"GET /https HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_answers_preflights_and_marks_responses() {
    let backend = Backend::start("b").await;
    let cors = Cors {
        allow_origins: vec!["https://*.example.com".into()],
        allow_methods: vec!["PUT".into()],
        max_age: 60,
        ..Cors::default()
    };
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .route("/", "b", table::with_filter(Filter::Cors(cors)));
    let proxy = Proxy::start(table);
    let mut preflight = client::request("OPTIONS", "a", "/", "");
    preflight
        .headers_mut()
        .insert("origin", "https://www.example.com".parse().unwrap());
    preflight
        .headers_mut()
        .insert("access-control-request-method", "PUT".parse().unwrap());
    let answer = proxy.send(preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-methods"), "PUT");
    assert!(backend.seen().is_empty(), "a preflight is not forwarded");
    let mut request = client::get("a", "/");
    request
        .headers_mut()
        .insert("origin", "https://www.example.com".parse().unwrap());
    let answer = proxy.send(request).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://www.example.com"
    );
    assert_eq!(answer.text(), "b");
}

fn mirror(cluster: &str, numerator: u32, denominator: u32) -> Filter {
    Filter::Mirror(Mirror {
        cluster: table::cluster_key(cluster),
        numerator,
        denominator,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_get_the_whole_request() {
    let (main, one, two) = (
        Backend::start("main").await,
        Backend::start("one").await,
        Backend::start("two").await,
    );
    let table = TableBuilder::default()
        .cluster("main", &[main.address])
        .cluster("one", &[one.address])
        .cluster("two", &[two.address])
        .cluster("never", &[])
        .route("/", "main", |route| {
            route.filters = vec![
                mirror("one", 1, 1),
                mirror("two", 100, 100),
                mirror("two", 0, 100),
                mirror("never", 1, 1),
            ];
        });
    let proxy = Proxy::start(table);
    let answer = proxy
        .send(client::request("POST", "a", "/x?q", "body"))
        .await;
    assert_eq!(answer.text(), "main");
    for backend in [&one, &two] {
        backend.wait_seen(1).await;
        let seen = backend.only();
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str(), &seen.body[..]),
            ("POST", "/x?q", b"body".as_slice())
        );
        assert_eq!(
            seen.headers["x-request-id"],
            main.only().headers["x-request-id"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_hangs_delays_nobody() {
    let (main, slow) = (Backend::start("main").await, Backend::start("slow").await);
    let rewrite = UrlRewrite {
        hostname: None,
        path: Some(PathModifier::ReplaceFull("/hang".into())),
    };
    let mut weighted = table::weighted("main", 1);
    weighted.filters = vec![Filter::UrlRewrite(UrlRewrite {
        path: Some(PathModifier::ReplaceFull("/".into())),
        ..rewrite.clone()
    })];
    let table = TableBuilder::default()
        .cluster("main", &[main.address])
        .cluster("slow", &[slow.address])
        .action("/", RouteAction::Forward(vec![weighted]), |route| {
            route.filters = vec![mirror("slow", 1, 1)];
        });
    let proxy = Proxy::start(table);
    for _ in 0..10 {
        assert_eq!(
            proxy
                .send(client::request("POST", "a", "/hang", vec![b'x'; 200_000]))
                .await
                .status,
            200
        );
    }
}

/// An endpoint that reads, says `answer` and closes.
async fn breaking(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 1024]).await;
            _ = stream.write_all(answer).await;
        }
    });
    address
}

/// Copies go to a good endpoint and `bad` until the metric is above `least`.
async fn copied_until(bad: SocketAddr, metric: &str, least: f64) -> Proxy {
    let (main, good) = (Backend::start("main").await, Backend::start("good").await);
    let table = TableBuilder::default()
        .cluster("main", &[main.address])
        .cluster("copies", &[good.address, bad])
        .route("/", "main", |route| {
            route.filters = vec![mirror("copies", 1, 1)];
        });
    let proxy = Proxy::start(table);
    let copied = async {
        while proxy.metric(metric) < least {
            assert_eq!(proxy.get("a", "/").await.status, 200);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), copied)
        .await
        .unwrap_or_else(|_| panic!("{metric} comes to {least}"));
    proxy
}

/// As for requests of clients: three in a row, and it gets no more for a while.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_breaks_copies_is_ejected() {
    copied_until(
        breaking(b"").await,
        "portcullis_upstream_ejections_total",
        1.0,
    )
    .await;
}

/// Nobody reads the answer, and one that comes early may end the copy.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_answered_a_copy_is_not_ejected() {
    let bad = breaking(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nearly").await;
    let failed = "portcullis_mirrors_total{result=\"failed\"}";
    let proxy = copied_until(bad, failed, 8.0).await;
    assert!(proxy.metric("portcullis_upstream_ejections_total") < 0.1);
}
