//! The command line of `portcullis egress`.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::SignedDuration;
use portcullis_controller::CONTROLLER_NAME;
use portcullis_dataplane::ports::PortMap;
use portcullis_routing::egress::host::Host;

use super::{ClusterArgs, OutputArgs, parse_header, port_map};
use crate::names::{is_label_key, is_label_value, namespace, namespaced};

/// `portcullis egress`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_long_help = EXAMPLES
)]
pub(crate) struct EgressArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: EgressCommand,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub(crate) enum EgressCommand {
    /// Say whether a caller may reach a destination, and what would allow it
    #[command(
        after_long_help = CHECK_EXAMPLES,
        mut_arg("context", |arg| arg.conflicts_with("config")),
        mut_arg("kubeconfig", |arg| arg.conflicts_with("config"))
    )]
    Check(CheckDestinationArgs),
    /// Who was refused what, and how often
    #[command(
        after_long_help = DENIED_EXAMPLES,
        mut_arg("context", |arg| arg.conflicts_with("log")),
        mut_arg("kubeconfig", |arg| arg.conflicts_with("log"))
    )]
    Denied(DeniedArgs),
    /// Write ServiceEntries and EgressPolicies for what was seen, to be read and applied
    #[command(
        after_long_help = LEARN_EXAMPLES,
        mut_arg("context", |arg| arg.conflicts_with("log")),
        mut_arg("kubeconfig", |arg| arg.conflicts_with("log"))
    )]
    Learn(LearnArgs),
}

/// `portcullis egress check`.
#[derive(Args, Debug)]
pub(crate) struct CheckDestinationArgs {
    /// `http://HOST/PATH` is a request, `https://HOST` a tunnel and TLS that passes through, `HOST:PORT` a tunnel.
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,
    /// File or directory with manifests, or `-` for standard input; may be repeated. Default: the objects of the cluster.
    #[arg(short = 'f', visible_short_alias = 'c', long, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
    /// Who calls: a namespace, and a service account of it; without that `default`. Default: somebody who is not known.
    #[arg(long, value_name = "NAMESPACE[/ACCOUNT]", value_parser = callers)]
    pub(crate) from: Option<(String, Option<String>)>,
    /// Labels of the pod that calls, of which policies may speak; `''` for a pod without any. Default: not known, so that a policy
    /// that asks for labels counts against the caller.
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = labels, requires = "from")]
    pub(crate) labels: Option<Labels>,
    /// Who calls: a pod of the manifests or the cluster, with its labels.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced, conflicts_with = "from")]
    pub(crate) pod: Option<(String, String)>,
    /// The egress Gateway, if there are several.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pub(crate) gateway: Option<(String, String)>,
    /// How it is asked for, if not as the destination says: a request that the proxy reads (`https://HOST` in the absolute form, say), a
    /// tunnel (CONNECT), or TLS that passes through.
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) form: Option<AskedForm>,
    /// Method of a request.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub(crate) method: http::Method,
    /// A header of a request, which HTTPRoutes may ask for; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// An address that the host has, so that it is judged too; may be repeated. Or as for curl, HOST:PORT:ADDRESS, where the rest
    /// counts for that host and port only. This command looks no name up.
    #[arg(long, value_name = "[HOST:PORT:]ADDRESS,...", value_parser = resolved)]
    pub(crate) resolve: Vec<Resolved>,
    /// The port map that `run` is started with: what leads to a port that the proxy itself listens on is refused.
    #[arg(
        long,
        value_name = "SPEC=BIND,...",
        value_parser = port_map,
        default_value = "",
        hide_default_value = true,
        requires = "config"
    )]
    pub(crate) map_port: PortMap,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// The controller that serves the Gateway.
    #[arg(long, value_name = "NAME", default_value = CONTROLLER_NAME, conflicts_with = "config")]
    pub(crate) controller_name: String,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How a destination is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AskedForm {
    /// A request that the proxy reads
    Request,
    /// CONNECT
    Tunnel,
    /// TLS that passes through
    Tls,
}

