//! `cargo e2e churn`: `portcullis run` serves a directory under load while everything in it is edited.

mod edits;
mod egress;
mod manifests;

use std::{cell::Cell, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use futures::future::join_all;
use tokio::process::Command;

use self::{
    edits::Editor,
    manifests::{EXTRA_PORTS, HOST, HTTP_PORT, HTTPS_PORT, Manifests},
};
use crate::support::{
    backend::{ANSWER_LENGTH, Backend},
    binaries,
    certificate::Authority,
    client::{Target, Version},
    load::{Caller, Counts},
    process::{Service, ended_well},
    proxy::free_address,
    report::{Table, Tally},
    statistics::quantile,
    streams::EchoStream,
    watch::{mib, rss_growth},
};

/// Clients that load the fixed listeners: half in clear text, a quarter each over TLS with HTTP/1.1 and HTTP/2.
const CONNECTIONS: usize = 32;
const QUICK_EDITS: usize = 60;
/// Pause between two requests of one client.
const PACE: Duration = Duration::from_millis(10);
/// Requests after which a client connects anew, so that new connections meet every edit, too.
const REQUESTS_PER_CONNECTION: u32 = 50;

/// 32 connections load `portcullis run` while its directory is edited; no request may fail, no stream may be cut.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Churn {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    directory: Directory,
}

/// What else is churned.
#[derive(Subcommand)]
enum Other {
    Egress(egress::Egress),
}

#[derive(Args)]
struct Directory {
    /// How many edits; routes, the certificate, endpoints and listeners take turns.
    #[arg(long, default_value_t = 1000)]
    edits: usize,
    /// 60 edits.
    #[arg(long)]
    quick: bool,
    /// Cargo profile that portcullis is built with.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// Where the listeners of the directory are bound.
pub(crate) struct Ports {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) extra: Vec<SocketAddr>,
}

impl Ports {
    fn new() -> Result<Self> {
        let extra = EXTRA_PORTS
            .iter()
            .map(|_| free_address())
            .collect::<Result<_>>()?;
        Ok(Self {
            http: free_address()?,
            https: free_address()?,
            extra,
        })
    }

