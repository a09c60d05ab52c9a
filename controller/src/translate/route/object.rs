//! What routes of every kind have in common: which hosts they are for, and which parents they name.

use gateway_api::apis::experimental::{
    httproutes::{HttpRoute, HttpRouteUseDefaultGateways},
    tlsroutes::{TlsRoute, TlsRouteUseDefaultGateways},
};
use kube::Resource;

use crate::{status::ParentReference, translate::GATEWAY_GROUP};

/// A route of a kind that is served.
pub trait RouteObject: Resource<DynamicType = ()> {
    /// Such as `HTTPRoute`.
    const KIND: &'static str;

    /// The hostnames as they are written; without any it is for every host.
    fn hostnames(&self) -> &[String];

    /// Its parentRefs, in the order of the spec, with the defaults of group and kind.
    fn parents(&self) -> Vec<ParentReference>;

    /// Whether it asks for default Gateways.
    fn wants_default_gateways(&self) -> bool;
}

/// The parentRefs of a route: the API has a type for each kind, and all of them say the same.
macro_rules! parents {
    ($references:expr) => {{
        let references = $references.iter().flatten();
        let references = references.map(|reference| ParentReference {
            group: reference
                .group
                .clone()
                .unwrap_or_else(|| GATEWAY_GROUP.into()),
            kind: reference.kind.clone().unwrap_or_else(|| "Gateway".into()),
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
            section_name: reference.section_name.clone(),
            port: reference.port,
        });
        references.collect()
    }};
}

impl RouteObject for HttpRoute {
    const KIND: &'static str = "HTTPRoute";

    fn hostnames(&self) -> &[String] {
        self.spec.hostnames.as_deref().unwrap_or_default()
    }

    fn parents(&self) -> Vec<ParentReference> {
        parents!(self.spec.parent_refs)
    }

    fn wants_default_gateways(&self) -> bool {
        self.spec.use_default_gateways == Some(HttpRouteUseDefaultGateways::All)
    }
}

impl RouteObject for TlsRoute {
    const KIND: &'static str = "TLSRoute";

    fn hostnames(&self) -> &[String] {
        &self.spec.hostnames
    }

    fn parents(&self) -> Vec<ParentReference> {
        parents!(self.spec.parent_refs)
    }

    fn wants_default_gateways(&self) -> bool {
        self.spec.use_default_gateways == Some(TlsRouteUseDefaultGateways::All)
    }
}
