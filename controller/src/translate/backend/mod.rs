//! Backends: from a backendRef to a cluster and its endpoints, each made once however many rules use it.

mod endpointslice;
mod reference;
mod service;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::ServicePort;
use portcullis_routing::{
    Backend, Cluster, ClusterEndpoints, ClusterKey, ClusterProtocol, ClusterTls, Endpoint,
    EndpointState, Filter, Route, RouteAction, RoutingTable,
};

pub(crate) use self::reference::BackendReference;
use self::{
    endpointslice::EndpointSlices,
    reference::Target,
    service::{AppProtocol, app_protocol},
};
use super::{Context, GrantSubject, field::Field, problem::Problem};
use crate::{finding::ObjectRef, resources::Resources, status::reason};

/// The clusters and endpoints that routes use.
#[derive(Debug)]
pub(crate) struct Backends<'a> {
    slices: EndpointSlices<'a>,
    resolved: BTreeMap<ClusterKey, Resolved>,
}

#[derive(Debug)]
struct Resolved {
    cluster: Arc<Cluster>,
    endpoints: Arc<ClusterEndpoints>,
}

impl<'a> Backends<'a> {
    /// No backend yet.
    pub(crate) fn new(resources: &'a Resources) -> Self {
        Self {
            slices: EndpointSlices::new(&resources.endpoint_slices),
            resolved: BTreeMap::new(),
        }
    }

    /// The cluster that `reference` leads to. `field` is the reference's.
    pub(crate) fn resolve(
        &mut self,
        ctx: &Context<'a>,
        reference: &BackendReference,
        from: GrantSubject<'_>,
        field: &Field<'_>,
    ) -> Result<ClusterKey, Problem> {
        let target = reference.target(ctx, from, field)?;
        match service::external_name(target.service) {
            Some(name) => self.external(ctx, &target, &name, field),
            None => self.service(ctx, &target, field),
        }
    }

    /// Adds to a table the clusters and endpoints that its routes use (actions and mirrors), and nothing else.
    pub(crate) fn fill(&self, table: &mut RoutingTable) {
        for key in table.routes.values().flat_map(|route| used_clusters(route)) {
            if let Some(Resolved { cluster, endpoints }) = self.resolved.get(key)
                && table
                    .clusters
                    .insert(key.clone(), Arc::clone(cluster))
                    .is_none()
            {
                table.endpoints.insert(key.clone(), Arc::clone(endpoints));
            }
        }
    }

    fn service(
        &mut self,
        ctx: &Context<'_>,
        target: &Target<'_>,
        field: &Field<'_>,
    ) -> Result<ClusterKey, Problem> {
        let port = service::port(target.service, target.port, field)?;
        let protocol = app_protocol(Some(port), field)?;
        let key = ClusterKey::service(&target.key.namespace, &target.key.name, target.port);
        if !self.resolved.contains_key(&key) {
            warn_if_assumed(ctx, target, port, protocol);
            let server_name = format!("{}.{}.svc", target.key.name, target.key.namespace);
            let endpoints = self
                .slices
                .endpoints(&target.key, port, |finding| ctx.report(finding));
            self.insert(key.clone(), protocol, server_name, endpoints);
        }
        Ok(key)
    }

    fn external(
        &mut self,
        ctx: &Context<'_>,
        target: &Target<'_>,
        name: &str,
        field: &Field<'_>,
    ) -> Result<ClusterKey, Problem> {
        let port = service::external_port(target.service, target.port, field)?;
        let protocol = app_protocol(port, field)?;
        let host = endpointslice::name(name).ok_or_else(|| {
            Problem::reference(
                reason::BACKEND_NOT_FOUND,
                &field.child("name"),
                format!(
                    "the Service {:?} has the externalName {name:?}, which is not a DNS name",
                    target.key.name
                ),
                "correct `spec.externalName` of the Service",
            )
        })?;
        let key = external_key(name, target.port, protocol);
        if !self.resolved.contains_key(&key) {
            if let Some(port) = port {
                warn_if_assumed(ctx, target, port, protocol);
            }
            let endpoint = Endpoint {
                host,
                port: target.port,
                state: EndpointState::Ready,
            };
            self.insert(
                key.clone(),
                protocol,
                name.to_owned(),
                ClusterEndpoints {
                    endpoints: vec![endpoint],
                },
            );
        }
        Ok(key)
    }

    fn insert(
        &mut self,
        key: ClusterKey,
        protocol: AppProtocol,
        server_name: String,
        endpoints: ClusterEndpoints,
    ) {
        let tls = protocol.tls.then(|| ClusterTls {
            server_name,
            ..ClusterTls::default()
        });
        let cluster = Cluster {
            protocol: protocol.http,
            tls,
            ..Cluster::default()
        };
        self.resolved.insert(
            key,
            Resolved {
                cluster: Arc::new(cluster),
                endpoints: Arc::new(endpoints),
            },
        );
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

fn used_clusters(route: &Route) -> impl Iterator<Item = &ClusterKey> {
    let forward = match &route.action {
        RouteAction::Forward(backends) => backends.as_slice(),
        RouteAction::Redirect(_) | RouteAction::Respond { .. } => &[],
    };
    let backends = forward
        .iter()
        .filter_map(|weighted| match &weighted.backend {
            Backend::Cluster(key) => Some(key),
            Backend::Invalid { .. } => None,
        });
    let mirrors = route.filters.iter().filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(&mirror.cluster),
        _ => None,
    });
    backends.chain(mirrors)
}
