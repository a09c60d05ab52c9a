//! Where the table that is asked comes from: manifests, or the objects of a cluster.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
};

use anyhow::{Context, bail};
use portcullis_controller::{ObjectKey, Resources, provision::admin_port};
use portcullis_dataplane::{bind::BindAddresses, options::ADMIN};
use portcullis_routing::{GatewayKey, RoutingTable, egress::host::Host};

use super::faults;
use crate::{
    args::CheckDestinationArgs,
    cluster::{Cluster, Kind, Refusal},
    egress::gateways::gateways,
    explain::Live,
    source::{Configuration, Source},
};

/// What was read.
pub(super) enum Origin {
    /// Manifests.
    Files(Box<Configuration>),
    /// One Gateway of a cluster, with all that it is translated from, and what is not known of the caller.
    Cluster(Box<Live>, Vec<String>),
}

impl Origin {
    /// Reads it.
    pub(super) fn read(args: &CheckDestinationArgs) -> anyhow::Result<Self> {
        if !args.config.is_empty() {
            let configuration = Source::new(&args.config)?.load()?;
            configuration.ensure_policies_known()?;
            return Ok(Self::Files(Box::new(configuration)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (live, doubts) = runtime.block_on(live(args))?;
        Ok(Self::Cluster(Box::new(live), doubts))
    }

    /// The table of the Gateway that is asked for, or the only one of egress.
    pub(super) fn table(&self, args: &CheckDestinationArgs) -> anyhow::Result<&RoutingTable> {
        match self {
            Self::Files(configuration) => only(&configuration.translation.tables, args),
            Self::Cluster(live, _) => live.table().with_context(|| live.without_table()),
        }
    }

    /// All objects.
    pub(super) fn resources(&self) -> &Resources {
        match self {
            Self::Files(it) => &it.resources,
            Self::Cluster(it, _) => it.resources(),
        }
    }

    /// Where proxies listen: in a cluster on every address of their pods, else as `portcullis run` does unless it is told otherwise.
    pub(super) fn listening(&self, args: &CheckDestinationArgs) -> Vec<SocketAddr> {
        let (addresses, tables, admin) = match self {
            Self::Files(it) => {
                let tables: Vec<_> = it.translation.tables.values().collect();
                (BindAddresses::default().with_local_egress(), tables, ADMIN)
            }
            Self::Cluster(live, _) => {
                let tables: Vec<_> = live.table().into_iter().collect();
                let listeners = || tables.iter().flat_map(|it| it.listeners.values());
                let port = admin_port(|port| listeners().any(|it| it.port == port));
                let admin = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
                (BindAddresses::default(), tables, admin)
            }
        };
        let listeners = tables.iter().flat_map(|table| table.listeners.values());
        let bound = listeners.flat_map(|listener| {
            let port = args.map_port.bound(listener.port);
            let places = addresses.of(listener.direction).iter();
            places.map(move |ip| SocketAddr::new(*ip, port))
        });
        bound.chain([admin]).collect()
    }

    /// What is wrong with what may be meant for the host.
    pub(super) fn faults(&self, host: &Host) -> Vec<String> {
        let resources = self.resources();
        let findings = match self {
            Self::Files(it) => &it.translation.findings[..],
            Self::Cluster(it, _) => it.findings(),
        };
        let findings = findings.iter();
        let concerning = findings.filter(|it| faults::concerns(it, host, resources));
        let told = concerning.map(|it| format!("{}: {}", it.object, it.text()));
        let broken = match self {
            Self::Files(configuration) => configuration.broken_entries().collect(),
            // Told among what the caller may not read.
            Self::Cluster(..) => Vec::new(),
        };
        broken.into_iter().chain(told).collect()
    }

    /// Why proxies may answer otherwise.
    pub(super) fn doubts(&self) -> Vec<String> {
        match self {
            Self::Files(_) => Vec::new(),
            Self::Cluster(live, doubts) => doubts.iter().cloned().chain(live.doubts()).collect(),
        }
    }
}

async fn live(args: &CheckDestinationArgs) -> anyhow::Result<(Live, Vec<String>)> {
    let cluster = Cluster::new(&args.cluster).await?;
    let doubts = ensure_caller(&cluster, args).await?;
    let gateway = match &args.gateway {
        Some((namespace, name)) => ObjectKey::new(&**namespace, &**name),
        None => only_gateway(&cluster).await?,
    };
    let live = Live::read(cluster, gateway, &args.controller_name).await?;
    let [service_entry, ..] = &Kind::SERVICE_ENTRIES;
    // A policy that is not seen may forbid, and an entry that is not seen may allow.
    live.ensure_read(&[service_entry, &Kind::EGRESS_POLICY])?;
    let policies = live.resources().egress_policies.values();
    let mut callers = policies.flat_map(|policy| &policy.spec.from);
    if callers.any(|caller| caller.namespace_selector.is_some()) {
        live.ensure_read(&[&Kind::NAMESPACE])?;
    }
    if !args.resolve.is_empty() {
        // Their addresses are refused.
        live.ensure_read(&[&Kind::NODE])?;
    }
    live.ensure_in_force()?;
    Ok((live, doubts))
}

/// Fails if the namespace or service account that is to call is not there: policies and entries may well be for it by its real
/// name. Returns what could not be seen.
async fn ensure_caller(
    cluster: &Cluster,
    args: &CheckDestinationArgs,
) -> anyhow::Result<Vec<String>> {
    let Some((namespace, account)) = &args.from else {
        return Ok(Vec::new());
    };
    let account = account.as_deref().unwrap_or("default");
    let found = [
        (
            format!("Namespace {namespace}"),
            cluster.get(&Kind::NAMESPACE, namespace).await,
        ),
        (
            format!("ServiceAccount {namespace}/{account}"),
            cluster
                .get_in(&Kind::SERVICE_ACCOUNT, namespace, account)
                .await,
        ),
    ];
    let mut doubts = Vec::new();
    for (object, found) in found {
        match found {
            Ok(Some(_)) => {}
            Ok(None) | Err(Refusal::NotInstalled) => bail!(
                "there is no {object} in the cluster, so nobody calls as that: correct --from; or ask with -f, by manifests, before it is there"
            ),
            Err(Refusal::Forbidden(message)) => {
                doubts.push(format!(
                    "whether there is a {object} is not known: {message}"
                ));
            }
            Err(Refusal::Failed(error)) => return Err(error),
        }
    }
    Ok(doubts)
}

async fn only_gateway(cluster: &Cluster) -> anyhow::Result<ObjectKey> {
    let mut found = gateways(cluster).await?;
    match (found.pop(), found.is_empty()) {
        (Some(gateway), true) => Ok(gateway),
        (last, _) => Err(several(found.iter().chain(&last))),
    }
}

fn only<'t>(
    tables: &'t BTreeMap<GatewayKey, RoutingTable>,
    args: &CheckDestinationArgs,
) -> anyhow::Result<&'t RoutingTable> {
    let own = args.gateway.as_ref();
    let own = own.map(|(namespace, name)| GatewayKey::of(namespace, name));
    let egress = tables
        .values()
        .filter(|table| table.settings.egress.is_some());
    let all: Vec<_> = egress.collect();
    let mut found = all.clone();
    found.retain(|table| own.as_ref().is_none_or(|own| table.gateway == *own));
    match (&found[..], own) {
        ([table], _) => Ok(table),
        ([], Some(own)) if !all.is_empty() => {
            let served: Vec<_> = all.iter().map(|table| table.gateway.to_string()).collect();
            bail!(
                "no egress Gateway {own} is served, but {}: correct --gateway, or `portcullis analyze` says why it is not",
                served.join(", ")
            )
        }
        ([], _) => bail!("no egress Gateway is served: `portcullis analyze` says why"),
        (tables, _) => Err(several(tables.iter().map(|table| &table.gateway))),
    }
}

fn several(gateways: impl Iterator<Item = impl ToString>) -> anyhow::Error {
    let names: Vec<_> = gateways.map(|it| it.to_string()).collect();
    anyhow::anyhow!("choose one with --gateway: {}", names.join(", "))
}
