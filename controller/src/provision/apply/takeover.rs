//! What others have said about a Service's ports becomes ours, so that an apply can take it away.
//!
//! Server-side apply removes only what its own manager said before. Somebody who changes the number of a Service's port makes
//! a port of his own of it, and ours cannot be put back beside it, since it has the same name.

use kube::{
    Client,
    api::{GetParams, Patch, PatchParams},
    core::Request,
};
use serde_json::{Value, json};

use super::request::build;
use crate::writer::FIELD_MANAGER;

/// Takes over what others have said about the ports of a Service. Returns whether there was anything.
pub(super) async fn take_over(
    client: &Client,
    request: &Request,
    name: &str,
) -> kube::Result<bool> {
    let get = request.get(name, &GetParams::default());
    let object: Value = client.request(get.map_err(build)?).await?;
    let metadata = &object["metadata"];
    let Some(fields) = taken_over(&metadata["managedFields"]) else {
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
    client.request::<Value>(patch.map_err(build)?).await?;
    Ok(true)
}

/// `metadata.managedFields` with every port that others have written among those that we have applied. `None` if there is none.
/// All else that they have written stays theirs.
fn taken_over(fields: &Value) -> Option<Value> {
    let mut entries = fields.as_array()?.clone();
    let mut taken = Vec::new();
    for entry in &mut entries {
        if entry["operation"] == "Update" && entry["subresource"].is_null() {
            let fields = entry["fieldsV1"].as_object_mut()?;
            let Some(spec) = fields.get_mut("f:spec").and_then(Value::as_object_mut) else {
                continue;
            };
            taken.extend(spec.remove("f:ports"));
            if spec.is_empty() {
                fields.remove("f:spec");
            }
        }
    }
    let ours = entries
        .iter_mut()
        .find(|it| it["operation"] == "Apply" && it["manager"] == FIELD_MANAGER)?;
    for ports in &taken {
        unite(&mut ours["fieldsV1"]["f:spec"]["f:ports"], ports);
    }
    (!taken.is_empty()).then_some(Value::Array(entries))
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
        assert_eq!(taken_over(&before), Some(after.clone()));
        // There is nothing more to be taken: the next refusal is none of theirs.
        assert_eq!(taken_over(&after), None);
    }
}
