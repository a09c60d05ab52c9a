//! Lists as they are decoded: without the spare capacity that a list has while it grows. A table holds thousands of short
//! lists, most of one element, for as long as it is served; serde makes room for four with the first.

use serde::{Deserialize, Deserializer};

/// `#[serde(deserialize_with = "exact::list")]`: a list with room for its elements and no more.
pub(crate) fn list<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let mut list = Vec::deserialize(deserializer)?;
    list.shrink_to_fit();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use crate::Route;

    #[test]
    fn a_decoded_route_has_no_room_to_grow() {
        let route: Route = serde_json::from_value(serde_json::json!({
            "listeners": ["infra/edge/http"],
            "hostnames": ["a.example"],
            "matches": [{"path": {"Prefix": "/"}, "headers": [{"name": "x", "value": {"Exact": "y"}}]}],
            "filters": [{"RequestHeaders": {"set": [{"name": "x", "value": "y"}]}}],
            "action": {"Forward": [{"weight": 1, "backend": {"Cluster": "service/shop/cart/80"}}]},
            "order": {"namespace": "shop", "name": "cart", "rule": 0},
            "source": {"kind": "HTTPRoute", "namespace": "shop", "name": "cart", "rule": 0}
        }))
        .unwrap();
        let crate::RouteAction::Forward(backends) = &route.action else {
            panic!("{:?}", route.action);
        };
        let [crate::Filter::RequestHeaders(modifier)] = &*route.filters else {
            panic!("{:?}", route.filters);
        };
        let capacities = [
            route.listeners.capacity(),
            route.hostnames.capacity(),
            route.matches.capacity(),
            route.matches[0].headers.capacity(),
            route.filters.capacity(),
            modifier.set.capacity(),
            backends.capacity(),
        ];
        assert_eq!(capacities, [1; 7]);
    }
}
