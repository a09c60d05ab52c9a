//! One HTTPRoute in, its rules as routes of the table out.

use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteRules};

use super::{Conversion, ConvertedRoute, rule};
use crate::{
    resources::ObjectKey,
    translate::{
        Backends, Context,
        backend::{Reach, Traffic},
        credential,
    },
};

/// Converts a route that is attached to Gateways of this `reach`. The backends that its rules use are collected in `backends`.
pub(crate) fn convert<'a>(
    ctx: &Context<'a>,
    route: &HttpRoute,
    reach: &Reach,
    backends: &mut Backends<'a>,
) -> ConvertedRoute {
    let default_rule = [HttpRouteRules::default()];
    let rules = route.spec.rules.as_deref();
    let rules = rules.filter(|rules| !rules.is_empty());
    let conversion = Conversion {
        rules: rules.unwrap_or(&default_rule),
        name: |rule| rule.name.as_deref(),
        traffic: Traffic::Requests {
            has_credential: false,
        },
        reach,
        backends,
    };
    let converted = super::convert(ctx, route, conversion, |rule, field, scope| {
        // None of its matches may be valid: then there is nothing to route.
        Some(rule::translate(rule, field, scope)).filter(|rule| !rule.matches.is_empty())
    });
    ConvertedRoute {
        credentials: credential::of_route(&ObjectKey::of(route), route),
        ..converted
    }
}
