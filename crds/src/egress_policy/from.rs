//! Callers that a policy speaks of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::foreign::undescribed;

/// What the API server itself leaves to whoever reads a label selector. Only such a selector means somebody for certain.
const OPERATORS: &str = "self.matchExpressions.all(it, it.operator in ['In', 'NotIn'] ? has(it.values) && it.values.size() > 0 : \
    it.operator in ['Exists', 'DoesNotExist'] && (!has(it.values) || it.values.size() == 0))";
const OPERATORS_MESSAGE: &str =
    "operators are In and NotIn with values, Exists and DoesNotExist without";
/// Most requirements of a selector: whether they are valid is looked at one by one.
const MAX_REQUIREMENTS: u32 = 32;
/// Longest key and value of a label, and most values of a requirement.
const MAX_KEY: u32 = 317;
/// See [`MAX_KEY`].
const MAX_VALUES: u32 = 64;

/// Takes the descriptions out of a label selector, and lets the API server refuse one whose operators nobody knows.
fn selector(schema: &mut Schema) {
    undescribed(schema);
    schema.insert(
        "x-kubernetes-validations".into(),
        json!([{"rule": format!("!has(self.matchExpressions) || {OPERATORS}"), "message": OPERATORS_MESSAGE}]),
    );
    bound(schema);
}

/// CEL is only taken where it cannot cost much.
fn bound(schema: &mut Schema) {
    let expressions = schema.pointer_mut("/properties/matchExpressions");
    let Some(expressions) = expressions.and_then(Value::as_object_mut) else {
        return;
    };
    expressions.insert("maxItems".into(), MAX_REQUIREMENTS.into());
    let properties = expressions
        .get_mut("items")
        .and_then(|it| it.get_mut("properties"));
    let Some(properties) = properties else {
        return;
    };
    properties["operator"]["enum"] = json!(["In", "NotIn", "Exists", "DoesNotExist"]);
    properties["key"]["maxLength"] = MAX_KEY.into();
    properties["values"]["maxItems"] = MAX_VALUES.into();
}

/// The name of a namespace.
pub const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The name of a service account, which may follow that of its namespace.
pub const SERVICE_ACCOUNT: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Callers. All that is given must hold; nothing given is every caller. A caller of whom that is not known is not selected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallerSelector {
    /// It is in one of these namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 63), regex(pattern = NAMESPACE)))]
    pub namespaces: Option<Vec<String>>,
    /// It is in a namespace with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = selector)]
    pub namespace_selector: Option<LabelSelector>,
    /// It has one of these service accounts: `name`, of the policy's own namespace, or `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(max = 317), regex(pattern = SERVICE_ACCOUNT))
    )]
    pub service_accounts: Option<Vec<String>>,
    /// Its pod has these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = selector)]
    pub pod_selector: Option<LabelSelector>,
}
