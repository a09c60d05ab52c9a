//! A copy of a table that people may see: what lets its bearer in is replaced.

use std::sync::Arc;

use crate::{
    filter::{Filter, HeaderField, HeaderModifier},
    matches::ValueMatch,
    route::{Route, RouteAction},
    secret::{REDACTED, Secret},
    table::RoutingTable,
};

/// Header fields that carry credentials, in lower case.
const CREDENTIALS: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
];

impl RoutingTable {
    /// A copy that is safe to show to people: private keys and injected credentials are replaced, and so are the values that
    /// routes set, add or ask for in `Authorization`, `Proxy-Authorization`, `Cookie`, `Set-Cookie` and `X-Api-Key`.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut copy = self.clone();
        for certificate in copy.certificates.values_mut() {
            Arc::make_mut(certificate).key_pem = Secret::redacted();
        }
        for credential in copy.credentials.values_mut() {
            // Whatever the header's name.
            Arc::make_mut(credential).value = Secret::redacted();
        }
        // There may be tens of thousands: only those are copied that are not shown as they are.
        for route in copy.routes.values_mut().filter(|it| has_credentials(it)) {
            redact(Arc::make_mut(route));
        }
        copy
    }
}

fn has_credentials(route: &Route) -> bool {
    let mut asked_for = route.matches.iter().flat_map(|it| &it.headers);
    let mut filters = route.all_filters();
    asked_for.any(|header| is_credential(&header.name)) || filters.any(has_credential)
}

fn has_credential(filter: &Filter) -> bool {
    let mut written = modifier(filter)
        .into_iter()
        .flat_map(|it| it.set.iter().chain(&it.add));
    written.any(|field| is_credential(&field.name))
}

fn modifier(filter: &Filter) -> Option<&HeaderModifier> {
    match filter {
        Filter::RequestHeaders(modifier) | Filter::ResponseHeaders(modifier) => Some(modifier),
        Filter::UrlRewrite(_) | Filter::Mirror(_) | Filter::Cors(_) | Filter::Credential(_) => None,
    }
}

fn redact(route: &mut Route) {
    let headers = route.matches.iter_mut().flat_map(|it| &mut it.headers);
    for header in headers.filter(|header| is_credential(&header.name)) {
        let (ValueMatch::Exact(value) | ValueMatch::Regex(value)) = &mut header.value;
        REDACTED.clone_into(value);
    }
    let backends = match &mut route.action {
        RouteAction::Forward(backends) => backends.as_mut_slice(),
        RouteAction::Redirect(_) | RouteAction::Respond { .. } => &mut [],
    };
    let of_backends = backends.iter_mut().flat_map(|it| &mut it.filters);
    for filter in route.filters.iter_mut().chain(of_backends) {
        for field in fields(filter).filter(|field| is_credential(&field.name)) {
            REDACTED.clone_into(&mut field.value);
        }
    }
}

/// The header fields that a filter writes.
fn fields(filter: &mut Filter) -> impl Iterator<Item = &mut HeaderField> {
    let modifier = match filter {
        Filter::RequestHeaders(modifier) | Filter::ResponseHeaders(modifier) => Some(modifier),
        Filter::UrlRewrite(_) | Filter::Mirror(_) | Filter::Cors(_) | Filter::Credential(_) => None,
    };
    modifier
        .into_iter()
        .flat_map(|modifier| modifier.set.iter_mut().chain(&mut modifier.add))
}

