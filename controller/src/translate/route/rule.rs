//! One rule of an HTTPRoute: matches, filters, backends and policies become a route of the table.

use gateway_api::apis::experimental::httproutes::{HttpRouteRules, HttpRouteRulesBackendRefs};
use portcullis_routing::{
    Backend, Filter, PathMatch, RouteAction, RouteMatch, RoutePolicy, WeightedCluster,
};

use super::{
    filter::{self, Place},
    matches, retry,
    scope::Scope,
    timeouts,
    weight::weight,
};
use crate::translate::{backend::Traffic, field::Field, problem::Problem};

/// What a rule becomes.
pub(super) struct Rule {
    /// Empty if none of the rule's matches is valid, or if it is of connections and can have none.
    pub(super) matches: Vec<RouteMatch>,
    pub(super) filters: Vec<Filter>,
    pub(super) action: RouteAction,
    pub(super) policy: RoutePolicy,
}

/// Translates a rule. If it cannot be carried out as it stands, it answers 500: leaving it out would hand its requests to
/// a broader rule, perhaps one that does not protect what this one does.
pub(super) fn translate(
    spec: &HttpRouteRules,
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) -> Rule {
    let matches = matches::translate(
        spec.matches.as_deref(),
        &field.child("matches"),
        &mut scope.problems,
    );
    let by_prefix = matches
        .iter()
        .all(|one| matches!(one.path, PathMatch::Prefix(_)));
    let filters = filter::translate(
        spec.filters.as_deref(),
        Place::Rule,
        by_prefix,
        &field.child("filters"),
        scope,
    );
    let policy = policy(spec, field, scope);
    let action = match filters.redirect {
        Some(redirect) => {
            refuse_backends(spec, field, scope);
            RouteAction::Redirect(redirect)
        }
        None => forward(
            spec.backend_refs.as_deref(),
            &filters.list,
            by_prefix,
            &field.child("backendRefs"),
            scope,
        ),
    };
    if scope.problems.reject_rule() || filters.unresolved.is_some() {
        return Rule {
            matches,
            filters: Vec::new(),
            action: respond("invalid_rule"),
            policy: RoutePolicy::default(),
        };
    }
    Rule {
        matches,
        filters: filters.list,
        action,
        policy,
    }
}

/// A 500; `reason` is a code of the proxy's table of answers.
fn respond(reason: &str) -> RouteAction {
    RouteAction::Respond {
        status: 500,
        reason: reason.into(),
    }
}

fn policy(spec: &HttpRouteRules, field: &Field<'_>, scope: &mut Scope<'_, '_>) -> RoutePolicy {
    if spec.session_persistence.is_some() {
        scope.problems.tell(Problem::unsupported(
            &field.child("sessionPersistence"),
            "session persistence is not supported yet",
            "remove it, and keep sessions where every pod finds them",
        ));
    }
    let timeouts = spec.timeouts.as_ref();
    let retry = spec.retry.as_ref();
    RoutePolicy {
        timeouts: timeouts
            .map(|spec| timeouts::translate(spec, &field.child("timeouts"), &mut scope.problems))
            .unwrap_or_default(),
        retry: retry
            .and_then(|spec| retry::translate(spec, &field.child("retry"), &mut scope.problems)),
    }
}

fn refuse_backends(spec: &HttpRouteRules, field: &Field<'_>, scope: &mut Scope<'_, '_>) {
    if spec
        .backend_refs
        .as_ref()
        .is_some_and(|backends| !backends.is_empty())
    {
        scope.problems.tell(Problem::unsupported(
            &field.child("backendRefs"),
            "the rule redirects, so nothing is ever forwarded to its backends",
            "remove the backendRefs, or the RequestRedirect filter",
        ));
    }
}

fn forward(
    specs: Option<&[HttpRouteRulesBackendRefs]>,
    filters: &[Filter],
    by_prefix: bool,
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) -> RouteAction {
    let specs = specs.unwrap_or_default();
    if specs.is_empty() {
        scope.problems.tell(Problem::warning(
            "NoBackendRefs",
            field,
            "the rule has no backend, so it answers every request with 500",
            "add a backendRef, or a RequestRedirect filter",
        ));
        return respond("invalid_backend");
    }
    let backends: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| weighted(spec, filters, by_prefix, &field.at(index), scope))
        .collect();
    filter::warn_if_in_clear(filters, &backends, field, scope);
    filter::refuse_too_many(filters, &backends, field, scope);
    RouteAction::Forward(backends)
}

fn weighted(
    spec: &HttpRouteRulesBackendRefs,
    of_rule: &[Filter],
    by_prefix: bool,
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) -> WeightedCluster {
    let weight = scope
        .problems
        .keep(weight(spec.weight, &field.child("weight")));
    let filters = filter::translate(
        spec.filters.as_deref(),
        Place::Backend,
        by_prefix,
        &field.child("filters"),
        scope,
    );
    let traffic = Traffic::Requests {
        has_credential: filter::have_credential(of_rule) || filter::have_credential(&filters.list),
    };
    let backend = match scope.resolve_for(traffic, &spec.into(), field) {
        Ok(backend) => match filters.unresolved {
            Some(reason) => Backend::Invalid {
                reason: reason.into(),
            },
            None => backend,
        },
        Err(problem) => {
            let reason = problem.code.into();
            scope.problems.tell(problem);
            Backend::Invalid { reason }
        }
    };
    WeightedCluster {
        weight: weight.unwrap_or_default(),
        backend,
        filters: filters.list,
    }
}
