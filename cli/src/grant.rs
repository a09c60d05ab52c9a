//! The ReferenceGrant that a finding asks for, ready to apply.

use portcullis_controller::{Finding, Resources};
use serde::Serialize;
use serde_json::{Value, json};

/// Group of Gateway and of the routes.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Characters that a name may have in Kubernetes.
const LONGEST_NAME: usize = 253;

/// The code of findings about references that no grant permits.
const NOT_PERMITTED: &str = "RefNotPermitted";

/// What stands between field and namespace in the message of a condition that tells of one.
const MISSING: &str = ": no ReferenceGrant in namespace ";

/// The object that refers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
    /// With its `spec`.
    pub(crate) object: &'a Value,
}

/// The manifest of the ReferenceGrant that permits the reference a `RefNotPermitted` finding is about.
pub(crate) fn for_finding(finding: &Finding, resources: &Resources) -> Option<String> {
    if finding.code != NOT_PERMITTED {
        return None;
    }
    let key = &finding.object.key;
    let object = match finding.object.kind.as_str() {
        "Gateway" => json_of(resources.gateways.get(key)?),
        "ListenerSet" => json_of(resources.listener_sets.get(key)?),
        "HTTPRoute" => json_of(resources.http_routes.get(key)?),
        "TLSRoute" => json_of(resources.tls_routes.get(key)?),
        _ => None,
    }?;
    let subject = Subject {
        kind: &finding.object.kind,
        namespace: &key.namespace,
        object: &object,
    };
    subject.grant(&finding.field)
}

impl Subject<'_> {
    /// The manifests of the ReferenceGrants that a condition of the object asks for by its message, as one stream. That is
    /// made of the texts of findings, each of which begins with its field.
    pub(crate) fn for_condition(&self, message: &str) -> Option<String> {
        let mut parts: Vec<&str> = message.split(MISSING).collect();
        parts.pop();
        let fields = parts
            .iter()
            .filter_map(|part| part.split_whitespace().next_back());
        let mut grants: Vec<String> = Vec::new();
        for grant in fields.filter_map(|field| self.grant(field)) {
            if !grants.contains(&grant) {
                grants.push(grant);
            }
        }
        (!grants.is_empty()).then(|| grants.join("---\n"))
    }

    /// The grant for the reference that a field is, or lies in.
    fn grant(&self, field: &str) -> Option<String> {
        let Self {
            kind,
            namespace,
            object,
        } = self;
        let reference = reference_at(object, field)?;
        let text = |field: &str| reference.get(field).and_then(Value::as_str);
        let is_certificate = field.to_lowercase().contains("certificateref");
        let default = if is_certificate { "Secret" } else { "Service" };
        let (to, name) = (text("kind").unwrap_or(default), text("name")?);
        let grant = json!({
            "apiVersion": format!("{GATEWAY_API}/v1beta1"),
            "kind": "ReferenceGrant",
            "metadata": { "name": self.name(to, name), "namespace": text("namespace")? },
            "spec": {
                "from": [{ "group": GATEWAY_API, "kind": kind, "namespace": namespace }],
                "to": [{
                    "group": text("group").unwrap_or_default(),
                    "kind": to,
                    "name": name,
                }],
            },
        });
        serde_saphyr::to_string(&grant).ok()
    }

    /// Tells the grant from all others that the object's namespace may need there: one of the same name would take its place.
    fn name(&self, to: &str, name: &str) -> String {
        let Self {
            kind, namespace, ..
        } = self;
        let whole = format!("{namespace}-{kind}-to-{to}-{name}").to_lowercase();
        let cut: String = whole.chars().take(LONGEST_NAME).collect();
        cut.trim_end_matches(['-', '.']).to_owned()
    }
}

fn json_of(object: &impl Serialize) -> Option<Value> {
    serde_json::to_value(object).ok()
}

