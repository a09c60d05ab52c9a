//! `portcullis run`: serves files and follows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, anyhow};
use portcullis_controller::{Resources, translate::EGRESS_CLASS};
use portcullis_dataplane::{
    bind::BindAddresses,
    config::Config,
    options::ProxyOptions,
    ports::PortMap,
    server::{Dataplane, DataplaneHandle},
    state::{TableError, TableState},
    telemetry::{
        Metrics,
        log::{self, LogFormat},
    },
};
use portcullis_routing::{
    Direction, Listener, ListenerKey, Report, RoutingTable, egress::PolicyMode,
};

use crate::{
    FINDINGS,
    args::RunArgs,
    binding,
    merge::merge,
    output::{BAD, GOOD, ODD, count, show, styled, tell},
    report::{self, Issue},
    serving,
    signals::{HangUp, StopSignal},
    source::{Configuration, Source},
    watch::Watch,
    words,
};

/// The class of Gateways that let requests in.
const INGRESS_CLASS: &str = "portcullis";
/// More rules than this are not listed at the start.
const RULES_SHOWN: usize = 40;
/// Objects of one list that are named; more are counted.
const NAMED: usize = 5;

/// Serves, or only checks.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    if args.check {
        return check(args);
    }
    log::init(LogFormat::Text).context("the log cannot be switched on")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(args))
}

