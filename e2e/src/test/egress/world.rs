//! The world beyond the cluster, as small as it can be: hosts, and who knows their addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    mem::take,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{AUTHORIZATION, HOST, HeaderName},
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

/// Names, each with its addresses.
pub(super) type Names = &'static [(&'static str, &'static [&'static str])];

/// What there is in a world.
pub(super) struct Plan {
    /// Servers, by what they call themselves. All of them show one certificate, which has every name of this plan.
    pub(super) servers: Names,
    /// Their ports in clear text. They have that of TLS besides.
    pub(super) clear: &'static [u16],
    /// Where its DNS server listens.
    pub(super) dns: &'static [&'static str],
    /// What that says.
    pub(super) names: Names,
}

/// One host that is allowed, and one that is not.
const USUAL: Plan = Plan {
    servers: &[
        (WEATHER, &WEATHER_ADDRESSES),
        (FORBIDDEN, &FORBIDDEN_ADDRESSES),
    ],
    clear: &[HTTP, UNLISTED],
    dns: &[DNS],
    names: &[
        (WEATHER, &WEATHER_ADDRESSES),
        (WEATHER_V4, &[WEATHER_ADDRESSES[0]]),
        (WEATHER_V6, &[WEATHER_ADDRESSES[1]]),
        (FORBIDDEN, &FORBIDDEN_ADDRESSES),
        ("metadata.openweathermap.org", &["169.254.169.254"]),
        ("inside.openweathermap.org", &["10.96.0.1"]),
    ],
};

/// What has come in `Authorization`, with the server that it has come to. Servers do not tell it: callers are not to see it.
type Credentials = Arc<Mutex<Vec<(&'static str, String)>>>;

/// The world. It ends when dropped.
pub(super) struct World {
    outside: Outside,
    /// Who has issued the certificates of the servers.
    pub(super) authority: Authority,
    plan: &'static Plan,
    dns: Mutex<Vec<DnsServer>>,
    connections: BTreeMap<&'static str, Arc<AtomicU64>>,
    credentials: Credentials,
    _servers: JoinSet<Result<()>>,
}

impl World {
    /// Makes the world of most scenarios. There is one at a time. What DNS says may be kept for `ttl` seconds.
    pub(super) async fn open(ttl: u32) -> Result<Self> {
        Self::of(&USUAL, ttl).await
    }

    /// Makes a world by a plan.
    pub(super) async fn of(plan: &'static Plan, ttl: u32) -> Result<Self> {
        let servers = plan.servers.iter().flat_map(|(_, addresses)| *addresses);
        let outside = Outside::open(&parsed(plan.dns.iter().chain(servers))?).await?;
        let authority = Authority::new()?;
        let names = plan.servers.iter().chain(plan.names);
        let names: BTreeSet<&str> = names.map(|(name, _)| *name).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let tls = authority.issue(&names)?.server()?;
        let clear = plan.clear.iter().map(|port| (*port, None));
        let ports: Vec<_> = clear.chain([(HTTPS, Some(&tls))]).collect();
        let mut counts = BTreeMap::new();
        let mut running = JoinSet::new();
        let credentials = Credentials::default();
        for (name, addresses) in plan.servers {
            let connections = Arc::<AtomicU64>::default();
            for address in parsed(*addresses)? {
                for (port, tls) in &ports {
                    let server = Server {
                        name,
                        listener: outside.listen(SocketAddr::new(address, *port)).await?,
                        tls: tls.cloned(),
                        connections: Arc::clone(&connections),
                        credentials: Arc::clone(&credentials),
                    };
                    running.spawn(server.serve());
                }
            }
            counts.insert(*name, connections);
        }
        let world = Self {
            outside,
            authority,
            plan,
            dns: Mutex::default(),
            connections: counts,
            credentials,
            _servers: running,
        };
        world.start_dns(ttl).await?;
        Ok(world)
    }

    /// Starts the DNS server. Its answers may be kept for `ttl` seconds.
    pub(super) async fn start_dns(&self, ttl: u32) -> Result<()> {
        let mut servers = Vec::new();
        for address in parsed(self.plan.dns)? {
            let socket = self.outside.bind(SocketAddr::new(address, 53)).await?;
            let dns = DnsServer::on(socket)?;
            for (name, addresses) in self.plan.names {
                let reply = Reply {
                    ttl,
                    ..Reply::of(parsed(*addresses)?)
                };
                dns.set(name, [reply])?;
            }
            servers.push(dns);
        }
        *lock(&self.dns) = servers;
        Ok(())
    }

    /// Ends the DNS server: nobody listens there any more.
    pub(super) async fn stop_dns(&self) {
        let servers = take(&mut *lock(&self.dns));
        for server in servers {
            server.stop().await;
        }
    }

    /// How many connections the server of a host has had.
    pub(super) fn connections(&self, name: &str) -> Result<u64> {
        let connections = self.connections.get(name);
        Ok(connections
            .with_context(|| format!("nobody serves {name}"))?
            .load(Relaxed))
    }

    /// What has come in `Authorization` since this was asked last, with the servers that it has come to.
    pub(super) fn credentials(&self) -> Vec<(&'static str, String)> {
        take(&mut *lock(&self.credentials))
    }
}

fn parsed<'a>(addresses: impl IntoIterator<Item = &'a &'a str>) -> Result<Vec<IpAddr>> {
    let addresses = addresses.into_iter();
    Ok(addresses
        .map(|address| address.parse())
        .collect::<Result<_, _>>()?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What listens at an address.
struct Server {
    name: &'static str,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    connections: Arc<AtomicU64>,
    credentials: Credentials,
}

impl Server {
    async fn serve(self) -> Result<()> {
        let mut clients = JoinSet::new();
        loop {
            let (stream, _) = self.listener.accept().await?;
            self.connections.fetch_add(1, Relaxed);
            clients.spawn(answer_all(
                self.name,
                stream,
                self.tls.clone(),
                Arc::clone(&self.credentials),
            ));
            while clients.try_join_next().is_some() {}
        }
    }
}

/// Tells clients what has come: from whom, to which address, for what.
async fn answer_all(
    server: &'static str,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    credentials: Credentials,
) -> Result<()> {
    let client = stream.peer_addr()?.ip();
    let address = stream.local_addr()?;
    let encrypted = tls.is_some();
    let stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(TlsAcceptor::from(tls).accept(stream).await?),
        None => Box::new(stream),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let credentials = Arc::clone(&credentials);
        async move {
            let header = |name| {
                let value = request.headers().get(name)?;
                Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            if let Some(credential) = header(AUTHORIZATION) {
                lock(&credentials).push((server, credential));
            }
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
        }
    });
    auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|error| anyhow::anyhow!(error))
}
