//! The world beyond the cluster, as small as it can be: one host that is allowed, one that is not, and who knows their addresses.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{HOST, HeaderName},
    http::uri::PathAndQuery,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    cluster::outside::Outside,
    support::{
        certificate::Authority,
        client::Stream,
        dns::{DnsServer, Reply},
    },
};

/// The host of the tutorials, which is allowed. It has addresses of both families.
pub(super) const WEATHER: &str = "api.openweathermap.org";
/// The same server by one family only.
pub(super) const WEATHER_V4: &str = "v4.openweathermap.org";
pub(super) const WEATHER_V6: &str = "v6.openweathermap.org";
/// A host that is there, and that nobody has listed.
pub(super) const FORBIDDEN: &str = "forbidden.example";
/// Addresses of the two servers.
pub(super) const WEATHER_ADDRESSES: [&str; 2] = ["192.175.48.10", "2620:4f:8000::10"];
pub(super) const FORBIDDEN_ADDRESSES: [&str; 2] = ["192.175.48.20", "2620:4f:8000::20"];
/// The DNS server.
pub(super) const DNS: &str = "192.175.48.53";
/// How long what it says may be kept, in seconds, where that does not matter.
pub(super) const TTL: u32 = 60;
/// Ports of either server: clear text, TLS, and clear text where no entry lists it.
pub(super) const HTTP: u16 = 80;
const HTTPS: u16 = 443;
pub(super) const UNLISTED: u16 = 8080;

/// The world. It ends when dropped.
pub(super) struct World {
    outside: Outside,
    /// Who has issued the certificates of the servers.
    pub(super) authority: Authority,
    dns: Mutex<Option<DnsServer>>,
    connections: BTreeMap<&'static str, Arc<AtomicU64>>,
    _servers: JoinSet<Result<()>>,
}

impl World {
    /// Makes the world. There is one at a time. What DNS says may be kept for `ttl` seconds.
    pub(super) async fn open(ttl: u32) -> Result<Self> {
        let servers = [
            (WEATHER, WEATHER_ADDRESSES),
            (FORBIDDEN, FORBIDDEN_ADDRESSES),
        ];
        let mut addresses: Vec<IpAddr> = vec![DNS.parse()?];
        for address in servers.iter().flat_map(|(_, addresses)| addresses) {
            addresses.push(address.parse()?);
        }
        let outside = Outside::open(&addresses).await?;
        let authority = Authority::new()?;
        let names = [WEATHER, WEATHER_V4, WEATHER_V6, FORBIDDEN];
        let tls = authority.issue(&names)?.server()?;
        let mut counts = BTreeMap::new();
        let mut running = JoinSet::new();
        for (name, addresses) in servers {
            let connections = Arc::<AtomicU64>::default();
            for address in addresses {
                for (port, tls) in [(HTTP, None), (HTTPS, Some(&tls)), (UNLISTED, None)] {
                    let address = SocketAddr::new(address.parse()?, port);
                    let server = Server {
                        name,
                        listener: outside.listen(address).await?,
                        tls: tls.cloned(),
                        connections: Arc::clone(&connections),
                    };
                    running.spawn(server.serve());
                }
            }
            counts.insert(name, connections);
        }
        let world = Self {
            outside,
            authority,
            dns: Mutex::default(),
            connections: counts,
            _servers: running,
        };
        world.start_dns(ttl).await?;
        Ok(world)
    }

    /// Starts the DNS server. Its answers may be kept for `ttl` seconds.
    pub(super) async fn start_dns(&self, ttl: u32) -> Result<()> {
        let address = SocketAddr::new(DNS.parse()?, 53);
        let dns = DnsServer::on(self.outside.bind(address).await?)?;
        let [v4, v6] = WEATHER_ADDRESSES;
        let [forbidden_v4, forbidden_v6] = FORBIDDEN_ADDRESSES;
        for (name, addresses) in [
            (WEATHER, &[v4, v6][..]),
            (WEATHER_V4, &[v4]),
            (WEATHER_V6, &[v6]),
            (FORBIDDEN, &[forbidden_v4, forbidden_v6]),
            ("metadata.openweathermap.org", &["169.254.169.254"]),
            ("inside.openweathermap.org", &["10.96.0.1"]),
        ] {
            let addresses: Vec<IpAddr> = addresses
                .iter()
                .map(|address| address.parse())
                .collect::<Result<_, _>>()?;
            let reply = Reply {
                ttl,
                ..Reply::of(addresses)
            };
            dns.set(name, [reply])?;
        }
        *self.dns.lock().unwrap_or_else(PoisonError::into_inner) = Some(dns);
        Ok(())
    }

    /// Ends the DNS server: nobody listens there any more.
    pub(super) async fn stop_dns(&self) {
        let dns = self
            .dns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(dns) = dns {
            dns.stop().await;
        }
    }

    /// How many connections the server of a host has had.
    pub(super) fn connections(&self, name: &str) -> Result<u64> {
        let connections = self.connections.get(name);
        Ok(connections
            .with_context(|| format!("nobody serves {name}"))?
            .load(Relaxed))
    }
}

/// What listens at an address.
struct Server {
    name: &'static str,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    connections: Arc<AtomicU64>,
}

impl Server {
    async fn serve(self) -> Result<()> {
        let mut clients = JoinSet::new();
        loop {
            let (stream, _) = self.listener.accept().await?;
            self.connections.fetch_add(1, Relaxed);
            clients.spawn(answer_all(self.name, stream, self.tls.clone()));
            while clients.try_join_next().is_some() {}
        }
    }
}

/// Tells clients what has come: from whom, to which address, for what.
async fn answer_all(
    server: &'static str,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
) -> Result<()> {
    let client = stream.peer_addr()?.ip();
    let address = stream.local_addr()?;
    let encrypted = tls.is_some();
    let stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(TlsAcceptor::from(tls).accept(stream).await?),
        None => Box::new(stream),
    };
    let service = service_fn(|request: Request<Incoming>| async move {
        let header = |name| {
            let value = request.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let host = request.uri().authority().map(ToString::to_string);
        let headers: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        let told = json!({
            "server": server,
            "address": address.to_string(),
            "client": client.to_string(),
            "encrypted": encrypted,
            "method": request.method().as_str(),
            "host": host.or_else(|| header(HOST)),
            "path": request.uri().path_and_query().map(PathAndQuery::as_str),
            "headers": headers,
        });
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(told.to_string())))
    });
    auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|error| anyhow::anyhow!(error))
}
