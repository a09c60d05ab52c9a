//! What was said about an object otherwise than by server-side apply becomes ours, so that an apply can take it away.
//!
//! An apply removes only what its own manager has applied before. What we said when we created the object counts as another
//! manager's. Somebody who changes the number of a Service's port makes a port of his own of it, and ours cannot be put back
//! beside it, since it has the same name.

use kube::{
    Client,
    api::{GetParams, Patch, PatchParams},
    core::Request,
};
use serde_json::{Value, json};

use crate::writer::FIELD_MANAGER;

/// Takes over what was said about an object: `taken` makes of its `metadata.managedFields` what they are to be, if there is
/// anything to take. Returns whether there was.
pub(super) async fn take_over(
    client: &Client,
    request: &Request,
    name: &str,
    taken: fn(&Value) -> Option<Value>,
) -> kube::Result<bool> {
    let get = request.get(name, &GetParams::default());
    let object: Value = client
        .request(get.map_err(kube::Error::BuildRequest)?)
        .await?;
    let metadata = &object["metadata"];
    let Some(fields) = taken(&metadata["managedFields"]) else {
        return Ok(false);
    };
    // Of the version that it was read of: somebody else may be saying something more.
    let body = json!({ "metadata": {
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
        "managedFields": fields,
    } });
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = request.patch(name, &parameters, &Patch::Merge(body));
    client
        .request::<Value>(patch.map_err(kube::Error::BuildRequest)?)
        .await?;
    Ok(true)
}

/// Whether `metadata.managedFields` has what we said when we created the object.
pub(super) fn is_as_created(fields: &Value) -> bool {
    let mut entries = fields.as_array().into_iter().flatten();
    entries.any(is_creation)
}

/// `metadata.managedFields` as if we had applied what we said when we created the object.
pub(super) fn created(fields: &Value) -> Option<Value> {
    let mut entries = fields.as_array()?.clone();
    let mut creation = entries.remove(entries.iter().position(is_creation)?);
    if let Some(ours) = entries.iter_mut().find(|it| is_applied(it)) {
        unite(&mut ours["fieldsV1"], &creation["fieldsV1"]);
    } else {
        creation["operation"] = "Apply".into();
        entries.push(creation);
    }
    Some(Value::Array(entries))
}

/// `metadata.managedFields` with every port that others have written among those that we have applied. All else that they
/// have written stays theirs.
pub(super) fn ports(fields: &Value) -> Option<Value> {
    let mut entries = fields.as_array()?.clone();
    let mut taken = Vec::new();
    for entry in entries.iter_mut().filter(|it| is_update(it)) {
        let fields = entry["fieldsV1"].as_object_mut()?;
        let Some(spec) = fields.get_mut("f:spec").and_then(Value::as_object_mut) else {
            continue;
        };
        taken.extend(spec.remove("f:ports"));
        if spec.is_empty() {
            fields.remove("f:spec");
        }
    }
    let ours = entries.iter_mut().find(|it| is_applied(it))?;
    for ports in &taken {
        unite(&mut ours["fieldsV1"]["f:spec"]["f:ports"], ports);
    }
    (!taken.is_empty()).then_some(Value::Array(entries))
}

/// Whether an entry has what was said by writing the object as a whole or patching it.
fn is_update(entry: &Value) -> bool {
    entry["operation"] == "Update" && entry["subresource"].is_null()
}

fn is_creation(entry: &Value) -> bool {
    is_update(entry) && entry["manager"] == FIELD_MANAGER
}

fn is_applied(entry: &Value) -> bool {
    entry["operation"] == "Apply" && entry["manager"] == FIELD_MANAGER
}

/// Adds the fields of `more`, all the way down.
fn unite(fields: &mut Value, more: &Value) {
    if fields.is_null() {
        *fields = json!({});
    }
    for (name, below) in more.as_object().into_iter().flatten() {
        unite(&mut fields[name], below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, subresource: &Value, fields: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
            "manager": manager,
            "operation": operation,
            "subresource": subresource,
            "time": "2026-11-21T13:15:28Z",
        })
    }

    /// As Kubernetes 1.36 has it after `kubectl patch` of a port's number.
    #[test]
    fn the_port_that_somebody_has_made_of_ours_becomes_ours() {
        let none = Value::Null;
        let theirs = json!({ ".": {}, "f:name": {}, "f:nodePort": {}, "f:port": {} });
        let port = r#"k:{"port":81,"protocol":"TCP"}"#;
        let status = json!({ "f:status": { "f:loadBalancer": { "f:ingress": {} } } });
        let label = json!({ "f:metadata": { "f:labels": { "f:team": {} } } });
        let mut patched = label.clone();
        patched["f:spec"] = json!({ "f:ports": { port: theirs } });
        let mut edited = label.clone();
        edited["f:spec"] = json!({ "f:loadBalancerSourceRanges": {}, "f:ports": { port: theirs } });
        let mut kept = label.clone();
        kept["f:spec"] = json!({ "f:loadBalancerSourceRanges": {} });
        let before = json!([
            entry(
                "portcullis-controller",
                "Apply",
                &none,
                &json!({ "f:spec": { "f:selector": {}, "f:type": {} } })
            ),
            entry("kubectl-patch", "Update", &none, &patched),
            entry("kubectl-edit", "Update", &none, &edited),
            entry("kubectl-patch", "Update", &json!("status"), &status),
        ]);
        let after = json!([
            entry(
                "portcullis-controller",
                "Apply",
                &none,
                &json!({
                    "f:spec": { "f:selector": {}, "f:type": {}, "f:ports": { port: theirs } },
                })
            ),
            entry("kubectl-patch", "Update", &none, &label),
            entry("kubectl-edit", "Update", &none, &kept),
            entry("kubectl-patch", "Update", &json!("status"), &status),
        ]);
        assert_eq!(ports(&before), Some(after.clone()));
        // There is nothing more to be taken: the next refusal is none of theirs.
        assert_eq!(ports(&after), None);
    }

    #[test]
    fn what_we_created_counts_as_applied() {
        let ours = |operation: &str, fields: &Value| {
            entry("portcullis-controller", operation, &Value::Null, fields)
        };
        let theirs = entry(
            "kubectl-edit",
            "Update",
            &Value::Null,
            &json!({ "f:spec": { "f:replicas": {} } }),
        );
        let made =
            json!({ "f:metadata": { "f:labels": { "f:team": {} } }, "f:spec": { "f:type": {} } });
        let fresh = json!([ours("Update", &made), theirs]);
        assert!(is_as_created(&fresh));
        let taken = json!([theirs, ours("Apply", &made)]);
        assert_eq!(created(&fresh), Some(taken.clone()));
        assert!(!is_as_created(&taken));
        assert_eq!(created(&taken), None);
        // An apply that came before this was done.
        let said = json!({ "f:spec": { "f:selector": {} } });
        let mut both = made.clone();
        both["f:spec"]["f:selector"] = json!({});
        assert_eq!(
            created(&json!([ours("Apply", &said), ours("Update", &made)])),
            Some(json!([ours("Apply", &both)]))
        );
    }
}
