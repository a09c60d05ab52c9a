//! `cargo e2e bodies`: large and streamed bodies, WebSocket and gRPC through the data plane, by real clients.

mod clients;
mod echo;

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Result, ensure};
use clap::Args;
use portcullis_routing::{ClusterProtocol, RoutePolicy};
use tokio::process::Command;

use self::clients::Clients;
use crate::support::{
    backend::Backend,
    binaries,
    certificate::Authority,
    process::{Service, to_f64},
    proxy::{Proxy, free_address},
    report::{Table, Tally},
    table::TableBuilder,
    watch::{mib, rss_growth},
};

/// The most that a transfer may add to the proxy's memory, in MiB.
const MAX_GROWTH: f64 = 16.0;
/// Least share of requests under load that reuse a connection to the backend: it may take one per request at a time.
const MIN_REUSE: f64 = 0.99;
/// Forwarded to the backend over HTTP/1.1.
const HTTP1_HOST: &str = "http1.example";
/// Forwarded to the same backend over HTTP/2.
const HTTP2_HOST: &str = "http2.example";
/// Forwarded to the gRPC server.
const GRPC_HOST: &str = "grpc.example";

/// 1 GiB both ways over HTTP/1.1, HTTP/2 and WebSocket, and gRPC with streams and trailers; memory stays bounded.
#[derive(Args)]
pub(crate) struct Bodies {
    /// Size of a large body in MiB.
    #[arg(long, default_value_t = 1024)]
    mebibytes: u64,
    /// 64 MiB instead.
    #[arg(long)]
    quick: bool,
    /// Cargo profile that portcullis-proxy is built with.
    #[arg(long, default_value = "release")]
    profile: String,
}

impl Bodies {
    pub(crate) async fn run(self) -> Result<()> {
        let size = if self.quick { 64 } else { self.mebibytes } << 20;
        let binary = binaries::build("portcullis-proxy", &self.profile).await?;
        let python = binaries::python_tool("python").await?;
        let folder = tempfile::tempdir()?;
        let authority = Authority::new()?;
        let identity = authority.issue(&[HTTP1_HOST, HTTP2_HOST, GRPC_HOST])?;
        let authority_file = folder.path().join("authority.pem");
        fs::write(&authority_file, authority.pem())?;

        let backend = Backend::start("backend")?;
        let (_grpc, grpc_address) = grpc_server(&python, folder.path()).await?;
        let mut table = TableBuilder::new(&identity);
        for (host, protocol, address) in [
            (HTTP1_HOST, ClusterProtocol::Http1, backend.address),
            (HTTP2_HOST, ClusterProtocol::Http2, backend.address),
            (GRPC_HOST, ClusterProtocol::Http2, grpc_address),
        ] {
            let cluster = table.cluster(host, protocol, &[address]);
            table.route(host, &[host], "/", &cluster, RoutePolicy::default());
        }
        let proxy = Proxy::start(&binary, &table, folder.path(), &[]).await?;
        let clients = Clients {
            proxy: &proxy,
            folder: folder.path(),
            authority_file: &authority_file,
            python: &python,
        };

        let mut report = Report::new(&proxy)?;
        for (host, upstream) in [(HTTP1_HOST, "HTTP/1.1"), (HTTP2_HOST, "HTTP/2")] {
            for way in clients::CURL_WAYS {
                let name = |what| format!("curl {way}, {what}, {upstream} behind");
                report
                    .check(&name("download"), clients.download(way, host, size))
                    .await?;
                report
                    .check(&name("upload"), clients.upload(way, host, size))
                    .await?;
            }
            for way in echo::WAYS {
                let target = way.target(&proxy, &authority, host)?;
                report
                    .check(
                        &format!("echo {way}, {upstream} behind"),
                        echo::run(&target, size, way.is_http2() && host == HTTP2_HOST),
                    )
                    .await?;
            }
            for way in clients::H2LOAD_WAYS {
                report
                    .check(
                        &format!("h2load {way}, {upstream} behind"),
                        reusing(&backend, clients.h2load(way, host)),
                    )
                    .await?;
            }
        }
        report
            .check(
                "curl HTTP/1.1, slow reader",
                clients.slow_download(HTTP1_HOST, size / 8),
            )
            .await?;
        let mebibytes = size >> 22;
        report
            .check(
                "WebSocket (Python)",
                clients.websocket(false, HTTP1_HOST, mebibytes),
            )
            .await?;
        report
            .check(
                "WebSocket over TLS (Python)",
                clients.websocket(true, HTTP1_HOST, mebibytes),
            )
            .await?;
        report
            .check("gRPC (grpcio), h2c", clients.grpc(false, GRPC_HOST))
            .await?;
        report
            .check("gRPC (grpcio), TLS", clients.grpc(true, GRPC_HOST))
            .await?;
        report.close()
    }
}

