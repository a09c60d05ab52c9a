//! `portcullis-controller`: the Gateway API controller in a cluster.

use std::{
    env, io,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::{Parser, ValueEnum};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use portcullis_controller::{
    CONTROLLER_NAME,
    admin::Admin,
    certificates::CertificateOptions,
    leader::LeaseOptions,
    metrics::Metrics,
    provision::ProvisionOptions,
    publish::{Limits, Publisher, PublisherTls},
    run::{BackoffTimes, Controller, ControllerOptions, LET_STAND, LINGER},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Portcullis controller: translates the Gateway API objects of a cluster, makes the proxies and Services of Gateways,
/// gives each Gateway's proxies their routing table, and writes statuses.
///
/// It watches GatewayClasses, Gateways, ListenerSets, HTTPRoutes, TLSRoutes, BackendTLSPolicies, ReferenceGrants, GatewayParameters,
/// Namespaces, Services, EndpointSlices, and those Secrets and ConfigMaps that one of them refers to; a kind whose CRD is not
/// installed is named in the status of the GatewayClass and watched once it is there. Of several replicas one writes, the one that
/// holds the Lease; all of them translate, so that any can take over at once.
///
/// It reaches the API server by the kubeconfig (KUBECONFIG, or ~/.kube/config) or, within a pod, by the pod's service
/// account.
#[derive(Debug, Parser)]
#[command(name = "portcullis-controller", version, after_long_help = EXAMPLES)]
struct Arguments {
    /// GatewayClasses with this controllerName are served.
    #[arg(long, value_name = "NAME", default_value = CONTROLLER_NAME)]
    controller_name: String,
    /// Context of the kubeconfig. Without it: the kubeconfig's current one, or the pod's service account.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The controller's own namespace, where its Lease, its Service and the Secret of its certificate authority are.
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "portcullis-system"
    )]
    namespace: String,
    /// Name of the Lease. Controllers with different controller names need different ones.
    #[arg(long, value_name = "NAME", default_value = "portcullis-controller")]
    lease_name: String,
    /// Seconds after which a replica that has died is replaced; one that ends in peace is replaced at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(2..=3600))]
    lease_duration: u32,
    /// Name of this replica in the Lease, different for each one. Without it: the host's name, which is the pod's.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    /// Whether Gateways of the class portcullis-egress are served. With `false` the class is not accepted, and nothing is asked for
    /// that only egress needs: ServiceEntries, EgressPolicies, pods, nodes, ranges of Services, and the keys of service accounts.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    egress: bool,
    /// Image of the proxies. With it every Gateway gets a Deployment and a Service of its own, or what its
    /// GatewayParameters ask for. Without it none does, and who runs proxies is for you to see to.
    #[arg(long, value_name = "IMAGE", env = "PORTCULLIS_PROXY_IMAGE")]
    proxy_image: Option<String>,
    /// Address at which proxies get their tables, over mutual TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    publish: SocketAddr,
    /// IP address at which the other replicas reach the port of --publish: the pod's. The replica that leads is told there
    /// what proxies are connected to the others; without it only those count that are connected to itself.
    #[arg(long, value_name = "IP", env = "POD_IP")]
    advertise: Option<IpAddr>,
    /// Name of the controller's own Service, by which proxies reach the port of --publish.
    #[arg(long, value_name = "NAME", default_value = "portcullis-controller")]
    service: String,
    /// Trust domain in the certificates of proxies, `spiffe://DOMAIN/ns/NAMESPACE/gateway/NAME`.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// Name of the Secret with the certificate authority. It is made if there is none.
    #[arg(long, value_name = "NAME", default_value = "portcullis-ca")]
    ca_secret: String,
    /// Address of the admin port: /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9902")]
    admin: SocketAddr,
    /// Form of the log on standard error. `PORTCULLIS_LOG` filters it, such as `PORTCULLIS_LOG=debug`.
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// What is logged unless `PORTCULLIS_LOG` says otherwise. The libraries' warnings are about failures that are told here
/// with their object.
const DEFAULT_FILTER: &str = "info,kube_client=error,kube_runtime=error";

/// What is never logged, whatever `PORTCULLIS_LOG` says: the client of the API server logs answers that it cannot read as
/// they came, its watches say what was found there, and those may be Secrets. What they log as errors has no part of an answer.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let reads_answers = ["kube_client", "kube_runtime"]
        .iter()
        .any(|library| metadata.target().starts_with(library));
    !reads_answers || *metadata.level() == Level::ERROR
}

/// The exit code of a program that could not do what it was asked to.
const REFUSED: u8 = 2;

/// How the log looks.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// The port of the Service where proxies get their tables.
const PUBLISH_PORT: u16 = 9443;