/// Labels of `--labels`.
pub(crate) type Labels = BTreeMap<String, String>;

/// Addresses of `--resolve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The host and port that they are for; `None` for whatever is asked.
    pub(crate) place: Option<(Host, u16)>,
    /// At least one.
    pub(crate) addresses: Vec<IpAddr>,
}

/// Where decisions are read from.
#[derive(Args, Debug)]
pub(crate) struct DecisionArgs {
    /// The egress Gateway whose proxies are asked for their logs. Default: every one of the cluster.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced, conflicts_with = "log")]
    pub(crate) gateway: Option<(String, String)>,
    /// Instead of the logs of proxies: a file with their standard output, or `-` for standard input; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Vec<PathBuf>,
    /// Only what is no older, such as 30m or 24h. Default 1h for the logs of proxies, and everything for files.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<SignedDuration>,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// `portcullis egress denied`.
#[derive(Args, Debug)]
pub(crate) struct DeniedArgs {
    /// Where decisions are read from.
    #[command(flatten)]
    pub(crate) decisions: DecisionArgs,
    /// Only these callers: all of a namespace, or one service account of it.
    #[arg(long, value_name = "NAMESPACE[/ACCOUNT]", value_parser = callers)]
    pub(crate) from: Option<(String, Option<String>)>,
    /// Lines at most; the rest is counted.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    pub(crate) top: usize,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `portcullis egress learn`.
#[derive(Args, Debug)]
pub(crate) struct LearnArgs {
    /// Where decisions are read from.
    #[command(flatten)]
    pub(crate) decisions: DecisionArgs,
    /// Only callers of this namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = namespace)]
    pub(crate) namespace: Option<String>,
    /// Leave out what a caller wanted less often.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) min_count: u64,
}

/// `NAMESPACE`, or `NAMESPACE/ACCOUNT`.
fn callers(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('/') {
        Some(_) => namespaced(text).map(|(namespace, account)| (namespace, Some(account))),
        None => Ok((namespace(text)?, None)),
    }
}

/// `KEY=VALUE,...`.
fn labels(text: &str) -> Result<Labels, String> {
    let parts = text.split(',').filter(|_| !text.is_empty());
    let mut labels = Labels::new();
    for part in parts {
        let (key, value) = part
            .split_once('=')
            .filter(|(key, value)| is_label_key(key) && is_label_value(value))
            .ok_or_else(|| {
                format!("{part:?} is no label: write KEY=VALUE, such as app=web,tier=front")
            })?;
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("a pod has one label {key} only"));
        }
    }
    Ok(labels)
}

/// `ADDRESS,...`, or `HOST:PORT:ADDRESS,...`.
fn resolved(text: &str) -> Result<Resolved, String> {
    if let Some(addresses) = addresses(text) {
        return Ok(Resolved {
            place: None,
            addresses,
        });
    }
    let mut parts = text.splitn(3, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (host, port, rest) = (Host::parse(next()), next().parse(), addresses(next()));
    match (host, port, rest) {
        (Ok(host @ Host::Name(_)), Ok(port @ 1..), Some(addresses)) => Ok(Resolved {
            place: Some((host, port)),
            addresses,
        }),
        _ => Err("write an address, such as 203.0.113.7, or HOST:PORT:ADDRESS, such as api.example:443:[2001:db8::7]; several addresses have commas between them".to_owned()),
    }
}

fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    let address = |text: &str| {
        let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        bare.unwrap_or(text).parse().ok()
    };
    text.split(',').map(address).collect()
}

fn since(text: &str) -> Result<SignedDuration, String> {
    let time: Option<SignedDuration> = text.parse().ok();
    let time = time.filter(|time| time.as_secs() > 0);
    time.ok_or_else(|| "write a time of a second or more, such as 30m, 24h or 1h30m".to_owned())
}

