//! The outside as the corpus knows it: what is listed, the server that may be reached, and the bait at which everything else would
//! arrive.
//!
//! | host | open |
//! | --- | --- |
//! | `allowed.example` | HTTP on 80 and the servers' port, TLS on 443 |
//! | `other.example` | the same, and HTTP on 8081 |
//! | `files.example` | HTTP on 80; `DELETE`, `/admin`, `/jobs/x:delete`, `/keys/%40all` and `/list%5B0%5D` are denied |
//! | `own.example` | HTTP on 80, to another namespace |
//! | `*.wild.example`, `*.dns.example` | HTTP on 80 and the servers' port, TLS on 443, wherever DNS says |
//! | `itself.example`, `nowhere.example`, `wrapped.example` | HTTP on 80 and 8081, TLS on 443, TCP on 22, which are ports of the proxy |
//! | nearly every address | HTTP on 80 and the servers' port, TCP on 22 |

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::ready,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use portcullis_routing::{WorkloadKey, egress::Workload};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{
    Case, Form, clients, http2,
    speech::{Answer, Speech, host, listener},
    zone::Zone,
};
use crate::{
    egress::{
        protocols::{secure, with_https},
        revoked::sealed,
    },
    support::{
        Log, Proxy,
        outside::{Outside, connect, fixed},
    },
};

/// Where the allowed server is. Policies open it, and the bait.
pub(super) const ALLOWED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10));
/// Where names lead that are not listed: nothing but the judgement of names keeps anybody from it.
pub(super) const BAIT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
/// Where more bait is: nothing but the judgement of addresses keeps anybody from it.
const INSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// What servers count.
#[derive(Clone, Default)]
struct Counts {
    /// Requests and greetings at the allowed server.
    arrived: Arc<AtomicUsize>,
    /// Connections to the bait.
    strayed: Arc<AtomicUsize>,
}

impl Counts {
    fn now(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&self.arrived), count(&self.strayed))
    }
}

/// A running proxy, with all that is around it.
pub(super) struct World {
    proxy: Proxy,
    log: Log,
    zone: Zone,
    counts: Counts,
    port: u16,
    trust: Arc<ClientConfig>,
}

impl World {
    /// Starts, with callers and DNS for these cases.
    pub(super) async fn start(cases: &[&Case]) -> Self {
        let counts = Counts::default();
        let port = servers(&counts).await;
        let sides = cases
            .iter()
            .flat_map(|case| [(case, &case.trick, false), (case, &case.twin, true)]);
        let script = sides
            .map(|(case, sent, is_twin)| (host(case.name, is_twin) + ".", sent.dns))
            .collect();
        let zone = Zone::start(script).await;
        let mut outside = listed(Outside::asking(zone.address).guarded().passthrough(), port);
        for client in (0..cases.len()).flat_map(clients) {
            let workload = Workload {
                namespace: "a".into(),
                service_account: "x".into(),
                pod: "a-1".into(),
                labels: BTreeMap::new(),
                proxy_of: None,
            };
            outside
                .0
                .workloads
                .insert(WorkloadKey::of(client.into()), Arc::new(workload));
        }
        let (outside, trust) = with_https(outside, listener(Form::Tls));
        let table = outside.0.clone();
        let (proxy, log) = outside.start();
        let table = sealed(with_itself(Outside(table), &proxy));
        assert!(proxy.apply(table).rejected.is_empty());
        Self {
            proxy,
            log,
            zone,
            counts,
            port,
            trust,
        }
    }

