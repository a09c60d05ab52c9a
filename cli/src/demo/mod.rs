//! `portcullis demo`: two echo servers, a Gateway with a handful of routes and one for the way out, on this machine.

mod client;
mod dns;
mod echo;
mod invitation;
mod quickstart;
mod self_test;
mod way_out;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZero,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, anyhow, bail, ensure};
use portcullis_dataplane::{
    bind::BindAddresses,
    config::Config,
    ports::PortMap,
    server::{Dataplane, DataplaneHandle},
    state::Overrides,
    telemetry::MetricsOptions,
};
use portcullis_routing::{RoutingTable, egress::DecisionLog, settings::AccessLog};
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

/// Ports that the demo listens on.
#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    https: u16,
    proxy: u16,
}

async fn play(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let ports = Ports::of(args)?;
    let Ports { http, https, proxy } = ports;
    binding::check(&[args.address], &[http, https, proxy]).map_err(|refused| {
        anyhow!(
            "{}, or choose other ports with --http-port, --https-port and --proxy-port",
            refused.text()
        )
    })?;
    let echo = echo::bind(ECHO_NAMES.len()).await?;
    let names = dns::bind().await?;
    let dns = names.local_addr()?;
    let certificate = quickstart::certificate()?;
    let mut table = table(ports, &echo, certificate.secret)?;
    if args.self_test {
        silence(&mut table);
    }
    for (name, listener) in ECHO_NAMES.into_iter().zip(echo) {
        task::spawn_local(echo::serve(name, listener));
    }
    task::spawn_local(dns::serve(names));

    let table = Arc::new(table);
    let dataplane = start(args, dns, &table)?;
    let passed = if args.self_test {
        let target = Target {
            address: args.address,
            http,
            https,
            proxy,
            certificate: certificate.der,
        };
        test(&target, swap(&dataplane, &table)).await
    } else {
        show(&invitation::text(&places(args.address, ports, &dataplane)));
        StopSignal::new()?.given().await;
        true
    };
    // The servers go on meanwhile, so that requests under way get their answer.
    task::spawn_blocking(|| dataplane.shutdown()).await?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

impl Ports {
    fn of(args: &DemoArgs) -> io::Result<Self> {
        let [http, https, proxy] = if args.self_test {
            binding::free_ports(args.address)?
        } else {
            [quickstart::HTTP, quickstart::HTTPS, quickstart::PROXY]
        };
        Ok(Self {
            http: args.http_port.unwrap_or(http),
            https: args.https_port.unwrap_or(https),
            proxy: args.proxy_port.unwrap_or(proxy),
        })
    }
}

/// The quickstart with the ports and the certificate of today, as the proxy takes it.
fn table(bound: Ports, echo: &[TcpListener], secret: String) -> anyhow::Result<RoutingTable> {
    let mut ports = vec![
        (quickstart::HTTP, bound.http),
        (quickstart::HTTPS, bound.https),
        (quickstart::PROXY, bound.proxy),
    ];
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

/// Without a line for each decision, which nobody reads between the results.
fn silence(table: &mut RoutingTable) {
    if let Some(egress) = &mut Arc::make_mut(&mut table.settings).egress {
        egress.decision_log = DecisionLog::Off;
    }
    table.seal();
}

fn start(
    args: &DemoArgs,
    dns: SocketAddr,
    table: &Arc<RoutingTable>,
) -> anyhow::Result<DataplaneHandle> {
    let dataplane = Dataplane::start(Config {
        addresses: BindAddresses::new(vec![args.address]),
        ports: PortMap::default(),
        workers: NonZero::<usize>::MIN,
        admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        overrides: Overrides {
            access_log: args.self_test.then_some(AccessLog::Off),
            dns_servers: vec![dns],
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

fn places(address: IpAddr, ports: Ports, dataplane: &DataplaneHandle) -> Places {
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
        http: ports.http,
        https: ports.https,
        proxy: SocketAddr::new(address, ports.proxy),
        admin,
    }
}
