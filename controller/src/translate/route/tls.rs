//! One TLSRoute in, its rule as a route of connections out: TLS passes through to its backends, and only the name in the greeting is
//! seen.

use std::collections::BTreeSet;

use gateway_api::apis::experimental::tlsroutes::{
    TlsRoute, TlsRouteRules, TlsRouteRulesBackendRefs,
};
use portcullis_routing::{Backend, RouteAction, RoutePolicy, WeightedCluster};

use super::{Conversion, ConvertedRoute, rule::Rule, scope::Scope, weight::weight};
use crate::translate::{
    Backends, Context,
    backend::{Reach, Traffic},
    field::Field,
    problem::Problem,
};

/// Converts a route that is attached to Gateways of this `reach`. The backends that its rules use are collected in `backends`.
pub(crate) fn convert<'a>(
    ctx: &Context<'a>,
    route: &TlsRoute,
    reach: &Reach,
    backends: &mut Backends<'a>,
) -> ConvertedRoute {
    let conversion = Conversion {
        rules: &route.spec.rules,
        name: |rule: &TlsRouteRules| rule.name.as_deref(),
        traffic: Traffic::Connections,
        reach,
        backends,
    };
    let converted = super::convert(ctx, route, conversion, |rule, field, scope| {
        Some(translate(rule, field, scope))
    });
    ConvertedRoute {
        // What policies say of TLS with a Service is not for the proxy to do here.
        services: BTreeSet::new(),
        ..converted
    }
}

/// Translates a rule. If it cannot be carried out as it stands, it refuses its connections: leaving it out would hand them to a
/// broader one.
fn translate(spec: &TlsRouteRules, field: &Field<'_>, scope: &mut Scope<'_, '_>) -> Rule {
    let field = field.child("backendRefs");
    if spec.backend_refs.is_empty() {
        scope.problems.tell(Problem::warning(
            "NoBackendRefs",
            &field,
            "the rule has no backend, so it refuses every connection",
            "add a backendRef",
        ));
    }
    let backends = spec.backend_refs.iter().enumerate();
    let backends = backends.map(|(index, spec)| weighted(spec, &field.at(index), scope));
    let backends: Vec<_> = backends.collect();
    let action = if scope.problems.reject_rule() {
        RouteAction::Forward(Vec::new())
    } else {
        RouteAction::Forward(backends)
    };
    Rule {
        matches: Vec::new(),
        filters: Vec::new(),
        action,
        policy: RoutePolicy::default(),
    }
}

fn weighted(
    spec: &TlsRouteRulesBackendRefs,
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) -> WeightedCluster {
    let weight = weight(spec.weight, &field.child("weight"));
    let weight = scope.problems.keep(weight).unwrap_or_default();
    let backend = scope
        .resolve(&spec.into(), field)
        .unwrap_or_else(|problem| {
            let reason = problem.code.into();
            scope.problems.tell(problem);
            Backend::Invalid { reason }
        });
    WeightedCluster {
        weight,
        backend,
        filters: Vec::new(),
    }
}
