//! CredentialInjection, a filter by reference.

use portcullis_routing::{
    Backend, CredentialKey, Filter, WeightedCluster, filter::credential::MAX_CREDENTIALS,
};

use super::{super::scope::Scope, spec::ExtensionSpec};
use crate::{
    resources::ObjectKey,
    status::reason,
    translate::{
        Context,
        credential::{self, Fault, GROUP, KIND},
        field::Field,
        problem::Problem,
    },
};

/// Whether a reference is to a credential.
pub(super) fn is_meant(spec: &ExtensionSpec) -> bool {
    (spec.group.as_str(), spec.kind.as_str()) == (GROUP, KIND)
}

/// The credential of the route's own namespace that a reference leads to. `earlier` are the filters before it in the same list.
/// One whose Secret cannot be read has no value, and is told.
pub(super) fn resolve(
    spec: &ExtensionSpec,
    earlier: &[Filter],
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) -> Result<CredentialKey, Problem> {
    let field = field.child("name");
    let key = ObjectKey::new(scope.from.namespace, &spec.name);
    let credentials = &scope.ctx.credentials;
    let name = credential::key_of(&key);
    let Some(credential) = credentials.get(&name) else {
        return Err(not_found(scope.ctx, &key, &field));
    };
    if let Err(fault) = credential {
        let finding = fault.finding();
        let problem = Problem::reference(
            reason::INVALID_CREDENTIAL,
            &field,
            format!("{} ({} of {KIND} {key})", finding.message, finding.field),
            finding.remedy.as_str(),
        );
        match fault {
            Fault::NotRead { .. } => scope.problems.tell(problem),
            Fault::Refused(_) | Fault::Unresolved(_) => return Err(problem),
        }
    }
    let header = credentials.header(&name);
    let mut earlier = named(earlier);
    if earlier.any(|other| credentials.header(other) == header) {
        return Err(Problem::incompatible(
            &field,
            format!(
                "a credential for the header {} stands here already",
                header.unwrap_or_default()
            ),
            "keep one of them, or give each backendRef its own",
        ));
    }
    Ok(name)
}

/// Whether some of them add one.
pub(in super::super) fn have_credential(filters: &[Filter]) -> bool {
    named(filters).next().is_some()
}

fn named(filters: &[Filter]) -> impl Iterator<Item = &CredentialKey> {
    filters.iter().filter_map(|filter| match filter {
        Filter::Credential(key) => Some(key),
        _ => None,
    })
}

/// A rule with more than a few is rejected: each stands in the memory of every proxy, in every rule that names it.
pub(in super::super) fn refuse_too_many(
    rule: &[Filter],
    backends: &[WeightedCluster],
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) {
    let backends = backends.iter().flat_map(|backend| named(&backend.filters));
    let count = named(rule).chain(backends).count();
    if count > MAX_CREDENTIALS {
        scope.problems.tell(Problem::unsupported(
            field,
            format!(
                "the rule and its backendRefs name {count} CredentialInjections, and {MAX_CREDENTIALS} are the most of a rule"
            ),
            "split the rule in several",
        ));
    }
}

/// There is no such object, or the controller may not know.
fn not_found(ctx: &Context<'_>, key: &ObjectKey, field: &Field<'_>) -> Problem {
    let installed = ctx.options.installed.as_ref();
    match installed.and_then(|it| it.unread.get(KIND)) {
        Some(unread) => Problem::reference(
            reason::INVALID_CREDENTIAL,
            field,
            format!(
                "no {KIND} can be read, so there is no credential ({})",
                unread.why
            ),
            "give the controller's ServiceAccount the verbs list and watch for credentialinjections of group portcullis.dev, as the ClusterRole portcullis-controller does",
        ),
        None => Problem::reference(
            reason::FILTER_NOT_FOUND,
            field,
            format!("{KIND} {key} does not exist"),
            "create it in the namespace of the route, or correct the name",
        ),
    }
}

/// Warns of credentials that go to a host beyond the cluster in clear text.
pub(in super::super) fn warn_if_in_clear(
    rule: &[Filter],
    backends: &[WeightedCluster],
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) {
    for (index, weighted) in backends.iter().enumerate() {
        let credentials = &scope.ctx.credentials;
        let mut all = named(rule).chain(named(&weighted.filters));
        if let Some(header) = all.find_map(|key| credentials.header(key))
            && scope.backends.is_in_clear_beyond(&weighted.backend)
        {
            let remedy = match weighted.backend {
                Backend::External { .. } => {
                    "list the host with a port that speaks TLS, and name that ServiceEntry in a BackendTLSPolicy, by which the proxy begins it"
                }
                _ => {
                    "let the proxy begin TLS, by `appProtocol: https` of the Service's port or by a BackendTLSPolicy"
                }
            };
            scope.problems.tell(Problem::warning(
                "CredentialInClear",
                &field.at(index),
                format!(
                    "the credential for the header {header} leaves the cluster in clear text, for whoever is on the way to read"
                ),
                remedy,
            ));
        }
    }
}
