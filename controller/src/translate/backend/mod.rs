//! Backends: from a backendRef to a cluster and its endpoints, each made once however many rules use it.

mod endpointslice;
mod external;
mod reference;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::ServicePort;
use portcullis_routing::{
    Backend, Cluster, ClusterEndpoints, ClusterKey, ClusterProtocol, ClusterTls, Direction,
    Endpoint, EndpointState, RoutingTable, egress::EntryPort,
};

use self::{
    endpointslice::EndpointSlices,
    reference::Target,
    service::{AppProtocol, app_protocol},
};
pub(crate) use self::{external::Reach, reference::BackendReference};
use super::{
    BackendTlsPolicies, Context, GrantSubject, backend_tls::TargetKind, egress::Egress,
    field::Field, problem::Problem,
};
use crate::{
    finding::ObjectRef,
    resources::{ObjectKey, Resources},
    status::reason,
};

/// The clusters and endpoints that routes use.
#[derive(Debug)]
pub(crate) struct Backends<'a> {
    slices: EndpointSlices<'a>,
    policies: &'a BackendTlsPolicies<'a>,
    egress: &'a Egress,
    resolved: BTreeMap<ClusterKey, Resolved>,
    /// Services that were referred to since the last [`Self::take_named`].
    named: BTreeSet<ObjectKey>,
}

#[derive(Debug)]
struct Resolved {
    cluster: Arc<Cluster>,
    endpoints: Arc<ClusterEndpoints>,
    /// Whether it was told what egress Gateways make of the endpoints.
    is_judged: bool,
}

/// What a route leads to its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Requests.
    Requests {
        /// To which a credential is added.
        has_credential: bool,
    },
    /// Whole connections of TLS that passes through: what is spoken with a backend is not for the proxy to say.
    Connections,
}

/// How a cluster's endpoints are talked to.
#[derive(Default)]
struct Manner {
    protocol: AppProtocol,
    tls: Option<ClusterTls>,
}

impl<'a> Backends<'a> {
    /// No backend yet.
    pub(crate) fn new(
        resources: &'a Resources,
        policies: &'a BackendTlsPolicies<'a>,
        egress: &'a Egress,
    ) -> Self {
        Self {
            slices: EndpointSlices::new(&resources.endpoint_slices),
            policies,
            egress,
            resolved: BTreeMap::new(),
            named: BTreeSet::new(),
        }
    }

    /// The backend that `reference` leads to: a cluster, or one whose TLS policy cannot be carried out, so that it must not
    /// be talked to. `field` is the reference's; traffic and reach are those of its route.
    pub(crate) fn resolve(
        &mut self,
        ctx: &Context<'a>,
        reference: &BackendReference,
        from: GrantSubject<'_>,
        (traffic, reach): (Traffic, &Reach),
        field: &Field<'_>,
    ) -> Result<Backend, Problem> {
        if let Some(kind) = reference.external() {
            reach.check(kind, field)?;
            let named = (kind, reference);
            let entries = &self.egress.entries;
            let backend = external::resolve(ctx, entries, named, (from, traffic, reach), field)?;
            let port = self.entry_port(&backend);
            let clear = port.filter(|port| port.protocol.is_clear_http());
            if let (Traffic::Connections, Some(port)) = (traffic, clear) {
                return Err(external::no_tls(port.number, field));
            }
            return Ok(backend);
        }
        let key = reference.service(ctx, from, field)?;
        self.named.insert(key.clone());
        let target = reference.target(ctx, key, field)?;
        match service::external_name(target.service) {
            Some(name) => {
                reach.check_external_name(field)?;
                self.external(ctx, (&target, traffic), &name, field)
            }
            None => self.service(ctx, (&target, traffic), reach, field),
        }
    }

    /// Whether what is sent to a backend leaves the cluster without TLS, as far as the table can tell: on a port that is listed as
    /// HTTPS the proxy speaks TLS if the client does, and else refuses.
    pub(crate) fn is_in_clear_beyond(&self, backend: &Backend) -> bool {
        match backend {
            Backend::Cluster(key) => {
                let cluster = self.resolved.get(key).map(|resolved| &resolved.cluster);
                key.is_external() && cluster.is_some_and(|cluster| cluster.tls.is_none())
            }
            Backend::External { .. } => {
                let port = self.entry_port(backend);
                port.is_some_and(|port| port.tls.is_none() && port.protocol.is_clear_http())
            }
            Backend::Invalid { .. } => false,
        }
    }

