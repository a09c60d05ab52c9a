//! One HTTPRoute in, its rules as routes of the table out.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::httproutes::HttpRoute;
use portcullis_routing::{Route, RouteKey};

use super::{Backends, Context};
use crate::finding::Finding;

/// What a route object becomes, independent of its parents.
#[derive(Debug, Default)]
pub(crate) struct ConvertedRoute {
    /// The rules that are served. `listeners` is still empty: attachment fills it in.
    pub(crate) rules: BTreeMap<RouteKey, Route>,
    /// Why the route as a whole is refused: `Accepted` False with the finding's code. Then `rules` is empty.
    pub(crate) refused: Option<Finding>,
    /// Rules that were left out: `PartiallyInvalid` True, message "Dropped Rule ...".
    pub(crate) dropped: Vec<Finding>,
    /// References that lead nowhere: `ResolvedRefs` False with the code of the first one.
    pub(crate) unresolved: Vec<Finding>,
}

/// Converts a route. The backends that its rules use are collected in `backends`.
pub(crate) fn convert(
    _ctx: &Context<'_>,
    _route: &HttpRoute,
    _backends: &mut Backends,
) -> ConvertedRoute {
    ConvertedRoute::default()
}