const EXAMPLES: &str = "\
Nothing leaves by an egress Gateway that no ServiceEntry opens, and EgressPolicies narrow who may reach what of that. To get there \
without breaking anything:
  1. set spec.proxy.egress.mode to Report in the GatewayParameters: what no ServiceEntry lists passes, and is told;
     what an EgressPolicy of mode Enforce refuses, a Deny above all, is refused all the same: set mode Report there too
  2. portcullis egress learn > allowed.yaml           what was wanted, as manifests: read them, mend them, apply them
  3. portcullis egress denied                         what would still be refused, and to whom
  4. when that is nothing, or nothing that should pass: remove the mode, and those of the policies

Exit codes: 0 all is well, 1 there are findings, 2 the command could not be carried out.";

const CHECK_EXAMPLES: &str = "\
Examples:
  portcullis egress check --from shop/web https://api.payments.example
  portcullis egress check --gateway egress-system/egress --pod shop/web-7c9d --method POST http://api.payments.example/v1
  portcullis egress check --from shop/web --resolve 203.0.113.7 https://api.payments.example
  portcullis egress check --resolve api.payments.example:443:203.0.113.7,[2001:db8::7] https://api.payments.example
  portcullis egress check --from shop/web --labels app=checkout,tier=front https://api.payments.example
  portcullis egress check -f manifests/ --from shop db.partner.example:5432
  portcullis egress check -f manifests/ --from shop -H 'version: 2' 'http://api.payments.example/v1?dry=yes'

It goes the way of the proxies: the listener by the host, the HTTPRoute that takes the request, then what decides; a route with several \
backends has an answer for each. What a route answers itself (a redirect, say) does not reach the host, and counts as refused. It says \
which ServiceEntry and EgressPolicy decide, which ServiceEntries for the host do not open it to the caller and why, and what would \
allow it, all steps of it: each is judged as if those before it were done, through ServiceEntries, the policies of every namespace and the \
addresses of --resolve, as far as the outcome of a step can be known. What it \
has you apply has a name that nothing has yet, with a hash of its content, so it replaces nothing, nor does the remedy of another answer. A \
caller that is named by its account has no labels that are known, so a policy that asks for them may count against it (unknown_caller): \
--labels says which its pod has, or --pod takes them from a pod.

`https://HOST` is judged as what clients make of it: a tunnel, and TLS that passes through. Where the gateway itself begins TLS, callers \
send requests: ask by http://HOST, or with --form request. The line Asked says which form an answer is for.

Proxies look a name up when it is asked for, and refuse it if any of its addresses is private, special, the cluster's own or the \
proxy's. This command looks nothing up: it judges the addresses of --resolve, all but whether one is the proxy's own, and without \
that says that addresses were not judged. Endpoints of a ServiceEntry that are addresses always are. What leads to a port that the proxy \
itself listens on is refused too (leads_to_proxy): with -f it takes these for the ports of listeners, by --map-port, and the admin port \
9901, as `run` binds them without --address and --admin.

Without -f the objects of the cluster are read once, with your rights, and translated as the controller does it: `get` and `list` of \
gateways, gatewayclasses, listenersets, httproutes, tlsroutes, backendtlspolicies, referencegrants, serviceentries, egresspolicies, \
gatewayparameters, credentialinjections, namespaces, services, endpointslices, pods, nodes and servicecidrs in the whole cluster; `get` \
of the secrets and configmaps that the Gateway and its routes refer to, and of the serviceaccount of --from; `list` of deployments and \
`get` of leases, to see whether a controller runs. Without serviceentries and egresspolicies there is no answer, nor without \
namespaces where a policy selects callers by their labels, or nodes with --resolve; what else you may not read counts as missing, and is said, and so is whether the proxies have acknowledged their table.

Exit codes: 0 allowed (or only reported), 1 refused, in one of the forms at least, 2 the question cannot be answered: \
also if the cluster does not have the namespace or service account of --from (ask with -f before they are there), or an EgressPolicy of \
-f is broken.";

