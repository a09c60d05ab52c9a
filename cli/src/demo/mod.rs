//! `portcullis demo`: two echo servers, a Gateway and a handful of routes on this machine.

mod client;
mod echo;
mod invitation;
mod quickstart;
mod self_test;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZero,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, anyhow, bail, ensure};
use portcullis_dataplane::{
    config::Config,
    ports::PortMap,
    server::{Dataplane, DataplaneHandle},
    state::Overrides,
    telemetry::MetricsOptions,
};
use portcullis_routing::{RoutingTable, settings::AccessLog};
use tokio::{net::TcpListener, runtime, task};

use self::{invitation::Places, self_test::Target};
use crate::{
    FINDINGS,
    args::DemoArgs,
    binding,
    merge::merge,
    output::{self, BAD, GOOD, show, styled},
    report,
    signals::StopSignal,
    source::Configuration,
};

/// Names of the echo servers, in the order of [`quickstart::ECHO`].
const ECHO_NAMES: [&str; 2] = ["echo-v1", "echo-v2"];

/// Plays the quickstart, or tests it.
pub(crate) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    task::LocalSet::new().block_on(&runtime, play(args))
}

async fn play(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let [http, https] = ports(args)?;
    binding::check(&[args.address], &[http, https]).map_err(|refused| {
        anyhow!(
            "{}, or choose other ports with --http-port and --https-port",
            refused.text()
        )
    })?;
    let echo = echo::bind(ECHO_NAMES.len()).await?;
    let certificate = quickstart::certificate()?;
    let table = table(http, https, &echo, certificate.secret)?;
    for (name, listener) in ECHO_NAMES.into_iter().zip(echo) {
        task::spawn_local(echo::serve(name, listener));
    }

    let table = Arc::new(table);
    let dataplane = start(args, &table)?;
    let passed = if args.self_test {
        let target = Target {
            address: args.address,
            http,
            https,
            certificate: certificate.der,
        };
        test(&target, swap(&dataplane, &table)).await
    } else {
        show(&invitation::text(&places(
            args.address,
            http,
            https,
            &dataplane,
        )));
        StopSignal::new()?.given().await;
        true
    };
    // The echo servers go on meanwhile, so that requests under way get their answer.
    task::spawn_blocking(|| dataplane.shutdown()).await?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

fn ports(args: &DemoArgs) -> io::Result<[u16; 2]> {
    let defaults = if args.self_test {
        binding::free_ports(args.address)?
    } else {
        [quickstart::HTTP, quickstart::HTTPS]
    };
    Ok([
        args.http_port.unwrap_or(defaults[0]),
        args.https_port.unwrap_or(defaults[1]),
    ])
}

/// The quickstart with the ports and the certificate of today, as the proxy takes it.
fn table(
    http: u16,
    https: u16,
    echo: &[TcpListener],
    secret: String,
) -> anyhow::Result<RoutingTable> {
    let mut ports = vec![(quickstart::HTTP, http), (quickstart::HTTPS, https)];
    for (known, listener) in quickstart::ECHO.into_iter().zip(echo) {
        ports.push((known, listener.local_addr()?.port()));
    }
    let mut texts = quickstart::manifests(&ports);
    texts.push(("the certificate of the demo".to_owned(), secret));
    let configuration = Configuration::of_texts(&texts);
    let (table, conflicts) = merge(&configuration.translation.tables);
    ensure!(
        conflicts.is_empty(),
        "the Gateways of the demo are in each other's way"
    );
    if !configuration.issues.is_empty() {
        bail!(
            "the manifests of the demo have findings\n{}",
            report::text(&configuration.issues)
        );
    }
    Ok(table)
}

fn start(args: &DemoArgs, table: &Arc<RoutingTable>) -> anyhow::Result<DataplaneHandle> {
    let dataplane = Dataplane::start(Config {
        addresses: vec![args.address],
        ports: PortMap::default(),
        workers: NonZero::<usize>::MIN,
        admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        overrides: Overrides {
            access_log: args.self_test.then_some(AccessLog::Off),
        },
        metrics: MetricsOptions::default(),
        source: None,
        controller: None,
        drain_delay: std::time::Duration::ZERO,
        access_log: Box::new(io::stdout()),
    })
    .context("the proxy cannot start")?;
    let report = dataplane.apply(Arc::clone(table))?;
    if let Some(rejection) = report.rejected.first() {
        bail!("the demo is not served in full: {rejection}");
    }
    Ok(dataplane)
}

/// Gives the proxy, by turns, the table without its last rule and the whole one.
fn swap(
    dataplane: &DataplaneHandle,
    table: &Arc<RoutingTable>,
) -> impl FnMut() -> anyhow::Result<()> {
    let mut shorter = RoutingTable::clone(table);
    shorter.routes.pop_last();
    shorter.seal();
    let mut turns = [Arc::new(shorter), Arc::clone(table)].into_iter().cycle();
    move || {
        if let Some(next) = turns.next() {
            dataplane.apply(next)?;
        }
        Ok(())
    }
}

async fn test(target: &Target, swap: impl FnMut() -> anyhow::Result<()>) -> bool {
    let outcomes = self_test::run(target, swap).await;
    show(&self_test::table(&outcomes));
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let verdict = match failed {
        0 => styled(GOOD, "every use case passed"),
        failed => styled(BAD, format!("{} failed", output::count(failed, "use case"))),
    };
    show(&format!("\n{verdict}\n"));
    failed == 0
}

fn places(address: IpAddr, http: u16, https: u16, dataplane: &DataplaneHandle) -> Places {
    let host = match address {
        _ if address.is_loopback() => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let admin = dataplane
        .admin_address()
        .map(|admin| format!("http://{admin}/metrics"))
        .unwrap_or_default();
    Places {
        host,
        http,
        https,
        admin,
    }
}
