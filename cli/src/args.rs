//! The command line: every subcommand, option and its help.

mod egress;

use std::{net::IpAddr, num::NonZero, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use portcullis_controller::CONTROLLER_NAME;
use portcullis_dataplane::{options::ProxyOptions, ports::PortMap};

use crate::names::{namespace, namespaced, perhaps_namespaced};

pub(crate) use self::egress::{
    AskedForm, CheckDestinationArgs, DecisionArgs, DeniedArgs, EgressArgs, EgressCommand,
    LearnArgs, Resolved,
};

/// Gateway API manifests in, traffic out.
///
/// Portcullis is an edge proxy that is configured with Kubernetes Gateway API objects: Gateway, HTTPRoute, Service,
/// EndpointSlice, Secret and ReferenceGrant. This command runs it without a cluster, and explains what it does.
#[derive(Parser, Debug)]
#[command(
    name = "portcullis",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXIT_CODES,
    after_long_help = START_HERE
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Try it: two echo servers, a Gateway with a handful of routes and a proxy for the way out, on this machine
    #[command(after_long_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Serve the manifests in files and directories, and follow their changes
    #[command(
        after_long_help = RUN_EXAMPLES,
        mut_arg("address", |arg| arg.help(ADDRESS)),
        mut_arg("workers", |arg| arg.value_parser(workers)),
        mut_arg("map_port", |arg| arg.value_parser(port_map))
    )]
    Run(RunArgs),
    /// Find mistakes in manifests, each with its remedy
    #[command(visible_alias = "validate", after_long_help = ANALYZE_EXAMPLES)]
    Analyze(AnalyzeArgs),
    /// Say which route would serve a request, and why no other one
    #[command(
        after_long_help = EXPLAIN_EXAMPLES,
        override_usage = "portcullis explain [OPTIONS] --config <PATH>... <METHOD> <URL>\n       portcullis explain \
                          [OPTIONS] --gateway <NAMESPACE/NAME> <METHOD> <URL>",
        mut_arg("context", |arg| arg.conflicts_with("config")),
        mut_arg("kubeconfig", |arg| arg.conflicts_with("config"))
    )]
    Explain(ExplainArgs),
    /// Print what manifests become: routing tables and statuses
    #[command(after_long_help = TRANSLATE_EXAMPLES)]
    Translate(TranslateArgs),
    /// Install it in a cluster, or print the manifests for that; needs Helm
    #[command(
        after_long_help = INSTALL_EXAMPLES,
        mut_arg("context", |arg| arg.conflicts_with("dry_run")),
        mut_arg("kubeconfig", |arg| arg.conflicts_with("dry_run"))
    )]
    Install(InstallArgs),
    /// Is a cluster ready for it, and is it well there? One line per item, with remedies
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// What a cluster serves: classes, Gateways and routes, and what is wrong with them
    #[command(after_long_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// What may leave by an egress Gateway, what was refused, and what to allow
    Egress(EgressArgs),
    /// Print the completion script of a shell
    #[command(after_long_help = COMPLETION_EXAMPLES)]
    Completion {
        /// The shell it is for.
        shell: Shell,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// `-o`.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) output: Format,
}

/// `portcullis run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// File or directory with manifests (YAML or JSON, several documents per file), or `-` for standard input; may be repeated.
    #[arg(short, visible_short_alias = 'f', long, required = true, num_args = 1.., value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
    #[arg(hide = true, value_name = "PATH", value_parser = misplaced)]
    misplaced: Option<String>,
    /// Only validate: print the findings and exit, 1 if one of them is an error, that is, if something is not served
    /// that was asked for; else 0. The findings are those of `analyze`, and what stands in the way of serving all Gateways
    /// from one address. `analyze` exits with 1 on warnings too.
    #[arg(long)]
    pub(crate) check: bool,
    /// How the proxy is run.
    #[command(flatten)]
    pub(crate) proxy: ProxyOptions,
}

/// `portcullis demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Make the calls, print a table of what passed, exit 0 or 1. Takes free ports unless told which.
    #[arg(long)]
    pub(crate) self_test: bool,
    /// Port for HTTP. Default 8080.
    #[arg(long, value_name = "PORT")]
    pub(crate) http_port: Option<u16>,
    /// Port for HTTPS. Default 8443.
    #[arg(long, value_name = "PORT")]
    pub(crate) https_port: Option<u16>,
    /// Port of the explicit proxy. Default 3128.
    #[arg(long, value_name = "PORT")]
    pub(crate) proxy_port: Option<u16>,
    /// Address to listen on.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) address: IpAddr,
}