    /// Says what the case has to say, from `client`, and tells what became of it.
    pub(super) async fn hear(&self, case: &Case, is_twin: bool, client: Ipv4Addr) -> Answer {
        let before = self.counts.now();
        let sent = if is_twin { &case.twin } else { &case.trick };
        let name = host(case.name, is_twin);
        let stream = connect(client, self.proxy.address(listener(case.form))).await;
        stream.set_nodelay(true).unwrap();
        let mut answer = match case.form {
            Form::Http2 => http2::converse(stream, sent.text, self.port, &name).await,
            Form::Tls => {
                let speech = Speech::of(case.form, sent.text, self.port, &name);
                speech.say(secure(stream, &self.trust).await).await
            }
            _ => {
                Speech::of(case.form, sent.text, self.port, &name)
                    .say(stream)
                    .await
            }
        };
        let after = self.counts.now();
        (answer.arrived, answer.strayed) = (after.0 - before.0, after.1 - before.1);
        answer
    }

    /// Ends the proxy, and gives what it told of each client. Also what is wrong although no single case shows it.
    pub(super) async fn end(self) -> (BTreeMap<String, Vec<Value>>, Vec<String>) {
        let Self {
            proxy,
            log,
            zone,
            counts,
            ..
        } = self;
        // All that it has to tell is written then, and all that it connects to is connected.
        tokio::task::spawn_blocking(|| proxy.shutdown())
            .await
            .unwrap();
        let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for event in log.of_kind("egress") {
            let client = event["caller"]["ip"].as_str().unwrap().to_owned();
            events.entry(client).or_default().push(event);
        }
        let mut faults = zone.faults();
        let (_, strayed) = counts.now();
        if strayed > 0 {
            faults.push(format!(
                "{strayed} connections to servers that nobody should get to"
            ));
        }
        (events, faults)
    }
}

/// What is listed, with servers on `port`.
fn listed(outside: Outside, port: u16) -> Outside {
    let serve = |number: u16, protocol: &str| json!({"number": number, "protocol": protocol, "target_port": port});
    let usual = [serve(80, "HTTP"), serve(port, "HTTP"), serve(443, "TLS")];
    let at_allowed = |host: &str, ports: &[Value]| {
        let mut entry = fixed(host, super::speech::at(ALLOWED, port));
        entry["ports"] = json!(ports);
        entry
    };
    let mut more = usual.to_vec();
    more.push(serve(8081, "HTTP"));
    let mut own = at_allowed("own.example", &[serve(80, "HTTP")]);
    own["exported_to"] = json!({"Namespaces": ["b"]});
    let by_name = |hosts: &str| json!({"hosts": [hosts], "ports": usual});
    // Unless a range is listed an address in it is refused before it is judged.
    let ranges = [
        "0.0.0.0/8",
        "9.9.9.0/24",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/3",
        "::/0",
    ];
    let addresses = json!({
        "hosts": ["addresses.example"], "addresses": ranges,
        "ports": [serve(80, "HTTP"), serve(port, "HTTP"), serve(22, "TCP")],
    });
    let hosts = json!(["files.example"]);
    let paths = ["/admin", "/jobs/x:delete", "/keys/%40all", "/list%5B0%5D"];
    let paths = paths.map(|path| json!({"Prefix": path}));
    let denied = json!([{"hosts": hosts, "methods": ["DELETE"]}, {"hosts": hosts, "paths": paths}]);
    let open = [ALLOWED, BAIT].map(|address| format!("{address}/32"));
    outside
        .settings(|egress| {
            let ranges = ["9.9.9.0/24", "2620:fe::/48"];
            egress.protected = ranges.map(|range| range.parse().unwrap()).into();
        })
        .entry("allowed", at_allowed("allowed.example", &usual))
        .entry("other", at_allowed("other.example", &more))
        .entry("files", at_allowed("files.example", &usual[..1]))
        .entry("own", own)
        .entry("wild", by_name("*.wild.example"))
        .entry("dns", by_name("*.dns.example"))
        .entry("addresses", addresses)
        .policy(
            "files",
            json!({"scope": "Gateway", "action": "Deny", "to": denied}),
        )
        .policy(
            "servers",
            json!({"scope": "Gateway", "action": "Allow", "allow_private": open}),
        )
}