/// `load`, whose requests must find connections to `backend` that are open already.
async fn reusing(backend: &Backend, load: impl Future<Output = Result<String>>) -> Result<String> {
    let before = (backend.requests(), backend.connections());
    let result = load.await?;
    let requests = to_f64(backend.requests() - before.0);
    let connections = to_f64(backend.connections() - before.1);
    let reuse = 1.0 - connections / requests;
    ensure!(
        reuse >= MIN_REUSE,
        "{connections} connections to the backend for {requests} requests"
    );
    Ok(format!(
        "{result}, {:.2} % on open upstream connections",
        reuse * 100.0
    ))
}

async fn grpc_server(python: &Path, folder: &Path) -> Result<(Service, SocketAddr)> {
    let address = free_address()?;
    let mut command = Command::new(python);
    command
        .arg(clients::script("grpc_server.py"))
        .arg(address.port().to_string());
    let mut service = Service::start("grpc-server", command, folder)?;
    service.until_listening(&[address]).await?;
    Ok((service, address))
}

struct Report<'a> {
    proxy: &'a Proxy,
    /// Resident memory before the first transfer, in bytes.
    start: u64,
    tally: Tally,
    table: Table,
}

impl<'a> Report<'a> {
    fn new(proxy: &'a Proxy) -> Result<Self> {
        let header = ["transfer", "result", "seconds", "RSS growth MiB", "verdict"];
        Ok(Self {
            proxy,
            start: proxy.service.rss()?,
            tally: Tally::default(),
            table: Table::new("Bodies", &header),
        })
    }

    /// Runs a transfer; it is good if it says so and the proxy's memory stayed within bounds.
    async fn check(
        &mut self,
        name: &str,
        transfer: impl Future<Output = Result<String>>,
    ) -> Result<()> {
        let start = tokio::time::Instant::now();
        let (result, growth) = rss_growth(&self.proxy.service, transfer).await?;
        let growth = mib(growth);
        let good = result.is_ok() && growth < MAX_GROWTH;
        let text = match &result {
            Ok(text) => text.clone(),
            Err(error) => format!("{error:#}")
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        self.tally.check(good, || match result {
            Ok(text) => format!("{name}: {text}, RSS +{growth:.1} MiB"),
            Err(error) => format!("{name}: {error:#}"),
        });
        let verdict = if good { "PASS" } else { "LOSS" };
        println!("{name}: {text}, RSS +{growth:.1} MiB, {verdict}");
        let seconds = format!("{:.1}", start.elapsed().as_secs_f64());
        self.table
            .row([name, &text, &seconds, &format!("{growth:.1}"), verdict]);
        Ok(())
    }

    fn close(self) -> Result<()> {
        println!("\n{}", self.table);
        let end = self.proxy.service.rss()?;
        println!(
            "Resident memory before {:.1} MiB, after {:.1} MiB.",
            mib(self.start),
            mib(end)
        );
        self.tally.close()
    }
}