/// `portcullis translate`.
#[derive(Args, Debug)]
pub(crate) struct TranslateArgs {
    /// Files or directories with manifests; `-` is standard input.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Print only the routing table of this Gateway, as JSON, with its private keys: what `portcullis-proxy --table`
    /// reads.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "output")]
    pub(crate) table: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `portcullis analyze`.
#[derive(Args, Debug)]
pub(crate) struct AnalyzeArgs {
    /// Files or directories with manifests; `-` is standard input.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `portcullis explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// File or directory with manifests, or `-` for standard input; may be repeated.
    #[arg(
        short,
        visible_short_alias = 'f',
        long,
        required_unless_present = "gateway",
        num_args = 1..,
        value_name = "PATH"
    )]
    pub(crate) config: Vec<PathBuf>,
    /// Instead of manifests: a Gateway of a cluster, with all objects that it is translated from.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced, conflicts_with = "config")]
    pub(crate) gateway: Option<(String, String)>,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// The controller that serves the Gateway.
    #[arg(long, value_name = "NAME", default_value = CONTROLLER_NAME, conflicts_with = "config")]
    pub(crate) controller_name: String,
    /// Method of the request, such as GET.
    pub(crate) method: Option<String>,
    /// URL of the request, as a client would ask for it. Without a scheme it is http.
    pub(crate) url: Option<String>,
    /// A header of the request; may be repeated. `Host` counts, as with curl.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The name that the client sends in the TLS handshake, if it is not the host of the URL.
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// If the URL has another port than the Gateway: the port map `run` was started with, or what `kubectl port-forward` maps:
    /// `80=8080,443=8443`.
    #[arg(
        long,
        value_name = "SPEC=BIND,...",
        value_parser = port_map,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) map_port: PortMap,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `portcullis install`.
#[derive(Args, Debug)]
pub(crate) struct InstallArgs {
    /// Print the manifests and change nothing. No cluster is asked.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Name of the release.
    #[arg(long, value_name = "NAME", default_value = "portcullis")]
    pub(crate) release: String,
    /// Namespace of the controller. It is made if it is not there.
    #[arg(
        short,
        long,
        value_name = "NAMESPACE",
        default_value = "portcullis-system"
    )]
    pub(crate) namespace: String,
    /// A value of the chart, as for Helm: `replicaCount=3,logFormat=text`; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// A file with values of the chart; may be repeated, and later ones win.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) values: Vec<PathBuf>,
    /// Forget the values of an earlier installation. Without this they stay, and those that are named now go before them.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) reset_values: bool,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Form of the manifests: as one stream of YAML documents, as a JSON array, or as a list of their names.
    #[arg(
        short,
        long,
        value_enum,
        default_value_t = Format::Yaml,
        value_name = "FORM",
        requires = "dry_run"
    )]
    pub(crate) output: Format,
}