    /// The port of an entry that a backend is.
    fn entry_port(&self, backend: &Backend) -> Option<&EntryPort> {
        let Backend::External { entry, port, .. } = backend else {
            return None;
        };
        let entry = self.egress.entries.of_key(entry)?;
        entry.ports.iter().find(|it| it.number == *port)
    }

    /// The Services that were referred to since the last time this was asked, whether or not they exist.
    pub(crate) fn take_named(&mut self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.named)
    }

    /// Adds to a table the clusters and endpoints that its routes use (actions and mirrors), and nothing else. What leaves the
    /// cluster needs an entry, so on egress Gateways no name is an endpoint; which addresses may be one their proxies know.
    pub(crate) fn fill(&self, table: &mut RoutingTable, direction: Direction) {
        for key in table.routes.values().flat_map(|route| route.clusters()) {
            if let Some(Resolved {
                cluster, endpoints, ..
            }) = self.resolved.get(key)
                && table
                    .clusters
                    .insert(key.clone(), Arc::clone(cluster))
                    .is_none()
            {
                let endpoints = match direction {
                    Direction::Ingress => Arc::clone(endpoints),
                    Direction::Egress => without_names(endpoints),
                };
                table.endpoints.insert(key.clone(), endpoints);
            }
        }
    }

    fn service(
        &mut self,
        ctx: &Context<'_>,
        (target, traffic): (&Target<'_>, Traffic),
        reach: &Reach,
        field: &Field<'_>,
    ) -> Result<Backend, Problem> {
        let port = service::port(target.service, target.port, field)?;
        let key = ClusterKey::service(&target.key.namespace, &target.key.name, target.port);
        let manner = match (self.manner(target, port, field), traffic) {
            (Ok(Ok(manner)), _) => manner,
            // Whoever speaks with the backend knows how. No request is led to a cluster that cannot be spoken with.
            (_, Traffic::Connections) => Manner::default(),
            (Ok(Err(reason)), Traffic::Requests { .. }) => return Ok(invalid(reason)),
            (Err(problem), Traffic::Requests { .. }) => return Err(problem),
        };
        if !self.resolved.contains_key(&key) {
            if traffic != Traffic::Connections {
                warn_if_assumed(ctx, target, port, manner.protocol);
            }
            let endpoints = self
                .slices
                .endpoints(&target.key, port, |finding| ctx.report(finding));
            self.insert(key.clone(), manner, endpoints);
        }
        if reach.has_egress()
            && let Some(resolved) = self.resolved.get_mut(&key)
            && !std::mem::replace(&mut resolved.is_judged, true)
        {
            let endpoints = &resolved.endpoints;
            let judged = self
                .egress
                .judge_endpoints(&target.key, target.port, endpoints);
            if let Some(finding) = judged {
                ctx.report(finding);
            }
        }
        Ok(Backend::Cluster(key))
    }

    /// How requests are sent to a port of a Service, or the reason why its TLS policy does not let them be.
    fn manner(
        &self,
        target: &Target<'_>,
        port: &ServicePort,
        field: &Field<'_>,
    ) -> Result<Result<Manner, &'static str>, Problem> {
        let protocol = app_protocol(Some(port), field)?;
        let tls = match self
            .policies
            .of(TargetKind::Service, &target.key, port.name.as_deref())
        {
            Some(Ok(policy)) => Some(policy.clone()),
            Some(Err(reason)) => return Ok(Err(reason)),
            None => protocol.tls.then(|| ClusterTls {
                server_name: format!("{}.{}.svc", target.key.name, target.key.namespace),
                ..ClusterTls::default()
            }),
        };
        Ok(Ok(Manner { protocol, tls }))
    }

    fn external(
        &mut self,
        ctx: &Context<'_>,
        (target, traffic): (&Target<'_>, Traffic),
        name: &str,
        field: &Field<'_>,
    ) -> Result<Backend, Problem> {
        let port = service::external_port(target.service, target.port, field)?;
        let protocol = match traffic {
            Traffic::Requests { .. } => app_protocol(port, field)?,
            Traffic::Connections => AppProtocol::default(),
        };
        let host =
            endpointslice::name(name).ok_or_else(|| no_external_name(target, name, field))?;
        let port_name = port.and_then(|port| port.name.as_deref());
        let policy = self
            .policies
            .of(TargetKind::Service, &target.key, port_name)
            .filter(|_| traffic != Traffic::Connections);
        let (key, tls) = match policy {
            // The policy is of this Service alone, whoever else names the host.
            Some(Ok(policy)) => {
                let (namespace, name) = (&target.key.namespace, &target.key.name);
                let key = ClusterKey::service(namespace, name, target.port);
                (key, Some(policy.clone()))
            }
            Some(Err(reason)) => return Ok(invalid(reason)),
            None => {
                let tls = protocol.tls.then(|| ClusterTls {
                    server_name: name.to_owned(),
                    ..ClusterTls::default()
                });
                (external_key(name, target.port, protocol), tls)
            }
        };
        if !self.resolved.contains_key(&key) {
            if let Some(port) = port {
                warn_if_assumed(ctx, target, port, protocol);
            }
            let endpoint = Endpoint {
                host,
                port: target.port,
                state: EndpointState::Ready,
            };
            let endpoints = ClusterEndpoints {
                endpoints: vec![endpoint],
            };
            self.insert(key.clone(), Manner { protocol, tls }, endpoints);
        }
        Ok(Backend::Cluster(key))
    }

    fn insert(&mut self, key: ClusterKey, manner: Manner, endpoints: ClusterEndpoints) {
        let cluster = Cluster {
            protocol: manner.protocol.http,
            tls: manner.tls,
            ..Cluster::default()
        };
        self.resolved.insert(
            key,
            Resolved {
                cluster: Arc::new(cluster),
                endpoints: Arc::new(endpoints),
                is_judged: false,
            },
        );
    }
}

