//! GatewayClasses: which ones are ours, and the settings that their Gateways start from.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::apis::experimental::gatewayclasses::GatewayClass;
use portcullis_crds::GatewayParametersSpec;
use portcullis_routing::Direction;

use super::{
    Context,
    settings::{self, NoParameters},
    sources,
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::{ObjectKey, Resources},
    status::{ConditionSet, ConditionStatus, GatewayClassStatus, condition::kind, reason},
};

/// The release of the Gateway API that is served.
pub const BUNDLE_VERSION: &str = "v1.7.0";

/// The GatewayClass whose Gateways let traffic out of the cluster, and let nothing out that is not allowed.
pub const EGRESS_CLASS: &str = "portcullis-egress";

/// Which way the traffic of a Gateway of this class goes.
pub(crate) fn direction(class: &str) -> Direction {
    if class == EGRESS_CLASS {
        Direction::Egress
    } else {
        Direction::Ingress
    }
}

/// Gateway API features that a GatewayClass of ours reports, sorted by name.
pub const SUPPORTED_FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayInfrastructure",
    "GatewayPort8080",
    "GatewayRouteHostnameIntersectionPrecedence",
    "GatewayStaticAddresses",
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
    "ListenerSet",
    "ReferenceGrant",
    "TLSRoute",
];

/// What of the Gateway API, and of our own kinds, is installed in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstalledApi {
    /// The release that the CRDs say they are of, such as `v1.7.0`.
    pub release: Option<String>,
    /// Kinds that we serve and that are not installed.
    pub missing: BTreeSet<&'static str>,
    /// Kinds that cannot be read and that nothing waits for: not everything goes by them, they are known from before, or they were not
    /// installed then.
    pub unread: BTreeMap<&'static str, Unread>,
    /// What only egress needs and has not been read yet, though nothing says that it cannot be.
    pub pending: BTreeSet<&'static str>,
}

/// What keeps a kind from being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The API server says that the controller may not.
    Refused,
    /// Its CRD is there, without a version that is read.
    NotServed,
    /// The API server fails for longer than it does at a rollout.
    Failing,
}

/// Why a kind cannot be read, and what is known of it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// What keeps it from being read.
    pub obstacle: Obstacle,
    /// Whether its objects are known as they were before.
    pub is_known: bool,
    /// What the API server says.
    pub why: String,
}

impl Unread {
    /// Whether another one says the same, if in other words.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        (self.obstacle, self.is_known) == (other.obstacle, other.is_known)
    }
}

/// What follows for the Gateways of a class whose parameters are broken.
const GO_ON: &str =
    "; until then its Gateways that had good ones go on with those, and no other is served";

/// The parameters of a class of ours, if it has any, or why they cannot be had.
pub(crate) type ClassParameters<'a> = Result<Option<&'a GatewayParametersSpec>, NoParameters>;

/// The classes that name our controller, by name.
#[derive(Debug, Default)]
pub(crate) struct Classes<'a> {
    by_name: BTreeMap<&'a str, ClassParameters<'a>>,
}

impl<'a> Classes<'a> {
    /// Finds our classes, and states their statuses.
    pub(crate) fn collect(ctx: &Context<'a>) -> (Self, BTreeMap<ObjectKey, GatewayClassStatus>) {
        let mut classes = Self::default();
        let implied = ctx.options.implied_classes.iter();
        classes
            .by_name
            .extend(implied.map(|name| (*name, Ok(None))));
        let mut statuses = BTreeMap::new();
        for (key, class) in &ctx.resources.gateway_classes {
            if class.spec.controller_name != ctx.options.controller_name {
                classes.by_name.remove(key.name.as_str());
                continue;
            }
            let is_refused = key.name == EGRESS_CLASS && !ctx.options.serves_egress;
            let parameters = if is_refused {
                Err(no_egress(key).into())
            } else {
                parameters(ctx, key, class)
            };
            let broken = match &parameters {
                Err(NoParameters::Broken(finding)) => Some(Finding {
                    remedy: finding.remedy.clone() + if is_refused { "" } else { GO_ON },
                    ..finding.clone()
                }),
                // The class itself is as good as before, and so are Gateways of its.
                Err(NoParameters::Unread) | Ok(_) => None,
            };
            let mut version = supported_version(ctx.options.installed.as_ref());
            if let Some(Err(why)) = &ctx.options.token_issuer {
                version.2 += ". Callers' tokens are ignored, as their keys are not known: ";
                version.2 += why;
            }
            statuses.insert(key.clone(), status(class, broken.as_ref(), version));
            if let Some(finding) = broken {
                ctx.report(finding);
            }
            if !is_refused {
                classes.by_name.insert(&key.name, parameters);
            }
        }
        (classes, statuses)
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.by_name.keys().copied()
    }

    /// The parameters of the class `name`, if it is ours.
    pub(crate) fn get(&self, name: &str) -> Option<&ClassParameters<'a>> {
        self.by_name.get(name)
    }
}

