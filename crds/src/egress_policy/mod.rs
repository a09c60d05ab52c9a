//! `EgressPolicy`: who may reach what of that which ServiceEntries open.

mod from;
mod status;
mod to;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    from::{CallerSelector, NAMESPACE, SERVICE_ACCOUNT},
    status::EgressPolicyStatus,
    to::{DestinationSelector, METHOD, PathMatch, PathMatchType},
};

/// The pattern of ranges of addresses, IPv4 or IPv6, such as `10.1.0.0/16`.
pub const CIDR: &str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/([0-9]|[12][0-9]|3[0-2])|[0-9a-fA-F.:]*:[0-9a-fA-F.:]*/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))$";

/// The pattern of [`CIDR`] and of single addresses, such as `10.1.0.7`.
pub const RANGE: &str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}(/([0-9]|[12][0-9]|3[0-2]))?|[0-9a-fA-F.:]*:[0-9a-fA-F.:]*(/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?)$";

/// Who may reach what of that which ServiceEntries open.
///
/// A policy in the namespace of an egress Gateway speaks of every caller of that Gateway. A policy in any other namespace
/// speaks of the callers of its own namespace only, on every egress Gateway. A caller that is selected by Allow policies of
/// one of these two levels reaches only what some of them names, and never more than ServiceEntries export to it. Deny goes
/// before Allow.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "EgressPolicy",
    plural = "egresspolicies",
    shortname = "egp",
    category = "gateway-api",
    doc = "Who may reach what of that which ServiceEntries open.",
    namespaced,
    status = "EgressPolicyStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Action", "type": "string", "jsonPath": ".spec.action"}"#,
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.allowPrivate) || self.allowPrivate.size() == 0 || self.action == 'Allow'",
    "message": "allowPrivate opens ranges, so it goes with action Allow only"
}, {
    "rule": "!has(self.to) || self.to.size() > 0 || self.action == 'Allow'",
    "message": "a list of no destinations goes with action Allow only; to deny everything, leave `to` out"
}]))]
pub struct EgressPolicySpec {
    /// Gateways of the policy's own namespace that it is for. Default: every egress Gateway that it can speak of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["group", "kind", "name"]
    ))]
    pub target_refs: Vec<GatewayReference>,
    /// Callers that it speaks of: any of these. Default: every caller that it can speak of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    pub from: Vec<CallerSelector>,
    /// Destinations that it speaks of: any of these. Default: everything. A list of none is nothing: with action Allow callers
    /// reach only what other policies allow them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub to: Option<Vec<DestinationSelector>>,
    /// Whether callers may reach the destinations. Default Allow.
    #[serde(default)]
    pub action: Action,
    /// Whether what it would refuse is refused, or told only. Default Enforce.
    #[serde(default)]
    pub mode: Mode,
    /// Ranges of addresses, such as `10.1.0.0/16`, and single ones, such as `10.1.0.7`, that callers may reach at the destinations
    /// although private and special addresses are refused. Counts only in the namespace of the Gateway, and with action Allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64), regex(pattern = RANGE)))]
    pub allow_private: Vec<String>,
}

/// A Gateway of the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReference {
    /// `gateway.networking.k8s.io`, which is the default.
    #[serde(default = "gateway_api")]
    #[schemars(extend("enum" = ["gateway.networking.k8s.io"]))]
    pub group: String,
    /// `Gateway`, which is the default.
    #[serde(default = "gateway")]
    #[schemars(extend("enum" = ["Gateway"]))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn gateway_api() -> String {
    "gateway.networking.k8s.io".to_owned()
}

fn gateway() -> String {
    "Gateway".to_owned()
}

/// What a policy says of the destinations that it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Callers may reach them. Who is selected by such policies of a level reaches nothing else.
    #[default]
    Allow,
    /// Callers may not reach them, whatever other policies say.
    Deny,
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are told, and the traffic passes.
    Report,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let spec: EgressPolicySpec =
            serde_json::from_value(json!({"targetRefs": [{"name": "egress"}]})).unwrap();
        assert_eq!((spec.action, spec.mode), (Action::Allow, Mode::Enforce));
        let target = &spec.target_refs[0];
        assert_eq!(
            (target.group.as_str(), target.kind.as_str()),
            ("gateway.networking.k8s.io", "Gateway")
        );
    }
}
