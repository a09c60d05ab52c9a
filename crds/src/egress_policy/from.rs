//! Callers that a policy speaks of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::foreign::undescribed;

/// The name of a namespace.
const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The name of a service account, which may follow that of its namespace.
const SERVICE_ACCOUNT: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

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
    #[schemars(transform = undescribed)]
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
    #[schemars(transform = undescribed)]
    pub pod_selector: Option<LabelSelector>,
}
