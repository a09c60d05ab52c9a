//! Nobody takes all tunnels of a worker: whoever has few gets one when those of others have their share.

use std::{net::Ipv4Addr, sync::Arc};

use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    passthrough::{INTERNAL_ERROR, greet},
    tunnels::{Echo, hello, read, rest},
};
use crate::support::{
    Proxy,
    fake_dns::FakeDns,
    outside::{A, B, Outside, STRANGER, connect},
};

/// The connection, if it has become a tunnel; else why not.
async fn tunnel(proxy: &Proxy, from: Ipv4Addr) -> Result<TcpStream, String> {
    let mut stream = connect(from, proxy.address(80)).await;
    let request = "CONNECT api.example.com:22 HTTP/1.1\r\nHost: api.example.com:22\r\n\r\nx";
    stream.write_all(request.as_bytes()).await.unwrap();
    let status = read(&mut stream, 12).await;
    if status == b"HTTP/1.1 200" {
        // What was sent comes back, so that the tunnel is open.
        while read(&mut stream, 1).await != b"x" {}
        return Ok(stream);
    }
    stream.shutdown().await.unwrap();
    let answer = String::from_utf8(rest(&mut stream).await).unwrap();
    let reason = answer.lines().last().and_then(|it| it.split(':').next());
    Err(format!(
        "{} {}",
        String::from_utf8_lossy(&status[9..]),
        reason.unwrap()
    ))
}

/// Tunnels until there is one too many: those, and why.
async fn fill(proxy: &Proxy, from: Ipv4Addr) -> (Vec<TcpStream>, String) {
    let mut open = Vec::new();
    loop {
        match tunnel(proxy, from).await {
            Ok(stream) => open.push(stream),
            Err(why) => return (open, why),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_one_namespace_leave_tunnels_to_all_others() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let mut outside = Outside::new(&dns)
        .passthrough()
        .entry("ssh", echo.entry("api.example.com", 22, "TCP"))
        .entry("tls", echo.entry("www.example.com", 443, "TLS"));
    let limits = &mut Arc::make_mut(&mut outside.0.settings).limits;
    limits.max_connections = 40;
    let (proxy, log) = outside.start();

    // No more than three times what is left.
    let (mut of_a, why) = fill(&proxy, A).await;
    assert_eq!((of_a.len(), &*why), (30, "503 too_many_of_namespace"));
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(
        (&line["verdict"], &line["error"]),
        (&json!("allow"), &json!("too_many_of_namespace"))
    );
    // However it is asked for.
    let mut greeted = greet(&proxy, A, &hello("www.example.com")).await;
    assert_eq!(rest(&mut greeted).await, INTERNAL_ERROR);
    let counted = r#"portcullis_errors_total{reason="too_many_of_namespace"}"#;
    assert_eq!(proxy.metric(counted).to_string(), "2");

    let (of_b, why) = fill(&proxy, B).await;
    assert_eq!((of_b.len(), &*why), (8, "503 too_many_of_namespace"));
    let greeting = hello("www.example.com");
    let mut stranger = greet(&proxy, STRANGER, &greeting).await;
    assert_eq!(read(&mut stranger, greeting.len()).await, greeting);
    let _last = tunnel(&proxy, STRANGER).await.unwrap();

    // What one gives back is for those who have less.
    drop(of_a.pop());
    proxy.falls_to("portcullis_connections", 39.0).await;
    assert!(tunnel(&proxy, A).await.is_err());
    assert!(tunnel(&proxy, B).await.is_err());
    tunnel(&proxy, STRANGER).await.unwrap();
}
