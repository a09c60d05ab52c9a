//! Routes: one rule of an HTTPRoute or TLSRoute each.

use serde::{Deserialize, Serialize};

use crate::{
    exact,
    filter::{Filter, redirect::Redirect},
    key::{ClusterKey, CredentialKey, EntryKey, ListenerKey},
    matches::RouteMatch,
    policy::RoutePolicy,
};

/// ONE rule of a route object. It points up to its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The listeners it is attached to.
    #[serde(deserialize_with = "exact::list")]
    pub listeners: Vec<ListenerKey>,
    /// The route's own hostnames, lower case, exact or `*.suffix`; empty means every host of the listener. They are not
    /// intersected with the listener's: precedence between routes is decided by these
    /// (GatewayRouteHostnameIntersectionPrecedence).
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub hostnames: Vec<String>,
    /// Alternatives, at least one; none if the route [takes connections](Self::takes_connections).
    #[serde(deserialize_with = "exact::list")]
    pub matches: Vec<RouteMatch>,
    /// Filters of the rule, in the order of the spec.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub filters: Vec<Filter>,
    /// What answers.
    pub action: RouteAction,
    /// Timeouts, retries.
    #[serde(default, skip_serializing_if = "RoutePolicy::is_default")]
    pub policy: RoutePolicy,
    /// Tie-break data.
    pub order: RouteOrder,
    /// Where it came from.
    pub source: RouteSource,
}

impl Route {
    /// What it forwards to; nothing if it does not forward.
    pub fn backends(&self) -> &[WeightedCluster] {
        match &self.action {
            RouteAction::Forward(backends) => backends,
            RouteAction::Redirect(_) | RouteAction::Respond { .. } => &[],
        }
    }

    /// Every cluster that it may send a request to, copies included.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterKey> {
        let backends = self.backends().iter();
        let backends = backends.filter_map(|backend| match &backend.backend {
            Backend::Cluster(key) => Some(key),
            Backend::External { .. } | Backend::Invalid { .. } => None,
        });
        backends.chain(self.filters.iter().filter_map(|filter| match filter {
            Filter::Mirror(mirror) => Some(&mirror.cluster),
            _ => None,
        }))
    }

    /// The entries that lead it outside.
    pub fn entries(&self) -> impl Iterator<Item = &EntryKey> {
        let backends = self.backends().iter();
        backends.filter_map(|backend| match &backend.backend {
            Backend::External { entry, .. } => Some(entry),
            Backend::Cluster(_) | Backend::Invalid { .. } => None,
        })
    }

    /// Its filters, then those of its backends.
    pub fn all_filters(&self) -> impl Iterator<Item = &Filter> {
        let of_backends = self.backends().iter().flat_map(|backend| &backend.filters);
        self.filters.iter().chain(of_backends)
    }

    /// The credentials that it gives its backends, or one of them.
    pub fn credentials(&self) -> impl Iterator<Item = &CredentialKey> {
        self.all_filters().filter_map(|filter| match filter {
            Filter::Credential(key) => Some(key),
            _ => None,
        })
    }

    /// Whether it takes whole connections of TLS that passes through, by the name in their greeting, and no requests: a rule of a
    /// TLSRoute. It matches nothing else, and forwards without filters and policy.
    pub fn takes_connections(&self) -> bool {
        self.matches.is_empty()
    }
}

/// What a route does with a request that it won.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteAction {
    /// Forward to one of these, chosen by weight. All weights 0 (or an empty list) answers 500, or refuses the connection.
    Forward(#[serde(deserialize_with = "exact::list")] Vec<WeightedCluster>),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer with this status and a short body.
    Respond {
        /// HTTP status code.
        status: u16,
        /// Machine-readable reason, as in the error table.
        reason: String,
    },
}

/// One backendRef.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedCluster {
    /// Share of the requests, relative to the sum of all weights. 0 gets none.
    pub weight: u32,
    /// The backend.
    pub backend: Backend,
    /// Filters that apply to this backend's share only.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub filters: Vec<Filter>,
}

/// A backendRef, resolved or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// A cluster of the table.
    Cluster(ClusterKey),
    /// A host of an entry, on a listener of egress.
    External {
        /// The entry.
        entry: EntryKey,
        /// One of its hosts; `None` is the one that the request names, which then must be one of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// One of its ports.
        port: u16,
    },
    /// A reference that could not be resolved. It keeps its share, which answers 500, or is refused.
    Invalid {
        /// The condition reason, such as `BackendNotFound`.
        reason: String,
    },
}

/// Decides between routes whose matches rank the same: oldest object, then `namespace/name`, then rule order. See
/// [`crate::MatchRank`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteOrder {
    /// Creation time of the object, seconds since the epoch. Absent for [`Self::NEVER`].
    #[serde(default = "never", skip_serializing_if = "is_never")]
    pub created_at: i64,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Index of the rule, from 0.
    pub rule: usize,
}

impl RouteOrder {
    /// The creation time of an object without one: it sorts last.
    pub const NEVER: i64 = i64::MAX;
}

const fn never() -> i64 {
    RouteOrder::NEVER
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_never(created_at: &i64) -> bool {
    *created_at == RouteOrder::NEVER
}

/// The object and rule a route came from, for logs, metrics and people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSource {
    /// Kind, such as `HTTPRoute`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Rule index, from 0.
    pub rule: usize,
    /// `rules[].name`, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_name: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_without_age_says_nothing_of_it() {
        let order = |created_at| RouteOrder {
            created_at,
            namespace: "shop".into(),
            name: "cart".into(),
            rule: 0,
        };
        for (order, written) in [
            (
                order(RouteOrder::NEVER),
                json!({"namespace": "shop", "name": "cart", "rule": 0}),
            ),
            (
                order(0),
                json!({"created_at": 0, "namespace": "shop", "name": "cart", "rule": 0}),
            ),
        ] {
            assert_eq!(serde_json::to_value(&order).unwrap(), written);
            assert_eq!(
                serde_json::from_value::<RouteOrder>(written).unwrap(),
                order
            );
        }
    }
}