const EXAMPLES: &str = "\
Examples:
  portcullis-controller --context kind-test --admin 127.0.0.1:9902
      Run it beside a cluster, with your own rights.
  curl http://127.0.0.1:9902/readyz
      Is everything in the cluster known, and if not, what is missing?
  kubectl get lease -n portcullis-system portcullis-controller
      Which replica writes statuses?

SIGTERM (or Ctrl-C) ends it: it is not ready any more, gives the Lease back, and exits with 0.";

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(REFUSED)
        }
    }
}

fn start() -> anyhow::Result<()> {
    // The first provider that is installed wins, and libraries install theirs.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("there is a crypto provider already"))?;
    let arguments = Arguments::parse();
    log(arguments.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let client = client(arguments.context.clone()).await?;
    let metrics = Arc::new(Metrics::new()?);
    let listener = bind(arguments.admin, "admin").await?;
    let publishing = bind(arguments.publish, "publish").await?;
    let provision = provision(&arguments);
    let tls = Arc::new(PublisherTls::new(arguments.trust_domain));
    let options = ControllerOptions {
        controller_name: arguments.controller_name,
        certificates: CertificateOptions {
            namespace: arguments.namespace.clone(),
            secret: arguments.ca_secret,
            names: vec![format!("{}.{}.svc", arguments.service, arguments.namespace)],
            tls: Arc::clone(&tls),
        },
        let_stand: LET_STAND,
        linger: LINGER,
        backoff: BackoffTimes::default(),
        egress: arguments.egress,
        lease: LeaseOptions {
            namespace: arguments.namespace,
            name: arguments.lease_name,
            identity: identity(arguments.identity)?,
            duration: Duration::from_secs(arguments.lease_duration.into()),
            address: match arguments.advertise {
                Some(ip) => Some(SocketAddr::new(ip, publishing.local_addr()?.port())),
                None => None,
            },
        },
        provision,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        identity = options.lease.identity,
        admin = %listener.local_addr()?,
        publish = %publishing.local_addr()?,
        "the controller starts"
    );
    if options.provision.is_none() {
        tracing::warn!("no proxies are made for Gateways: there is no --proxy-image");
    }
    let publisher = Publisher::new(Arc::clone(&tls), Limits::default(), Arc::clone(&metrics));
    let mut controller = Controller::start(&client, options, publisher.fleet(), &metrics);
    tokio::spawn(publisher.relay(controller.leader()));
    tokio::spawn(publisher.serve(publishing, controller.tables()));
    let stopping = Arc::new(AtomicBool::new(false));
    let admin = Admin {
        progress: controller.progress(),
        tls,
        metrics,
        stopping: Arc::clone(&stopping),
    };
    tokio::spawn(admin.serve(listener));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = controller.failed() => bail!("a part of the controller has failed; the log says which"),
    }
    stopping.store(true, Ordering::Relaxed);
    tracing::info!("the controller ends");
    controller.shutdown().await;
    Ok(())
}

async fn bind(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot bind {address}; choose another with --{option}"))
}

/// What infrastructure is made with, if it is made.
fn provision(arguments: &Arguments) -> Option<ProvisionOptions> {
    let image = arguments.proxy_image.clone();
    let image = image.filter(|image| !image.is_empty())?;
    let (service, namespace) = (&arguments.service, &arguments.namespace);
    Some(ProvisionOptions {
        image,
        controller_url: format!("https://{service}.{namespace}.svc:{PUBLISH_PORT}"),
    })
}

async fn client(context: Option<String>) -> anyhow::Result<Client> {
    let config = match context {
        None => Config::infer()
            .await
            .context("no cluster is known: set KUBECONFIG, give --context, or run it in a pod with a service account")?,
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context),
                ..KubeConfigOptions::default()
            };
            Config::from_custom_kubeconfig(Kubeconfig::read()?, &options).await?
        }
    };
    let server = config.cluster_url.to_string();
    Client::try_from(config).with_context(|| format!("cannot speak to the API server {server}"))
}

fn identity(given: Option<String>) -> anyhow::Result<String> {
    if let Some(identity) = given {
        return Ok(identity);
    }
    let name = rustix::system::uname().nodename().to_owned();
    name.into_string()
        .context("the host's name is no text; give --identity")
}

fn log(format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("PORTCULLIS_LOG")
        .unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let coloured = io::IsTerminal::is_terminal(&io::stderr())
        && env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let log = fmt::layer().with_ansi(coloured).with_writer(io::stderr);
    let log = match format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    let log = log.with_filter(filter.and(filter_fn(may_be_logged)));
    tracing_subscriber::registry().with(log).try_init()?;
    Ok(())
}