const DENIED_EXAMPLES: &str = "\
Examples:
  portcullis egress denied                            by any egress Gateway, in the last hour
  portcullis egress denied --gateway egress-system/egress --since 24h
  portcullis egress denied --from shop/web -o json | jq '.groups[].host'
  kubectl -n egress-system logs -l gateway.networking.k8s.io/gateway-name=egress --tail=-1 | portcullis egress denied --log -

It counts the decisions that the proxies log (`spec.proxy.egress.decisionLog` of GatewayParameters is not Never), as far as the nodes \
still keep the logs of pods that are there. VERDICT is refuse, or report: that passed, and would be refused if what is in mode Report \
were enforced. Lines that are no JSON are skipped and counted.

It reads with your own rights: `list` of gateways and pods, and `get` of pods/log in the namespaces of the Gateways.

Exit codes: 0 nothing was refused, 1 something was, or would be, 2 the logs cannot be read, or what --log names is none.";

const LEARN_EXAMPLES: &str = "\
Examples:
  portcullis egress learn --since 24h > allowed.yaml
  portcullis egress learn --namespace shop --min-count 10
  portcullis egress learn --log proxy.log | kubectl apply --server-side --dry-run=server -f -

The ServiceEntries are for the namespace of the callers only, one for each set of ports, so that they open no host and port that was not \
seen; accounts of the namespace that were not seen may use what they open too. An EgressPolicy that shuts these in is written as a \
comment, for each namespace, to be applied with the others. The EgressPolicies, one for each service account, are of mode Report: once \
applied they refuse nothing and tell of what they would refuse. Comments say what was seen how often, by whom, and what is not allowed and why: what a policy refuses, names of the \
inside, addresses, and destinations that were refused for their name or for where it leads are never allowed by this.

Names end in a hash of the content and of the time of the decisions. So what is learned later replaces nothing that was applied before, \
and sets no policy back to mode Report that is enforced by then; what is in both is there twice, and does no harm. Only the very same \
output once more would set back what was changed in it: `kubectl create` instead of `kubectl apply` leaves alone what is there.

Nothing is written for callers that are not known. In a cluster they are known by the address of their pod, a token or a client \
certificate; for `portcullis run` by a Pod among its files whose status.podIP is their address, of which a comment has an example.

It needs the rights of `egress denied`. Exit codes: 0 done, 2 the logs cannot be read.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_alone_or_as_for_curl() {
        let seven: IpAddr = "2001:db8::7".parse().unwrap();
        let four: IpAddr = [192, 0, 2, 4].into();
        for (text, addresses) in [
            ("192.0.2.4", vec![four]),
            ("2001:db8::7", vec![seven]),
            ("[2001:db8::7],192.0.2.4", vec![seven, four]),
        ] {
            let place = None;
            assert_eq!(resolved(text), Ok(Resolved { place, addresses }), "{text}");
        }
        let place = Some((Host::Name("a.example".into()), 443));
        for text in ["a.example:443:2001:db8::7", "A.example.:443:[2001:db8::7]"] {
            let expected = Resolved {
                place: place.clone(),
                addresses: vec![seven],
            };
            assert_eq!(resolved(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "a.example",
            "a.example:443",
            "a.example:443:",
            "a.example:0:192.0.2.4",
            "a.example:443:b.example",
            "192.0.2.1:443:192.0.2.4",
            "192.0.2.4,",
        ] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains("HOST:PORT:ADDRESS"), "{text}");
        }
    }

    #[test]
    fn labels_are_pairs() {
        let expected = Labels::from([("app".into(), "web".into()), ("x/y".into(), String::new())]);
        assert_eq!(labels("app=web,x/y="), Ok(expected));
        assert_eq!(labels(""), Ok(Labels::new()));
        for text in [
            "app", "=web", "app=web,", "a b=c", "a=b c", "a=b=c", "-a=b", "/a=b", "A/a=b",
        ] {
            assert!(labels(text).unwrap_err().contains("KEY=VALUE"), "{text}");
        }
        assert!(labels("a=b,a=c").unwrap_err().contains("one label a"));
    }
}
