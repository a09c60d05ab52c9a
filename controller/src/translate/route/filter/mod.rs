//! `filters` of rules and backendRefs.

mod cors;
mod credential;
mod headers;
mod mirror;
mod redirect;
mod rewrite;
mod spec;

use std::collections::BTreeSet;

use portcullis_routing::{
    Backend, Filter,
    filter::{Mirror, Redirect},
};
use serde::Serialize;

pub(super) use self::credential::{have_credential, refuse_too_many, warn_if_in_clear};
use self::spec::{FilterSpec, MirrorSpec};
use super::scope::Scope;
use crate::translate::{
    field::Field,
    problem::{Effect, Problem},
};

/// Where filters stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `rules[].filters`.
    Rule,
    /// `rules[].backendRefs[].filters`.
    Backend,
}

/// The filters of one place. A redirect is an action of its own.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) list: Vec<Filter>,
    pub(super) redirect: Option<Redirect>,
    /// The reason for `ResolvedRefs`, if a filter leads nowhere: what it was to be applied to must not be served without it.
    pub(super) unresolved: Option<&'static str>,
}

/// Converts filters, of whichever of the bindings' types; those that are wrong are told and left out. `by_prefix` tells
/// whether every match of the rule is a `PathPrefix`.
pub(super) fn translate<F: Serialize>(
    specs: Option<&[F]>,
    place: Place,
    by_prefix: bool,
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) -> Filters {
    let specs = specs.unwrap_or_default();
    let mut filters = Filters::default();
    let mut kinds = BTreeSet::new();
    for (index, spec) in specs.iter().enumerate() {
        let field = field.at(index);
        let spec = FilterSpec::read(spec).map_err(|error| {
            Problem::unsupported(
                &field,
                format!("the filter cannot be read: {error}"),
                "correct or remove it",
            )
        });
        let Some(spec) = scope.problems.keep(spec) else {
            continue;
        };
        if let Err(problem) = check_combination(&spec.kind, &kinds, &field) {
            scope.problems.tell(problem);
        }
        if let Err(problem) = filters.add(&spec, place, by_prefix, &field, scope) {
            if problem.effect == Effect::BreaksReference {
                filters.unresolved.get_or_insert(problem.code);
            }
            scope.problems.tell(problem);
        }
        kinds.insert(spec.kind);
    }
    filters
}

impl Filters {
    fn add(
        &mut self,
        spec: &FilterSpec,
        place: Place,
        by_prefix: bool,
        field: &Field<'_>,
        scope: &mut Scope<'_, '_>,
    ) -> Result<(), Problem> {
        let filter = match (spec.kind.as_str(), place) {
            ("RequestHeaderModifier", _) => {
                let field = field.child("requestHeaderModifier");
                let spec = required(spec.request_header_modifier.as_ref(), &field)?;
                Filter::RequestHeaders(headers::translate(spec, &field, &mut scope.problems))
            }
            ("ResponseHeaderModifier", _) => {
                let field = field.child("responseHeaderModifier");
                let spec = required(spec.response_header_modifier.as_ref(), &field)?;
                Filter::ResponseHeaders(headers::translate(spec, &field, &mut scope.problems))
            }
            ("URLRewrite", _) => {
                let field = field.child("urlRewrite");
                let spec = required(spec.url_rewrite.as_ref(), &field)?;
                Filter::UrlRewrite(rewrite::translate(spec, by_prefix, &field)?)
            }
            ("RequestRedirect", Place::Rule) => {
                let field = field.child("requestRedirect");
                let spec = required(spec.request_redirect.as_ref(), &field)?;
                self.redirect = Some(redirect::translate(spec, by_prefix, &field)?);
                return Ok(());
            }
            ("RequestMirror", Place::Rule) => {
                let field = field.child("requestMirror");
                match mirror(
                    required(spec.request_mirror.as_ref(), &field)?,
                    &field,
                    scope,
                )? {
                    Some(mirror) => Filter::Mirror(mirror),
                    None => return Ok(()),
                }
            }
            ("CORS", Place::Rule) => {
                let field = field.child("cors");
                let spec = required(spec.cors.as_ref(), &field)?;
                Filter::Cors(cors::translate(spec, &field, &mut scope.problems))
            }
            ("ExtensionRef", _) => match spec.extension_ref.as_ref() {
                Some(spec) if credential::is_meant(spec) => {
                    let field = field.child("extensionRef");
                    let credential = credential::resolve(spec, &self.list, &field, scope)?;
                    Filter::Credential(credential)
                }
                _ => return Err(unsupported(&spec.kind, place, field)),
            },
            (kind, _) => return Err(unsupported(kind, place, field)),
        };
        self.list.push(filter);
        Ok(())
    }
}

/// The mirror, unless its backend cannot be resolved: then it is told and left out, and the rule serves without it.
fn mirror(
    spec: &MirrorSpec,
    field: &Field<'_>,
    scope: &mut Scope<'_, '_>,
) -> Result<Option<Mirror>, Problem> {
    let (numerator, denominator) = mirror::share(spec, field)?;
    let backend = scope.resolve(&spec.backend_ref, &field.child("backendRef"));
    Ok(match scope.problems.keep(backend) {
        Some(Backend::Cluster(cluster)) => Some(Mirror {
            cluster,
            numerator,
            denominator,
        }),
        Some(Backend::External { .. }) => {
            return Err(Problem::unsupported(
                &field.child("backendRef"),
                "requests are not mirrored to hosts beyond the cluster",
                "mirror to a Service, or remove the filter",
            ));
        }
        Some(Backend::Invalid { .. }) | None => None,
    })
}

fn required<'s, T>(spec: Option<&'s T>, field: &Field<'_>) -> Result<&'s T, Problem> {
    spec.ok_or_else(|| {
        Problem::unsupported(
            field,
            "the filter's type asks for this field, but it is not set",
            "set it, or remove the filter",
        )
    })
}

fn check_combination(
    kind: &str,
    earlier: &BTreeSet<String>,
    field: &Field<'_>,
) -> Result<(), Problem> {
    if kind != "RequestMirror" && kind != "ExtensionRef" && earlier.contains(kind) {
        return Err(Problem::incompatible(
            field,
            format!("{kind} stands here a second time, but may be used once only"),
            "join both filters in one",
        ));
    }
    let excluded = match kind {
        "URLRewrite" => "RequestRedirect",
        "RequestRedirect" => "URLRewrite",
        _ => return Ok(()),
    };
    if earlier.contains(excluded) {
        return Err(Problem::incompatible(
            field,
            format!(
                "{kind} cannot be combined with {excluded}: a redirect forwards nothing that could be rewritten"
            ),
            "keep one of the two; a redirect has `hostname` and `path` of its own",
        ));
    }
    Ok(())
}

fn unsupported(kind: &str, place: Place, field: &Field<'_>) -> Problem {
    let remedy = match (kind, place) {
        ("RequestMirror" | "CORS", Place::Backend) => "move it to the `filters` of the rule",
        ("RequestRedirect", Place::Backend) => {
            "make it a filter of a rule of its own, without backendRefs"
        }
        ("ExtensionRef", _) => {
            "remove it; of extensions there is CredentialInjection of group portcullis.dev only"
        }
        ("ExternalAuth", _) => "remove it; requests cannot be checked by an external service yet",
        _ => {
            "use RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite, RequestMirror or CORS"
        }
    };
    let place = match place {
        Place::Rule => "rule",
        Place::Backend => "backendRef",
    };
    Problem::unsupported(
        &field.child("type"),
        format!("the filter {kind} is not supported on a {place}"),
        remedy,
    )
}