fn no_external_name(target: &Target<'_>, name: &str, field: &Field<'_>) -> Problem {
    let (what, remedy) = if endpointslice::is_address(name) {
        (
            "an IP address and not a DNS name",
            "write a name; for an address use a Service without selector, and an EndpointSlice that lists it",
        )
    } else {
        (
            "not a DNS name",
            "correct `spec.externalName` of the Service",
        )
    };
    Problem::reference(
        reason::BACKEND_NOT_FOUND,
        &field.child("name"),
        format!(
            "the Service {:?} has the externalName {name:?}, which is {what}",
            target.key.name
        ),
        remedy,
    )
}

/// A backend whose TLS policy cannot be carried out: neither clear text nor a connection that nobody verifies will do.
fn invalid(reason: &str) -> Backend {
    Backend::Invalid {
        reason: reason.to_owned(),
    }
}

/// Two Services may name the same host but disagree on what it speaks; neither may decide for the other.
fn external_key(host: &str, port: u16, protocol: AppProtocol) -> ClusterKey {
    let plain = ClusterKey::external(host, port);
    match (protocol.http, protocol.tls) {
        (ClusterProtocol::Http1, false) => plain,
        (ClusterProtocol::Http1, true) => ClusterKey::new(format!("{plain}/https")),
        (ClusterProtocol::Http2, false) => ClusterKey::new(format!("{plain}/h2c")),
        (ClusterProtocol::Http2, true) => ClusterKey::new(format!("{plain}/h2")),
    }
}

fn warn_if_assumed(
    ctx: &Context<'_>,
    target: &Target<'_>,
    port: &ServicePort,
    protocol: AppProtocol,
) {
    if !protocol.assumed {
        return;
    }
    let name = port.app_protocol.as_deref().unwrap_or_default();
    ctx.report(ObjectRef::new("Service", target.key.clone()).warning(
        "UnknownAppProtocol",
        "spec.ports",
        format!("the appProtocol {name:?} of port {} is not known; plain HTTP/1.1 is assumed", port.port),
        "if it speaks something else, say so: https, kubernetes.io/h2c, kubernetes.io/ws or kubernetes.io/wss",
    ));
}

fn without_names(endpoints: &Arc<ClusterEndpoints>) -> Arc<ClusterEndpoints> {
    let is_name = |endpoint: &Endpoint| endpoint.host.name().is_some();
    if !endpoints.endpoints.iter().any(is_name) {
        return Arc::clone(endpoints);
    }
    let addresses = endpoints.endpoints.iter().filter(|it| !is_name(it));
    Arc::new(ClusterEndpoints {
        endpoints: addresses.cloned().collect(),
    })
}