/// Lists the proxy itself, at its listeners and its admin port, by every name of this host, with all of it opened.
fn with_itself(outside: Outside, proxy: &Proxy) -> Outside {
    let bound = |port: u16, protocol: &str, to: std::net::SocketAddr| json!({"number": port, "protocol": protocol, "target_port": to.port()});
    let (plain, admin) = (proxy.address(80), proxy.admin_address());
    let ports = [
        bound(80, "HTTP", plain),
        bound(8081, "HTTP", admin),
        bound(443, "TLS", proxy.address(443)),
        bound(22, "TCP", plain),
    ];
    let at = |host: &str, address: &str| json!({"hosts": [host], "resolution": "Static", "ports": ports, "endpoints": [{"host": address}]});
    let hosts = [
        ("itself", "127.0.0.1"),
        ("nowhere", "0.0.0.0"),
        ("wrapped", "::ffff:127.0.0.1"),
    ];
    let by_name = host("own-port-by-dns", false);
    let names = hosts.map(|(name, _)| format!("{name}.example"));
    let all: Vec<_> = names.iter().chain([&by_name]).collect();
    let open = json!({
        "scope": "Gateway", "action": "Allow", "to": [{"hosts": all}], "allow_private": ["0.0.0.0/0", "::/0"],
    });
    let dns = json!({"hosts": [by_name], "ports": ports});
    let outside = outside.entry("by-name", dns).policy("itself", open);
    hosts.into_iter().fold(outside, |outside, (name, address)| {
        outside.entry(name, at(&format!("{name}.example"), address))
    })
}

/// Starts the allowed server and the bait, and tells their port, which is the same.
async fn servers(counts: &Counts) -> u16 {
    // The port that is free at one address may be taken at another.
    for _ in 0..20 {
        let allowed = TcpListener::bind((ALLOWED, 0)).await.unwrap();
        let port = allowed.local_addr().unwrap().port();
        let Ok(bait) = TcpListener::bind((BAIT, port)).await else {
            continue;
        };
        let Ok(loopback) = TcpListener::bind((INSIDE[0], port)).await else {
            continue;
        };
        // Where there is no IPv6 nobody is led to it.
        let loopback6 = TcpListener::bind((INSIDE[1], port)).await.ok();
        tokio::spawn(serve(allowed, Arc::clone(&counts.arrived)));
        for listener in [Some(bait), Some(loopback), loopback6]
            .into_iter()
            .flatten()
        {
            let strayed = Arc::clone(&counts.strayed);
            tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    strayed.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        return port;
    }
    panic!("no port is free at all addresses");
}

/// Sends back what begins as TLS does; what else comes is HTTP.
async fn serve(listener: TcpListener, arrived: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let arrived = Arc::clone(&arrived);
        tokio::spawn(async move {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(1..) if first == [22] => {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    echo(stream).await;
                }
                _ => {
                    let service =
                        service_fn(|request| ready(Ok::<_, Infallible>(answer(request, &arrived))));
                    // A connection that breaks has no answer to check.
                    _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                }
            }
        });
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// `/redirect` leads to a host that is not listed, `/socket` switches to WebSocket, and sends back what comes; all else is served.
fn answer(mut request: Request<Incoming>, arrived: &AtomicUsize) -> Response<Full<Bytes>> {
    arrived.fetch_add(1, Ordering::SeqCst);
    let mut response = Response::new(Full::from("allowed"));
    let status = match request.uri().path() {
        "/redirect" => 302,
        "/socket" => 101,
        _ => return response,
    };
    *response.status_mut() = status.try_into().unwrap();
    *response.body_mut() = Full::default();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, "http://evil.example/".parse().unwrap());
    if let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) {
        let accepted = derive_accept_key(key.as_bytes());
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted.parse().unwrap());
        headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
        headers.insert(header::UPGRADE, "websocket".parse().unwrap());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            // Of a connection that breaks before there is nothing to send back.
            if let Ok(socket) = upgrade.await {
                echo(TokioIo::new(socket)).await;
            }
        });
    }
    response
}