    fn map(&self) -> String {
        let spec = [HTTP_PORT, HTTPS_PORT].into_iter().chain(EXTRA_PORTS);
        let bound = [self.http, self.https]
            .into_iter()
            .chain(self.extra.iter().copied());
        spec.zip(bound)
            .map(|(spec, bound)| format!("{spec}={}", bound.port()))
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl Churn {
    pub(crate) async fn run(self) -> Result<()> {
        match self.other {
            Some(Other::Egress(egress)) => egress.run().await,
            None => self.directory.run().await,
        }
    }
}

impl Directory {
    async fn run(self) -> Result<()> {
        let edits = if self.quick { QUICK_EDITS } else { self.edits };
        let binary = binaries::build("portcullis", &self.profile).await?;
        let folder = tempfile::tempdir()?;
        let authority = Authority::new()?;
        let stable = Backend::start("stable")?;
        let backends = (0..3)
            .map(|number| Backend::start(&format!("app-{number}")))
            .collect::<Result<Vec<_>>>()?;
        let config = folder.path().join("config");
        let manifests = Manifests::new(&config)?;
        manifests.write_fixed(stable.address)?;
        manifests.write_listeners(&[])?;
        manifests.write_certificate(&authority.issue(&[HOST])?)?;
        manifests.write_endpoints(&[backends[0].address])?;
        manifests.write_extra_routes(1, 0)?;
        manifests.write_marker(0)?;
        let ports = Ports::new()?;
        let service = start(&binary, &config, folder.path(), &ports).await?;

        let mut tally = Tally::default();
        let mut editor = Editor {
            manifests: &manifests,
            authority: &authority,
            backends: &backends,
            ports: &ports,
            apply: Vec::new(),
        };
        let targets = targets(&ports, &authority)?;
        let streams = open_streams(&targets).await?;
        let opened = streams.len();
        let (counts, over) = (Counts::default(), Cell::new(false));
        let editing = async {
            let mut result = Ok(());
            for edit in 1..=edits {
                result = editor.edit(edit).await;
                if result.is_err() {
                    break;
                }
            }
            over.set(true);
            result
        };
        let callers: Vec<Caller> = targets
            .iter()
            .cycle()
            .take(CONNECTIONS)
            .map(caller)
            .collect();
        let loading = join_all(callers.iter().map(|caller| caller.call(&counts, &over)));
        let streaming = join_all(streams.into_iter().map(|stream| stream.run(&over)));
        let everything = async { tokio::join!(editing, loading, streaming) };
        let ((edited, loaded, streamed), growth) = rss_growth(&service, everything).await?;

        tally.check(edited.is_ok(), || {
            format!("{edited:?}\nIts log ends so:\n{}", service.log())
        });
        tally.check(counts.failed() == 0, || {
            format!("failed requests: {}", counts.failures())
        });
        // Edits are waited for, so a slow machine has more time for requests, too.
        let fewest = loaded.into_iter().min().unwrap_or_default();
        tally.check(fewest >= edits as u64, || {
            format!("a client made only {fewest} requests during {edits} edits: there was too little load")
        });
        let mut messages = 0;
        for result in &streamed {
            messages += result.as_ref().copied().unwrap_or(0);
            tally.check(result.is_ok(), || format!("a stream was cut: {result:?}"));
        }
        let alive = streamed.iter().filter(|result| result.is_ok()).count();
        let status = service.stop().await?;
        tally.check(ended_well(status), || {
            format!("after SIGTERM it ended with {status}")
        });

        editor.apply.sort_by(f64::total_cmp);
        let mut table = Table::new("Edits under load", &["what", "figure"]);
        table.row([
            "edits, each seen to be served".to_owned(),
            editor.apply.len().to_string(),
        ]);
        table.row(["requests".to_owned(), counts.requests.get().to_string()]);
        table.row(["fewest of one client".to_owned(), fewest.to_string()]);
        table.row([
            "connections".to_owned(),
            counts.connections.get().to_string(),
        ]);
        table.row(["failed".to_owned(), counts.failed().to_string()]);
        table.row([
            "open streams that survived".to_owned(),
            format!("{alive} of {opened}, {messages} messages"),
        ]);
        for (name, share) in [("median", 0.5), ("p99", 0.99), ("most", 1.0)] {
            if let Some(time) = quantile(&editor.apply, share) {
                table.row([format!("rename to served, {name}"), format!("{time:.0} ms")]);
            }
        }
        table.row(["RSS growth".to_owned(), format!("{:.1} MiB", mib(growth))]);
        println!("{table}");
        tally.close()
    }
}

async fn start(binary: &Path, config: &Path, folder: &Path, ports: &Ports) -> Result<Service> {
    let mut command = Command::new(binary);
    command
        .args(["run", "--config"])
        .arg(config)
        .args([
            "--address",
            &ports.http.ip().to_string(),
            "--map-port",
            &ports.map(),
        ])
        .args(["--admin", &free_address()?.to_string(), "--workers", "2"]);
    let mut service = Service::start("portcullis-run", command, folder)?;
    service.until_listening(&[ports.http, ports.https]).await?;
    Ok(service)
}

/// Clear text twice, so that half of the clients use it; then TLS with HTTP/1.1 and HTTP/2.
fn targets(ports: &Ports, authority: &Authority) -> Result<[Target; 4]> {
    let clear = Target::clear(ports.http, HOST);
    let tls = |alpn, version| {
        anyhow::Ok(Target {
            address: ports.https,
            host: HOST.to_owned(),
            tls: Some(authority.client(&[alpn])?),
            version,
        })
    };
    Ok([
        clear.clone(),
        clear,
        tls("http/1.1", Version::Http1)?,
        tls("h2", Version::Http2)?,
    ])
}

fn caller(target: &Target) -> Caller {
    Caller {
        target: target.clone(),
        pace: PACE,
        requests_per_connection: Some(REQUESTS_PER_CONNECTION),
        check: |answer| {
            ensure!(answer.status() == 200, "status {}", answer.status());
            ensure!(
                answer.body().len() == ANSWER_LENGTH,
                "{} bytes",
                answer.body().len()
            );
            Ok(())
        },
    }
}

/// WebSockets and streamed bodies, two of each on every kind of connection that can carry them.
async fn open_streams(targets: &[Target; 4]) -> Result<Vec<EchoStream>> {
    let mut streams = Vec::new();
    for target in targets {
        streams.push(
            EchoStream::body(target)
                .await
                .context("cannot open a stream")?,
        );
        if target.version == Version::Http1 {
            streams.push(
                EchoStream::websocket(target)
                    .await
                    .context("cannot open a WebSocket")?,
            );
        } else {
            streams.push(
                EchoStream::body(target)
                    .await
                    .context("cannot open a stream")?,
            );
        }
    }
    Ok(streams)
}
