//! `rules[].timeouts` (GEP-1742).

use gateway_api::apis::experimental::httproutes::HttpRouteRulesTimeouts;
use portcullis_routing::{Millis, policy::Timeouts};

use super::duration;
use crate::translate::{
    field::Field,
    problem::{Problem, Problems},
};

/// The deadlines of a rule. `0s` means none.
pub(super) fn translate(
    spec: &HttpRouteRulesTimeouts,
    field: &Field<'_>,
    problems: &mut Problems,
) -> Timeouts {
    let backend_field = field.child("backendRequest");
    let request = deadline(spec.request.as_deref(), &field.child("request"), problems);
    let backend_request = deadline(spec.backend_request.as_deref(), &backend_field, problems);
    if let (Some(request), Some(backend)) = (request, backend_request)
        && backend > request
    {
        problems.tell(Problem::unsupported(
            &backend_field,
            format!(
                "one attempt may take longer ({} ms) than the whole request with all its attempts ({} ms)",
                backend.0, request.0
            ),
            "make `backendRequest` at most as long as `request`",
        ));
    }
    Timeouts {
        request,
        backend_request,
    }
}

fn deadline(text: Option<&str>, field: &Field<'_>, problems: &mut Problems) -> Option<Millis> {
    problems
        .keep(duration::parse(text?, field))
        .filter(|deadline| deadline.0 > 0)
}
