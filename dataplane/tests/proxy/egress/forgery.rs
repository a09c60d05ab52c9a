//! What a caller says of itself, and what it leaves behind on connections that others use.

use std::sync::Arc;

use serde_json::json;

use crate::support::{
    Backend,
    fake_dns::FakeDns,
    outside::{A, Outside, STRANGER, fixed, outcome},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_protocol_makes_nobody_another_caller() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let mut entry = fixed("api.example.com", backend.address);
    entry["exported_to"] = json!({"Namespaces": ["a"]});
    let mut outside = Outside::new(&dns).entry("api", entry);
    let settings = Arc::make_mut(&mut outside.0.settings);
    settings.client_address.proxy_protocol = true;
    let (proxy, log) = outside.start();
    let request = "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
    for (number, (from, claimed, status)) in [(STRANGER, A, "403"), (A, STRANGER, "200")]
        .into_iter()
        .enumerate()
    {
        let header = format!("PROXY TCP4 {claimed} 127.0.0.1 12345 80\r\n");
        let answer = proxy.tell(from, &format!("{header}{request}")).await;
        assert_eq!(outcome(&answer).0, status, "{answer}");
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(line["caller"]["ip"], json!(from));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_authenticated_serves_nobody_else() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let entry = fixed("api.example.com", backend.address);
    let (proxy, _) = Outside::new(&dns).entry("api", entry).start();
    let fetch = async |path: &str, field: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: api.example.com\r\n{field}Connection: close\r\n\r\n"
        );
        let answer = proxy.tell(A, &request).await;
        assert!(answer.ends_with("up"), "{answer}");
    };
    // Each pair: what is sent, and whether the connection may serve the next one.
    let mut connections = 1;
    for (path, field, kept) in [
        ("/", "", true),
        ("/", "Authorization: Basic eDp5\r\n", true),
        ("/", "Authorization: NTLM TlRMTVNTUAAB\r\n", false),
        ("/", "Authorization: negotiate YII\r\n", false),
        ("/offers/Negotiate", "", false),
        ("/offers/Basic,%20NTLM", "", false),
        ("/offers/Basic", "", true),
    ] {
        fetch(path, field).await;
        assert_eq!(backend.connections(), connections, "{path} {field}");
        connections += usize::from(!kept);
    }
}
