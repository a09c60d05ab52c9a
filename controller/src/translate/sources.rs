//! Kinds that a Gateway goes by and the controller cannot read: what follows for it, and how it says so.

use super::{
    Context, InstalledApi, Obstacle, Unread, credential, gateway::GatewayState, listener_set,
};
use crate::status::{ConditionSet, ConditionStatus, condition::kind, reason};

/// The kind that says nothing but who calls: without it callers are unknown, and an unknown caller gets the least of all.
const WHO_CALLS: &str = "Pod";
/// The kind that only says in few words which addresses Services have, which these say themselves.
const SERVICES_IN_SHORT: &str = "ServiceCIDR";
/// Kinds that nothing but egress goes by.
const OF_EGRESS: [&str; 5] = [
    "EgressPolicy",
    "Node",
    WHO_CALLS,
    "ServiceEntry",
    SERVICES_IN_SHORT,
];
/// The kind whose objects Gateways and classes name.
pub(crate) const PARAMETERS: &str = "GatewayParameters";
/// The kind that only listeners of TLS take.
const TLS_ROUTES: &str = "TLSRoute";

const REMEDY: &str = "give the controller's ServiceAccount the verbs list and watch for it, as the ClusterRole \
     portcullis-controller does";
const REMEDY_OF_EGRESS: &str = "give the controller's ServiceAccount the verbs list and watch, as the ClusterRole \
     portcullis-controller-egress does (Helm: egress.enabled=true)";

/// What is to be done about a kind of which nothing is known.
pub(crate) fn remedy(kind: &str, unread: &Unread) -> &'static str {
    match unread.obstacle {
        Obstacle::Refused if OF_EGRESS.contains(&kind) => REMEDY_OF_EGRESS,
        Obstacle::Refused => REMEDY,
        Obstacle::NotServed => "install the CRD of a release that has it",
        Obstacle::Failing => "see why the API server fails",
    }
}

/// Whether nothing is known of a kind, as it cannot be read.
pub(crate) fn is_unknown(ctx: &Context<'_>, kind: &str) -> bool {
    let installed = ctx.options.installed.as_ref();
    let unread = installed.and_then(|installed| installed.unread.get(kind));
    unread.is_some_and(|unread| !unread.is_known)
}

/// Whether Gateways may use backends in ways that nothing is known of.
pub(crate) fn may_use_more(ctx: &Context<'_>) -> bool {
    [listener_set::KIND, TLS_ROUTES]
        .iter()
        .any(|kind| is_unknown(ctx, kind))
}

/// Kinds that cannot be read, with why; none of files.
fn unread<'a>(ctx: &Context<'a>) -> impl Iterator<Item = (&'static str, &'a Unread)> + use<'a> {
    let installed: Option<&'a InstalledApi> = ctx.options.installed.as_ref();
    let unread = installed.into_iter().flat_map(|it| &it.unread);
    unread.map(|(kind, unread)| (*kind, unread))
}

/// Those of them that this Gateway may go by.
fn unread_of<'a>(
    ctx: &Context<'a>,
    gateway: &GatewayState<'_>,
) -> impl Iterator<Item = (&'static str, &'a Unread)> {
    unread(ctx).filter(|(kind, _)| match *kind {
        kind if OF_EGRESS.contains(&kind) => gateway.is_egress(),
        // Only rules that refer to one go by it, and say so themselves.
        credential::KIND => false,
        listener_set::KIND => gateway.takes_sets(),
        PARAMETERS => gateway.names_parameters(ctx),
        TLS_ROUTES => gateway.has_tls(),
        // Of others nothing is known only where they were not installed before; any Gateway may go by them.
        _ => true,
    })
}

/// Whether nothing is made in place of this kind, of which nothing is known.
fn is_missing((kind, unread): (&str, &Unread)) -> bool {
    ![WHO_CALLS, SERVICES_IN_SHORT].contains(&kind) && !unread.is_known
}

fn is_pending(ctx: &Context<'_>) -> bool {
    let installed = ctx.options.installed.as_ref();
    installed.is_some_and(|installed| !installed.pending.is_empty())
}

/// Whether all egress Gateways are held back.
pub(crate) fn hold_egress_back(ctx: &Context<'_>) -> bool {
    let mut of_egress = unread(ctx).filter(|(kind, _)| OF_EGRESS.contains(kind));
    is_pending(ctx) || of_egress.any(is_missing)
}

/// Whether something was never known that could forbid what the rest allows, or that its proxies may have from a controller before
/// this one; or has not been read yet. The Gateway has no table then, so that its proxies go on as they are: nothing made of the rest may take
/// its place, be it more open or shut.
pub(crate) fn hold_back(ctx: &Context<'_>, gateway: &GatewayState<'_>) -> bool {
    gateway.is_egress() && is_pending(ctx) || unread_of(ctx, gateway).any(is_missing)
}

/// States the conditions of a Gateway; there is none of its sources where everything can be read.
pub(crate) fn state(ctx: &Context<'_>, gateway: &GatewayState<'_>, conditions: &mut ConditionSet) {
    if hold_back(ctx, gateway) && conditions.is_unknown(kind::PROGRAMMED) {
        let message = if gateway.is_egress() {
            "Not all is known that could forbid something, so proxies go on as they are, and new ones serve nothing"
        } else {
            "Not all is known that the Gateway serves, so proxies go on as they are, and new ones serve nothing"
        };
        conditions.set(
            kind::PROGRAMMED,
            ConditionStatus::Unknown,
            reason::PENDING,
            message,
        );
    }
    state_readable(ctx, gateway, conditions);
}

fn state_readable(ctx: &Context<'_>, gateway: &GatewayState<'_>, conditions: &mut ConditionSet) {
    let kinds: Vec<_> = unread_of(ctx, gateway)
        .map(|(kind, unread)| told(kind, unread))
        .collect();
    if kinds.is_empty() {
        return;
    }
    let stands_still = if unread_of(ctx, gateway).any(is_missing) {
        ". Until then proxies of this Gateway go on as they are, and new ones serve nothing"
    } else {
        ""
    };
    let mut remedies: Vec<_> = unread_of(ctx, gateway)
        .map(|(kind, unread)| remedy(kind, unread))
        .collect();
    remedies.sort_unstable();
    remedies.dedup();
    conditions.set(
        kind::SOURCES_READABLE,
        ConditionStatus::False,
        reason::NOT_READABLE,
        format!(
            "{}{stands_still}: {}",
            kinds.join(". "),
            remedies.join("; ")
        ),
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