/// Which cluster is asked.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// Context of the kubeconfig; without it the current one.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig; without it the files that KUBECONFIG names, or ~/.kube/config. In a pod without any of them its
    /// service account.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// `portcullis check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Before the installation: only what it needs, and whether you may install it.
    #[arg(long)]
    pub(crate) pre: bool,
    /// Namespace of the controller.
    #[arg(
        short,
        long,
        value_name = "NAMESPACE",
        default_value = "portcullis-system"
    )]
    pub(crate) namespace: String,
    /// The name by which GatewayClasses call the controller.
    #[arg(long, value_name = "NAME", default_value = CONTROLLER_NAME)]
    pub(crate) controller_name: String,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `portcullis status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// What to look at.
    #[arg(value_enum, default_value_t)]
    pub(crate) what: StatusOf,
    /// Only the Gateway, route or object of egress of this name: NAME or NAMESPACE/NAME.
    #[arg(value_parser = perhaps_namespaced)]
    pub(crate) name: Option<(Option<String>, String)>,
    /// Namespace of the Gateways and routes; without it the one of the context.
    #[arg(
        short,
        long,
        value_name = "NAMESPACE",
        value_parser = namespace,
        conflicts_with = "all_namespaces"
    )]
    pub(crate) namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// The controller whose objects are looked at.
    #[arg(long, value_name = "NAME", default_value = CONTROLLER_NAME)]
    pub(crate) controller_name: String,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What `portcullis status` looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusOf {
    /// GatewayClasses, Gateways and ListenerSets.
    #[value(alias = "gateway")]
    Gateways,
    /// Routes and BackendTLSPolicies.
    #[value(alias = "route")]
    Routes,
    /// ServiceEntries, EgressPolicies and CredentialInjections: what egress Gateways serve.
    Egress,
    /// All of these.
    #[default]
    All,
}

fn parse_header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| "write a header as 'name: value', with a colon".to_owned())?;
    let name = name
        .trim()
        .parse()
        .map_err(|_| format!("'{}' is no header name", name.trim()))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| format!("the value of '{name}' holds bytes no header may hold"))?;
    Ok((name, value))
}

/// Paths are not taken by their place: there would be no telling them from a slip.
fn misplaced(text: &str) -> Result<String, String> {
    Err(format!(
        "manifests are named with --config, as in `portcullis run --config {text}`"
    ))
}

fn workers(text: &str) -> Result<NonZero<usize>, String> {
    text.parse().map_err(|_| {
        "write a number of threads from 1 on, or leave the option out: then it is one per core"
            .to_owned()
    })
}

fn port_map(text: &str) -> Result<PortMap, String> {
    text.parse()
        .map_err(|error| format!("{error}; ports are numbers from 1 to 65535"))
}

const EXIT_CODES: &str = "\
Exit codes: 0 all is well, 1 there are findings, 2 the command could not be carried out.
Colours appear on terminals only and never with NO_COLOR set.";

const START_HERE: &str = "\
Start here:
  portcullis demo                                     something to play with, now
  portcullis analyze my-manifests/                    what is wrong with my manifests?
  portcullis run --config my-manifests/ --map-port 80=8080,443=8443
  portcullis explain --config my-manifests/ GET http://shop.example/cart -H 'user: test'
  portcullis status -A                                and in my cluster?
  portcullis egress denied                            who was refused what by an egress Gateway?

Exit codes: 0 all is well, 1 there are findings, 2 the command could not be carried out.
Colours appear on terminals only and never with NO_COLOR set.";

const DEMO_EXAMPLES: &str = "\
Examples:
  portcullis demo                                     serve on localhost
  portcullis demo --http-port 9080 --https-port 9443  the same, when ports are taken
  portcullis demo --self-test                         call every use case and report

The proxy on port 3128 reaches allowed.example and no other host. A DNS server of the demo's own answers for its names.";

const ADDRESS: &str = "\
Address to listen on; may be repeated. Default: every address, IPv6 and IPv4, but for listeners of the class portcullis-egress. These are \
on loopback only, 127.0.0.1 and ::1: nobody else on the network goes out by this machine until an address says so, such as 0.0.0.0";

const RUN_EXAMPLES: &str = "\
Examples:
  portcullis run --config gateway.yaml --config routes/
  portcullis run --config manifests/ --map-port 80=8080,443=8443
  portcullis run --config manifests/ --check          in CI: validate and exit
  portcullis run --config egress.yaml --dns-server 192.0.2.53:53
  curl -x http://127.0.0.1:3128 http://api.example/   what egress.yaml lists
  curl http://127.0.0.1:9901/readyz                   is it serving?

Files are followed: save one, and the change is live without a request lost. A document that is broken is reported \
while the others serve on; what it described before stays in force until it is mended or removed. A reload that finds \
no object at all, or cannot read a path, is refused aloud and the last good state serves on. Where there is a way out, an \
EgressPolicy that is broken and has no earlier form is never left out: without it callers could reach what it refuses, so nothing \
starts and no reload is taken over until it is mended.

Without a cluster there are no pods to find, so an EndpointSlice tells where a Service's servers are.

A Gateway of the class portcullis-egress is the way out: a proxy that reaches only what ServiceEntries list. Which servers it asks \
for the names of these, --dns-server says; whatever they answer, addresses of this machine and of private networks are refused, \
unless allowPrivate of an EgressPolicy names them. It listens on loopback unless --address says otherwise, as it has to in a container.

Ctrl-C and SIGTERM stop it: requests under way may end first, for at most 25 s unless GatewayParameters say otherwise.";

const ANALYZE_EXAMPLES: &str = "\
Examples:
  portcullis analyze manifests/
  portcullis analyze gateway.yaml routes.yaml -o json | jq '.[].code'
  kubectl kustomize overlays/production | portcullis analyze -

All that it looks at in a cluster; what is left out counts as missing:
  kinds=gatewayclasses,gateways.gateway.networking.k8s.io,listenersets,httproutes,tlsroutes,backendtlspolicies,referencegrants
  kinds=$kinds,gatewayparameters.portcullis.dev,credentialinjections.portcullis.dev,namespaces,services,endpointslices,secrets,configmaps
  kinds=$kinds,egresspolicies.portcullis.dev,serviceentries.networking.istio.io,pods,nodes   # with an egress Gateway
  kinds=$kinds,servicecidrs   # the same, from Kubernetes 1.33 on
  kubectl get $kinds -A -o yaml | portcullis analyze -";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  portcullis explain --config manifests/ GET http://shop.example/cart
  portcullis explain --config manifests/ GET https://shop.example/ -H 'user: test'
  portcullis explain --config gateway.yaml routes/ GET shop.example/cart
  portcullis explain --config manifests/ --map-port 80=8080 GET http://localhost:8080/
  portcullis explain --config manifests/ --sni shop.example GET https://other.example/
  portcullis explain --config manifests/ POST http://shop.example/ -o json
  portcullis explain --gateway shop/edge GET http://shop.example/cart

A client names the host twice over HTTPS: in the TLS handshake, for which a listener with a certificate must be \
there, and in the request. If the two belong to different listeners, the answer is 421. `--sni` says what the \
handshake names, a `Host` header what the request does.

With --gateway the objects of the cluster are read once, with your rights, and translated as the controller does it. Whether \
the proxies have it in force is said too: by the conditions of the Gateway and its routes, and by the Lease of the controller. Certificates are in Secrets; \
without the right to read these the listeners that need them count as broken, and that is said. Below the answer stands what is \
wrong with listeners of the port and with routes that name the Gateway, and where clients reach it, be it by a port of the nodes.

Exit codes: 0 a route takes the request, 1 none does or what it is configured to do is an error (500, 503), for a share of such \
requests at least, or clients refuse the certificate or the preflight, or the proxies do not have it in force, 2 the command could not be carried out, \
as for an egress Gateway: `portcullis egress check` answers for these.";

const TRANSLATE_EXAMPLES: &str = "\
Examples:
  portcullis translate manifests/                     a summary
  portcullis translate manifests/ -o yaml             everything, without private keys and credentials
  portcullis translate manifests/ --table shop/edge > table.json
  portcullis-proxy --table table.json";

const INSTALL_EXAMPLES: &str = "\
Examples:
  portcullis install --set image.registry=registry.example
  portcullis install --dry-run --namespace edge --values values.yaml > portcullis.yaml
  portcullis install --dry-run -o table               which objects would it be?
  portcullis install --set replicaCount=3             later: three replicas, and all else as before
  helm uninstall portcullis --namespace portcullis-system

The Helm chart is in this program, and the `helm` on your PATH (3.14 or later) does the work: the release is one of Helm's, \
which `helm upgrade`, `rollback` and `uninstall` know, and so does a second `portcullis install`. That one keeps the values of \
the first (Helm's --reset-then-reuse-values), and says which. A dry run asks no cluster, so it knows none of them.

While Helm waits for the controller, and when it has given up, standard error says what is not ready and why. The CRDs of \
Gateway API are not part of it; if they are not there, the error says how to install them.";

const CHECK_EXAMPLES: &str = "\
Examples:
  portcullis check --pre                              may I install it here, and will it run?
  portcullis install && portcullis check              is it installed and well?
  portcullis check -n edge --context production
  portcullis check -o json | jq '.[] | select(.state != \"ok\")'

Before: the version of Kubernetes, the CRDs of Gateway API, and your rights to install. After: the same two, the CRDs of \
Portcullis, the controller and its Lease, its GatewayClasses and Gateways, and the Deployments and DaemonSets of their proxies, each \
with the pods that are not ready; `portcullis status -A` tells more of the Gateways.

Exit codes: 0 no fault (warnings are none), 1 a fault, 2 the cluster cannot be asked.";

const STATUS_EXAMPLES: &str = "\
Examples:
  portcullis status                                   the namespace of the current context
  portcullis status -A                                the whole cluster
  portcullis status gateways -n shop
  portcullis status gateway shop/edge                 only this one
  portcullis status egress -A                         who may leave the cluster, and for where
  portcullis status -A -o json | jq '.findings[].message'
  portcullis status -A --context production           another cluster

Below the tables stands every condition that is not as it should be, with its message, which says what to do, and causes before \
what follows from them. Gateways and routes of other controllers are left out. LISTENERS counts those that are served, ROUTES \
what is attached to them: a route that two listeners serve counts twice. A ServiceEntry without an answer is a mesh's \
alone, and a CredentialInjection without one is used by nothing.

It reads with your own rights: `get` and `list` of the kinds of gateway.networking.k8s.io and portcullis.dev, and of ServiceEntries. What you may not read is said.

Exit codes: 0 all is as it should be, 1 something is not, 2 the cluster cannot be asked.";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  source <(portcullis completion bash)
  portcullis completion zsh > ~/.zfunc/_portcullis
  portcullis completion fish > ~/.config/fish/completions/portcullis.fish";
