//! An egress Gateway: its table, its callers, and what it says of them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use portcullis_routing::{
    Direction, EntryKey, GatewayKey, Listener, ListenerKey, ListenerProtocol, PolicyKey,
    RoutingTable, WorkloadKey,
    egress::{EgressSettings, Workload},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{Log, Proxy, TableBuilder, fake_dns::FakeDns};

/// Service account `x` of namespace `a`.
pub(crate) const A: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Service account `x` of namespace `b`.
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Nobody that the table knows.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

/// The policy that opens the loopback to everybody.
const LOOPBACK: &str = "loopback";

/// A table of egress under construction: an HTTP listener on port 80, and the callers above.
pub(crate) struct Outside(pub(crate) RoutingTable);

impl Outside {
    /// That nothing may leave, with `dns` to ask.
    pub(crate) fn new(dns: &FakeDns) -> Self {
        Self::asking(dns.address)
    }

    /// The same, with the DNS server that listens at `dns`.
    pub(crate) fn asking(dns: SocketAddr) -> Self {
        let gateway = GatewayKey::of("test", "gateway");
        let mut table = RoutingTable::new(gateway.clone());
        let listener = Listener {
            port: 80,
            protocol: ListenerProtocol::Http,
            hostname: None,
            tls: None,
            direction: Direction::Egress,
        };
        let key = ListenerKey::of(&gateway, "http");
        table.listeners.insert(key, Arc::new(listener));
        Arc::make_mut(&mut table.settings).egress = Some(EgressSettings {
            dns_servers: vec![dns],
            ..EgressSettings::default()
        });
        for (address, namespace) in [(A, "a"), (B, "b")] {
            let workload = Workload {
                namespace: namespace.into(),
                service_account: "x".into(),
                pod: format!("{namespace}-1"),
                labels: BTreeMap::new(),
                proxy_of: None,
            };
            let key = WorkloadKey::of(address.into());
            table.workloads.insert(key, Arc::new(workload));
        }
        // The servers of the tests are there, and entries by themselves do not lead there.
        let loopback =
            json!({"scope": "Gateway", "action": "Allow", "allow_private": ["127.0.0.0/8"]});
        Self(table).policy(LOOPBACK, loopback)
    }

    /// Without what opens the loopback to everybody.
    pub(crate) fn guarded(mut self) -> Self {
        self.0.policies.remove(&PolicyKey::of("test", LOOPBACK));
        self
    }

    /// With TLS that passes through port 443.
    pub(crate) fn passthrough(mut self) -> Self {
        let listener = Listener {
            port: 443,
            protocol: ListenerProtocol::Tls,
            hostname: None,
            tls: None,
            direction: Direction::Egress,
        };
        let key = ListenerKey::of(&self.0.gateway, "tls");
        self.0.listeners.insert(key, Arc::new(listener));
        self
    }

    /// Changes the settings of egress.
    pub(crate) fn settings(mut self, change: impl FnOnce(&mut EgressSettings)) -> Self {
        let settings = Arc::make_mut(&mut self.0.settings);
        change(settings.egress.as_mut().unwrap());
        self
    }

    /// Adds the entry `test/NAME`, which stands in the Gateway's namespace unless it says otherwise.
    pub(crate) fn entry(mut self, name: &str, mut entry: Value) -> Self {
        let order = json!({"created_at": 0, "namespace": "test", "name": name, "rule": 0});
        entry
            .as_object_mut()
            .unwrap()
            .entry("order")
            .or_insert(order);
        let entry = serde_json::from_value(entry).unwrap();
        let key = EntryKey::of("test", name);
        self.0.entries.insert(key, Arc::new(entry));
        self
    }

    /// Adds the policy `test/NAME`.
    pub(crate) fn policy(mut self, name: &str, policy: Value) -> Self {
        let policy = serde_json::from_value(policy).unwrap();
        let key = PolicyKey::of("test", name);
        self.0.policies.insert(key, Arc::new(policy));
        self
    }

    /// Lets namespace `a` reach the loopback at every destination, and nobody else.
    pub(crate) fn private_for_a(self) -> Self {
        let from = json!([{"namespaces": ["a"]}]);
        let policy = json!({
            "scope": "Gateway", "action": "Allow", "from": from, "allow_private": ["127.0.0.0/8"],
        });
        self.guarded().policy("private", policy)
    }

    /// A running proxy, and its log.
    pub(crate) fn start(self) -> (Proxy, Log) {
        let log = Log::default();
        let proxy = Proxy::start_with_log(TableBuilder::from(self.0), Box::new(log.clone()));
        (proxy, log)
    }
}

/// An entry for `host`, by DNS, whose port 80 is really `to`.
pub(crate) fn by_dns(host: &str, to: SocketAddr) -> Value {
    json!({
        "hosts": [host], "resolution": "Dns",
        "ports": [{"number": 80, "protocol": "HTTP", "target_port": to.port()}],
    })
}

/// An entry for `host`, whose port 80 is `to`.
pub(crate) fn fixed(host: &str, to: SocketAddr) -> Value {
    json!({
        "hosts": [host], "resolution": "Static",
        "ports": [{"number": 80, "protocol": "HTTP", "target_port": to.port()}],
        "endpoints": [{"host": to.ip()}],
    })
}

/// A connection to `to` that comes from `from`.
pub(crate) async fn connect(from: impl Into<IpAddr>, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from.into(), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

impl Proxy {
    /// What comes back from port 80 for `bytes`, sent from `from`, until the proxy closes.
    pub(crate) async fn tell(&self, from: Ipv4Addr, bytes: &str) -> String {
        let mut stream = connect(from, self.address(80)).await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A GET of `url` in absolute form, as from a client that is told of a proxy.
    pub(crate) async fn fetch(&self, from: Ipv4Addr, url: &str) -> String {
        let host = url.split('/').nth(2).unwrap();
        let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        self.tell(from, &request).await
    }
}

impl Log {
    /// What it says of everything that wanted to leave so far, once that is as much as `count`.
    pub(crate) async fn departures(&self, count: usize) -> Vec<Value> {
        self.wait("egress", count).await
    }
}

/// The status of an answer, and its reason if the proxy gave one.
pub(crate) fn outcome(answer: &str) -> (&str, Option<&str>) {
    let status = answer.get(9..12).unwrap_or(answer);
    let field = answer
        .lines()
        .find_map(|line| line.split_once("portcullis-reason: "));
    (status, field.map(|(_, reason)| reason))
}