fn check(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let configuration = Source::new(&args.config)?.load()?;
    let (table, issues) = tables(&configuration);
    tell(&report::text(&issues));
    tell(&unused_ports(&configuration, &args.proxy.map_port));
    tell(&unused_servers(&table, &args.proxy));
    tell(&broken(&configuration));
    if let Err(why) = configuration.ensure_policies_known() {
        tell(&format!("{} {why}\n", styled(BAD, "not served:")));
        return Ok(ExitCode::from(FINDINGS));
    }
    show(&format!(
        "{}: {}\n",
        summary(&table),
        report::summary(&issues)
    ));
    // What the proxy itself would say, for it has the last word.
    let metrics = Arc::new(Metrics::new(args.proxy.metrics()));
    let proxy = TableState::new(metrics, args.proxy.overrides());
    let whole = table.listeners.is_empty() || tell_rejections(proxy.apply(Arc::new(table)));
    Ok(if whole && !report::has_errors(&issues) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

/// One table for everything, and everything that is wrong.
fn tables(configuration: &Configuration) -> (RoutingTable, Vec<Issue>) {
    let (table, conflicts) = merge(&configuration.translation.tables);
    let mut issues = configuration.issues.clone();
    issues.extend(conflicts.into_iter().map(Issue::from));
    if table.listeners.is_empty() {
        issues.push(Issue::nothing_served(&classes(&configuration.resources)));
    }
    (table, issues)
}

/// The classes of the Gateways that these objects are for.
fn classes(resources: &Resources) -> Vec<&'static str> {
    let classes = resources.gateways.values();
    let classes = classes.map(|gateway| gateway.spec.gateway_class_name.as_str());
    let (outward, inward): (Vec<_>, Vec<_>) = classes.partition(|class| *class == EGRESS_CLASS);
    let opens = !resources.service_entries.is_empty() || !resources.egress_policies.is_empty();
    let goes_out = opens || !outward.is_empty();
    let comes_in = !inward.is_empty() || resources.routes().next().is_some();
    let classes = [
        (INGRESS_CLASS, comes_in || !goes_out),
        (EGRESS_CLASS, goes_out),
    ];
    let wanted = classes.into_iter().filter(|(_, is_wanted)| *is_wanted);
    wanted.map(|(class, _)| class).collect()
}

/// Names what is not served at all, or stays in force as it was, because of mistakes.
fn broken(configuration: &Configuration) -> String {
    let mut text = String::new();
    if !configuration.left_out.is_empty() {
        writeln!(
            text,
            "{} {}; mend what the errors say of it, and it is served",
            styled(BAD, "Not served:"),
            some(&configuration.left_out)
        )
        .ok();
    }
    if !configuration.kept.is_empty() {
        writeln!(
            text,
            "        Until the broken documents are mended, this stays in force as it was: {}",
            some(&configuration.kept)
        )
        .ok();
    }
    text
}

/// The first few of many things.
fn some(things: &[impl ToString]) -> String {
    let named: Vec<_> = things.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match things.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", named.join(", "))
}

/// Whether everything is served; what is not is told.
fn tell_rejections(applied: Result<Report, TableError>) -> bool {
    let refused: Vec<String> = match applied {
        Ok(report) => report.rejected.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    };
    for what in &refused {
        tell(&format!("{} {what}\n", styled(BAD, "not served:")));
    }
    refused.is_empty()
}

/// Ports that `--map-port` names and no listener has, be it one that is not served yet. Without any listener that is not what
/// is wrong.
fn unused_ports(configuration: &Configuration, map: &PortMap) -> String {
    let listening = &configuration.ports;
    if listening.is_empty() {
        return String::new();
    }
    let unused =
        (1..=u16::MAX).filter(|port| map.bound(*port) != *port && !listening.contains(port));
    let mut text = String::new();
    for port in unused {
        writeln!(
            text,
            "{} --map-port {port}={}: no listener has port {port}, so this has no effect now; the left number is the \
             port of the Gateway",
            styled(ODD, "warning:"),
            map.bound(port)
        )
        .ok();
    }
    text
}

/// `--dns-server` where nobody asks for names.
fn unused_servers(table: &RoutingTable, options: &ProxyOptions) -> String {
    if options.dns_server.is_empty() || table.settings.egress.is_some() {
        return String::new();
    }
    format!(
        "{} --dns-server has no effect now: it is for hosts that a Gateway of the class {EGRESS_CLASS} reaches, and none is \
         served\n",
        styled(ODD, "warning:")
    )
}

fn summary(table: &RoutingTable) -> String {
    let gateways: BTreeSet<_> = table.listeners.keys().map(ListenerKey::gateway).collect();
    let egress = table.settings.egress.as_ref();
    let is_lenient = egress.is_some_and(|it| it.mode == PolicyMode::Report);
    format!(
        "{}, {}, {}, {}{}",
        count(gateways.len(), "Gateway"),
        count(table.listeners.len(), "listener"),
        count(table.routes.len(), "rule"),
        count(table.clusters.len(), "backend"),
        if is_lenient {
            "; egress in mode Report, hosts that nothing opens pass and are told"
        } else {
            ""
        },
    )
}

async fn serve(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // Before the first reading, so that no change falls between the two.
    let mut watch = Watch::new(&args.config)?;
    let mut source = Source::followed(&args.config)?;
    let configuration = source.load()?;
    let (table, issues) = tables(&configuration);
    tell(&report::text(&issues));
    tell(&unused_ports(&configuration, &args.proxy.map_port));
    tell(&unused_servers(&table, &args.proxy));
    configuration.ensure_policies_known()?;
    ports_are_free(&table, &args.proxy)?;

    // Whoever has read that it serves may end it.
    let (mut stop, mut hang_up) = (StopSignal::new()?, HangUp::new()?);
    let config = Config {
        addresses: addresses(&args.proxy),
        ..Config::new(&args.proxy)
    };
    let dataplane = Dataplane::start(config).context("the proxy cannot start")?;
    let mut served = Served {
        dataplane,
        issues,
        egress_is_local: addresses(&args.proxy).egress_is_local(),
    };
    if table.listeners.is_empty() {
        tell(&format!(
            "{} until the manifests have a listener that can be served\n",
            styled(ODD, "Waiting")
        ));
    } else {
        served.apply(&table);
        tell(&served.listing(&table));
        tell(served.local_egress(&table));
    }
    // Last, for above it there may be many lines.
    tell(&served.introduction(args));
    tell(&broken(&configuration));

    // It also says that the terminal is gone.
    let has_terminal = io::stdin().is_terminal();
    loop {
        tokio::select! {
            () = stop.given() => break,
            () = hang_up.given() => if has_terminal {
                break;
            } else {
                served.reload(&mut source);
            },
            () = watch.changed() => served.reload(&mut source),
        }
    }
    tell("Stopping: requests under way are finished first.\n");
    served.dataplane.shutdown();
    Ok(ExitCode::SUCCESS)
}

fn ports_are_free(table: &RoutingTable, options: &ProxyOptions) -> anyhow::Result<()> {
    let addresses = addresses(options);
    let listeners = table.listeners.values();
    let ports: BTreeMap<u16, Direction> = listeners
        .map(|listener| (listener.port, listener.direction))
        .collect();
    for (port, direction) in ports {
        // Unasked IPv6 may be missing, and is bound apart from IPv4.
        let wanted = addresses.of(direction).iter().copied();
        let wanted: Vec<_> = wanted
            .filter(|ip| addresses.are_named() || ip.is_ipv4())
            .collect();
        let bound = options.map_port.bound(port);
        binding::check(&wanted, &[bound]).map_err(|refused| {
            anyhow!(
                "{}, or bind another port with --map-port {port}=PORT. It is port {port} of {}",
                refused.text(),
                wanted_by(table, port)
            )
        })?;
    }
    let admin = options.admin;
    binding::check(&[admin.ip()], &[admin.port()])
        .map_err(|refused| anyhow!("{}, or choose another with --admin", refused.text()))
}

/// Where listeners are bound.
fn addresses(options: &ProxyOptions) -> BindAddresses {
    BindAddresses::new(options.address.clone()).with_local_egress()
}

/// The listeners that have a port of the spec, in words.
fn wanted_by(table: &RoutingTable, port: u16) -> String {
    let listeners = table.listeners.iter().filter(|(_, it)| it.port == port);
    let words: Vec<_> = listeners
        .map(|(key, _)| match key.listener_set() {
            None => format!("listener {} of Gateway {}", key.name(), key.gateway()),
            Some((namespace, set)) => format!(
                "listener {} of ListenerSet {namespace}/{set} of Gateway {}",
                key.name(),
                key.gateway()
            ),
        })
        .collect();
    some(&words)
}

/// What is being served, and what is known to be wrong with it.
struct Served {
    dataplane: DataplaneHandle,
    issues: Vec<Issue>,
    /// Whether egress is on loopback, and nobody has been told so.
    egress_is_local: bool,
}

impl Served {
    /// Whether everything is served. What is not stands in the proxy's own log, with what is served in its place.
    fn apply(&self, table: &RoutingTable) -> bool {
        let applied = self.dataplane.apply(Arc::new(table.clone()));
        applied.is_ok_and(|report| report.rejected.is_empty())
    }

    /// Who cannot go out by this machine, and how they could, once there is egress.
    fn local_egress(&mut self, table: &RoutingTable) -> &'static str {
        let mut listeners = table.listeners.values();
        if self.egress_is_local && listeners.any(|it| !it.direction.is_ingress()) {
            self.egress_is_local = false;
            "Egress is on loopback, for this machine only; --address 0.0.0.0 or --address IP lets others out by it\n"
        } else {
            ""
        }
    }

    /// What is served, and where.
    fn listing(&self, table: &RoutingTable) -> String {
        let bound = self.dataplane.addresses();
        let place = |listener: &Listener| match bound.get(&listener.port) {
            Some(addresses) => {
                let urls = addresses
                    .iter()
                    .map(|address| format!("{}://{address}", words::scheme(listener.protocol)));
                urls.collect::<Vec<_>>().join(" ")
            }
            None => styled(BAD, "not bound"),
        };
        let mut text = format!("{} {}\n\n", styled(GOOD, "Serving"), summary(table));
        writeln!(text, "{}", serving::listeners(table, &place)).ok();
        // A way out may do without any.
        if (1..=RULES_SHOWN).contains(&table.routes.len()) {
            writeln!(text, "{}", serving::routes(table)).ok();
        }
        if table.entries.len() + table.policies.len() <= RULES_SHOWN {
            text += &serving::egress(table);
        }
        text
    }

    /// Where to ask, and what is followed.
    fn introduction(&self, args: &RunArgs) -> String {
        let mut text = String::new();
        if let Some(admin) = self.dataplane.admin_address() {
            writeln!(
                text,
                "Admin at http://{admin}/readyz /livez /metrics /table"
            )
            .ok();
        }
        let paths: Vec<_> = args
            .config
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        writeln!(
            text,
            "Following {}. Stop with Ctrl-C or SIGTERM.\n",
            paths.join(", ")
        )
        .ok();
        text
    }

    fn reload(&mut self, source: &mut Source) {
        let loaded = source.load();
        let known = loaded.and_then(|it| it.ensure_policies_known().map(|()| it));
        let configuration = match known {
            Ok(configuration) => configuration,
            Err(error) => {
                tell(&format!(
                    "{} {error:#}\n        The last good configuration stays in force.\n",
                    styled(BAD, "reload refused:")
                ));
                return;
            }
        };
        let (table, issues) = tables(&configuration);
        tell(&report::news(&self.issues, &issues));
        tell(&broken(&configuration));
        let findings = report::summary_of_news(&self.issues, &issues, &configuration.kept);
        self.issues = issues;
        let whole = if self.apply(&table) {
            ""
        } else {
            "; not all of it is served, the log says what"
        };
        tell(&format!(
            "{} {}: {findings}{whole}\n",
            styled(GOOD, "Reloaded"),
            summary(&table)
        ));
        tell(self.local_egress(&table));
    }
}
