//! GatewayClasses: which ones are ours, and the settings that their Gateways start from.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gatewayclasses::GatewayClass;
use portcullis_crds::gateway_parameters::ProxyParameters;

use super::{Context, settings};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::{ConditionSet, ConditionStatus, GatewayClassStatus, condition::kind, reason},
};

/// The release of the Gateway API that is served.
pub const BUNDLE_VERSION: &str = "v1.7.0";

/// Gateway API features that a GatewayClass of ours reports, sorted by name.
pub const SUPPORTED_FEATURES: &[&str] = &[
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayRouteHostnameIntersectionPrecedence",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetryCodes",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

/// A class of ours.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Class<'a> {
    /// `None` also if they are broken: the Gateways of such a class serve on.
    pub(crate) parameters: Option<&'a ProxyParameters>,
}

/// The classes that name our controller, by name.
#[derive(Debug, Default)]
pub(crate) struct Classes<'a> {
    by_name: BTreeMap<&'a str, Class<'a>>,
}

impl<'a> Classes<'a> {
    /// Finds our classes, and states their statuses.
    pub(crate) fn collect(ctx: &Context<'a>) -> (Self, BTreeMap<ObjectKey, GatewayClassStatus>) {
        let mut classes = Self::default();
        if let Some(name) = &ctx.options.implied_class {
            classes.by_name.insert(name, Class::default());
        }
        let mut statuses = BTreeMap::new();
        for (key, class) in &ctx.resources.gateway_classes {
            if class.spec.controller_name != ctx.options.controller_name {
                classes.by_name.remove(key.name.as_str());
                continue;
            }
            let parameters = parameters(ctx, key, class);
            statuses.insert(key.clone(), status(class, parameters.as_ref().err()));
            let parameters = parameters.unwrap_or_else(|finding| {
                ctx.report(finding);
                None
            });
            classes.by_name.insert(&key.name, Class { parameters });
        }
        (classes, statuses)
    }

    /// The class `name`, if it is ours.
    pub(crate) fn get(&self, name: &str) -> Option<Class<'a>> {
        self.by_name.get(name).copied()
    }
}

fn parameters<'a>(
    ctx: &Context<'a>,
    key: &ObjectKey,
    class: &GatewayClass,
) -> Result<Option<&'a ProxyParameters>, Finding> {
    let Some(reference) = &class.spec.parameters_ref else {
        return Ok(None);
    };
    let object = ObjectRef::new("GatewayClass", key.clone());
    let Some(namespace) = &reference.namespace else {
        return Err(object.error(
            reason::INVALID_PARAMETERS,
            "spec.parametersRef.namespace",
            "GatewayParameters live in a namespace, and none is given",
            "name the namespace of the GatewayParameters",
        ));
    };
    settings::parameters(
        ctx,
        &object,
        "spec.parametersRef",
        (&reference.group, &reference.kind),
        namespace,
        &reference.name,
    )
}

fn status(class: &GatewayClass, broken: Option<&Finding>) -> GatewayClassStatus {
    let mut conditions = ConditionSet::new(class.metadata.generation);
    match broken {
        None => conditions.set(
            kind::ACCEPTED,
            ConditionStatus::True,
            reason::ACCEPTED,
            "Served by Portcullis",
        ),
        Some(finding) => conditions.set_finding(kind::ACCEPTED, ConditionStatus::False, finding),
    }
    // Objects are read with the schemas of this release, wherever they come from.
    conditions.set(
        kind::SUPPORTED_VERSION,
        ConditionStatus::True,
        reason::SUPPORTED_VERSION,
        format!("Gateway API {BUNDLE_VERSION}"),
    );
    GatewayClassStatus {
        conditions,
        supported_features: SUPPORTED_FEATURES.to_vec(),
    }
}
