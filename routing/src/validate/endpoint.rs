//! Endpoints of a cluster.

use super::{Check, ensure, syntax};
use crate::{
    endpoint::{ClusterEndpoints, EndpointHost},
    key::ClusterKey,
    table::RoutingTable,
};

pub(crate) fn check(table: &RoutingTable, key: &ClusterKey, endpoints: &ClusterEndpoints) -> Check {
    ensure(table.clusters.contains_key(key), || {
        "there is no cluster of this key".to_owned()
    })?;
    for endpoint in &endpoints.endpoints {
        ensure(endpoint.port != 0, || "an endpoint has port 0".to_owned())?;
        if let EndpointHost::Name(name) = &endpoint.host {
            syntax::outside_host(name.strip_suffix('.').unwrap_or(name))?;
        }
    }
    let sorted = endpoints.endpoints.is_sorted_by(|a, b| a < b);
    ensure(sorted, || {
        "the endpoints are not sorted, or one stands twice".to_owned()
    })
}
