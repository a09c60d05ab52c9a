//! Credentials of rules and backends: who gets them, and who never does.

use http::HeaderValue;
use portcullis_routing::{
    Filter, Millis, RouteAction,
    filter::{Mirror, Redirect, credential::MAX_CREDENTIALS},
    policy::Retry,
};

use crate::support::{
    Backend, Log, Proxy, TableBuilder, client,
    table::{self, credential},
};

const VALUE: &str = "Bearer hunter2";

/// A table with the credential `ours`.
fn with_ours() -> TableBuilder {
    TableBuilder::default().credential("ours", ("authorization", VALUE), true)
}

fn set(name: &str, value: &str) -> Filter {
    let set = serde_json::json!({"RequestHeaders": {"set": [{"name": name, "value": value}]}});
    serde_json::from_value(set).unwrap()
}

/// A request that has an `Authorization` of its own.
fn knowing(path: &str) -> http::Request<bytes::Bytes> {
    let mut request = client::get("a", path);
    let own = HeaderValue::from_static("Basic own");
    request.headers_mut().insert("authorization", own);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_gets_them_in_place_of_what_the_client_sent() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let mut own = table::weighted("two", 1);
    own.filters = vec![credential("own")];
    let table = with_ours()
        .credential("unless", ("authorization", VALUE), false)
        .credential("own", ("authorization", "Bearer of-backend"), true)
        .credential("key", ("x-api-key", "key"), true)
        .cluster("one", &[one.address])
        .h2c_cluster("two", &[two.address])
        .route("/one", "one", |route| {
            // After every other change of the request, wherever it stands.
            route.filters = vec![
                credential("ours"),
                set("authorization", "Basic rule"),
                credential("key"),
            ];
        })
        .action("/two", RouteAction::Forward(vec![own]), |route| {
            route.filters = vec![credential("ours")];
        })
        .route("/kept", "one", |route| {
            route.filters = vec![credential("unless")];
        });
    let log = Log::default();
    let proxy = Proxy::start_with_log(table, Box::new(log.clone()));
    for request in [client::get("a", "/one"), knowing("/one")] {
        assert_eq!(proxy.send(request).await.status, 200);
    }
    for seen in one.seen() {
        let values: Vec<_> = seen.headers.get_all("authorization").iter().collect();
        assert_eq!(values, [VALUE]);
        assert_eq!(seen.headers["x-api-key"], "key");
    }
    let answer = proxy.send(knowing("/two")).await;
    assert_eq!(answer.text(), "two");
    let of_backend = "Bearer of-backend";
    assert_eq!(two.only().headers["authorization"], of_backend);

    proxy.send(knowing("/kept")).await;
    proxy.send(client::get("a", "/kept")).await;
    let kept: Vec<_> = one.seen().split_off(2);
    let kept: Vec<_> = kept.iter().map(|it| &it.headers["authorization"]).collect();
    assert_eq!(kept, ["Basic own", VALUE]);

    tokio::task::spawn_blocking(move || proxy.shutdown())
        .await
        .unwrap();
    let mut told = String::new();
    for path in ["/one", "/two", "/kept"] {
        for line in log.lines(path) {
            told += &line.to_string();
        }
    }
    assert_eq!(told.matches("\"path\"").count(), 5, "{told}");
    assert!(
        !told.contains("hunter2") && !told.contains("of-backend"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_request_does_not_have_them() {
    let (main, copies) = (Backend::start("main").await, Backend::start("copies").await);
    let copy = Filter::Mirror(Mirror {
        cluster: table::cluster_key("copies"),
        numerator: 1,
        denominator: 1,
    });
    let table = with_ours()
        .cluster("main", &[main.address])
        .cluster("copies", &[copies.address])
        .route("/", "main", |route| {
            route.filters = vec![credential("ours"), copy];
        });
    let proxy = Proxy::start(table);
    proxy.get("a", "/").await;
    copies.wait_seen(1).await;
    assert_eq!(copies.only().headers.get("authorization"), None);
    assert_eq!(main.only().headers["authorization"], VALUE);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_has_them_and_a_redirect_has_not() {
    let backend = Backend::start("b").await;
    let redirect = Redirect {
        scheme: Some("https".into()),
        hostname: Some("elsewhere.example".into()),
        port: None,
        path: None,
        status: 302,
    };
    let table = with_ours()
        .cluster("b", &[backend.address])
        .route("/flaky", "b", |route| {
            route.filters = vec![credential("ours")];
            route.policy.retry = Some(Retry {
                codes: vec![503],
                attempts: 2,
                backoff: Millis(1),
            });
        })
        .action("/moved", RouteAction::Redirect(redirect), |route| {
            route.filters = vec![credential("ours")];
        });
    let proxy = Proxy::start(table);
    assert_eq!(proxy.get("a", "/flaky/1/503").await.status, 200);
    let seen = backend.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!(seen.headers["authorization"], VALUE);
    }
    let answer = proxy.get("a", "/moved").await;
    assert_eq!(answer.status, 302);
    assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
    // TRACE would give the client what the backend got.
    let trace = client::request("TRACE", "a", "/flaky", "");
    assert_eq!(proxy.send(trace).await.status, 405);
}

/// Nothing but the value changes: the rule is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_value_is_used_by_the_next_request() {
    let backend = Backend::start("b").await;
    let table = |value: &str| {
        TableBuilder::default()
            .credential("key", ("x-api-key", value), true)
            .cluster("b", &[backend.address])
            .route("/", "b", table::with_filter(credential("key")))
    };
    let proxy = Proxy::start(table("old"));
    proxy.get("a", "/").await;
    let report = proxy.apply(table("new").build());
    assert!(report.rejected.is_empty(), "{:?}", report.rejected);
    proxy.get("a", "/").await;
    let seen = backend.seen();
    let values: Vec<_> = seen.iter().map(|it| &it.headers["x-api-key"]).collect();
    assert_eq!(values, ["old", "new"]);
}

/// What the table's own check lets through is what can be sent; why not is told without the value.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_rejected_without_telling_the_value() {
    let backend = Backend::start("b").await;
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[backend.address]));
    for (header, value) in [
        ("host", "hunter2"),
        ("proxy-authorization", "hunter2"),
        ("X-Api-Key", "hunter2"),
        ("x-api-key", "hunter2\r\nx: y"),
        ("x-api-key", ""),
        ("x-api-key", &"hunter2".repeat(1200)),
    ] {
        let table = TableBuilder::default()
            .credential("key", (header, value), true)
            .cluster("b", &[backend.address])
            .route("/", "b", table::with_filter(credential("key")));
        let rejected = format!("{:?}", proxy.apply(table.build()).rejected);
        for key in ["credentialinjection/test/key", "httproute/test/route/0"] {
            assert!(rejected.contains(key), "{rejected}");
        }
        assert!(!rejected.contains("hunter2"), "{rejected}");
        assert_eq!(proxy.get("a", "/").await.status, 500);
    }
}

