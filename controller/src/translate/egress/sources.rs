//! What egress Gateways go by and the controller cannot read: what follows for them, and how they say so.

use std::collections::BTreeMap;

use crate::{
    status::{ConditionSet, ConditionStatus, condition::kind, reason},
    translate::{Context, Unread, credential},
};

/// The kind that says nothing but who calls: without it callers are unknown, and an unknown caller gets the least of all.
const WHO_CALLS: &str = "Pod";
/// The kind that only says in few words which addresses Services have, which these say themselves.
const SERVICES_IN_SHORT: &str = "ServiceCIDR";

const REMEDY: &str = "give the controller's ServiceAccount the verbs list and watch, as the ClusterRole \
     portcullis-controller-egress does (Helm: egress.enabled=true)";

/// Kinds of egress that cannot be read, with why; none of files.
fn unread<'a>(ctx: &Context<'a>) -> impl Iterator<Item = (&'static str, &'a Unread)> + use<'a> {
    let installed = ctx.options.installed.as_ref();
    let unread: Option<&'a BTreeMap<_, _>> = installed.map(|installed| &installed.unread);
    unread
        .into_iter()
        .flatten()
        .map(|(kind, unread)| (*kind, unread))
        // Only rules that refer to one go by it, and say so themselves.
        .filter(|(kind, _)| *kind != credential::KIND)
}

/// Whether something was never known that could forbid what the rest allows, or has not been read yet. Egress Gateways have no table
/// then, so that their proxies go on as they are: nothing made of the rest may take their place, be it more open or shut.
pub(crate) fn hold_back(ctx: &Context<'_>) -> bool {
    let installed = ctx.options.installed.as_ref();
    installed.is_some_and(|installed| !installed.pending.is_empty()) || are_missing(ctx)
}

fn are_missing(ctx: &Context<'_>) -> bool {
    unread(ctx)
        .any(|(kind, unread)| ![WHO_CALLS, SERVICES_IN_SHORT].contains(&kind) && !unread.is_known)
}

/// States the conditions of an egress Gateway; there is none of its sources where everything can be read.
pub(crate) fn state(ctx: &Context<'_>, conditions: &mut ConditionSet) {
    if hold_back(ctx) && conditions.is_unknown(kind::PROGRAMMED) {
        conditions.set(
            kind::PROGRAMMED,
            ConditionStatus::Unknown,
            reason::PENDING,
            "Not all is known that could forbid something, so proxies go on as they are, and new ones serve nothing",
        );
    }
    state_readable(ctx, conditions);
}

fn state_readable(ctx: &Context<'_>, conditions: &mut ConditionSet) {
    let kinds: Vec<_> = unread(ctx)
        .map(|(kind, unread)| told(kind, unread))
        .collect();
    if kinds.is_empty() {
        return;
    }
    let stands_still = if are_missing(ctx) {
        ". Until then proxies of this Gateway go on as they are, and new ones serve nothing"
    } else {
        ""
    };
    let is_refused = unread(ctx).any(|(_, unread)| unread.is_refused);
    let remedy = if is_refused {
        REMEDY
    } else {
        "see why the API server fails"
    };
    conditions.set(
        kind::SOURCES_READABLE,
        ConditionStatus::False,
        reason::NOT_READABLE,
        format!("{}{stands_still}: {remedy}", kinds.join(". ")),
    );
}

fn told(kind: &str, unread: &Unread) -> String {
    let follows = match (kind, unread.is_known) {
        (_, true) => "what was known before stays in force",
        (WHO_CALLS, false) => "nobody's address says who calls",
        (SERVICES_IN_SHORT, false) => "each address of a Service is kept by itself",
        (_, false) => "nothing is known of it",
    };
    format!("{kind} cannot be read, so {follows} ({})", unread.why)
}