fn is_credential(name: &str) -> bool {
    CREDENTIALS
        .iter()
        .any(|credential| name.eq_ignore_ascii_case(credential))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{CredentialKey, GatewayKey, RouteKey};

    const ROUTE: &str = r#"{
        "listeners": [],
        "matches": [{
            "path": {"Prefix": "/"},
            "headers": [
                {"name": "x-api-key", "value": {"Exact": "hidden-1"}},
                {"name": "authorization", "value": {"Regex": "hidden-2.*"}},
                {"name": "x-tenant", "value": {"Exact": "shown-1"}}
            ]
        }],
        "filters": [
            {"RequestHeaders": {
                "set": [{"name": "Authorization", "value": "hidden-3"}],
                "add": [{"name": "COOKIE", "value": "hidden-4"}, {"name": "X-A", "value": "shown-2"}]
            }},
            {"ResponseHeaders": {"add": [{"name": "Set-Cookie", "value": "hidden-5"}]}}
        ],
        "action": {"Forward": [{
            "weight": 1,
            "backend": {"Invalid": {"reason": "BackendNotFound"}},
            "filters": [
                {"RequestHeaders": {"set": [{"name": "proxy-authorization", "value": "hidden-6"}]}}
            ]
        }]},
        "order": {"namespace": "a", "name": "b", "rule": 0},
        "source": {"kind": "HTTPRoute", "namespace": "a", "name": "b", "rule": 0}
    }"#;

    #[test]
    fn an_injected_credential_is_hidden_whatever_its_header() {
        let mut table = RoutingTable::new(GatewayKey::new("a/b"));
        let json = r#"{"header": "x-tenant", "value": "hidden", "secret": "a/keys"}"#;
        let credential = serde_json::from_str(json).unwrap();
        let key = CredentialKey::of("a", "key");
        table.credentials.insert(key, Arc::new(credential));
        assert!(!format!("{table:?}").contains("hidden"));
        let shown = serde_json::to_string(&table.redacted()).unwrap();
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(
            shown.contains(REDACTED) && shown.contains("a/keys"),
            "{shown}"
        );
    }

    #[test]
    fn only_routes_with_credentials_are_copied() {
        let mut table = RoutingTable::new(GatewayKey::new("a/b"));
        let telling: Route = serde_json::from_str(ROUTE).unwrap();
        let mut plain = telling.clone();
        plain.matches.iter_mut().for_each(|it| it.headers.clear());
        plain.filters.clear();
        plain.action = RouteAction::Forward(vec![]);
        for (name, route) in [("plain", plain), ("telling", telling)] {
            let key = RouteKey::of("HTTPRoute", "a", name, 0);
            table.routes.insert(key, Arc::new(route));
        }
        let shown = table.redacted();
        let copied: Vec<_> = table
            .routes
            .iter()
            .map(|(key, route)| !Arc::ptr_eq(route, &shown.routes[key]))
            .collect();
        assert_eq!(copied, [false, true]);
    }

    /// One route for each place: [`redact`] sees only what [`has_credentials`] lets through.
    #[test]
    fn a_credential_is_hidden_wherever_the_only_one_is() {
        let field = r#"[{"name": "Cookie", "value": "hidden"}]"#;
        let filters = ["RequestHeaders", "ResponseHeaders"]
            .iter()
            .flat_map(|kind| ["set", "add"].map(|how| (kind, how)))
            .map(|(kind, how)| format!(r#"{{"{kind}": {{"{how}": {field}}}}}"#));
        let asked_for = ["Exact", "Regex"]
            .map(|kind| format!(r#"{{"name": "cookie", "value": {{"{kind}": "hidden"}}}}"#));
        let mut places: Vec<[String; 3]> = Vec::new();
        for filter in filters {
            places.push([String::new(), filter.clone(), String::new()]);
            places.push([String::new(), String::new(), filter]);
        }
        places.extend(asked_for.map(|header| [header, String::new(), String::new()]));
        let mut table = RoutingTable::new(GatewayKey::new("a/b"));
        for (rule, place) in (0..).zip(&places) {
            let route = Arc::new(with_credential(place));
            let key = RouteKey::of("HTTPRoute", "a", "b", rule);
            table.routes.insert(key, route);
        }
        assert_eq!(table.routes.len(), 10);
        for route in table.redacted().routes.values() {
            let shown = serde_json::to_string(route).unwrap();
            assert!(!shown.contains("hidden"), "{shown}");
            assert_eq!(shown.matches(REDACTED).count(), 1, "{shown}");
        }
    }

    fn with_credential([header, filter, of_backend]: &[String; 3]) -> Route {
        let json = format!(
            r#"{{
                "listeners": [],
                "matches": [{{"path": {{"Prefix": "/"}}, "headers": [{header}]}}],
                "filters": [{filter}],
                "action": {{"Forward": [{{
                    "weight": 1,
                    "backend": {{"Invalid": {{"reason": "BackendNotFound"}}}},
                    "filters": [{of_backend}]
                }}]}},
                "order": {{"namespace": "a", "name": "b", "rule": 0}},
                "source": {{"kind": "HTTPRoute", "namespace": "a", "name": "b", "rule": 0}}
            }}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn credentials_of_routes_are_not_shown() {
        let mut route: Route = serde_json::from_str(ROUTE).unwrap();
        let before = serde_json::to_string(&route).unwrap();
        redact(&mut route);
        let shown = serde_json::to_string(&route).unwrap();
        assert!(!shown.contains("hidden"), "{shown}");
        assert_eq!(before.matches("hidden").count(), 6);
        assert_eq!(shown.matches(REDACTED).count(), 6, "{shown}");
        assert_eq!(shown.matches("shown").count(), 2, "{shown}");
    }
}