/// A rule that names a credential which is not there, or too many of them, answers 500; for a value that cannot be used goes the one before.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_does_without_none_of_its_credentials() {
    let backend = Backend::start("b").await;
    let of = |filters: Vec<Filter>| {
        TableBuilder::default()
            .cluster("b", &[backend.address])
            .route("/", "b", |route| route.filters = filters)
    };
    let proxy = Proxy::start(TableBuilder::default());
    proxy.apply(of(vec![credential("ours")]).build());
    assert_eq!(proxy.get("a", "/").await.status, 500);
    let many = vec![credential("ours"); MAX_CREDENTIALS + 1];
    let ours = |table: TableBuilder, value: &str| {
        table
            .credential("ours", ("authorization", value), true)
            .build()
    };
    proxy.apply(ours(of(many), VALUE));
    assert_eq!(proxy.get("a", "/").await.status, 500);

    proxy.apply(ours(of(vec![credential("ours")]), VALUE));
    assert_eq!(proxy.get("a", "/").await.status, 200);
    proxy.apply(ours(of(vec![credential("ours")]), "no\nvalue"));
    assert_eq!(proxy.get("a", "/").await.status, 200);
    proxy.apply(of(vec![credential("ours")]).build());
    assert_eq!(proxy.get("a", "/").await.status, 500);
    let seen = backend.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|it| it.headers["authorization"] == VALUE));
}