/// The controller was told to serve no egress.
fn no_egress(key: &ObjectKey) -> Finding {
    ObjectRef::new("GatewayClass", key.clone()).error(
        reason::UNSUPPORTED_VALUE,
        "metadata.name",
        "Gateways of this class are of egress, and this controller serves none: it runs with --egress=false",
        "start the controller with --egress=true and the rights that egress needs (Helm: egress.enabled=true), or delete the class",
    )
}

/// What the `parametersRef` of a class leads to, if it has one.
fn parameters<'a>(ctx: &Context<'a>, key: &ObjectKey, class: &GatewayClass) -> ClassParameters<'a> {
    let Some(reference) = &class.spec.parameters_ref else {
        return Ok(None);
    };
    let object = ObjectRef::new("GatewayClass", key.clone());
    let Some(namespace) = &reference.namespace else {
        let finding = object.error(
            reason::INVALID_PARAMETERS,
            "spec.parametersRef.namespace",
            "GatewayParameters live in a namespace, and none is given",
            "name the namespace of the GatewayParameters",
        );
        return Err(finding.into());
    };
    settings::parameters(
        ctx,
        &object,
        "spec.parametersRef",
        (&reference.group, &reference.kind),
        namespace,
        &reference.name,
    )
    .map(Some)
}

fn status(
    class: &GatewayClass,
    broken: Option<&Finding>,
    (supported, reason, message): (ConditionStatus, &'static str, String),
) -> GatewayClassStatus {
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
    conditions.set(kind::SUPPORTED_VERSION, supported, reason, message);
    GatewayClassStatus {
        conditions,
        supported_features: SUPPORTED_FEATURES.to_vec(),
    }
}

/// Whether the release that is installed can be served: any of v1, since fields are only ever added there. Objects from
/// files are read with the schemas of our own release.
fn supported_version(installed: Option<&InstalledApi>) -> (ConditionStatus, &'static str, String) {
    let Some(installed) = installed else {
        let message = format!("Gateway API {BUNDLE_VERSION}");
        return (ConditionStatus::True, reason::SUPPORTED_VERSION, message);
    };
    let release = installed.release.as_deref().unwrap_or("of unknown release");
    let (status, reason, mut message) = if release.starts_with("v1.") {
        let message = format!("Gateway API {release}");
        (ConditionStatus::True, reason::SUPPORTED_VERSION, message)
    } else {
        let message = format!(
            "The installed Gateway API is {release}; what it has in common with {BUNDLE_VERSION} is served. Install \
             {BUNDLE_VERSION}"
        );
        (ConditionStatus::False, reason::UNSUPPORTED_VERSION, message)
    };
    if !installed.missing.is_empty() {
        let missing: Vec<_> = installed.missing.iter().copied().collect();
        message.push_str(". Not installed, so not served: ");
        message.push_str(&missing.join(", "));
    }
    let unread = installed.unread.iter().filter(|(_, it)| !it.is_known);
    message.extend(unread.map(|(kind, unread)| {
        let (why, remedy) = (&unread.why, sources::remedy(kind, unread));
        format!(". {kind} cannot be read, so nothing new goes by it ({why}): {remedy}")
    }));
    (status, reason, message)
}

/// Whether `controller_name` serves the class of egress.
fn is_egress_served(resources: &Resources, controller_name: &str) -> bool {
    let class = ObjectKey::cluster(EGRESS_CLASS);
    let class = resources.gateway_classes.get(&class);
    class.is_some_and(|class| class.spec.controller_name == controller_name)
}

/// Whether a Gateway of egress is served by `controller_name`.
pub(crate) fn has_egress_gateway(resources: &Resources, controller_name: &str) -> bool {
    is_egress_served(resources, controller_name)
        && resources
            .gateways
            .values()
            .any(|gateway| gateway.spec.gateway_class_name == EGRESS_CLASS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_sorted_by_name_and_fit_into_a_status() {
        assert!(SUPPORTED_FEATURES.is_sorted());
        assert!(SUPPORTED_FEATURES.len() <= 64);
    }

    #[test]
    fn what_is_installed_decides_over_the_version() {
        let told = |release: Option<&str>, missing: &[&'static str]| {
            let installed = InstalledApi {
                release: release.map(Into::into),
                missing: missing.iter().copied().collect(),
                ..InstalledApi::default()
            };
            let (status, reason, message) = supported_version(Some(&installed));
            (status == ConditionStatus::True, reason, message)
        };
        assert_eq!(
            told(Some("v1.6.1"), &[]),
            (true, "SupportedVersion", "Gateway API v1.6.1".into())
        );
        let (supported, reason, message) = told(Some("v0.8.1"), &[]);
        assert!(!supported && reason == "UnsupportedVersion" && message.contains("v0.8.1"));
        let (supported, _, message) = told(None, &["GatewayParameters", "HTTPRoute"]);
        assert!(!supported, "{message}");
        assert!(message.ends_with("Not installed, so not served: GatewayParameters, HTTPRoute"));
    }
}
