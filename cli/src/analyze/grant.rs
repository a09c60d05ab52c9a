//! The ReferenceGrant that a finding asks for, ready to apply.

use portcullis_controller::{Finding, Resources};
use serde::Serialize;
use serde_json::{Value, json};

/// Group of Gateway and of the routes.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The manifest of the ReferenceGrant that permits the reference a `RefNotPermitted` finding is about.
pub(crate) fn for_finding(finding: &Finding, resources: &Resources) -> Option<String> {
    if finding.code != "RefNotPermitted" {
        return None;
    }
    let key = &finding.object.key;
    let object = match finding.object.kind.as_str() {
        "Gateway" => json_of(resources.gateways.get(key)?),
        "ListenerSet" => json_of(resources.listener_sets.get(key)?),
        "HTTPRoute" => json_of(resources.http_routes.get(key)?),
        _ => None,
    }?;
    let reference = reference_at(&object, &finding.field)?;
    let text = |field: &str| reference.get(field).and_then(Value::as_str);
    let is_certificate = finding.field.to_lowercase().contains("certificateref");
    let kind = text("kind").unwrap_or(if is_certificate { "Secret" } else { "Service" });
    let name = text("name")?;
    let grant = json!({
        "apiVersion": format!("{GATEWAY_API}/v1beta1"),
        "kind": "ReferenceGrant",
        "metadata": { "name": format!("{}-to-{name}", key.namespace), "namespace": text("namespace")? },
        "spec": {
            "from": [{ "group": GATEWAY_API, "kind": finding.object.kind, "namespace": key.namespace }],
            "to": [{ "group": text("group").unwrap_or_default(), "kind": kind, "name": name }],
        },
    });
    serde_saphyr::to_string(&grant).ok()
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
    use super::*;

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