/// The deepest object with a name on the way along a field path such as `spec.rules[0].backendRefs[1].name`.
fn reference_at<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    let mut found = None;
    let mut place = object;
    for step in field.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let next = step
            .parse::<usize>()
            .ok()
            .and_then(|index| place.get(index))
            .or_else(|| place.get(step));
        let Some(next) = next else { break };
        place = next;
        if place.get("name").is_some() && place.get("namespace").is_some() {
            found = Some(place);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use portcullis_controller::{ObjectKey, Options, manifests::Loaded, translate};

    use super::*;

    const MANIFESTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: portcullis
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: tls, namespace: certs}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - backendRefs:
    - {name: missing, port: 80}
    - {name: a, namespace: one, port: 80}
    - {name: b, namespace: two, port: 80}
    - {name: a, namespace: one, port: 81}
";

    /// Conditions are read by the words that the translation writes.
    #[test]
    fn a_condition_gives_the_same_grants_as_its_findings() {
        let mut loaded = Loaded::default();
        loaded.read_text("a.yaml", MANIFESTS);
        let translation = translate(&loaded.resources, &Options::standalone());
        let from_findings = |kind: &str| {
            let all = translation.findings.iter();
            let all = all.filter(|finding| finding.object.kind == kind);
            let mut grants: Vec<_> = all
                .filter_map(|finding| for_finding(finding, &loaded.resources))
                .collect();
            grants.dedup();
            grants
        };

        let route = &translation.statuses.http_routes[&ObjectKey::new("shop", "web")];
        let condition = route.parents[0].conditions.get("ResolvedRefs").unwrap();
        let object = json_of(&*loaded.resources.http_routes[&ObjectKey::new("shop", "web")]);
        let subject = Subject {
            kind: "HTTPRoute",
            namespace: "shop",
            object: &object.unwrap(),
        };
        let grants = subject.for_condition(&condition.message);
        let grants = grants.unwrap();
        assert_eq!(grants.matches("kind: ReferenceGrant").count(), 2);
        for grant in from_findings("HTTPRoute") {
            assert!(grants.contains(&grant), "{grant} is not in {grants}");
        }
        assert_eq!(subject.for_condition("spec.rules[0]: something else"), None);

        let gateway = &translation.statuses.gateways[&ObjectKey::new("shop", "edge")];
        let conditions = &gateway.listeners[1].conditions;
        let condition = conditions.get("ResolvedRefs").unwrap();
        let object = json_of(&*loaded.resources.gateways[&ObjectKey::new("shop", "edge")]);
        let subject = Subject {
            kind: "Gateway",
            object: &object.unwrap(),
            ..subject
        };
        let grants = subject.for_condition(&condition.message);
        assert_eq!(Vec::from_iter(grants), from_findings("Gateway"));
    }

    /// Applied together, one would overwrite the other.
    #[test]
    fn grants_for_different_kinds_have_different_names() {
        let name_of = |kind: &str, to: &str, name: &str| {
            let reference = json!({ "kind": to, "name": name, "namespace": "certs" });
            let object = json!({ "spec": { "ref": reference } });
            let subject = Subject {
                kind,
                namespace: "shop",
                object: &object,
            };
            let grant = subject.grant("spec.ref").unwrap();
            let grant: Value = serde_saphyr::from_str(&grant).unwrap();
            grant["metadata"]["name"].as_str().unwrap().to_owned()
        };
        for (kind, to, expected) in [
            ("Gateway", "Secret", "shop-gateway-to-secret-tls"),
            ("Gateway", "ConfigMap", "shop-gateway-to-configmap-tls"),
            ("ListenerSet", "Secret", "shop-listenerset-to-secret-tls"),
        ] {
            assert_eq!(name_of(kind, to, "tls"), expected);
        }
        let long = name_of("Gateway", "Secret", &"a.".repeat(126));
        assert_eq!(long.len(), 252, "{long}");
        assert!(long.ends_with('a'), "{long}");
    }

    #[test]
    fn finds_the_reference_a_field_lies_in() {
        let reference = json!({ "name": "b", "namespace": "other" });
        let object = json!({ "spec": { "rules": [{ "name": "rule", "backendRefs": [{ "name": "a" }, reference] }] } });
        for field in [
            "spec.rules[0].backendRefs[1]",
            "spec.rules[0].backendRefs[1].namespace",
        ] {
            assert_eq!(reference_at(&object, field), Some(&reference), "{field}");
        }
        assert_eq!(reference_at(&object, "spec.rules[0].backendRefs[0]"), None);
        assert_eq!(reference_at(&object, "spec.parentRefs[0]"), None);
    }
}
